"""End to end: ID files, a simulated CAVATICA, the exporter, and clients that scrape it."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from exporter import __version__
from exporter.simulator import Fault, Lifetimes, Simulator, serve
from scripts.ports import reserved_port
from tests.support.curl import curl
from tests.support.exporter_process import LOOPBACK, Page, RunningExporter, process, serving
from tests.support.servers import Prometheus, promtool
from tests.support.waits import wait_until

EXAMPLE = Path(__file__).parents[2] / "tests/data" / "api" / "bulk-get-completed.json"
TOKEN = "t0ken-of-a-test"

FINISHED = Lifetimes(pending=(1, 1), running=(1, 1), failed_share=0)
ENDLESS = Lifetimes(pending=(1, 1), running=(1e9, 1e9))
DAY = 86400.0


class Directory:
    """A directory of ID files."""

    def __init__(self, path: Path) -> None:
        """Create the directory, empty."""
        self.path = path
        path.mkdir()

    def write(self, name: str, ids: Sequence[str]) -> None:
        """Write an ID file that is a YAML list."""
        self.text(name, "".join(f"- {export_id}\n" for export_id in ids) or "[]")

    def text(self, name: str, text: str) -> None:
        """Write a file with any text."""
        (self.path / name).write_text(text, encoding="utf-8")


@pytest.fixture
def simulator() -> Simulator:
    """Return a simulated CAVATICA."""
    return Simulator(token=TOKEN)


@pytest.fixture
def ids(tmp_path: Path) -> Directory:
    """Return an empty directory for ID files."""
    return Directory(tmp_path / "exports")


@pytest.fixture
def flags(ids: Directory, simulator: Simulator, tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """Serve the simulator's API; yield the flags of an exporter that watches the directory."""
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    with serve(simulator) as url:
        yield (
            f"--exports.path={ids.path}",
            f"--api.url={url}",
            f"--api.token-file={tmp_path}/token",
            LOOPBACK,
        )


@pytest.fixture
def exporter(flags: tuple[str, ...]) -> Iterator[RunningExporter]:
    """Run an exporter that watches the directory."""
    with serving(*flags) as running:
        yield running


def put(simulator: Simulator, export_id: str, state: str, **fields: Any) -> None:  # noqa: ANN401 # as in JSON
    """Make the API show an export in this state."""
    volume = {"destination": {"volume": "me/out", "location": "x.cram"}}
    simulator.put({"id": export_id, "state": state} | volume | fields)


# From the API's answer to the page


