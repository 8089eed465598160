"""The output of `--config.check`: what is watched, and how many calls that takes."""

import math
from collections.abc import Iterator
from typing import Final

from exporter.cavatica.answer import MAX_IDS
from exporter.text import counted
from exporter.tracker.rate_limit import LIMIT, WINDOW_SECONDS, allowed_calls
from exporter.watchlist.watchlist import Watchlist

# Prometheus' default interval, and a common shorter one.
_INTERVALS = (60, 15)
# Maximum lines for each kind of problem.
MAX_LISTED: Final = 100
_WINDOW = f"{WINDOW_SECONDS // 60} minutes"


def describe(watchlist: Watchlist, quota_share: float) -> Iterator[str]:
    """Yield the lines."""
    ids = sum(len(batch) for batch in watchlist.batches.values())
    calls = math.ceil(ids / MAX_IDS)
    share = allowed_calls(quota_share, LIMIT)
    yield (
        f"{counted(len(watchlist.files), 'ID file')}, {counted(ids, 'export ID')} in"
        f" {counted(len(watchlist.batches), 'batch')}"
    )
    for name, batch in watchlist.batches.items():
        yield f"  {name}: {len(batch)}{_remarks(watchlist, name)}"
    yield f"duplicate IDs: {watchlist.duplicates}"
    yield f"acknowledged IDs: {len(watchlist.acknowledged)}"
    yield f"ignored files: {len(watchlist.ignored)}"
    for entry in watchlist.ignored[:MAX_LISTED]:
        yield f"  {entry.name}: {entry.reason}"
    if len(watchlist.ignored) > MAX_LISTED:
        yield f"  and {len(watchlist.ignored) - MAX_LISTED} more"
    yield (
        f"calls per scrape: {calls} while every export can still change,"
        f" {min(calls, 1)} once all are finished"
    )
    for interval in _INTERVALS:
        scrapes = WINDOW_SECONDS // interval
        used = calls * scrapes
        # Scrapes still make their first call when the share is used up.
        held = share + scrapes - math.ceil(share / calls) if used > share else used
        yield (
            f"  scraped every {interval} s: {counted(used, 'call')} in {_WINDOW},"
            f" {used / LIMIT:.1%} of the account's rate limit of {LIMIT}"
            + (f"; limited to {held} by --api.quota-share" if held < used else "")
        )
    if calls <= share:
        yield "after a start, one scrape gets an answer for every ID, if its timeout allows"
        return
    allowed = counted(share, "call")
    yield f"after a start, --api.quota-share {quota_share:g} allows {allowed} in {_WINDOW}"
    for interval in _INTERVALS:
        minutes = math.ceil(_start_seconds(calls, share, interval) / 60)
        yield f"  scraped every {interval} s: every ID has an answer within {minutes} min"


def url_warning(url: str) -> str | None:
    """Return a warning if the API's URL does not look like one."""
    if url.endswith("/v2"):
        return None
    return f"warning: {url} does not end in /v2, as the API's base URLs do"


def _start_seconds(calls: int, share: int, interval: int) -> int:
    """Return the seconds until the last of `calls` is made, when they exceed `share`."""
    # The first scrape of a window uses up the share; every later one makes one call.
    in_window = share + WINDOW_SECONDS // interval - 1
    windows, rest = divmod(calls - 1, in_window)
    # Windows end between two scrapes.
    return windows * (WINDOW_SECONDS + interval) + max(rest + 1 - share, 0) * interval


def rejected_ids(watchlist: Watchlist) -> Iterator[str]:
    """Yield a line for every entry that is not a valid export ID."""
    for file in watchlist.files:
        for rejected in file.rejected[:MAX_LISTED]:
            line = "" if rejected.line is None else f"{rejected.line}:"
            text = f'"{rejected.text}"' if rejected.text else "nothing"
            yield f"{file.name}:{line} not a valid export ID: {text}"
        if len(file.rejected) > MAX_LISTED:
            yield f"{file.name}: {len(file.rejected) - MAX_LISTED} more are not valid export IDs"


def warnings(watchlist: Watchlist) -> Iterator[str]:
    """Yield a line for everything in the ID files that has no effect."""
    remarks = [remark for file in watchlist.files for remark in file.remarks]
    for remark in remarks[:MAX_LISTED]:
        yield f"warning: {remark}"
    if len(remarks) > MAX_LISTED:
        yield f"warning: {len(remarks) - MAX_LISTED} more parts of ID files have no effect"


def _remarks(watchlist: Watchlist, batch: str) -> str:
    """Return what else is known of a batch, besides its IDs."""
    remarks = ""
    if (expected := watchlist.expected.get(batch)) is not None:
        remarks += f", expected: {expected}"
    if (refusals := watchlist.refused.get(batch)) is not None:
        codes = ", ".join(f"{code or 'none'}: {n}" for code, n in refusals.codes.items())
        remarks += f", refused: {refusals.count} (by code: {codes})"
        remarks += ", acknowledged" if refusals.acknowledged else ""
    return remarks
