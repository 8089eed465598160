"""Many exports: calls and rendering of a scrape depend on the unfinished and changed ones."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.scraper import Scraper
from exporter.cavatica.client import Client
from exporter.metrics.export_families import export_families
from exporter.metrics.exposition import OPENMETRICS, TEXT, Exposition
from exporter.metrics.family import Family, Samples
from exporter.metrics.self_metrics import SelfMetrics
from exporter.simulator import Lifetimes, Simulator, malformed_ids, serve
from exporter.tracker.blocks import BLOCK_SIZE
from exporter.tracker.snapshot import Snapshot, WatchedExport
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.background_loader import BackgroundLoader
from exporter.watchlist.loader import WatchlistLoader
from tests.support.fakes import make_snapshot
from tests.support.servers import Prometheus
from tests.support.waits import wait_until

TOKEN = "simulated"
RATE_LIMIT = 20
WINDOW = 300.0
ENDLESS = Lifetimes(pending=(0, 0), running=(1e9, 1e9))
PROMETHEUS = """
global: {{scrape_interval: 15s, scrape_timeout: 15s}}
scrape_configs:
  - job_name: exporter
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(slots=True)
class Clock:
    """One time for the exporter and the simulator, both wall clock and monotonic; tests set it."""

    now: float = 1_700_000_000.0

    def time(self) -> float:
        """Return Unix time."""
        return self.now

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return self.now


@dataclass(slots=True)
class Exporter:
    """An exporter in this process, from the ID files to the bytes of the page.

    Attributes:
        simulator: The simulated CAVATICA.
        tracker: Queries the simulator.
        exposition: Renders the page.
        clock: The clock of all of them.
        rendered: IDs of the exports whose state was rendered, in order.
    """

    simulator: Simulator
    tracker: Tracker
    exposition: Exposition
    clock: Clock
    rendered: list[str] = field(default_factory=list)

    def scrape(self) -> Snapshot:
        """Scrape once, a second after the last scrape, and render the page."""
        self.clock.now += 1
        snapshot = self.tracker.scrape(self.clock.now + 10)
        self.exposition.render(snapshot, OPENMETRICS, compress=True)
        return snapshot


def recording(family: Family[WatchedExport], ids: list[str]) -> Family[WatchedExport]:
    """Return a family that appends to `ids` the ID of every export whose samples are rendered."""

    def samples(watched: WatchedExport) -> Samples:
        ids.append(watched.id)
        return family.samples(watched)

    return Family(family.name, family.help, family.labels, samples)


@pytest.fixture
def clock() -> Clock:
    """Return the clock of exporter and simulator."""
    return Clock()


@pytest.fixture
def make_exporter(clock: Clock, tmp_path: Path) -> Iterator[Callable[[int, int], Exporter]]:
    """Return a function that makes an exporter with numbers of finished and unfinished exports."""
    simulator = Simulator(token=TOKEN, clock=clock.time, rate_limit=RATE_LIMIT, rate_window=WINDOW)
    with serve(simulator) as url:

        def start(finished: int, unfinished: int) -> Exporter:
            ids = simulator.start(finished, ago=1e6)
            ids += simulator.start(unfinished, ago=1e6, lifetimes=ENDLESS)
            (tmp_path / "batch.yml").write_text("".join(f"- {i}\n" for i in ids))
            self_metrics = SelfMetrics(version="1", revision="", python="3", exporter_metrics=False)
            client = Client(
                url,
                lambda: TOKEN,
                user_agent="test",
                observe=self_metrics.observe,
                monotonic=clock.monotonic,
            )
            tracker = Tracker(
                BackgroundLoader(WatchlistLoader(tmp_path, clock.time)).load,
                client.bulk_get,
                ExportStates(max_age=300, completed_retention=0),
                quota_share=0.5,
                clock=clock,
            )
            rendered: list[str] = []
            state, *others = export_families(expose_error_messages=False)
            exposition = Exposition(self_metrics, [recording(state, rendered), *others])
            return Exporter(simulator, tracker, exposition, clock, rendered)

        yield start


def unknown(snapshot: Snapshot) -> int:
    """Return the number of exports that are UNKNOWN."""
    return sum(batch.totals.states["UNKNOWN"] for batch in snapshot.batches)


def test_finished_exports_need_no_calls(make_exporter: Callable[[int, int], Exporter]) -> None:
    """With up to 100 unfinished exports a scrape makes one call for any number of finished ones."""
    exporter = make_exporter(900, 100)
    assert unknown(exporter.scrape()) == 0
    exporter.simulator.requests.clear()
    for _ in range(5):
        assert exporter.scrape().api_calls == 1
    assert len(exporter.simulator.requests) == 5


def test_id_that_makes_the_api_refuse_calls_costs_one_call(
    make_exporter: Callable[[int, int], Exporter], tmp_path: Path
) -> None:
    """The exporter finds the ID, counts a lookup error, and asks for it in a call of its own."""
    exporter = make_exporter(900, 90)
    exporter.simulator.fault = malformed_ids()
    exporter.scrape()
    with (tmp_path / "batch.yml").open("a", encoding="utf-8") as file:
        file.write("- of-another-form\n")
    snapshots = []
    for _ in range(12):
        exporter.clock.now += WINDOW / 3
        snapshots.append(exporter.scrape())
    assert max(snapshot.api_calls for snapshot in snapshots) <= 1 + 4
    assert [(snapshot.api_calls, snapshot.up) for snapshot in snapshots[-3:]] == [(2, True)] * 3
    assert unknown(snapshots[-1]) == 1
    assert snapshots[-1].batches[0].totals.lookup_errors == {"9011": 1}


