"""Many exports: the cost of a scrape, counted, depends on the unfinished ones."""

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
from tests.support.servers import Prometheus, wait_until

TOKEN = "simulated"
RATE_LIMIT = 20
WINDOW = 300.0
YEARS = Lifetimes(pending=(0, 0), running=(1e9, 1e9))
PROMETHEUS = """
global: {{scrape_interval: 15s, scrape_timeout: 15s}}
scrape_configs:
  - job_name: exporter
    static_configs: [{{targets: ["{target}"]}}]
"""


@dataclass(slots=True)
class Clock:
    """Both kinds of time, set by hand; the simulator's, too."""

    now: float = 1_700_000_000.0

    def time(self) -> float:
        """Unix time."""
        return self.now

    def monotonic(self) -> float:
        """Seconds since some time."""
        return self.now


@dataclass(slots=True)
class Line:
    """The whole line of an exporter in this process, from the ID files to the bytes.

    Attributes:
        simulator: What is asked.
        tracker: Asks it.
        exposition: Renders.
        rendered: IDs of the exports whose state was rendered, in order.
    """

    simulator: Simulator
    tracker: Tracker
    exposition: Exposition
    clock: Clock
    rendered: list[str] = field(default_factory=list)

    def scrape(self) -> Snapshot:
        """Scrape once and render the answer; time passes between two scrapes."""
        self.clock.now += 1
        snapshot = self.tracker.scrape(self.clock.now + 10)
        self.exposition.render(snapshot, OPENMETRICS, compress=True)
        return snapshot


def counting(family: Family[WatchedExport], ids: list[str]) -> Family[WatchedExport]:
    """Return the family, recording the ID of every export whose samples are rendered."""

    def samples(watched: WatchedExport) -> Samples:
        ids.append(watched.id)
        return family.samples(watched)

    return Family(family.name, family.help, family.labels, samples)


@pytest.fixture
def clock() -> Clock:
    """Return the test's clock."""
    return Clock()


@pytest.fixture
def watch(clock: Clock, tmp_path: Path) -> Iterator[Callable[[int, int], Line]]:
    """Return a function that sets up an exporter with this many finished and unfinished exports."""
    simulator = Simulator(token=TOKEN, clock=clock.time, rate_limit=RATE_LIMIT, rate_window=WINDOW)
    with serve(simulator) as url:

        def start(finished: int, unfinished: int) -> Line:
            ids = simulator.start(finished, ago=1e6)
            ids += simulator.start(unfinished, ago=1e6, lifetimes=YEARS)
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
            exposition = Exposition(self_metrics, [counting(state, rendered), *others])
            return Line(simulator, tracker, exposition, clock, rendered)

        yield start


def unknown(snapshot: Snapshot) -> int:
    """Return how many exports never had an answer."""
    return sum(batch.totals.states["UNKNOWN"] for batch in snapshot.batches)


def test_history_costs_no_calls(watch: Callable[[int, int], Line]) -> None:
    """With up to 100 unfinished exports a scrape makes one call for any number of finished ones."""
    line = watch(900, 100)
    assert unknown(line.scrape()) == 0
    line.simulator.requests.clear()
    for _ in range(5):
        assert line.scrape().api_calls == 1
    assert len(line.simulator.requests) == 5


def test_an_id_for_which_whole_calls_are_refused_costs_itself(
    watch: Callable[[int, int], Line], tmp_path: Path
) -> None:
    """A refused ID is found, counted as a lookup error, and costs one more call."""
    line = watch(900, 90)
    line.simulator.fault = malformed_ids()
    line.scrape()
    with (tmp_path / "batch.yml").open("a", encoding="utf-8") as file:
        file.write("- of-another-form\n")
    snapshots = []
    for _ in range(12):
        line.clock.now += WINDOW / 3
        snapshots.append(line.scrape())
    assert max(snapshot.api_calls for snapshot in snapshots) <= 1 + 4
    assert [(snapshot.api_calls, snapshot.up) for snapshot in snapshots[-3:]] == [(2, True)] * 3
    assert unknown(snapshots[-1]) == 1
    assert snapshots[-1].batches[0].totals.lookup_errors == {"9011": 1}


