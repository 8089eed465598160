"""From a failed export to the message about it, with real exporter, Prometheus and Alertmanager.

Rules and routes are the shipped ones with shorter durations: a minute of the rules is a second.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
import requests
import yaml

from exporter.simulator import Fault, Lifetimes, Simulator, serve
from scripts.ports import reserved_port
from tests.support.alert_files import RULES_FILE
from tests.support.exporter_process import RunningExporter, process
from tests.support.inbox import Inbox, open_inbox
from tests.support.servers import Alertmanager, Prometheus
from tests.support.time_scaling import shorten
from tests.support.waits import wait_until

FACTOR = 60
ROUTES_FACTOR = 600
"""Factor of the routes: Alertmanager's digest of an hour is sent every 6 seconds."""

PATIENCE = 30.0
"""Timeout, in seconds, of everything that a test waits for."""

BATCH = "tcga-7"
JOB = "cavatica"
ALERT = "CavaticaExportFailed"
RECORDED = "batch_export:cavatica_export_failed_timestamp_seconds:min"
LOOK_BACK = shorten("[20m]", FACTOR)
ENDLESS = Lifetimes(pending=(0, 0), running=(1e9, 1e9))
PROGRAM = (sys.executable, "-m", "exporter.tool")
MEANING = "the volume's settings do not allow this location"
TOKEN = "made-up"

PROMETHEUS_FLAGS = (
    "--query.lookback-delta=5s",  # 5m
    # Scaled, 1m would be 1s. But an alert ends in Alertmanager if it is not sent again within 4
    # such delays, and a Prometheus that starts needs 5 s to discover its Alertmanagers.
    "--rules.alert.resend-delay=10s",
)

Json = dict[str, Any]


def failure_messages(inbox: Inbox) -> list[Json]:
    """Return the data team's messages about failures, without what differs between runs."""
    return [
        {
            "status": message["status"],
            "group": message["groupLabels"],
            "alerts": [
                (alert["status"], alert["labels"], alert["annotations"]["description"])
                for alert in message["alerts"]
            ],
        }
        for receiver, message in inbox.posts
        if receiver == "data-team-failures"
    ]


@dataclass(frozen=True, slots=True)
class Scene:
    """The API, the Alertmanager and the inbox, which outlive exporters and Prometheus.

    Attributes:
        api: The simulator's URL.
        directory: Directory of all files.
    """

    simulator: Simulator
    api: str
    inbox: Inbox
    alertmanager: Alertmanager
    directory: Path

    def watch(self, **content: list[str]) -> None:
        """Write `content` into the ID file."""
        file = self.directory / "ids" / f"{BATCH}.yml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def repeat_failed(self) -> list[str]:
        """Repeat the exports that `cavatica-exports failed` prints, and return the new IDs."""
        bodies = subprocess.run(
            [
                *(*PROGRAM, "failed", "--format=create"),
                f"--exports.path={self.directory / 'ids'}",
                f"--api.url={self.api}",
            ],
            env=os.environ | {"SB_AUTH_TOKEN": TOKEN},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout.splitlines()
        answers = [
            requests.post(
                f"{self.api}/bulk/storage/exports/create",
                data=body,
                headers={"X-SBG-Auth-Token": TOKEN},
                timeout=PATIENCE,
            ).json()
            for body in bodies
        ]
        return [item["resource"]["id"] for answer in answers for item in answer["items"]]

    def exporter(self, port: int = 0) -> AbstractContextManager[RunningExporter]:
        """Return an exporter that runs inside a `with` block."""
        return process(
            self.directory / "exporter.log",
            f"--exports.path={self.directory / 'ids'}",
            f"--api.url={self.api}",
            f"--web.listen-address=127.0.0.1:{port}",
            SB_AUTH_TOKEN=TOKEN,
        )

    def prometheus(self, exporter: RunningExporter) -> Prometheus:
        """Return a Prometheus that scrapes this exporter and keeps the data of the previous one."""
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "rule_files": ["../rules.yml"],
            "scrape_configs": [
                {"job_name": JOB, "static_configs": static_configs(exporter.urls[0])}
            ],
            "alerting": {
                "alertmanagers": [{"static_configs": static_configs(self.alertmanager.url)}]
            },
        }
        return Prometheus(
            yaml.safe_dump(config), self.directory / "prometheus", arguments=PROMETHEUS_FLAGS
        )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Run the API, the Alertmanager, and the inbox that receives its notifications."""
    (tmp_path / "ids").mkdir()
    rules = shorten(RULES_FILE.read_text(encoding="utf-8"), FACTOR)
    (tmp_path / "rules.yml").write_text(rules, encoding="utf-8")
    simulator = Simulator(token=TOKEN, lifetimes=ENDLESS)
    with (
        serve(simulator) as api,
        open_inbox() as inbox,
        Alertmanager(inbox.routes(ROUTES_FACTOR), tmp_path / "alertmanager") as alertmanager,
    ):
        yield Scene(simulator, api, inbox, alertmanager, tmp_path)


def static_configs(url: str) -> list[Json]:
    """Return a `static_configs` with one target."""
    return [{"targets": [url.removeprefix("http://")]}]


def find_alertmanager(prometheus: Prometheus) -> None:
    """Wait until Prometheus has discovered the Alertmanager: earlier alerts would be lost."""
    wait_until(
        lambda: prometheus.get("/api/v1/alertmanagers").json()["data"]["activeAlertmanagers"],
        "Prometheus knows its Alertmanager",
        PATIENCE,
    )


def expect(prometheus: Prometheus, expression: str, what: str) -> None:
    """Wait until the result of an expression is not empty."""
    wait_until(lambda: prometheus.query(expression), what, PATIENCE)


def alerts(server: Prometheus | Alertmanager) -> list[Json]:
    """Return a server's current alerts about failed exports."""
    return [alert for alert in server.alerts() if alert["labels"]["alertname"] == ALERT]


