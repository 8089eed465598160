"""From an export's failure to the message about it: real exporter, Prometheus and Alertmanager.

Rules and routes are the shipped ones, in which time passes 60 times faster: a minute is a second.
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
from tests.support.alert_files import RULES_FILE
from tests.support.exporter_process import RunningExporter, process
from tests.support.inbox import Inbox, open_inbox
from tests.support.servers import Alertmanager, Prometheus, wait_until
from tests.support.time_scaling import shorten

FACTOR = 60
ROUTES_FACTOR = 600
"""Of Alertmanager, so that a digest an hour is one every 6 seconds."""

PATIENCE = 30.0
"""Seconds after which something that the test waits for will not come any more."""

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
    # 1m would be 1s, too; but a Prometheus that starts looks for its Alertmanagers for 5 s, however
    # fast all else passes, and after 4 of these delays an alert that is not sent again is over.
    "--rules.alert.resend-delay=10s",
)

Json = dict[str, Any]


def told(inbox: Inbox) -> list[Json]:
    """Return the data team's messages about failures, without what differs from run to run."""
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
    """What stays while exporters and Prometheus come and go.

    Attributes:
        api: The simulator's URL.
        directory: Of all files.
    """

    simulator: Simulator
    api: str
    inbox: Inbox
    alertmanager: Alertmanager
    directory: Path

    def watch(self, **content: list[str]) -> None:
        """Write the ID file."""
        file = self.directory / "ids" / f"{BATCH}.yml"
        file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def repeat_failed(self) -> list[str]:
        """Start what `cavatica-exports failed` says has to be exported again; return the IDs."""
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

    def exporter(self, address: str = "127.0.0.1:0") -> AbstractContextManager[RunningExporter]:
        """Run an exporter."""
        return process(
            self.directory / "exporter.log",
            f"--exports.path={self.directory / 'ids'}",
            f"--api.url={self.api}",
            f"--web.listen-address={address}",
            SB_AUTH_TOKEN=TOKEN,
        )

    def prometheus(self, exporter: RunningExporter) -> Prometheus:
        """Start a Prometheus that scrapes this exporter and keeps its predecessor's data."""
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "rule_files": ["../rules.yml"],
            "scrape_configs": [{"job_name": JOB, "static_configs": static(exporter.urls[0])}],
            "alerting": {"alertmanagers": [{"static_configs": static(self.alertmanager.url)}]},
        }
        return Prometheus(
            yaml.safe_dump(config), self.directory / "prometheus", arguments=PROMETHEUS_FLAGS
        )


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """Start the API, the Alertmanager and the inbox that receives notifications."""
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


def static(url: str) -> list[Json]:
    """Return the only target, as a Prometheus configuration names it."""
    return [{"targets": [url.removeprefix("http://")]}]


def find_alertmanager(prometheus: Prometheus) -> None:
    """Wait until Prometheus has found the Alertmanager: earlier alerts would be lost."""
    wait_until(
        lambda: prometheus.get("/api/v1/alertmanagers").json()["data"]["activeAlertmanagers"],
        PATIENCE,
        "Prometheus knows its Alertmanager",
    )


def expect(prometheus: Prometheus, expression: str, what: str) -> None:
    """Wait until an expression has an answer."""
    wait_until(lambda: prometheus.query(expression), PATIENCE, what)


def alerts(server: Prometheus | Alertmanager) -> list[Json]:
    """Return a server's current alerts about failed exports."""
    return [alert for alert in server.alerts() if alert["labels"]["alertname"] == ALERT]


def labels(export_id: str) -> dict[str, str]:
    """All labels of the alert about an export."""
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
    """Make one of two running exports fail; wait for its message, the first, and return it."""
    find_alertmanager(prometheus)
    expect(prometheus, 'count(cavatica_export_state{state="RUNNING"} == 1) == 2', "both run")
    message = fail(scene.simulator, export_id)
    wait_until(lambda: told(scene.inbox), PATIENCE, "the failure is told")
    assert told(scene.inbox) == [message]
    return message


def expect_end(scene: Scene, prometheus: Prometheus) -> None:
    """Wait until no alert about a failed export is left."""
    wait_until(lambda: not alerts(prometheus), PATIENCE, "the alert ends in Prometheus")
    wait_until(lambda: not alerts(scene.alertmanager), PATIENCE, "the alert ends in Alertmanager")


