"""The exposition: the same output as prometheus_client's, and nothing is rendered twice."""

import gzip
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import exposition as text_format
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.cavatica.answer import RateLimit, RequestOutcome
from exporter.cavatica.export import STATES, ErrorDetail, Export, LookupFailure
from exporter.metrics import exposition as exposition_module
from exporter.metrics.export_families import EXPORT_LABELS, export_families
from exporter.metrics.exposition import OPENMETRICS, TEXT, Exposition
from exporter.metrics.families import BATCH_FAMILIES, BATCH_LABELS, SCRAPE_FAMILIES
from exporter.metrics.family import Family, Samples
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.blocks import BLOCK_SIZE
from exporter.tracker.snapshot import Batch, Block, Snapshot, Totals, WatchedExport
from exporter.tracker.states import ExportStates
from exporter.watchlist.watchlist import FileStatus, Ignored, Refusals, Watchlist
from tests.support.fakes import (
    NOT_FOUND,
    FakeClock,
    completed,
    failed,
    ids,
    make_snapshot,
    pending,
    running,
    watch,
)
from tests.support.hanging_log import hanging_log
from tests.support.hypothesis_examples import examples
from tests.support.servers import promtool

GOLDEN = Path(__file__).parents[3] / "tests/data/golden"
FORMATS = (TEXT, OPENMETRICS)
DAY = 86_400.0
FAMILIES = export_families(expose_error_messages=True)


def self_metrics() -> SelfMetrics:
    """Return the exporter's own metrics, with the same values in every run."""
    counters = SelfMetrics(version="1.2.3", revision="abc", python="3.11", exporter_metrics=False)
    counters.observe(RequestOutcome(200, 0.3, None))
    counters.observe(RequestOutcome(None, 7.0, "timeout"))
    return counters


def exposition(families: Sequence[Family[WatchedExport]] = FAMILIES) -> Exposition:
    """Return an exposition with an empty cache."""
    return Exposition(self_metrics(), families)


def snapshot_of(*batches: Batch) -> Snapshot:
    """Return a snapshot with these batches."""
    return make_snapshot(
        *batches,
        watchlist=Watchlist(
            files=(FileStatus("a.yml", 1.5, None), FileStatus('"b\\".yml', None, "broken")),
            refused={"none": Refusals({"": 1, "9006": 2}, 1_700_000_000.0, acknowledged=True)},
            expected={"none": 3},
            ignored=(Ignored("README.md", "its extension is not that of an ID file"),),
            duplicates=1,
        ),
        oldest_answers={batch.name: 1_700_000_000.25 for batch in batches},
        up=False,
        duration=0.125,
        api_calls=2,
        rate_limit=RateLimit(1000, 990, 1_700_000_300.0),
        rate_limit_window=120.5,
    )


def render(own: Exposition, snapshot: Snapshot, content_type: str, *, compress: bool) -> bytes:
    """Return the whole body, and check its length."""
    body = own.render(snapshot, content_type, compress=compress)
    whole = b"".join(body.chunks)
    assert body.length == len(whole)
    return whole


def body(snapshot: Snapshot, content_type: str = TEXT) -> str:
    """Return the text of a snapshot, rendered with an empty cache."""
    return render(exposition(), snapshot, content_type, compress=False).decode()


EXAMPLE = snapshot_of(
    Batch.of("none", ()),
    Batch.of(
        'tcga "7" \\ n\nb',
        (
            Block.of(
                'tcga "7" \\ n\nb',
                (
                    WatchedExport("never", "UNKNOWN"),
                    WatchedExport("lost", "UNKNOWN", failure=NOT_FOUND),
                    WatchedExport("old", "UNKNOWN", running("old")),
                    WatchedExport("wait", "PENDING", pending("wait")),
                    WatchedExport("run", "RUNNING", running("run")),
                    WatchedExport("odd", "ABORTED", Export("odd", "ABORTED")),
                ),
            ),
            Block.of(
                'tcga "7" \\ n\nb',
                (
                    WatchedExport("done", "COMPLETED", completed("done")),
                    WatchedExport("past", "COMPLETED", completed("past"), retired=True),
                    WatchedExport("fail", "FAILED", failed("fail"), acknowledged=True),
                    WatchedExport("good", "FAILED", failed("good"), superseded=True),
                ),
            ),
        ),
    ),
)