def test_what_does_not_change_is_not_rendered(watch: Callable[[int, int], Line]) -> None:
    """A scrape that finds nothing new renders no export's lines."""
    line = watch(900, 100)
    line.scrape()
    line.rendered.clear()
    line.scrape()
    assert line.rendered == []


def test_a_change_renders_its_block(watch: Callable[[int, int], Line]) -> None:
    """An export that changes costs the rendering of its block, and no other."""
    line = watch(850, 50)
    exports = line.scrape().batches[0].blocks[-1].exports
    changed = next(watched.id for watched in exports if watched.state == "RUNNING")
    line.rendered.clear()
    line.simulator.put(line.simulator.export(changed) | {"state": "PENDING"})
    line.scrape()
    assert changed in line.rendered
    assert len(set(line.rendered)) <= BLOCK_SIZE


def test_a_start_keeps_to_the_share(watch: Callable[[int, int], Line]) -> None:
    """Never-asked IDs are known as fast as the share of the rate limit allows, and no faster."""
    line = watch(1500, 0)
    assert unknown(line.scrape()) == 1500 - 10 * 100
    assert len(line.simulator.requests) == RATE_LIMIT * 0.5
    # The share is used up: only the one call of every scrape goes on.
    snapshot = line.scrape()
    assert (snapshot.api_calls, unknown(snapshot)) == (1, 400)
    line.clock.now += WINDOW
    assert unknown(line.scrape()) == 0


def test_a_start_is_right_in_the_meantime(watch: Callable[[int, int], Line]) -> None:
    """During a start, the totals say how many states are known, and sum to the watched IDs."""
    line = watch(1500, 0)
    [batch] = line.scrape().batches
    assert batch.totals.watched == 1500 == sum(batch.totals.states.values())
    assert batch.totals.states["COMPLETED"] + batch.totals.states["FAILED"] == 1000


def warnings(caplog: pytest.LogCaptureFixture) -> list[int]:
    """How many series each warning of the exposition names."""
    return [
        vars(record)["series"] for record in caplog.records if record.levelno == logging.WARNING
    ]


def test_many_series_are_worth_a_warning(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond 10,000 series of exports one line says so, until there were fewer again."""
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
def test_prometheus_takes_a_hundred_thousand_exports(tmp_path: Path) -> None:
    """Prometheus stores as many samples of 100,000 exports as the exporter sends."""
    ids = tmp_path / "ids"
    flags = ("--finished", "99900", "--unfinished", "100", "--files", "50")
    with (
        processes.simulator(ids, *flags) as api,
        processes.exporter(api.url, ids, tmp_path / "exporter.log") as exporter,
        closing(Scraper(exporter.url)) as scraper,
    ):
        wait_until(
            lambda: scraper.status("/-/ready") == 200 and not scraper.scrape().total("UNKNOWN"),
            240,
            "every export is known",
        )
        sent = len(re.findall(r"^[^#]", scraper.scrape().body(), re.MULTILINE))
        config = PROMETHEUS.format(target=exporter.url.removeprefix("http://"))
        with Prometheus(config, tmp_path / "prometheus") as prometheus:

            def stored() -> list[float]:
                samples = prometheus.query('scrape_samples_scraped{job="exporter"}')
                return [sample.value for sample in samples]

            assert wait_until(stored, 240, "a scrape") == [sent], prometheus.targets()
            [states] = prometheus.query("count(cavatica_export_state)")
            [running] = prometheus.query('sum(cavatica_exports{state="RUNNING"})')
    # Nine of every finished export, seven of every other.
    assert sent > 9 * 99_900 + 7 * 100
    assert (states.value, running.value) == (500_000, 100)
