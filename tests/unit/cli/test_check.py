"""What `--config.check` says about a watchlist."""

import pytest

from exporter.cli.check import describe
from exporter.watchlist.watchlist import FileStatus, Watchlist


def watchlist(*sizes: int) -> Watchlist:
    """A watchlist with batches of these sizes, each of a file."""
    return Watchlist(
        batches={f"b{n}": tuple(f"{n}-{i}" for i in range(size)) for n, size in enumerate(sizes)},
        acknowledged=frozenset({"0-1"}),
        files=tuple(FileStatus(f"b{n}.yml", 1.0, None) for n in range(len(sizes))),
        duplicates=3,
        rejected=2,
    )


def test_it_says_what_would_be_watched() -> None:
    """Files, IDs and batches, and what is odd about the files."""
    assert [*describe(watchlist(60, 3), 0.5)][:6] == [
        "2 ID files, 63 export IDs in 2 batches",
        "  b0: 60",
        "  b1: 3",
        "duplicate IDs passed over: 3",
        "rejected IDs: 2",
        "acknowledged IDs: 1",
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
        "after a start, every ID is answered for in one scrape, if its timeout allows",
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
    assert minute.endswith(f"; held to {held[0]} by --api.quota-share")
    assert quarter.endswith(f"; held to {held[1]} by --api.quota-share")
    assert (first, second, third) == (
        f"after a start, --api.quota-share {share:g} allows {allowed} in 5 minutes",
        f"  scraped every 60 s: every ID is answered for within {per_minute} min",
        f"  scraped every 15 s: every ID is answered for within {per_quarter} min",
    )