@pytest.mark.parametrize(
    ("content_type", "name"), [(TEXT, "metrics.txt"), (OPENMETRICS, "metrics.om")]
)
def test_the_output_is_that_of_the_golden_file(content_type: str, name: str) -> None:
    """The output for the example equals the golden file of its format."""
    assert body(EXAMPLE, content_type) == (GOLDEN / name).read_text()


@pytest.mark.servers
def test_promtool_reports_nothing() -> None:
    """Names, types and help texts follow Prometheus' conventions."""
    result = promtool("check", "metrics", stdin=body(EXAMPLE))
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_retired_export_has_no_series() -> None:
    """A retired export has no series, but counts in its batch's totals."""
    assert 'export_id="past"' not in body(EXAMPLE)
    assert 'state="COMPLETED"} 2.0\n' in body(EXAMPLE)


def test_error_messages_are_shown_only_on_request() -> None:
    """By default the output contains no error text of the API."""
    hidden = exposition(export_families(expose_error_messages=False))
    assert b"patient-7.bam" not in render(hidden, EXAMPLE, TEXT, compress=False)
    assert "patient-7.bam" in body(EXAMPLE)


# The same output as prometheus_client's.


class ReferenceCollector:
    """A collector with the families as prometheus_client's own objects."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """Return the families in the order in which they are rendered."""
        batches = [((batch.name,), batch) for batch in self.snapshot.batches]
        exports = [
            ((batch.name, watched.id), watched)
            for batch in self.snapshot.batches
            for block in batch.blocks
            for watched in block.exports
            if not watched.retired
        ]
        families = [
            *(gauge(family, BATCH_LABELS, batches) for family in BATCH_FAMILIES),
            *(gauge(family, EXPORT_LABELS, exports) for family in FAMILIES),
            *(gauge(family, (), [((), self.snapshot)]) for family in SCRAPE_FAMILIES),
        ]
        yield from (family for family in families if family.samples)
        yield from self_metrics().collect()


def gauge(
    family: Family[Any], common: tuple[str, ...], sources: Sequence[tuple[tuple[str, ...], object]]
) -> Metric:
    """Return a family as prometheus_client's own object."""
    metric = GaugeMetricFamily(family.name, family.help, labels=(*common, *family.labels))
    for values, source in sources:
        for own, value in family.samples(source):
            metric.add_metric((*values, *own), value)
    return metric


def reference_output(snapshot: Snapshot, content_type: str) -> str:
    """Return the text of a snapshot, rendered by prometheus_client alone."""
    generate = openmetrics if content_type == OPENMETRICS else text_format
    written: bytes = generate.generate_latest(ReferenceCollector(snapshot))
    return written.decode()


def without_sorted_labels(text: str) -> list[str]:
    """Return the lines without those of the one family whose labels prometheus_client sorts."""
    return [line for line in text.split("\n") if not line.startswith("cavatica_export_error_info")]


def parsed(text: str, content_type: str) -> list[Any]:
    """Return the families that prometheus_client's parser reads."""
    return list((parse_openmetrics if content_type == OPENMETRICS else parse_text)(text))


# No NUL: texts of the API and of ID files do not keep it.
texts = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=8) | st.text(
    '\\"\nn{},= ', max_size=8
)
# Without the space characters that prometheus_client's parsers treat as line ends.
plain_texts = st.text('aé☃\\"\nn{},=#', max_size=8)


