"""What `--config.check` says: what would be watched, and what that costs."""

import math
from collections.abc import Iterator

from exporter.api import MAX_IDS
from exporter.watchlist import Watchlist

# The API's page on rate limits: 1,000 calls in 5 minutes for an account.
_LIMIT = 1000
_WINDOW_SECONDS = 300
# Prometheus' own default, and what many set.
_INTERVALS = (60, 15)


def describe(watchlist: Watchlist, quota_share: float) -> Iterator[str]:
    """Give the lines."""
    ids = sum(len(batch) for batch in watchlist.batches.values())
    calls = math.ceil(ids / MAX_IDS)
    allowed = max(int(quota_share * _LIMIT), 1)
    yield f"{len(watchlist.files)} ID files, {ids} export IDs in {len(watchlist.batches)} batches"
    for name, batch in watchlist.batches.items():
        yield f"  {name}: {len(batch)}"
    yield f"duplicate IDs passed over: {watchlist.duplicates}"
    yield f"rejected IDs: {watchlist.rejected}"
    yield f"acknowledged IDs: {len(watchlist.acknowledged)}"
    yield (
        f"calls per scrape: {calls} while every export can still change,"
        f" {min(calls, 1)} once all are finished"
    )
    for interval in _INTERVALS:
        used = calls * _WINDOW_SECONDS / interval
        bounded = min(used, max(allowed, _WINDOW_SECONDS / interval))
        yield (
            f"  scraped every {interval} s: {used:g} calls in 5 minutes, {used / _LIMIT:.1%} of the"
            f" account's rate limit of {_LIMIT}"
            + (f"; held to {bounded:g} by --api.quota-share" if bounded < used else "")
        )
    windows = math.ceil(calls / allowed)
    if windows > 1:
        yield (
            f"after a start, every ID is answered for within {(windows - 1) * 5} to {windows * 5}"
            f" minutes: --api.quota-share {quota_share:g} allows {allowed} calls in 5 minutes"
        )
    else:
        yield "after a start, every ID is answered for in one scrape, if its timeout allows"