def labels(export_id: str) -> dict[str, str]:
    """Return all labels of the alert about an export."""
    return {
        "alertname": ALERT,
        "batch": BATCH,
        "export_id": export_id,
        "job": JOB,
        "severity": "warning",
    }


def fail(simulator: Simulator, export_id: str) -> Json:
    """Make an export fail now; return the expected notification."""
    now = time.gmtime()
    error = {"status": 403, "code": 9103, "message": "Access denied."}
    finished_on = time.strftime("%Y-%m-%dT%H:%M:%SZ", now)
    simulator.put(
        simulator.export(export_id)
        | {"state": "FAILED", "finished_on": finished_on, "error": error}
    )
    description = (
        f"Export {export_id} of batch {BATCH} failed at"
        f" {time.strftime('%Y-%m-%d %H:%M:%S', now)} +0000 UTC with error code 9103: {MEANING}."
    )
    return {
        "status": "firing",
        "group": {"batch": BATCH, "job": JOB},
        "alerts": [("firing", labels(export_id), description)],
    }


def complete(simulator: Simulator, export_id: str) -> None:
    """Make an export complete now."""
    finished_on = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    simulator.put(simulator.export(export_id) | {"state": "COMPLETED", "finished_on": finished_on})


def fail_one_of_two(scene: Scene, prometheus: Prometheus, export_id: str) -> Json:
    """Make one of two running exports fail; wait for the message about it, and return it."""
    find_alertmanager(prometheus)
    expect(prometheus, 'count(cavatica_export_state{state="RUNNING"} == 1) == 2', "both run")
    message = fail(scene.simulator, export_id)
    wait_until(lambda: failure_messages(scene.inbox), "the failure is told", PATIENCE)
    assert failure_messages(scene.inbox) == [message]
    return message


def expect_end(scene: Scene, prometheus: Prometheus) -> None:
    """Wait until no alert about a failed export is left."""
    wait_until(lambda: not alerts(prometheus), "the alert ends in Prometheus", PATIENCE)
    wait_until(lambda: not alerts(scene.alertmanager), "the alert ends in Alertmanager", PATIENCE)


def fail_the_other(scene: Scene, export_id: str, message: Json) -> None:
    """Make the other export fail; expect its message after the first `message`, and no others.

    Alertmanager would have sent any further message about the first failure by then.
    """
    expected = [message, fail(scene.simulator, export_id)]
    wait_until(
        lambda: len(failure_messages(scene.inbox)) > 1, "the second failure is told", PATIENCE
    )
    assert failure_messages(scene.inbox) == expected


