"""The status page in a real browser: what people see and what screen readers read."""

import os
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from exporter.cavatica.answer import RateLimit
from exporter.cavatica.export import ErrorDetail, Export, LookupFailure
from exporter.metrics.export_families import export_families
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import SelfMetrics
from exporter.server import Server
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport
from exporter.watchlist.watchlist import FileStatus, Watchlist
from exporter.web.application import Application
from exporter.web.page import StatusPage
from exporter.web.report import StatusReport
from tests.support.browser import look
from tests.support.fakes import FakeClock, make_snapshot

HOSTILE = """"><script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"""
# A directory for the screenshots, so that people can look at them.
PICTURES = os.environ.get("PICTURES")


def export(number: int, state: str, now: float) -> WatchedExport:
    """Return an export whose ID, times and error code depend on its number."""
    export_id = f"{random.Random(number).getrandbits(128):032x}"  # noqa: S311 # made-up IDs
    started = now - 86400 + number * 40
    finished = started + 30 if state in {"COMPLETED", "FAILED"} else None
    error = ErrorDetail(("9103", "9107", "")[number % 3], 403, "x") if state == "FAILED" else None
    found = Export(export_id, state, started=started, finished=finished, size=10**9, error=error)
    return WatchedExport(export_id, state, None if state == "UNKNOWN" else found)


def batch(name: str, *exports: WatchedExport) -> Batch:
    """Return a batch of one block."""
    return Batch.of(name, (Block.of(name, exports),))


def snapshot(
    now: float, batches: Sequence[Batch], *, problem: str | None = None, error: str | None = None
) -> Snapshot:
    """Return the result of a scrape."""
    files = [FileStatus(f"{batch.name}.yml", now - 500, error) for batch in batches]
    return make_snapshot(
        *batches,
        watchlist=Watchlist(files=tuple(files)),
        up=problem is None,
        duration=0.42,
        last_success=now - 60,
        rate_limit=RateLimit(1000, 873, now + 120),
        time=now - 12,
        problem=problem,
    )


def empty(_: float) -> Snapshot | None:
    """Return no snapshot, as before the first scrape."""
    return None


def healthy(now: float) -> Snapshot:
    """Return a snapshot in which nothing needs attention."""
    done = [export(number, "COMPLETED", now) for number in range(300)]
    under_way = [export(number, "RUNNING", now) for number in range(300, 340)]
    waiting = [export(number, "PENDING", now) for number in range(340, 350)]
    return snapshot(now, [batch("tcga-7", *done, *under_way, *waiting), batch("trios", *done[:80])])


def burning(now: float) -> Snapshot:
    """Return a snapshot in which everything needs attention."""
    failed = [export(number, "FAILED", now) for number in range(240)]
    done = [export(number, "COMPLETED", now) for number in range(240, 900)]
    odd = [export(1000, "ABORTED", now)]
    lost = WatchedExport("another-users", "UNKNOWN", failure=LookupFailure("9005", 403, "x"))
    unknown = [export(number, "UNKNOWN", now) for number in range(1001, 1030)]
    batches = [batch("tcga-7", *failed, *done, *odd, lost, *unknown), batch("trios", *done[:80])]
    error = "tcga-7.yml:12: not YAML: did not find expected ',' or ']'"
    return snapshot(now, batches, problem="auth: HTTP 401, platform code 90001", error=error)


def hostile(now: float) -> Snapshot:
    """Return a snapshot whose names and messages contain scripts."""
    export_id = HOSTILE[:40]
    error = ErrorDetail(HOSTILE, 403, HOSTILE)
    bad = Export(export_id, "FAILED", finished=now - 9, error=error, volume=HOSTILE)
    return snapshot(
        now,
        [batch(HOSTILE * 3, WatchedExport(export_id, "FAILED", bad))],
        problem=HOSTILE,
        error=HOSTILE,
    )


@pytest.mark.slow
@pytest.mark.parametrize("make", [empty, healthy, burning, hostile])
def test_page_is_accessible_and_runs_no_scripts(
    make: Callable[[float], Snapshot | None], tmp_path: Path
) -> None:
    """axe-core finds no violation, no script runs, and the page loads nothing but itself.

    The views are light, dark, and on a phone.
    """
    clock = FakeClock()
    found = make(clock.time())
    application = Application(
        lambda _: found or pytest.fail("no scrape"),
        Exposition(
            SelfMetrics(version="1", revision="", python="", exporter_metrics=False),
            export_families(expose_error_messages=False),
        ),
        report=StatusReport(600),
        page=StatusPage(version="1.2.3", base_url="./", telemetry_path="/metrics"),
        telemetry_path="/metrics",
        timeout=10,
        timeout_offset=0,
        clock=clock,
    )
    application.ready.set()
    server = Server(application, ("127.0.0.1", 0))
    server.start()
    try:
        if found:
            environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/metrics"}
            application(environ, lambda *_: lambda _: None)
        url = f"{server.url}/"
        views = look(url, (Path(PICTURES) if PICTURES else tmp_path) / make.__name__)
    finally:
        server.close()
    assert {*views} == {"light", "dark", "phone"}
    for view in views.values():
        assert view["violations"] == []
        assert view["complaints"] == []
        assert {
            request for request in view["requests"] if not request.endswith("/favicon.ico")
        } == {url}
        assert view["scrollsSideways"] is False
        assert "heading" in view["reader"]
        assert "status:" in view["reader"] or "- status" in view["reader"]
