"""What `--config.check` says about a watchlist."""

from dataclasses import replace

import pytest

from exporter.cli.check import describe, rejected_ids, warnings
from exporter.watchlist.content import Rejected
from exporter.watchlist.watchlist import FileStatus, Ignored, Refusals, Watchlist


def watchlist(*sizes: int) -> Watchlist:
    """Return a watchlist with batches of these sizes, each from its own file."""
    return Watchlist(
        batches={f"b{n}": tuple(f"{n}-{i}" for i in range(size)) for n, size in enumerate(sizes)},
        acknowledged=frozenset({"0-1"}),
        files=tuple(FileStatus(f"b{n}.yml", 1.0, None) for n in range(len(sizes))),
        duplicates=3,
        rejected=2,
    )


def test_it_says_what_is_told_beside_the_ids() -> None:
    """Refusals with their codes, expected numbers, and ignored files are printed."""
    refusals = {
        "b0": Refusals({"": 1, "9006": 2}, 1.0, acknowledged=False),
        "b1": Refusals({"9006": 1}, 1.0, acknowledged=True),
    }
    whole = replace(
        watchlist(1, 0),
        refused=refusals,
        expected={"b1": 7},
        ignored=tuple(Ignored(f"{n}.md", "it is none") for n in range(102)),
    )
    lines = [*describe(whole, 0.5)]
    assert lines[:3] == [
        "2 ID files, 1 export ID in 2 batches",
        "  b0: 1, refused: 3 (by code: none: 1, 9006: 2)",
        "  b1: 0, expected: 7, refused: 1 (by code: 9006: 1), acknowledged",
    ]
    assert lines[5:7] == ["ignored files: 102", "  0.md: it is none"]
    assert lines[105:107] == ["  99.md: it is none", "  and 2 more"]


def test_one_is_not_many() -> None:
    """Nouns are singular or plural as their number requires."""
    assert next(describe(watchlist(1), 0.5)) == "1 ID file, 1 export ID in 1 batch"


def test_rejected_ids_have_file_and_line() -> None:
    """The first hundred of each file, and how many more there are."""
    few = FileStatus("a.yml", 1.0, None, (Rejected("x y ", 3), Rejected("", None)))
    many = FileStatus("b.yml", 1.0, None, tuple(Rejected("!", n) for n in range(1, 104)))
    lines = [*rejected_ids(Watchlist(files=(few, many)))]
    assert lines[:3] == [
        'a.yml:3: not a valid export ID: "x y "',
        "a.yml: not a valid export ID: nothing",
        'b.yml:1: not a valid export ID: "!"',
    ]
    assert lines[101:] == [
        'b.yml:100: not a valid export ID: "!"',
        "b.yml: 3 more are not valid export IDs",
    ]


def test_what_has_no_effect_is_a_warning() -> None:
    """The first hundred remarks, and how many more there are."""
    few = FileStatus("a.yml", 1.0, None, remarks=("a.yml:1: unknown key x",))
    many = FileStatus("b.yml", 1.0, None, remarks=tuple(map(str, range(102))))
    assert [*warnings(Watchlist(files=(few,)))] == ["warning: a.yml:1: unknown key x"]
    lines = [*warnings(Watchlist(files=(few, many)))]
    assert lines[99:] == ["warning: 98", "warning: 3 more parts of ID files have no effect"]


def test_it_says_what_would_be_watched() -> None:
    """The check prints files, IDs, batches, and problems of the files."""
    assert [*describe(watchlist(60, 3), 0.5)][:6] == [
        "2 ID files, 63 export IDs in 2 batches",
        "  b0: 60",
        "  b1: 3",
        "duplicate IDs: 3",
        "acknowledged IDs: 1",
        "ignored files: 0",
    ]


@pytest.mark.parametrize(
    ("ids", "calls", "finished", "per_minute", "per_quarter"),
    [
        (0, 0, 0, "0 calls in 5 minutes, 0.0%", "0 calls in 5 minutes, 0.0%"),
        (1, 1, 1, "5 calls in 5 minutes, 0.5%", "20 calls in 5 minutes, 2.0%"),
        (100, 1, 1, "5 calls in 5 minutes, 0.5%", "20 calls in 5 minutes, 2.0%"),
        (101, 2, 1, "10 calls in 5 minutes, 1.0%", "40 calls in 5 minutes, 4.0%"),
        (2500, 25, 1, "125 calls in 5 minutes, 12.5%", "500 calls in 5 minutes, 50.0%"),
    ],
)
def test_it_says_what_a_scrape_costs(
    ids: int, calls: int, finished: int, per_minute: str, per_quarter: str
) -> None:
    """Calls of a scrape, and the share of the account's rate limit at usual intervals."""
    scrape = f"{calls} while every export can still change, {finished} once all are finished"
    assert [*describe(watchlist(ids), 0.5)][5:] == [
        f"calls per scrape: {scrape}",
        f"  scraped every 60 s: {per_minute} of the account's rate limit of 1000",
        f"  scraped every 15 s: {per_quarter} of the account's rate limit of 1000",
        "after a start, one scrape gets an answer for every ID, if its timeout allows",
    ]


@pytest.mark.parametrize(
    ("ids", "share", "held", "start"),
    [
        # The share, and the one call of each scrape that finds it used up.
        (57_001, 0.57, (574, 589), ("570 calls", 1, 1)),
        (10_000, 0.01, (14, 29), ("10 calls", 42, 17)),
        (100_000, 0.5, (504, 519), ("500 calls", 6, 6)),
        # However small the share is, a scrape asks once.
        (101, 0.0001, (5, 20), ("1 call", 1, 1)),
    ],
)
def test_it_says_where_the_quota_share_ends_it(
    ids: int, share: float, held: tuple[int, int], start: tuple[str, int, int]
) -> None:
    """The exporter makes fewer calls then, and says how long it takes to know every export."""
    allowed, per_minute, per_quarter = start
    *_, minute, quarter, first, second, third = describe(watchlist(ids), share)
    assert minute.endswith(f"; limited to {held[0]} by --api.quota-share")
    assert quarter.endswith(f"; limited to {held[1]} by --api.quota-share")
    assert (first, second, third) == (
        f"after a start, --api.quota-share {share:g} allows {allowed} in 5 minutes",
        f"  scraped every 60 s: every ID has an answer within {per_minute} min",
        f"  scraped every 15 s: every ID has an answer within {per_quarter} min",
    )
