"""The end of the exporter: a scrape in flight no longer waits for the API."""

import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from exporter.cavatica.answer import BulkResponse, RateLimit
from exporter.cavatica.export import Export
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.watchlist import Watchlist
from tests.support.waits import PATIENCE

if TYPE_CHECKING:
    from exporter.tracker.snapshot import Snapshot


class Api:
    """Answers the first call at once, and every other one when `released` is set."""

    def __init__(self) -> None:
        """Start without a call."""
        self.calls: list[Sequence[str]] = []
        self.held = threading.Semaphore(0)
        self.released = threading.Event()

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer that all exports are RUNNING."""
        del deadline
        self.calls.append(ids)
        if len(self.calls) > 1:
            self.held.release()
            assert self.released.wait(PATIENCE)
        exports = {export_id: Export(export_id, "RUNNING") for export_id in ids}
        return BulkResponse(exports, True, RateLimit(None, None, None), 1)  # noqa: FBT003 # it is complete


def tracker_of(ids: int, api: Api) -> Tracker:
    """Return a tracker that watches this many exports."""
    watchlist = Watchlist(batches={"b": tuple(f"e{number}" for number in range(ids))})
    return Tracker(
        lambda _: watchlist,
        api,
        ExportStates(300, 0),
        quota_share=1,
        clock=time,
    )


@pytest.mark.parametrize("ids", [120, 900])
def test_scrape_in_flight_returns_what_is_known_at_once(ids: int) -> None:
    """A scrape in flight shows the answers so far; it waits for no call, and starts none."""
    api = Api()
    tracker = tracker_of(ids, api)
    snapshots: list[Snapshot] = []
    deadline = time.monotonic() + PATIENCE
    scrape = threading.Thread(target=lambda: snapshots.append(tracker.scrape(deadline)))
    scrape.start()
    for _ in range(1 if ids < 200 else 4):
        assert api.held.acquire(timeout=PATIENCE)
    tracker.end()
    scrape.join(PATIENCE)
    [snapshot] = snapshots
    calls = len(api.calls)
    api.released.set()
    assert not snapshot.up
    assert snapshot.batches[0].totals.states["RUNNING"] == 100
    assert snapshot.batches[0].totals.states["UNKNOWN"] == ids - 100
    assert snapshot.duration < PATIENCE / 2
    assert calls == (2 if ids < 200 else 5)


def test_scrape_after_the_end_makes_no_call() -> None:
    """A scrape after the end returns what is known, and is not `up`."""
    api = Api()
    tracker = tracker_of(1, api)
    deadline = time.monotonic() + PATIENCE
    assert tracker.scrape(deadline).up
    tracker.end()
    snapshot = tracker.scrape(deadline)
    assert not snapshot.up
    assert snapshot.batches[0].totals.states["RUNNING"] == 1
    assert api.calls == [["e0"]]