def test_unchanged_exports_are_not_rendered(make_exporter: Callable[[int, int], Exporter]) -> None:
    """A scrape without changes renders the lines of no export."""
    exporter = make_exporter(900, 100)
    exporter.scrape()
    exporter.rendered.clear()
    exporter.scrape()
    assert exporter.rendered == []


def test_changed_export_renders_only_its_block(
    make_exporter: Callable[[int, int], Exporter],
) -> None:
    """After a change of one export, only the exports of its block are rendered again."""
    exporter = make_exporter(850, 50)
    exports = exporter.scrape().batches[0].blocks[-1].exports
    changed = next(watched.id for watched in exports if watched.state == "RUNNING")
    exporter.rendered.clear()
    exporter.simulator.put(exporter.simulator.export(changed) | {"state": "PENDING"})
    exporter.scrape()
    assert changed in exporter.rendered
    assert len(set(exporter.rendered)) <= BLOCK_SIZE


def test_first_scrapes_keep_to_the_share_of_the_rate_limit(
    make_exporter: Callable[[int, int], Exporter],
) -> None:
    """The exporter asks for new IDs with its whole share of the rate limit, and no more."""
    exporter = make_exporter(1500, 0)
    assert unknown(exporter.scrape()) == 1500 - 10 * 100
    assert len(exporter.simulator.requests) == RATE_LIMIT * 0.5
    # The share is used up: only the one call that every scrape makes is left.
    snapshot = exporter.scrape()
    assert (snapshot.api_calls, unknown(snapshot)) == (1, 400)
    exporter.clock.now += WINDOW
    assert unknown(exporter.scrape()) == 0


def test_totals_during_the_start_include_unknown_exports(
    make_exporter: Callable[[int, int], Exporter],
) -> None:
    """While only a part of the states is known, the totals of all states sum to the watched IDs."""
    exporter = make_exporter(1500, 0)
    [batch] = exporter.scrape().batches
    assert batch.totals.watched == 1500 == sum(batch.totals.states.values())
    assert batch.totals.states["COMPLETED"] + batch.totals.states["FAILED"] == 1000


def warnings(caplog: pytest.LogCaptureFixture) -> list[int]:
    """Return the number of series in each warning of the exposition."""
    return [
        vars(record)["series"] for record in caplog.records if record.levelno == logging.WARNING
    ]


def test_many_series_are_logged_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """More than 10,000 series are one warning; a second one follows only after there were fewer."""
    loader = WatchlistLoader(tmp_path, clock.time)
    states = ExportStates(max_age=300, completed_retention=0)
    self_metrics = SelfMetrics(version="1", revision="", python="3", exporter_metrics=False)
    exposition = Exposition(self_metrics, export_families(expose_error_messages=False))

    def show(exports: int) -> None:
        text = "".join(f"- {number:032}\n" for number in range(exports))
        (tmp_path / "batch.yml").write_text(text)
        watchlist = loader.load()
        states.update_watchlist(watchlist, monotonic=clock.monotonic(), unix=clock.time())
        snapshot = make_snapshot(*states.batches(), watchlist=watchlist)
        exposition.render(snapshot, TEXT, compress=False)

    # An export without an answer has five series: one for each state.
    show(2000)
    assert warnings(caplog) == []
    show(2001)
    show(2002)
    assert warnings(caplog) == [10_005]
    assert "--exports.completed-retention" in caplog.text
    show(1)
    show(2001)
    assert warnings(caplog) == [10_005, 10_005]


@pytest.mark.servers
def test_prometheus_stores_100_000_exports(tmp_path: Path) -> None:
    """Prometheus stores as many samples as the exporter sends for 100,000 exports."""
    ids = tmp_path / "ids"
    flags = ("--finished", "99900", "--unfinished", "100", "--files", "50")
    with (
        processes.simulator(ids, *flags) as api,
        processes.exporter(api.url, ids, tmp_path / "exporter.log") as exporter,
        closing(Scraper(exporter.url)) as scraper,
    ):
        wait_until(
            lambda: scraper.status("/-/ready") == 200 and not scraper.scrape().total("UNKNOWN"),
            "every export is known",
            240,
        )
        sent = len(re.findall(r"^[^#]", scraper.scrape().body(), re.MULTILINE))
        config = PROMETHEUS.format(target=exporter.url.removeprefix("http://"))
        with Prometheus(config, tmp_path / "prometheus") as prometheus:

            def stored() -> list[float]:
                samples = prometheus.query('scrape_samples_scraped{job="exporter"}')
                return [sample.value for sample in samples]

            assert wait_until(stored, "a scrape", 240) == [sent], prometheus.targets()
            [states] = prometheus.query("count(cavatica_export_state)")
            [running] = prometheus.query('sum(cavatica_exports{state="RUNNING"})')
    # Every finished export has nine samples, every other one seven.
    assert sent > 9 * 99_900 + 7 * 100
    assert (states.value, running.value) == (500_000, 100)
