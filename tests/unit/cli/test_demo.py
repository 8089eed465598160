"""The demo: what it needs is all there, and gone at its end."""

import json
import time

import pytest

from exporter.cavatica.client import Client
from exporter.cli.demo import run_demo
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.loader import WatchlistLoader


def test_the_demo_has_three_batches_in_three_forms() -> None:
    """A saved answer of the start call, a bare list and a mapping: all of them read well."""
    with run_demo() as demo:
        watchlist = WatchlistLoader(demo.exports, time.time).load()
        forms = {file.name for file in demo.exports.iterdir()}
        answer = json.loads((demo.exports / "lung-cohort.json").read_text(encoding="utf-8"))
    assert watchlist.errors == ()
    assert watchlist.rejected == watchlist.duplicates == 0
    assert {name: len(ids) for name, ids in watchlist.batches.items()} == {
        "archive-2024": 41,
        "lung-cohort": 60,
        "trios": 80,
    }
    assert forms == {"archive.yml", "lung-cohort.json", "trios.yml"}
    assert {item["resource"]["state"] for item in answer["items"]} == {"PENDING"}


def test_the_demo_has_something_of_everything() -> None:
    """Exports that begin, that are over, failures of which one is dealt with, an unknown ID."""
    with run_demo() as demo:
        loader = WatchlistLoader(demo.exports, time.time)
        client = Client(
            demo.url,
            lambda: demo.token,
            user_agent="test",
            observe=lambda _: None,
            monotonic=time.monotonic,
        )
        tracker = Tracker(
            lambda _: loader.load(),
            client.bulk_get,
            ExportStates(300, 0),
            quota_share=0.5,
            clock=time,
        )
        snapshot = tracker.scrape(time.monotonic() + 10)
    totals = {batch.name: batch.totals for batch in snapshot.batches}
    assert snapshot.up
    assert totals["lung-cohort"].states["PENDING"] > 0
    archive = totals["archive-2024"]
    assert archive.states["PENDING"] == archive.states["RUNNING"] == 0
    assert archive.states["COMPLETED"] > archive.states["FAILED"] > archive.acknowledged == 1
    assert archive.lookup_errors == {"9008": 1}
    assert archive.exported_bytes > 0


def test_nothing_is_left_of_a_demo() -> None:
    """The files and the simulated CAVATICA go away with it, also if it ends by an error."""
    with pytest.raises(KeyboardInterrupt), run_demo() as demo:
        raise KeyboardInterrupt
    assert not demo.exports.exists()