@st.composite
def snapshots(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> Snapshot:
    """Draw a snapshot with any states, texts and blocks."""
    names = draw(st.lists(texts, max_size=3, unique=True))
    batches = []
    for number, name in enumerate(names):
        blocks = []
        for block in range(draw(st.integers(0, 2))):
            exports = [
                draw(watched_exports(f"{number}-{block}-{i}", texts))
                for i in range(draw(st.integers(0, 3)))
            ]
            blocks.append(Block.of(name, tuple(exports)))
        batches.append(Batch.of(name, tuple(blocks)))
    return snapshot_of(*batches)


@st.composite
def watched_exports(
    draw: st.DrawFn, export_id: str, texts: st.SearchStrategy[str]
) -> WatchedExport:
    """Draw an export with any state and values, also in combinations that do not occur."""
    details = st.builds(ErrorDetail, texts, st.none() | st.integers(400, 599), texts)
    failures = st.builds(LookupFailure, texts, st.none() | st.integers(400, 599), texts)
    state = draw(st.sampled_from([*STATES, "ABORTED"]))
    return WatchedExport(
        export_id,
        state,
        Export(
            export_id,
            state,
            draw(st.none() | st.floats(0, 1e12)),
            draw(st.none() | st.floats(0, 1e12)),
            draw(st.none() | st.integers(0, 2**53)),
            draw(texts),
            draw(st.none() | details),
        )
        if state != "UNKNOWN" or draw(st.booleans())
        else None,
        draw(st.none() | failures) if state == "UNKNOWN" else None,
        acknowledged=draw(st.booleans()),
        retired=draw(st.booleans()) and state == "COMPLETED",
        superseded=draw(st.booleans()) and state == "FAILED",
    )


@examples(15)
@given(snapshots(texts), st.sampled_from(FORMATS))
def test_lines_equal_those_of_prometheus_client(snapshot: Snapshot, content_type: str) -> None:
    """The lines equal prometheus_client's for any labels, but for the family that it sorts."""
    assert without_sorted_labels(body(snapshot, content_type)) == without_sorted_labels(
        reference_output(snapshot, content_type)
    )


@examples(10)
@given(snapshots(plain_texts), st.sampled_from(FORMATS))
def test_samples_equal_those_of_prometheus_client(snapshot: Snapshot, content_type: str) -> None:
    """Parsed again, both outputs have the same families, types, help texts, labels and values."""
    ours = parsed(body(snapshot, content_type), content_type)
    assert ours == parsed(reference_output(snapshot, content_type), content_type)
    assert [family.name for family in ours if not family.samples] == []


@examples(10)
@given(snapshots(texts), st.sampled_from(FORMATS))
def test_a_compressed_answer_has_the_same_content(snapshot: Snapshot, content_type: str) -> None:
    """Decompressed, the gzip body equals the plain one: both come from the same cached parts."""
    own = exposition()
    compressed = render(own, snapshot, content_type, compress=True)
    assert gzip.decompress(compressed) == render(own, snapshot, content_type, compress=False)


# The cache.


class ChangingExports:
    """The states of watched exports in three batches, with methods that change them."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.states = ExportStates(300, DAY)
        self.batches = {"a": ids(BLOCK_SIZE + 20, "a"), "b": ids(5, "b"), "c": ids(7, "c")}
        self.acknowledged: set[str] = set()
        self.update_watchlist()
        self.scrape([completed(i) for i in self.all_ids()[::2]])

    def all_ids(self) -> list[str]:
        """Return every watched ID."""
        return [export_id for batch in self.batches.values() for export_id in batch]

    def ids_of_first_block(self) -> list[str]:
        """Return the IDs of the first block."""
        return [watched.id for watched in self.states.batches()[0].blocks[0].exports]

    def update_watchlist(self) -> None:
        """Update the states after a change of batches or acknowledged IDs."""
        watchlist = watch(self.batches, sorted(self.acknowledged))
        self.states.update_watchlist(
            watchlist, monotonic=self.clock.monotonic(), unix=self.clock.time()
        )

    def scrape(self, exports: Sequence[Export]) -> None:
        """Record these exports as a scrape does, and expire old answers."""
        now, unix = self.clock.monotonic(), self.clock.time()
        plan = self.states.plan(100, overlaps=False)
        outcomes = {export.id: export for export in exports}
        self.states.record(outcomes, asked=now, overlaps=False, monotonic=now, unix=unix)
        self.states.requeue([i for call in plan for i in call], [], monotonic=now)
        self.states.expire(since=now, monotonic=now, unix=unix)

    def snapshot(self) -> Snapshot:
        """Return a snapshot of the current states."""
        return snapshot_of(*self.states.batches())

    def change(self, kind: str, number: int) -> None:
        """Make a change of this kind to the export with this number."""
        all_ids = self.all_ids()
        export_id = all_ids[number % len(all_ids)]
        match kind:
            case "run":
                self.scrape([running(export_id)])
            case "complete":
                self.scrape([completed(export_id, self.clock.time())])
            case "fail":
                self.scrape([failed(export_id)])
            case "acknowledge":
                self.acknowledged ^= {export_id}
                self.update_watchlist()
            case "leave" | "move":
                for name, batch in self.batches.items():
                    self.batches[name] = tuple(i for i in batch if i != export_id)
                if kind == "move":
                    self.batches["b"] += (export_id,)
                self.update_watchlist()
            case "come":
                self.batches[f"new-{number}"] = (f"new-{number}",)
                self.update_watchlist()
            case _:
                self.clock.advance(DAY / 2)
                self.scrape([])


kinds = st.sampled_from(["run", "complete", "fail", "acknowledge", "leave", "move", "come", "wait"])


@examples(6)
@given(st.lists(st.tuples(kinds, st.integers(0, 200)), max_size=6))
def test_cached_output_equals_newly_rendered_output(changes: list[tuple[str, int]]) -> None:
    """After any changes the answer is byte for byte that of an exposition with an empty cache."""
    own, changing = exposition(), ChangingExports()
    for kind, number in [("wait", 0), *changes]:
        changing.change(kind, number)
        snapshot = changing.snapshot()
        for compress in (False, True):
            fresh = render(exposition(), snapshot, OPENMETRICS, compress=compress)
            assert render(own, snapshot, OPENMETRICS, compress=compress) == fresh


class CountingFamilies:
    """The families of exports; counts for each export how often its samples are computed."""

    def __init__(self) -> None:
        self.rendered: Counter[str] = Counter()
        self.families = [replace(family, samples=self._counting(family)) for family in FAMILIES]

    def _counting(self, family: Family[WatchedExport]) -> Callable[[WatchedExport], Samples]:
        def samples(watched: WatchedExport) -> Samples:
            self.rendered[watched.id] += 1
            return family.samples(watched)

        return samples

    def take(self) -> Counter[str]:
        """Return the counts since the last call."""
        rendered = Counter(self.rendered)
        self.rendered.clear()
        return rendered


def once_each(exports: Sequence[str]) -> Counter[str]:
    """Return the counts of rendering every family once for each of these exports."""
    return Counter(dict.fromkeys(exports, len(FAMILIES)))


def test_only_blocks_that_changed_are_rendered() -> None:
    """The first scrape renders all blocks, later ones only changed blocks, in any format."""
    counting, changing = CountingFamilies(), ChangingExports()
    own = exposition(counting.families)
    render(own, changing.snapshot(), TEXT, compress=True)
    assert counting.take() == once_each(changing.all_ids())
    for content_type in FORMATS:
        for compress in (True, False):
            render(own, changing.snapshot(), content_type, compress=compress)
    assert counting.take() == once_each([])
    changing.scrape([failed("a00001")])
    render(own, changing.snapshot(), TEXT, compress=True)
    assert set(counting.take()) == set(changing.ids_of_first_block())


class ReadCountingDict(dict[str, int]):
    """A dict that counts how often its items are read."""

    reads = 0

    def items(self) -> Any:  # noqa: ANN401 # as the base class
        """Count the read, and return the items."""
        self.reads += 1
        return super().items()


def test_totals_of_a_batch_are_rendered_only_when_it_changes() -> None:
    """A change of one batch does not render the totals of others: there may be thousands."""
    states = ReadCountingDict(dict.fromkeys(STATES, 0))
    steady = Batch("steady", (), Totals(states=states))
    own = exposition()
    own.render(snapshot_of(steady, Batch.of("b", ())), TEXT, compress=True)
    reads = states.reads
    own.render(snapshot_of(steady, Batch.of("b", ())), TEXT, compress=True)
    assert states.reads == reads > 0


def test_only_families_that_a_change_affects_are_rendered() -> None:
    """For other families only the samples of changed exports are computed, to compare them."""
    counting, changing = CountingFamilies(), ChangingExports()
    own = exposition(counting.families)
    render(own, changing.snapshot(), TEXT, compress=True)
    changing.scrape([failed("a00001")])
    render(own, changing.snapshot(), TEXT, compress=True)
    counting.take()
    changing.acknowledged = {"a00001"}
    changing.update_watchlist()
    render(own, changing.snapshot(), TEXT, compress=True)
    # The samples before and after, of every family; the family that changed is also rendered.
    others = dict.fromkeys(changing.ids_of_first_block(), 1)
    assert counting.take() == Counter({**others, "a00001": 2 * len(FAMILIES) + 1})


def test_a_new_batch_renders_only_its_own_lines() -> None:
    """A new batch renders only its own lines, at any position among the other batches."""
    counting, changing = CountingFamilies(), ChangingExports()
    own = exposition(counting.families)
    render(own, changing.snapshot(), TEXT, compress=True)
    counting.take()
    changing.batches["aa"] = ids(3, "new")
    changing.update_watchlist()
    render(own, changing.snapshot(), TEXT, compress=True)
    assert counting.take() == once_each(ids(3, "new"))


@pytest.mark.parametrize(
    ("batch", "exports"),
    [("renamed", ("c00000", "c00002")), ("c", ("c00000", "new"))],
    ids=["another batch", "another export"],
)
def test_lines_are_reused_only_for_the_same_batch_and_exports(
    batch: str, exports: tuple[str, ...]
) -> None:
    """A block with the same first export as before is rendered if its batch or others differ."""
    own, changing = exposition(), ChangingExports()
    changing.batches = {"c": ("c00000", "c00002")}
    changing.update_watchlist()
    render(own, changing.snapshot(), TEXT, compress=True)
    changing.batches = {batch: exports}
    changing.update_watchlist()
    snapshot = changing.snapshot()
    fresh = render(exposition(), snapshot, TEXT, compress=True)
    assert render(own, snapshot, TEXT, compress=True) == fresh


def test_a_removed_batch_leaves_the_cache() -> None:
    """A batch that comes back is rendered again: the cache does not grow over the years."""
    counting, changing = CountingFamilies(), ChangingExports()
    own = exposition(counting.families)
    render(own, changing.snapshot(), TEXT, compress=True)
    batch = changing.batches.pop("c")
    changing.update_watchlist()
    render(own, changing.snapshot(), TEXT, compress=True)
    counting.take()
    changing.batches["c"] = batch
    changing.update_watchlist()
    render(own, changing.snapshot(), TEXT, compress=True)
    assert counting.take() == once_each(batch)


def test_concurrent_answers_render_everything_once() -> None:
    """A concurrent scrape, of a second Prometheus, waits for the lines and does not render them."""
    counting, changing = CountingFamilies(), ChangingExports()
    own, snapshot = exposition(counting.families), changing.snapshot()
    barrier = threading.Barrier(2)

    def answer() -> bytes:
        barrier.wait(10)
        return render(own, snapshot, TEXT, compress=True)

    with ThreadPoolExecutor() as pool:
        first, second = pool.submit(answer), pool.submit(answer)
        assert first.result(10) == second.result(10)
    assert counting.take() == once_each(changing.all_ids())


def test_a_log_that_hangs_holds_up_one_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the warning about many series cannot be written, the next scrape is answered."""
    monkeypatch.setattr(exposition_module, "MANY_SERIES", 0)
    own, snapshot = exposition(), ChangingExports().snapshot()

    def answer() -> bytes:
        return render(own, snapshot, TEXT, compress=True)

    with ThreadPoolExecutor() as pool, hanging_log(exposition_module.__name__) as hangs:
        first = pool.submit(answer)
        assert hangs.wait(10)
        assert pool.submit(answer).result(10)
        assert not first.done()
