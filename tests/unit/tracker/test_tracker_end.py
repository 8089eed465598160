"""The end of the exporter: a scrape that is running does not wait for the API any more."""

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

if TYPE_CHECKING:
    from exporter.tracker.snapshot import Snapshot

PATIENCE = 10.0


class Api:
    """Answers the first call, and holds every other until it is let go."""

    def __init__(self) -> None:
        """Begin without a call."""
        self.calls: list[Sequence[str]] = []
        self.held = threading.Semaphore(0)
        self.let_go = threading.Event()

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer that all of them run."""
        del deadline
        self.calls.append(ids)
        if len(self.calls) > 1:
            self.held.release()
            assert self.let_go.wait(PATIENCE)
        exports = {export_id: Export(export_id, "RUNNING") for export_id in ids}
        return BulkResponse(exports, True, RateLimit(None, None, None), 1)  # noqa: FBT003 # it is complete


def tracker_of(ids: int, api: Api) -> Tracker:
    """Return a tracker of this many exports."""
    watchlist = Watchlist(batches={"b": tuple(f"e{number}" for number in range(ids))})
    return Tracker(
        lambda _: watchlist,
        api,
        ExportStates(300, 0),
        quota_share=1,
        clock=time,
    )


@pytest.mark.parametrize("ids", [120, 900])
def test_what_is_known_is_answered_at_once(ids: int) -> None:
    """What was answered until then is shown; no call is waited for, and none is begun."""
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
    api.let_go.set()
    assert not snapshot.up
    assert snapshot.batches[0].totals.states["RUNNING"] == 100
    assert snapshot.batches[0].totals.states["UNKNOWN"] == ids - 100
    assert snapshot.duration < PATIENCE / 2
    assert calls == (2 if ids < 200 else 5)


def test_nothing_is_asked_after_the_end() -> None:
    """A scrape that comes later gives what is known, and says that it is not all there is."""
    api = Api()
    tracker = tracker_of(1, api)
    deadline = time.monotonic() + PATIENCE
    assert tracker.scrape(deadline).up
    tracker.end()
    snapshot = tracker.scrape(deadline)
    assert not snapshot.up
    assert snapshot.batches[0].totals.states["RUNNING"] == 1
    assert api.calls == [["e0"]]