def test_example_of_the_api_documentation_is_shown(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """The page has both exports with states, times, sizes and volume."""
    items = json.loads(EXAMPLE.read_text(encoding="utf-8"))["items"]
    exports = [item["resource"]["id"] for item in items]
    simulator.fault = Fault(body=EXAMPLE.read_bytes())
    ids.write("example.yml", exports)
    page = exporter.scrape()
    assert page("cavatica_up") == 1
    assert page("cavatica_watched_exports", batch="example") == 2
    for state, count in [
        ("PENDING", 0),
        ("RUNNING", 0),
        ("COMPLETED", 2),
        ("FAILED", 0),
        ("UNKNOWN", 0),
    ]:
        assert page("cavatica_exports", batch="example", state=state) == count
    finished = [
        page("cavatica_export_finished_timestamp_seconds", batch="example", export_id=export_id)
        for export_id in exports
    ]
    assert finished == [1522162828, 1522162831]
    name = "cavatica_exports_last_finished_timestamp_seconds"
    assert page(name, batch="example", state="COMPLETED") == 1522162831
    assert page("cavatica_exported_bytes", batch="example") == 72866
    for export_id in exports:
        one = {"batch": "example", "export_id": export_id}
        assert page("cavatica_export_info", **one, volume="rfranklin/input") == 1
        assert page("cavatica_export_size_bytes", **one) == 36433
        assert page("cavatica_export_state", **one, state="COMPLETED") == 1


def test_saved_answer_of_the_api_is_an_id_file(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """An answer of the API that is saved into the directory makes its exports watched."""
    shutil.copy(EXAMPLE, ids.path)
    simulator.fault = Fault(body=EXAMPLE.read_bytes())
    assert exporter.scrape().states("bulk-get-completed") == {"COMPLETED": 2}


def test_export_is_followed_from_pending_to_failed(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """In each state the totals and its own series have the right state, times and error."""
    ids.write("b.yml", ["one"])
    started, finished = "2026-01-02T03:04:05Z", "2026-01-02T03:05:06.5Z"
    error = {"status": 403, "code": 9103, "message": "No access."}
    lives: list[tuple[str, dict[str, Any]]] = [
        ("PENDING", {}),
        ("RUNNING", {"started_on": started}),
        ("FAILED", {"started_on": started, "finished_on": finished, "error": error}),
    ]
    pages = []
    for state, fields in lives:
        put(simulator, "one", state, **fields)
        page = exporter.scrape()
        pages.append(page)
        assert page.states("b") == {state: 1}
        for each in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "UNKNOWN"):
            shown = page("cavatica_export_state", batch="b", export_id="one", state=each)
            assert shown == (each == state)
    one = {"batch": "b", "export_id": "one"}
    times = [
        [page(f"cavatica_export_{name}_timestamp_seconds", **one) for page in pages]
        for name in ("started", "finished")
    ]
    assert times == [[None, 1767323045, 1767323045], [None, None, 1767323106.5]]
    oldest = "cavatica_exports_oldest_unfinished_timestamp_seconds"
    assert [page(oldest, batch="b", state="RUNNING") for page in pages] == [None, 1767323045, None]
    last = "cavatica_exports_last_finished_timestamp_seconds"
    assert pages[2](last, batch="b", state="FAILED") == 1767323106.5
    assert [page("cavatica_export_errors", batch="b", code="9103") for page in pages] == [
        None,
        None,
        1,
    ]
    assert pages[2]("cavatica_export_error_info", **one, code="9103", status="403") == 1
    answers = "cavatica_exports_oldest_answer_timestamp_seconds"
    assert [page(answers, batch="b") is None for page in pages] == [False, False, True]


def test_finished_exports_keep_their_state_without_the_api(
    simulator: Simulator, ids: Directory, tmp_path: Path
) -> None:
    """While the API is down, FAILED stays; unfinished exports become UNKNOWN after max-age."""
    put(simulator, "failed", "FAILED", finished_on="2026-01-02T03:05:06Z")
    put(simulator, "running", "RUNNING", started_on="2026-01-02T03:04:05Z")
    ids.write("b.yml", ["failed", "running"])
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    with reserved_port() as port, ExitStack() as exporters:
        with serve(simulator, port=port) as url:
            flags = (
                f"--exports.path={ids.path}",
                f"--api.url={url}",
                f"--api.token-file={tmp_path}/token",
                LOOPBACK,
            )
            patient, strict = (
                exporters.enter_context(serving(*flags, f"--exports.max-age={age}"))
                for age in ("1h", "0s")
            )
            for exporter in (patient, strict):
                assert exporter.scrape().states("b") == {"FAILED": 1, "RUNNING": 1}
        pages = [exporter.scrape() for exporter in (patient, strict)]
    assert [page.states("b") for page in pages] == [
        {"FAILED": 1, "RUNNING": 1},
        {"FAILED": 1, "UNKNOWN": 1},
    ]
    for page in pages:
        assert page("cavatica_up") == 0
        assert page("cavatica_api_request_failures_total", reason="connection") == 2
        one = {"batch": "b", "export_id": "running"}
        assert page("cavatica_export_started_timestamp_seconds", **one) == 1767323045


# Calls of the API


def test_100_exports_are_one_call_as_documented(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """A scrape is one POST with exactly the documented path and body, and these headers."""
    exports = simulator.start(100, lifetimes=ENDLESS)
    ids.write("b.yml", exports)
    for _ in range(2):
        simulator.requests.clear()
        page = exporter.scrape()
        assert page("cavatica_scrape_api_calls") == 1
        assert sum(page.states("b").values()) == 100
        [request] = simulator.requests
        assert (request.method, request.path, request.query) == (
            "POST",
            "/v2/bulk/storage/exports/get",
            "",
        )
        assert json.loads(request.body) == {"export_ids": exports}
        assert request.headers == {
            "host": request.base.removeprefix("http://"),
            "x-sbg-auth-token": TOKEN,
            "content-type": "application/json",
            "content-length": str(len(request.body)),
            "accept": "*/*",
            "accept-encoding": "gzip",
            "connection": "close",
            "user-agent": f"cavatica-export-exporter/{__version__}",
        }


def test_finished_exports_need_no_calls_of_their_own(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """250 finished and 30 unfinished exports take three calls in the first scrape, later one."""
    finished = simulator.start(250, ago=DAY, lifetimes=FINISHED)
    unfinished = simulator.start(30, ago=10, lifetimes=ENDLESS)
    ids.write("b.yml", [*finished, *unfinished])
    assert "\ncavatica_scrape_api_calls 3.0\n" in exporter.get("/metrics").text
    asked: set[str] = set()
    for _ in range(4):
        simulator.requests.clear()
        text = exporter.get("/metrics").text
        assert 'cavatica_exports{batch="b",state="COMPLETED"} 250.0\n' in text
        assert 'cavatica_exports{batch="b",state="RUNNING"} 30.0\n' in text
        [request] = simulator.requests
        assert set(unfinished) < set(request.export_ids)
        assert len(request.export_ids) == 100
        asked.update(request.export_ids)
    # Finished exports take turns in the free places of the call: each was asked for again.
    assert asked == {*finished, *unfinished}


def test_unfinished_exports_need_a_call_for_each_100(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """250 unfinished exports take three calls in every scrape."""
    unfinished = simulator.start(250, ago=10, lifetimes=ENDLESS)
    ids.write("b.yml", unfinished)
    for _ in range(2):
        simulator.requests.clear()
        text = exporter.get("/metrics").text
        assert "\ncavatica_up 1.0\n" in text
        assert 'cavatica_exports{batch="b",state="RUNNING"} 250.0\n' in text
        assert sorted(len(request.export_ids) for request in simulator.requests) == [50, 100, 100]
        assert {i for request in simulator.requests for i in request.export_ids} == {*unfinished}


# ID files


def test_id_files_can_be_added_changed_and_removed(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """The next scrape has the IDs of a new or changed file, and not those of a removed one."""
    first, second = simulator.start(2), simulator.start(3)
    assert exporter.scrape().all("cavatica_watched_exports") == []
    ids.write("one.yml", first)
    assert exporter.scrape().states("one") == {"PENDING": 2}
    ids.write("two.yml", second)
    page = exporter.scrape()
    assert (page.states("one"), page.states("two")) == ({"PENDING": 2}, {"PENDING": 3})
    assert page("cavatica_exporter_watchlist_file_error", file="two.yml") == 0
    ids.write("two.yml", second[:1])
    assert exporter.scrape().states("two") == {"PENDING": 1}
    (ids.path / "one.yml").unlink()
    page = exporter.scrape()
    assert {labels["batch"] for labels in page.all("cavatica_exports")} == {"two"}
    assert {labels["export_id"] for labels in page.all("cavatica_export_state")} == {second[0]}
    assert page.all("cavatica_exporter_watchlist_file_error") == [{"file": "two.yml"}]
    assert page.all("cavatica_exporter_watchlist_file_mtime_timestamp_seconds") == [
        {"file": "two.yml"}
    ]


def test_broken_file_keeps_its_last_good_content(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """A broken file counts as in error until it is repaired; other files are not affected."""
    exports = simulator.start(3)
    good = "cavatica_exporter_watchlist_last_reload_successful"
    when = "cavatica_exporter_watchlist_last_reload_success_timestamp_seconds"
    error = "cavatica_exporter_watchlist_file_error"
    mtime = "cavatica_exporter_watchlist_file_mtime_timestamp_seconds"
    ids.write("a.yml", exports[:1])
    ids.write("b.yml", exports[1:2])
    before = exporter.scrape()
    assert (before(good), before(error, file="b.yml")) == (1, 0)

    ids.text("b.yml", "export_idz: [x]")
    broken = exporter.scrape()
    assert (broken(good), broken(error, file="b.yml"), broken(error, file="a.yml")) == (0, 1, 0)
    assert (broken.states("a"), broken.states("b")) == ({"PENDING": 1}, {"PENDING": 1})
    assert broken(mtime, file="b.yml") == before(mtime, file="b.yml")
    assert broken(when) == before(when)
    assert broken("cavatica_up") == 1

    ids.write("b.yml", exports[1:])
    repaired = exporter.scrape()
    assert (repaired(good), repaired(error, file="b.yml")) == (1, 0)
    assert repaired.states("b") == {"PENDING": 2}
    assert (repaired(when) or 0) > (before(when) or 0)
    assert (repaired(mtime, file="b.yml") or 0) > (before(mtime, file="b.yml") or 0)


def test_new_broken_file_is_in_error(ids: Directory, exporter: RunningExporter) -> None:
    """A file that was never valid is in error and has no modification time."""
    ids.text("new.json", "{")
    page = exporter.scrape()
    assert page("cavatica_exporter_watchlist_file_error", file="new.json") == 1
    assert page.all("cavatica_exporter_watchlist_file_mtime_timestamp_seconds") == []


def test_missing_directory_keeps_the_watchlist(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """If the directory is unavailable, the last loaded watchlist stays in effect."""
    ids.write("b.yml", simulator.start(2))
    assert exporter.scrape().states("b") == {"PENDING": 2}
    moved = ids.path.rename(ids.path.with_name("away"))
    page = exporter.scrape()
    assert page("cavatica_exporter_watchlist_last_reload_successful") == 0
    assert page.states("b") == {"PENDING": 2}
    moved.rename(ids.path)
    page = exporter.scrape()
    assert page("cavatica_exporter_watchlist_last_reload_successful") == 1


def test_duplicate_and_invalid_ids_are_counted(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """An ID is watched once, in the first file that lists it; an invalid one is skipped."""
    exports = simulator.start(2)
    ids.write("a.yml", exports)
    ids.write("b.yml", [exports[0], "no ID at all", exports[1]])
    page = exporter.scrape()
    assert page("cavatica_exporter_watchlist_duplicate_ids") == 2
    assert page("cavatica_exporter_watchlist_rejected_ids") == 1
    assert page("cavatica_watched_exports", batch="a") == 2
    assert page("cavatica_watched_exports", batch="b") == 0
    ids.write("b.yml", [])
    page = exporter.scrape()
    assert page("cavatica_exporter_watchlist_duplicate_ids") == 0
    assert page("cavatica_exporter_watchlist_rejected_ids") == 0


def test_failure_can_be_acknowledged_in_any_file(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """An acknowledgement in a file of its own takes effect in the next scrape."""
    put(simulator, "failed", "FAILED")
    ids.write("b.yml", ["failed"])
    page = exporter.scrape()
    assert page("cavatica_acknowledged_exports", batch="b") == 0
    assert page.all("cavatica_export_acknowledged") == []
    ids.text("dealt-with.yml", "acknowledged: [failed]")
    page = exporter.scrape()
    assert page("cavatica_acknowledged_exports", batch="b") == 1
    assert page("cavatica_export_acknowledged", batch="b", export_id="failed") == 1
    assert page.all("cavatica_watched_exports") == [{"batch": "b"}]


def test_changed_configmap_is_loaded(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """Kubernetes mounts a ConfigMap's files as links into `..data`, and replaces that link."""
    exports = simulator.start(3)
    for number, content in [(1, exports[:1]), (2, exports[1:])]:
        version = ids.path / f"..version-{number}"
        version.mkdir()
        (version / "b.yml").write_text("".join(f"- {i}\n" for i in content), encoding="utf-8")
    (ids.path / "..data").symlink_to("..version-1")
    (ids.path / "b.yml").symlink_to("..data/b.yml")
    assert exporter.scrape().states("b") == {"PENDING": 1}
    (ids.path / "..new").symlink_to("..version-2")
    (ids.path / "..new").rename(ids.path / "..data")
    page = exporter.scrape()
    assert page.states("b") == {"PENDING": 2}
    assert page.all("cavatica_exporter_watchlist_file_error") == [{"file": "b.yml"}]


def test_exports_path_can_be_a_single_file(
    simulator: Simulator, ids: Directory, flags: tuple[str, ...]
) -> None:
    """The batch has the file's name, and changes of the file take effect in the next scrape."""
    exports = simulator.start(2)
    ids.write("tcga-7.yml", exports[:1])
    with serving(f"--exports.path={ids.path}/tcga-7.yml", *flags[1:]) as exporter:
        assert exporter.scrape().states("tcga-7") == {"PENDING": 1}
        ids.write("tcga-7.yml", exports)
        assert exporter.scrape().states("tcga-7") == {"PENDING": 2}


def test_id_that_the_api_does_not_know_is_unknown(
    simulator: Simulator, ids: Directory, exporter: RunningExporter
) -> None:
    """The export is UNKNOWN with a lookup error; the answer is valid, so `cavatica_up` stays 1."""
    ids.write("b.yml", [*simulator.start(1), "nobody-knows"])
    page = exporter.scrape()
    assert page("cavatica_up") == 1
    assert page.states("b") == {"PENDING": 1, "UNKNOWN": 1}
    assert page("cavatica_export_lookup_errors", batch="b", code="9008") == 1
    one = {"batch": "b", "export_id": "nobody-knows"}
    assert page("cavatica_export_error_info", **one, code="9008", status="404") == 1


def test_completed_exports_lose_their_series(
    simulator: Simulator, ids: Directory, flags: tuple[str, ...]
) -> None:
    """After `--exports.completed-retention` an export has no series; the totals still count it."""
    ids.write("b.yml", simulator.start(3, ago=DAY, lifetimes=FINISHED))
    with serving(*flags, "--exports.completed-retention=1h") as exporter:
        page = exporter.scrape()
    assert page.states("b") == {"COMPLETED": 3}
    assert page.all("cavatica_export_state") == []
    assert page.all("cavatica_export_info") == []


# Clients that scrape


@pytest.mark.parametrize("options", [[], ["--compressed"]])
def test_curl_scrapes(options: list[str], ids: Directory, exporter: RunningExporter) -> None:
    """Without a choice of format, curl receives the text format, compressed or not."""
    url = f"{exporter.urls[0]}/metrics"
    ids.write("b.yml", [])
    text, _, status = curl(url, *options).rpartition("\n")
    assert status == "200"
    assert Page.of(text)("cavatica_up") == 1


def write_every_family(simulator: Simulator, ids: Directory) -> None:
    """Write ID files that make every family of metrics appear."""
    week = 7 * DAY
    mixed = Lifetimes(pending=(1, 1), running=(1, 1), failed_share=0.5)
    over = simulator.start(20, ago=week, lifetimes=mixed)
    failed = [i for i in over if simulator.export(i)["state"] == "FAILED"]
    ids.text("over.yml", f"export_ids: {json.dumps(over)}\nacknowledged: [{failed[0]}]")
    ids.write("running.yml", [*simulator.start(7, ago=60, lifetimes=ENDLESS), "nobody-knows"])
    ids.write("pending.yml", simulator.start(5, lifetimes=Lifetimes(pending=(1e9, 1e9))))
    put(simulator, "aborted", "ABORTED")
    ids.write("odd.yml", ["aborted"])
    ids.text("broken.yml", "{")


@pytest.mark.servers
@pytest.mark.parametrize("messages", [[], ["--exports.expose-error-messages"]])
def test_promtool_finds_no_problem(
    messages: list[str], simulator: Simulator, ids: Directory, flags: tuple[str, ...]
) -> None:
    """`promtool check metrics` reports nothing about a page with every family of metrics."""
    write_every_family(simulator, ids)
    with serving(*flags, *messages) as exporter:
        exporter.scrape()
        text = exporter.get("/metrics").text
    checked = promtool("check", "metrics", stdin=text)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


@pytest.mark.servers
def test_prometheus_scrapes_the_exporter(
    simulator: Simulator, ids: Directory, flags: tuple[str, ...], tmp_path: Path
) -> None:
    """Prometheus stores states and a change, and its scrapes succeed while the API is slow."""
    write_every_family(simulator, ids)
    put(simulator, "one", "RUNNING")
    ids.write("one.yml", ["one"])
    with process(tmp_path / "exporter.log", *flags) as exporter:
        address = exporter.urls[0].removeprefix("http://")
        config = f"""
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs: [{{job_name: cavatica, static_configs: [{{targets: ["{address}"]}}]}}]
"""
        with Prometheus(config, tmp_path / "prometheus") as prometheus:
            wait_until(
                lambda: [s.value for s in prometheus.query("up and cavatica_up == 1")] == [1],
                "Prometheus has scraped the exporter",
            )
            states = {
                (sample.labels["batch"], sample.labels["state"]): sample.value
                for sample in prometheus.query("cavatica_exports > 0")
            }
            assert states[("one", "RUNNING")] == 1
            assert states[("running", "RUNNING")] == 7
            assert states[("running", "UNKNOWN")] == 1
            assert states[("odd", "ABORTED")] == 1
            assert states[("over", "COMPLETED")] + states[("over", "FAILED")] == 20
            put(simulator, "one", "FAILED", error={"code": 9103})
            failed = 'cavatica_export_state{export_id="one",state="FAILED"} == 1'
            wait_until(lambda: prometheus.query(failed), "the failure is seen")
            # Prometheus waits for 1 s and the API takes longer: the exporter answers in time.
            simulator.fault = Fault(delay=5)
            wait_until(lambda: prometheus.query("cavatica_up == 0"), "a slow API is seen")
            [target] = wait_until(prometheus.targets, "it lists its target")
            assert (target["health"], target["lastError"]) == ("up", "")
            assert prometheus.query('count(cavatica_exports{batch="over",state="COMPLETED"})')
            # Prometheus parsed every line: it stored as many samples as the exporter sent.
            simulator.fault = None
            [sample] = prometheus.query("scrape_samples_scraped")
            lines = exporter.get("/metrics").text.splitlines()
            assert sample.value == sum(1 for line in lines if not line.startswith("#"))
        assert exporter.stop() == 0
