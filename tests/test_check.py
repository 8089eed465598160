"""What `--config.check` says about a watchlist."""

import pytest

from exporter.check import describe
from exporter.watchlist import FileStatus, Watchlist


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


def test_it_says_where_the_quota_share_ends_it() -> None:
    """The exporter makes fewer calls then, and says how long it takes to know every export."""
    lines = [*describe(watchlist(57_001), 0.57)]
    assert lines[6].endswith(
        "285.5% of the account's rate limit of 1000; held to 570 by --api.quota-share"
    )
    assert lines[8] == (
        "after a start, every ID is answered for within 5 to 10 minutes: --api.quota-share 0.57"
        " allows 570 calls in 5 minutes"
    )


def test_the_first_call_of_a_scrape_is_never_held_back() -> None:
    """However small the share is, a scrape asks once."""
    lines = [*describe(watchlist(101), 0.0001)]
    assert lines[6].endswith("; held to 5 by --api.quota-share")
