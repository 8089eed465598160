"""The demo: what it needs is all there, and gone at its end."""

import json
import time

import pytest

from exporter.cavatica.client import Client
from exporter.cli import demo as demo_module
from exporter.cli.demo import run_demo
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.loader import WatchlistLoader
from tests.support.waits import wait_until


def test_the_demo_has_three_batches_in_three_forms_and_a_discovered_one() -> None:
    """A saved answer with refusals, a bare list, a mapping, and what discovery writes."""
    with run_demo() as demo:
        watchlist = WatchlistLoader(demo.exports, time.time).load()
        forms = {file.name for file in demo.exports.iterdir()}
        answer = json.loads((demo.exports / "lung-cohort.json").read_text(encoding="utf-8"))
    assert watchlist.errors == ()
    assert watchlist.rejected == watchlist.duplicates == 0
    batches = {name: len(ids) for name, ids in watchlist.batches.items()}
    [discovered] = batches.keys() - {"archive-2024", "lung-cohort", "trios"}
    assert discovered.startswith("demo/discovered 20")
    assert batches == {"archive-2024": 41, "lung-cohort": 60, "trios": 80, discovered: 12}
    assert {"archive.yml", "lung-cohort.json", "trios.yml", "discovered-state.json"} < forms
    states = [item["resource"]["state"] for item in answer["items"] if item["resource"]]
    assert states == ["FAILED"] * 2 + ["PENDING"] * 58
    refused = [item["error"]["code"] for item in answer["items"] if not item["resource"]]
    assert refused == [9006, 9006, 9027]


def test_the_demo_has_something_of_everything() -> None:
    """Exports that begin, that are over, failures of which one is dealt with, a job of others."""
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
    assert archive.lookup_errors == {"9005": 1}
    assert archive.exported_bytes > 0


def test_what_is_started_in_the_demo_is_discovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discovery finds the exports that the demo starts from time to time."""
    monkeypatch.setattr(demo_module, "DISCOVERY_SECONDS", 0.05)
    with run_demo() as demo:
        loader = WatchlistLoader(demo.exports, time.time)
        wait_until(lambda: sum(map(len, loader.load().batches.values())) > 195, "discovery")


def test_nothing_is_left_of_a_demo() -> None:
    """The files and the simulated CAVATICA go away with it, also if it ends by an error."""
    with pytest.raises(KeyboardInterrupt), run_demo() as demo:
        raise KeyboardInterrupt
    assert not demo.exports.exists()
