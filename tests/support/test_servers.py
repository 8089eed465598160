"""The helpers of `servers`, tested with the real servers."""

import time
from pathlib import Path

import pytest

from tests.support.servers import (
    PROGRAMS,
    VERSIONS,
    Alertmanager,
    Prometheus,
    Sample,
    amtool,
    promtool,
    require_programs,
)
from tests.support.waits import wait_until

PROMETHEUS = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: itself
    static_configs:
      - targets: [{target}]
rule_files: [rules.yml]
alerting:
  alertmanagers:
    - static_configs:
        - targets: [{alertmanager}]
"""

RULES = """
groups:
  - name: smoke
    interval: 200ms
    rules:
      - alert: ItselfIsUp
        expr: up == 1
"""

ALERTMANAGER = """
route: {receiver: nobody}
receivers: [{name: nobody}]
"""


@pytest.mark.servers
def test_an_alert_goes_from_prometheus_to_alertmanager(tmp_path: Path) -> None:
    """Both servers start, and an alert that fires in Prometheus arrives at Alertmanager."""
    (tmp_path / "rules.yml").write_text(RULES)
    with Alertmanager(ALERTMANAGER, tmp_path) as alertmanager:
        config = PROMETHEUS.format(target=alertmanager.address, alertmanager=alertmanager.address)
        with Prometheus(config, tmp_path) as prometheus:
            arrived = wait_until(alertmanager.alerts, "the alert at Alertmanager", 10)
            assert arrived[0]["labels"]["alertname"] == "ItselfIsUp"
            assert prometheus.alerts()[0]["state"] == "firing"
            assert prometheus.targets()[0]["health"] == "up"


@pytest.mark.servers
def test_queries_return_labels_and_numbers(tmp_path: Path) -> None:
    """Queries return vectors, scalars and ranges as labels and floats."""
    config = "rule_files: []"
    with Prometheus(config, tmp_path) as prometheus:
        now = time.time()
        assert prometheus.query("7") == [Sample({}, 7.0)]
        assert prometheus.query('label_replace(vector(1.5), "a", "b", "", "")', at=now) == [
            Sample({"a": "b"}, 1.5)
        ]
        [series] = prometheus.query_range("vector(2)", start=now - 10, end=now, step=5)
        assert [value for _, value in series.values] == [2.0, 2.0, 2.0]


@pytest.mark.servers
def test_an_invalid_query_fails_with_the_error_of_prometheus(tmp_path: Path) -> None:
    """A query that Prometheus refuses fails the test; the message has Prometheus' error."""
    with (
        Prometheus("rule_files: []", tmp_path) as prometheus,
        pytest.raises(pytest.fail.Exception, match="parse error"),
    ):
        prometheus.query("sum(")


@pytest.mark.servers
def test_an_invalid_configuration_fails_with_the_log(tmp_path: Path) -> None:
    """A server that exits at its start fails the test; the message has the server's log."""
    with pytest.raises(pytest.fail.Exception, match="field nonsense not found"):
        Prometheus("nonsense: 1", tmp_path).__enter__()


@pytest.mark.servers
def test_a_server_can_be_restarted_and_reloaded(tmp_path: Path) -> None:
    """Entering the same object again restarts the server; `reload` applies a new configuration."""
    prometheus = Prometheus("rule_files: []", tmp_path)
    for scrape in ("[]", "[{job_name: added}]"):
        with prometheus:
            prometheus.config_file.write_text(f"scrape_configs: {scrape}")
            prometheus.reload()
            assert prometheus.targets() == []


@pytest.mark.servers
@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        (promtool, ["check", "config"], "rule_files: []"),
        (amtool, ["check-config"], ALERTMANAGER),
    ],
)
def test_promtool_and_amtool_check_files(
    tool: object, arguments: list[str], text: str, tmp_path: Path
) -> None:
    """Promtool and amtool accept a valid file."""
    assert callable(tool)
    file = tmp_path / "config.yml"
    file.write_text(text)
    assert "SUCCESS" in tool(*arguments, file).stdout


@pytest.mark.servers
def test_promtool_reads_standard_input() -> None:
    """`promtool check metrics` reads the text of a metrics endpoint from standard input."""
    result = promtool(
        "check", "metrics", stdin="# HELP a_bytes A.\n# TYPE a_bytes gauge\na_bytes 1\n"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("version", VERSIONS)
def test_without_programs_a_test_is_skipped(version: str, tmp_path: Path) -> None:
    """Without the programs the test is skipped; the reason has the version and all their names."""
    reason = f"{version} servers.*{', '.join(PROGRAMS)}"
    with pytest.raises(pytest.skip.Exception, match=reason):
        require_programs(version, ci=False, directory=tmp_path, path="")


@pytest.mark.parametrize("version", VERSIONS)
def test_without_programs_ci_fails(version: str, tmp_path: Path) -> None:
    """Under CI a test whose programs are missing fails; it is not skipped."""
    with pytest.raises(pytest.fail.Exception, match="make servers"):
        require_programs(version, ci=True, directory=tmp_path, path="")


def put_on_path(directory: Path, prometheus: str, alertmanager: str) -> None:
    """Create programs that print a version, some of them to standard error as old versions do."""
    for name, version, to in (
        ("prometheus", prometheus, 1),
        ("promtool", prometheus, 2),
        ("prometheus-alertmanager", alertmanager, 1),
        ("amtool", alertmanager, 2),
    ):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{name}, version {version} (branch: x)' >&{to}\n")
        program.chmod(0o755)


def test_programs_on_path_replace_only_the_old_version(tmp_path: Path) -> None:
    """Programs on PATH are used if `.servers` lacks the old version, but never as the new one."""
    put_on_path(tmp_path, "2.42.0", "0.28.1")
    require_programs("old", ci=True, directory=tmp_path / "none", path=str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match="new servers are not here"):
        require_programs("new", ci=True, directory=tmp_path / "none", path=str(tmp_path))


def test_a_program_on_path_that_is_too_old_is_not_used(tmp_path: Path) -> None:
    """If a program is older than the README promises, the test is skipped; the reason says so."""
    put_on_path(tmp_path, "2.31.2", "1.0.0")
    prometheus = rf"prometheus \({tmp_path}/prometheus is 2\.31, 2\.42 is needed\)"
    reason = rf"here: {prometheus}, promtool \([^)]+\) \(`make"
    with pytest.raises(pytest.skip.Exception, match=reason):
        require_programs("old", ci=False, directory=tmp_path / "none", path=str(tmp_path))


@pytest.mark.servers
def test_server_versions_have_the_promised_numbers(server_version: str) -> None:
    """Old is the version that the README promises, or PATH's; new is at least Prometheus 3."""
    major = int(promtool("--version").stdout.split("version ")[1].split(".")[0])
    assert major >= {"old": 2, "new": 3}[server_version]


def test_waiting_in_vain_fails_the_test() -> None:
    """If the condition stays false, `wait_until` fails with its name and its last result."""
    with pytest.raises(
        pytest.fail.Exception, match=r"not within 0 s: the moon \(last answer: \[\]\)"
    ):
        wait_until(list, "the moon", 0)
