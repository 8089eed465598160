"""Every query of every panel, and every rule's expression, on a real Prometheus.

That Prometheus scrapes real exporters with a simulated CAVATICA: two replicas with every kind of
export, one exporter that CAVATICA refuses and that is then stopped, and one that cannot reach it.
It also scrapes itself, as a target that is not an exporter.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import promql_parser as promql
import pytest
import yaml

from dashboards import build
from exporter.simulator import Lifetimes, Simulator, serve
from exporter.tool.state import STATE_NAME
from scripts.ports import reserved_port
from tests.support.dashboard_rules import Json, parsed, query_panels, targets, variables, walk
from tests.support.exporter_process import environment, process
from tests.support.servers import Prometheus, Sample
from tests.support.waits import wait_until

pytestmark = pytest.mark.servers

RULES = Path(__file__).parents[2] / "alerts" / "cavatica-exports.rules.yml"

QUERIES = [
    pytest.param(target, id=f"{uid}-{place}")
    for uid, dashboard in build().items()
    for place, target in targets(dashboard)
]
PANELS = [
    pytest.param(panel, id=f"{uid}-{panel['title']}")
    for uid, dashboard in build().items()
    for panel in query_panels(dashboard)
]
VARIABLES = [
    pytest.param(variable["query"], id=f"{uid}-{name}")
    for uid, dashboard in build().items()
    for name, variable in variables(dashboard).items()
]
EXPRESSIONS: dict[str, str] = {
    (rule.get("alert") or rule["record"])
    + (" of one" if "instance:cavatica_exporter_up:avg5m <" in rule["expr"] else ""): rule["expr"]
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
}
ALERTS = {name: expr for name, expr in EXPRESSIONS.items() if name.startswith("Cavatica")}
EMPTY = {
    "CavaticaBatchGone": "every batch stays",
    "CavaticaBatchStalled": "compares with six hours ago",
    "CavaticaExportsStuckPending": "compares with the day before",
    "CavaticaExporterAbsent": "there is an exporter: that is the good news",
    "CavaticaDataStale": "an hour without a complete scrape",
}
"""Alerts that cannot fire within seconds, with the reason."""

NO_EXPORTER = 'job="prometheus"'
"""Selects the target that is not an exporter."""

DAY = 86400.0
RECENT = Lifetimes(pending=(1, 1), running=(1, 1), failed_share=0.5)
ENDLESS = Lifetimes(pending=(1, 1), running=(1e9, 1e9))
WAITING = Lifetimes(pending=(1e9, 1e9))


@dataclass(frozen=True, slots=True)
class Scene:
    """A Prometheus, and the exports that its exporters watch.

    Attributes:
        prometheus: Has scraped all exporters, and still scrapes them.
        ids: IDs of all exports, by batch.
        failed: ID of an export that failed recently.
    """

    prometheus: Prometheus
    ids: Mapping[str, list[str]]
    failed: str

    def ask(self, expr: str, *, job: str = ".+") -> list[Sample]:
        """Return the result of an expression after replacing the dashboard's variables."""
        return self.prometheus.query(self.filled(expr, job=job))

    def filled(self, expr: str, *, job: str = ".+") -> str:
        """Return an expression as Grafana would send it with everything selected."""
        values = {
            "$job": job,
            "$instance": ".+",
            "$batch": ".+",
            "$export_id": self.failed,
            "$__rate_interval": "30s",
            "$__interval": "5s",
        }
        for name, value in values.items():
            expr = expr.replace(name, value)
        return expr


@contextmanager
def running_exporter(
    ids: Path, url: str, token: str, *, port: int = 0, state: bytes = b""
) -> Iterator[str]:
    """Run a real exporter with this state file, if any; yield its host and port."""
    directory = Path(tempfile.mkdtemp(dir=ids.parent))
    if state:
        (directory / "state").write_bytes(state)
    flags = (f"--exports.path={ids}", f"--api.url={url}", f"--exports.state-file={directory}/state")
    address = f"--web.listen-address=127.0.0.1:{port}"
    with process(directory / "log", *flags, address, SB_AUTH_TOKEN=token) as exporter:
        yield exporter.urls[0].removeprefix("http://")


class FileHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def discovery_metrics(url: str, directory: Path) -> Iterator[str]:
    """Serve the metrics of `discover`, whose second run was refused; yield host and port."""
    directory.mkdir()
    program = (sys.executable, "-m", "exporter.tool", "discover")
    flags = (f"--to={directory}", f"--api.url={url}", f"--metrics-file={directory}/metrics.txt")
    for token, status in (("good", 0), ("bad", 1)):
        done = subprocess.run(
            [*program, *flags], env=environment(SB_AUTH_TOKEN=token), check=False, timeout=60
        )
        assert done.returncode == status
    handler = partial(FileHandler, directory=str(directory))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def write_ids(simulator: Simulator, directory: Path) -> dict[str, list[str]]:
    """Write ID files with every kind of content and fault; return the IDs by batch."""
    recent = simulator.start(20, ago=3600, lifetimes=RECENT)
    old = simulator.start(20, ago=30 * DAY, lifetimes=RECENT)
    stuck = simulator.start(2, ago=2 * DAY, lifetimes=ENDLESS)
    waiting = simulator.start(2, lifetimes=WAITING)
    odd = simulator.start(1)
    simulator.put(simulator.export(odd[0]) | {"state": "ABORTED"})
    acknowledged, repeated = [each for each in old if simulator.export(each)["state"] == "FAILED"][
        :2
    ]
    [repeat] = simulator.start(1, ago=3600)
    simulator.put(
        simulator.export(repeat)
        | {"state": "COMPLETED", "destination": simulator.export(repeated)["destination"]}
    )
    old.append(repeat)
    batches = {"recent": recent, "old": old, "open": [*stuck, *waiting, *odd, "nobody-knows-me"]}
    for batch, ids in batches.items():
        content: dict[str, list[str] | int] = {"export_ids": ids, "expected": 50}
        if batch == "old":
            content["acknowledged"] = [acknowledged]
        (directory / f"{batch}.yml").write_text(yaml.safe_dump(content), encoding="utf-8")
    for batch, dealt_with in (("refused", False), ("refused-before", True)):
        items = [{"error": {"status": 403, "code": 9006}}]
        answer = {"items": items, "refusals_acknowledged": dealt_with}
        (directory / f"{batch}.json").write_text(json.dumps(answer), encoding="utf-8")
    (directory / "README.md").write_text("not an ID file", encoding="utf-8")
    (directory / "zz-broken.yml").write_text("export_id: [", encoding="utf-8")
    (directory / "zz-odd.yml").write_text(f"- {recent[0]}\n- no ID at all\n", encoding="utf-8")
    return batches


def configuration(jobs: Mapping[str, list[str]], directory: Path) -> str:
    """Return a configuration of Prometheus that evaluates the shipped rules every second."""
    rules = RULES.read_text(encoding="utf-8")
    fast = directory / "fast.rules.yml"
    fast.write_text(re.sub(r"interval: \w+", "interval: 1s", rules), encoding="utf-8")
    scrapes = [
        {
            "job_name": job,
            "metrics_path": "/metrics.txt" if job == "discovery" else "/metrics",
            "static_configs": [{"targets": addresses}],
        }
        for job, addresses in jobs.items()
    ]
    times = {"scrape_interval": "1s", "scrape_timeout": "1s"}
    return yaml.safe_dump({"global": times, "rule_files": [str(fast)], "scrape_configs": scrapes})


@pytest.fixture(scope="module")
def scene(
    tmp_path_factory: pytest.TempPathFactory,
    server_version: str,  # noqa: ARG001 - it starts a Prometheus of this version
) -> Iterator[Scene]:
    """Run all exporters and a Prometheus until it has every kind of series."""
    directory = tmp_path_factory.mktemp("dashboards")
    watched = directory / "ids"
    watched.mkdir()
    simulator = Simulator(token="good", rate_limit=100_000)
    batches = write_ids(simulator, watched)
    failed = next(each for each in batches["recent"] if simulator.export(each)["state"] == "FAILED")
    with ExitStack() as stack:
        url = stack.enter_context(serve(simulator))
        start = stack.enter_context
        discovery = start(discovery_metrics(url, directory / "discovered"))
        shutil.copy(directory / "discovered" / STATE_NAME, watched)
        # Other programs have used up all but a twentieth of the account's rate limit.
        simulator.spend(95_000)
        refused = start(ExitStack())
        # Prometheus still scrapes it when the exporter has ended.
        port = start(reserved_port())
        jobs = {
            "cavatica": [start(running_exporter(watched, url, "good")) for _ in range(2)],
            "refused": [refused.enter_context(running_exporter(watched, url, "bad", port=port))],
            "unreachable": [
                start(
                    running_exporter(
                        watched,
                        f"http://127.0.0.1:{start(reserved_port())}/v2",
                        "good",
                        state=b"not a state file",
                    )
                )
            ],
            "discovery": [discovery],
        }
        prometheus = start(Prometheus(configuration(jobs, directory), directory / "prometheus"))
        jobs["prometheus"] = [prometheus.url.removeprefix("http://")]
        prometheus.config_file.write_text(configuration(jobs, directory), encoding="utf-8")
        prometheus.reload()
        scene = Scene(prometheus, batches, failed)
        wait_until(lambda: len(scene.ask("cavatica_up")) == 4, "all were scraped", 30)
        wait_until(
            lambda: scene.ask(f"process_start_time_seconds{{{NO_EXPORTER}}}"), "it has itself", 30
        )
        wait_until(
            lambda: scene.ask('rate(cavatica_api_request_failures_total{reason="auth"}[5m]) > 0'),
            "the wrong token was refused twice",
            30,
        )
        refused.close()
        wait_until(lambda: scene.ask(ALERTS["CavaticaExporterDown"]), "it counts as down", 60)
        yield scene