@pytest.mark.servers
def test_failure_sends_one_message(scene: Scene) -> None:
    """Restarts and outages do not repeat the message about a failure; acknowledging sends none."""
    simulator = scene.simulator
    first, second = simulator.start(2, lifetimes=ENDLESS)
    scene.watch(export_ids=[first, second])

    with (
        reserved_port() as port,
        scene.exporter(port) as exporter,
        scene.prometheus(exporter) as prometheus,
    ):
        message = fail_one_of_two(scene, prometheus, first)
        [alert] = alerts(scene.alertmanager)

        # The exporter is killed and restarted on the same address.
        exporter.stop(SIGKILL)
        expect(prometheus, "up == 0", "the exporter is away")
        with scene.exporter(port) as successor:
            expect(prometheus, "changes(process_start_time_seconds[1m]) == 1", "it is back")
            expect(prometheus, f"{RECORDED} and on (job) up == 1", "and sees the failure")
            # The API fails. Then exporter and Prometheus, which know the failure, are stopped.
            simulator.fault = Fault(status=503)
            expect(prometheus, "cavatica_up == 0", "the API is away")
            successor.stop(SIGKILL)

    # The exporter restarts on another address, and Prometheus with its old data. The API recovers
    # when no scrape has shown the failure for longer than the alert's range.
    with scene.exporter() as elsewhere, scene.prometheus(elsewhere) as prometheus:
        assert elsewhere.urls != exporter.urls
        find_alertmanager(prometheus)
        expect(prometheus, 'count(cavatica_export_state{state="UNKNOWN"} == 1) == 2', "none known")
        # With an offset of 3 s, so that the rule has been evaluated without the failure.
        long_ago = f"absent_over_time(cavatica_export_error_info{LOOK_BACK} offset 3s)"
        expect(prometheus, long_ago, "the failure is long ago")
        simulator.fault = None
        # After three samples, the rule has been evaluated with at least two of them.
        seen_again = f"count_over_time(cavatica_export_error_info{LOOK_BACK}) > 2"
        expect(prometheus, seen_again, "it is seen again")
        assert [each["labels"] for each in alerts(prometheus)] == [labels(first)]
        # An alert that had ended in the meantime would have a later start.
        still = [(each["labels"], each["startsAt"]) for each in alerts(scene.alertmanager)]
        assert still == [(labels(first), alert["startsAt"])]

        scene.watch(export_ids=[first, second], acknowledged=[first])
        expect_end(scene, prometheus)

        fail_the_other(scene, second, message)


@pytest.mark.servers
def test_failure_is_sent_repeated_and_superseded(scene: Scene) -> None:
    """The message has the cause; a repeat that completes ends the alert without a message."""
    simulator, inbox = scene.simulator, scene.inbox
    first, second = simulator.start(2, lifetimes=ENDLESS)
    scene.watch(export_ids=[first, second])

    with scene.exporter() as exporter, scene.prometheus(exporter) as prometheus:
        message = fail_one_of_two(scene, prometheus, first)
        wait_until(lambda: inbox.mails, "the mail arrives", PATIENCE)
        body = inbox.mails[0].get_body(("plain",))
        assert body is not None
        assert MEANING in body.get_content()

        [repeat] = scene.repeat_failed()
        asked, again = simulator.export(first), simulator.export(repeat)
        assert again["source"] == asked["source"]
        assert again["destination"] == asked["destination"]
        scene.watch(export_ids=[first, second, repeat])
        expect(
            prometheus,
            f'cavatica_export_state{{export_id="{repeat}",state="RUNNING"}} == 1',
            "it runs again",
        )
        assert alerts(prometheus)
        complete(simulator, repeat)
        expect(prometheus, f'cavatica_export_superseded{{export_id="{first}"}}', "the file arrived")
        expect_end(scene, prometheus)
        assert scene.repeat_failed() == []

        fail_the_other(scene, second, message)


@pytest.mark.servers
def test_failure_of_a_discovered_export_sends_a_message(scene: Scene) -> None:
    """An export that `discover` found fails, and the message about it arrives."""
    ids = scene.directory / "ids"
    discovery = process(
        scene.directory / "discover.log",
        *("discover", f"--to={ids}", "--every=1s", f"--api.url={scene.api}"),
        ready="Exports discovered",
        command=PROGRAM,
        SB_AUTH_TOKEN=TOKEN,
    )
    with discovery, scene.exporter() as exporter, scene.prometheus(exporter) as prometheus:
        find_alertmanager(prometheus)
        [export_id] = scene.simulator.start(1, volume="me/vol", lifetimes=ENDLESS)
        expect(prometheus, 'count(cavatica_export_state{state="RUNNING"} == 1)', "it runs")
        fail(scene.simulator, export_id)
        wait_until(lambda: failure_messages(scene.inbox), "the failure is told", PATIENCE)
    [message] = failure_messages(scene.inbox)
    [(status, names, _)] = message["alerts"]
    assert (status, names["export_id"]) == ("firing", export_id)
    assert names["batch"].startswith("me/vol 20")