def fail_the_other(scene: Scene, export_id: str, message: Json) -> None:
    """Make the other export fail; the first `message` and the one about it are all.

    Anything that Alertmanager has to send about the first failure is sent by then.
    """
    expected = [message, fail(scene.simulator, export_id)]
    wait_until(lambda: len(told(scene.inbox)) > 1, PATIENCE, "the second failure is told")
    assert told(scene.inbox) == expected


@pytest.mark.servers
def test_a_failure_is_told_once(scene: Scene) -> None:
    """A failure sends one message in spite of restarts and outages; acknowledging sends none."""
    simulator = scene.simulator
    first, second = simulator.start(2, lifetimes=ENDLESS)
    scene.watch(export_ids=[first, second])

    with scene.exporter() as exporter, scene.prometheus(exporter) as prometheus:
        message = fail_one_of_two(scene, prometheus, first)
        [alert] = alerts(scene.alertmanager)

        # The exporter is killed, and comes back where it was.
        exporter.stop(SIGKILL)
        expect(prometheus, "up == 0", "the exporter is away")
        address = exporter.urls[0].removeprefix("http://")
        with scene.exporter(address) as successor:
            expect(prometheus, "changes(process_start_time_seconds[1m]) == 1", "it is back")
            expect(prometheus, f"{RECORDED} and on (job) up == 1", "and sees the failure")
            # The API goes away, and then everything that could remember the failure.
            simulator.fault = Fault(status=503)
            expect(prometheus, "cavatica_up == 0", "the API is away")
            successor.stop(SIGKILL)

    # The exporter comes back elsewhere, Prometheus on its data, and the API when no scrape has seen
    # the failure for longer than alerts look back.
    with scene.exporter() as elsewhere, scene.prometheus(elsewhere) as prometheus:
        assert elsewhere.urls != exporter.urls
        find_alertmanager(prometheus)
        expect(prometheus, 'count(cavatica_export_state{state="UNKNOWN"} == 1) == 2', "none known")
        # Three seconds ago already, so that the alert has been evaluated without it.
        long_ago = f"absent_over_time(cavatica_export_error_info{LOOK_BACK} offset 3s)"
        expect(prometheus, long_ago, "the failure is long ago")
        simulator.fault = None
        # When there are three, the alert has been evaluated with two of them.
        seen_again = f"count_over_time(cavatica_export_error_info{LOOK_BACK}) > 2"
        expect(prometheus, seen_again, "it is seen again")
        assert [each["labels"] for each in alerts(prometheus)] == [labels(first)]
        # Had it ended in the meantime, it would have begun anew.
        still = [(each["labels"], each["startsAt"]) for each in alerts(scene.alertmanager)]
        assert still == [(labels(first), alert["startsAt"])]

        scene.watch(export_ids=[first, second], acknowledged=[first])
        expect_end(scene, prometheus)

        fail_the_other(scene, second, message)


@pytest.mark.servers
def test_the_life_of_a_failure(scene: Scene) -> None:
    """The message says why it failed; the repeat that completes ends it, without a message."""
    simulator, inbox = scene.simulator, scene.inbox
    first, second = simulator.start(2, lifetimes=ENDLESS)
    scene.watch(export_ids=[first, second])

    with scene.exporter() as exporter, scene.prometheus(exporter) as prometheus:
        message = fail_one_of_two(scene, prometheus, first)
        wait_until(lambda: inbox.mails, PATIENCE, "the mail arrives")
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
def test_a_failure_that_was_discovered_is_told(scene: Scene) -> None:
    """An export that discovery found fails, and the message arrives."""
    ids = scene.directory / "ids"
    arguments = ["discover", f"--to={ids}", "--every=1s", f"--api.url={scene.api}"]
    with subprocess.Popen(
        [*PROGRAM, *arguments], env=os.environ | {"SB_AUTH_TOKEN": TOKEN}
    ) as discovery:
        wait_until(lambda: [*ids.glob("discovered-*.json")], PATIENCE, "a first round")
        with scene.exporter() as exporter, scene.prometheus(exporter) as prometheus:
            find_alertmanager(prometheus)
            [export_id] = scene.simulator.start(1, volume="me/vol", lifetimes=ENDLESS)
            expect(prometheus, 'count(cavatica_export_state{state="RUNNING"} == 1)', "it runs")
            fail(scene.simulator, export_id)
            wait_until(lambda: told(scene.inbox), PATIENCE, "the failure is told")
        discovery.terminate()
    [message] = told(scene.inbox)
    [(status, names, _)] = message["alerts"]
    assert (status, names["export_id"]) == ("firing", export_id)
    assert names["batch"].startswith("me/vol 20")