@pytest.mark.parametrize("panel", PANELS)
def test_panel_has_data(scene: Scene, panel: Json) -> None:
    """No panel shows "No data" while an exporter works."""
    now = time.time()
    exprs = [scene.filled(target["expr"]) for target in panel["targets"]]
    if panel["targets"][0]["instant"]:
        assert any(scene.prometheus.query(expr) for expr in exprs)
    else:
        range_of = partial(scene.prometheus.query_range, start=now - 10, end=now, step=1)
        assert any(range_of(expr) for expr in exprs)


@pytest.mark.parametrize("target", QUERIES)
def test_query_is_empty_without_an_exporter(scene: Scene, target: Json) -> None:
    """Without an exporter no panel shows "0 failed", and none shows other targets' metrics."""
    assert scene.ask(target["expr"], job="prometheus") == []


@pytest.mark.parametrize("target", QUERIES)
def test_every_selector_of_a_query_has_a_result(scene: Scene, target: Json) -> None:
    """No selector in a query is always empty, which the results of others would hide."""
    for selector in selectors(target["expr"].replace('="$export_id"', '=~".+"')):
        assert scene.ask(selector), selector


@pytest.mark.parametrize("query", VARIABLES)
def test_variable_has_values(scene: Scene, query: str) -> None:
    """Every variable has values to choose from."""
    match re.fullmatch(r"label_values\((.+), (\w+)\)", query):
        case re.Match() as found:
            assert {sample.labels[found[2]] for sample in scene.ask(found[1])}
        case None:
            pytest.fail(query)


@pytest.mark.parametrize("alert", ALERTS)
def test_alert_can_fire(scene: Scene, alert: str) -> None:
    """An alert's expression has a result when its condition holds."""
    assert bool(scene.ask(ALERTS[alert])) == (alert not in EMPTY)


@pytest.mark.parametrize("rule", EXPRESSIONS)
def test_every_selector_of_a_rule_has_a_result(scene: Scene, rule: str) -> None:
    """No selector in a rule is always empty: its metrics and labels exist."""
    for selector in selectors(EXPRESSIONS[rule]):
        name = selector.partition("{")[0]
        # Recorded series come from other rules, and `exported_` labels from other targets.
        if ":" in name or "exported_" in selector:
            continue
        assert scene.ask(selector), selector


def test_two_replicas_count_each_export_once(scene: Scene) -> None:
    """Two replicas watch every export, and the states count each export once."""
    expr = panel_query("cavatica-exports", "States over time A")
    states = {sample.labels["state"]: sample.value for sample in scene.ask(expr, job="cavatica")}
    assert sum(states.values()) == sum(map(len, scene.ids.values()))
    assert {
        "ABORTED": 1.0,
        "UNKNOWN": 1.0,
        "PENDING": 2.0,
        "RUNNING": 2.0,
    }.items() <= states.items()


def test_table_lists_unfinished_and_failed_exports_once(scene: Scene) -> None:
    """The table has one row for each unfinished export and each failure that needs attention."""
    rows = scene.ask(
        panel_query("cavatica-exports", "Failed, unknown and unfinished exports A"), job="cavatica"
    )
    states = [each.labels["state"] for each in rows if each.labels["batch"] == "open"]
    assert sorted(states) == ["ABORTED", "PENDING", "PENDING", "RUNNING", "RUNNING", "UNKNOWN"]
    tiles = [
        scene.ask(panel_query("cavatica-exports", f"{title} A"), job="cavatica")[0].value
        for title in ("Failed in the last 24 h", "Failed earlier")
    ]
    assert min(tiles) > 0
    assert len([each for each in rows if each.labels["state"] == "FAILED"]) == sum(tiles)


def panel_query(uid: str, place: str) -> str:
    """Return a query by the dashboard, the panel's title and the query's letter."""
    expr: str = dict(targets(build()[uid]))[place]["expr"]
    return expr


def selectors(expr: str) -> set[str]:
    """Return the selectors of an expression, without ranges and offsets."""
    found = (node for node, _ in walk(parsed(expr)) if isinstance(node, promql.VectorSelector))
    return {f"{each.name}{each.matchers}" for each in found}
