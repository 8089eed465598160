"""The messages that people read: their number in a day, and their text for 1 and 1,000 failures.

Alertmanager is real and has the shipped routes and templates. The tests post alerts as Prometheus
does: repeatedly while they fire.
"""

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.alert_files import ALERTS, ROOT
from tests.support.inbox import Inbox, open_inbox
from tests.support.servers import Alertmanager, amtool
from tests.support.waits import wait_until

pytestmark = pytest.mark.servers

Json = dict[str, Any]

TEMPLATES = ROOT / "alerts" / "cavatica.tmpl"
PATIENCE = 30.0
FACTOR = 1200
"""Factor by which durations are shorter: a minute is 50 ms, a day is 72 s."""

MINUTE = 60 / FACTOR
HOUR = 60 * MINUTE
FAILED = "CavaticaExportFailed"


def failure(batch: str, number: int, at: float = 0, job: str = "cavatica") -> Json:
    """Return a firing alert about a failed export, as Prometheus makes it of the rules."""
    when = datetime.fromtimestamp(1_700_000_000 + at, timezone.utc)
    failed_at = f"{when:%Y-%m-%d %H:%M:%S} +0000 UTC"
    return {
        "labels": {
            "alertname": FAILED,
            "severity": "warning",
            "job": job,
            "batch": batch,
            "export_id": f"E{number:04}",
        },
        "annotations": {
            "summary": ALERTS[FAILED]["annotations"]["summary"],
            "description": f"Export E{number:04} of batch {batch} failed at {failed_at} with error"
            " code 9103: the location is not accessible.",
            "failed_at": failed_at,
            "runbook_url": ALERTS[FAILED]["annotations"]["runbook_url"],
        },
    }


def payload(alerts: list[Json]) -> Json:
    """Return the data that Alertmanager passes to its templates."""
    common = {
        key: value
        for key, value in alerts[0]["labels"].items()
        if all(each["labels"].get(key) == value for each in alerts)
    }
    time_zero = "0001-01-01T00:00:00Z"
    return {
        "status": "firing",
        "receiver": "data-team-failures",
        "groupLabels": {key: common[key] for key in ("job", "batch") if key in common},
        "commonLabels": common,
        "commonAnnotations": {},
        "externalURL": "http://alertmanager.example",
        "alerts": [
            {"status": "firing", **each, "startsAt": time_zero, "endsAt": time_zero}
            for each in alerts
        ],
    }


def render(template: str, alerts: list[Json], directory: Path) -> str:
    """Return the text of a template for these alerts."""
    file = directory / "payload.json"
    file.write_text(json.dumps(payload(alerts)), encoding="utf-8")
    done = amtool(
        *("template", "render", f"--template.glob={TEMPLATES}", f"--template.data={file}"),
        f'--template.text={{{{ template "{template}" . }}}}',
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def test_message_about_one_failure(tmp_path: Path) -> None:
    """The message has export, time, cause, the links to dashboard and runbook, and the job."""
    alerts = [failure("tcga 7&x", 1)]
    assert render("cavatica.title", alerts, tmp_path) == "1 failed: tcga 7&x"
    assert render("cavatica.text", alerts, tmp_path).strip().splitlines() == [
        f"- {alerts[0]['annotations']['description']}",
        "",
        "All: https://grafana.example/d/cavatica-exports?var-job=cavatica&var-batch=tcga+7%26x",
        f"What to do: {alerts[0]['annotations']['runbook_url']}",
        "From job cavatica.",
    ]


@pytest.mark.parametrize("template", ["cavatica.text", "cavatica.slack"])
def test_message_about_1000_failures_lists_the_newest_20(template: str, tmp_path: Path) -> None:
    """The message lists the newest 20 failures, newest first, and has the total."""
    # The times are in another order than the IDs.
    alerts = [failure("b", number, at=60 * (number * 7 % 1000)) for number in range(1000)]
    text = render(template, alerts, tmp_path)
    named = [line.split()[2] for line in text.splitlines() if line.startswith("- ")]
    newest = sorted(range(1000), key=lambda number: number * 7 % 1000, reverse=True)[:20]
    assert named == [f"E{number:04}" for number in newest]
    assert "The first 20 of 1000." in text
    assert len(text) < 4000


def test_message_lists_all_failures_of_one_second(tmp_path: Path) -> None:
    """Failures in the same second are all in the list, although it is sorted by time."""
    text = render("cavatica.text", [failure("b", number) for number in range(20)], tmp_path)
    assert text.count("- Export") == 20
    assert "The first" not in text


def test_slack_message_escapes_markup(tmp_path: Path) -> None:
    """A batch's name cannot become a mention or a link in Slack."""
    alerts = [failure("<!channel> & co", 1)]
    for template in ("cavatica.slack", "cavatica.slack.title"):
        text = render(template, alerts, tmp_path)
        assert "<!channel>" not in text
        assert "&lt;!channel&gt; &amp; co" in text


@pytest.mark.parametrize("template", ["cavatica.text", "cavatica.slack"])
@pytest.mark.parametrize(
    ("identity", "place"),
    [
        ({}, None),
        ({"cluster": "c&d"}, "From cluster c&d."),
        ({"job": "a", "namespace": "n"}, "From job a, namespace n."),
        ({"job": "a", "namespace": "n", "cluster": "c"}, "From job a, namespace n, cluster c."),
    ],
)
def test_message_names_job_namespace_and_cluster(
    template: str, identity: dict[str, str], place: str | None, tmp_path: Path
) -> None:
    """The message has those labels that the alert has; CavaticaExporterAbsent may have none."""
    name = "CavaticaExporterAbsent"
    notes = {key: ALERTS[name]["annotations"][key] for key in ("summary", "description")}
    alert = {"labels": {"alertname": name, **identity}, "annotations": notes}
    lines = unescape(render(template, [alert], tmp_path)).splitlines()
    assert [line for line in lines if line.startswith("From")] == ([place] if place else [])


@pytest.mark.parametrize("template", ["cavatica.text", "cavatica.slack"])
def test_message_counts_ended_alerts_separately(template: str, tmp_path: Path) -> None:
    """Ended alerts are counted in a line of their own, as Alertmanager does not send them again."""
    ended = {**failure("b", 2), "status": "resolved"}
    text = render(template, [failure("b", 1), ended], tmp_path)
    assert "Over: 1 more." in text.splitlines()


@pytest.mark.parametrize(
    ("template", "first", "second"),
    [
        ("cavatica.text", "What to do: {}\n", "What to do: {}\n"),
        (
            "cavatica.slack",
            "<{}|What to do: CavaticaExportsMissing> · ",
            "<{}|What to do: CavaticaExportLookupErrors> · <",
        ),
    ],
)
def test_message_about_several_kinds_of_alert_has_the_runbook_of_each(
    template: str, first: str, second: str, tmp_path: Path
) -> None:
    """Alerts of one batch are one message, in which each kind has its runbook once."""
    names = ["CavaticaExportsMissing", *["CavaticaExportLookupErrors"] * 2]
    alerts = [
        {
            "labels": {"alertname": name, "job": "cavatica", "batch": "b", "code": str(number)},
            "annotations": {**ALERTS[name]["annotations"], "description": "Some."},
        }
        for number, name in enumerate(names)
    ]
    urls = [ALERTS[name]["annotations"]["runbook_url"] for name in names[:2]]
    text = render(template, alerts, tmp_path)
    assert (first + second).format(*urls) in text
    assert text.count("What to do") == 2


@dataclass(slots=True)
class Sender:
    """Posts alerts to Alertmanager, as Prometheus does."""

    alertmanager: Alertmanager
    firing: list[Json] = field(default_factory=list)

    def post(self, *, ended: Sequence[Json] = ()) -> None:
        """Post ended alerts and all firing ones, which end three scaled hours after this post."""
        now = datetime.now(timezone.utc)
        ends = now + timedelta(seconds=3 * HOUR)
        alerts = [
            *({**each, "endsAt": ends.isoformat()} for each in self.firing),
            *({**each, "endsAt": now.isoformat()} for each in ended),
        ]
        url = f"{self.alertmanager.url}/api/v2/alerts"
        requests.post(url, json=alerts, timeout=10).raise_for_status()

    def acknowledge(self, *batches: str) -> None:
        """End all alerts of some batches."""
        ended = [each for each in self.firing if each["labels"].get("batch") in batches]
        self.firing = [each for each in self.firing if each not in ended]
        self.post(ended=ended)

    def post_for(self, hours: float) -> None:
        """Post the firing alerts repeatedly for a number of scaled hours."""
        until = time.monotonic() + hours * HOUR
        while time.monotonic() < until:
            self.post()
            time.sleep(5 * MINUTE)


def messages_by_batch(inbox: Inbox) -> dict[str, int]:
    """Return the number of messages of each batch."""
    told: dict[str, int] = {}
    for _, post in inbox.posts:
        batch = post["groupLabels"]["batch"]
        told[batch] = told.get(batch, 0) + 1
    return told


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """Open an inbox."""
    with open_inbox() as opened:
        yield opened


def test_number_of_messages_in_a_day(inbox: Inbox, tmp_path: Path) -> None:
    """Bursts, single failures, 1,000 at once, an outage and a restart send few short messages."""
    alertmanager = Alertmanager(inbox.routes(FACTOR), tmp_path)
    with alertmanager:
        sender = Sender(alertmanager)
        # 60 failures within two hours, and two jobs' batches of one name.
        sender.firing += [failure("same", 0), failure("same", 1, job="other")]
        began = time.monotonic()
        for number in range(0, 60, 5):
            sender.firing += [failure("burst", number + more, at=number) for more in range(5)]
            sender.post_for(9 / 60)
        hours = (time.monotonic() - began) / HOUR  # more than two on a busy machine
        sender.post_for(1)
        # 1,000 at once.
        sender.firing += [failure("thousand", number) for number in range(1000)]
        sender.post_for(2)
        sender.acknowledge("burst", "thousand")
        sender.post_for(2)
        before = messages_by_batch(inbox)
    # Alertmanager restarts; then one fails every two hours.
    with alertmanager:
        sender.post_for(2)
        assert messages_by_batch(inbox) == before
        for number in range(4):
            sender.firing.append(failure("trickle", number, at=number))
            sender.post_for(2)
        # In an outage of exporter or API nothing changes: known failures go on firing.
        sender.post_for(4)
    counted = messages_by_batch(inbox)
    print(f"messages of the day: {counted}")  # noqa: T201 - to be read with -s
    # One message at once, then at most one an hour.
    assert counted["burst"] <= 1 + math.ceil(hours)
    assert (counted["same"], counted["trickle"]) == (2, 4)
    # Alertmanager may need longer than the shortened group_wait to receive them all.
    assert counted["thousand"] <= 2
    # Mail and Slack got the same messages, and these are short.
    assert len(inbox.slack) == len(inbox.mails) == len(inbox.posts) == sum(counted.values())
    assert max(len(mail.as_bytes()) for mail in inbox.mails) < 6000
    assert max(len(each["attachments"][0]["text"]) for each in inbox.slack) < 4000
    # The last digest of the burst has them all.
    bursts = [post for _, post in inbox.posts if post["groupLabels"]["batch"] == "burst"]
    assert len(bursts[-1]["alerts"]) == 60


def test_1000_failures_at_once_send_one_message(inbox: Inbox, tmp_path: Path) -> None:
    """The one message about 1,000 failures is short enough to read, by mail and in Slack."""
    with Alertmanager(inbox.routes(60), tmp_path) as alertmanager:
        Sender(alertmanager, [failure("thousand", number) for number in range(1000)]).post()
        wait_until(lambda: inbox.posts and inbox.mails and inbox.slack, "the message", PATIENCE)
    [(_, post)], [mail], [slack] = inbox.posts, inbox.mails, inbox.slack
    assert len(post["alerts"]) == 1000
    assert mail["Subject"] == slack["attachments"][0]["title"] == "1000 failed: thousand"
    body = mail.get_body(("plain",))
    assert body is not None
    for text in (body.get_content(), slack["attachments"][0]["text"]):
        assert "The first 20 of 1000." in text
        assert len(text) < 4000


def test_operations_get_a_message_about_the_end(inbox: Inbox, tmp_path: Path) -> None:
    """When an alert about the exporter ends, operations get a second message that says so."""
    with Alertmanager(inbox.routes(FACTOR), tmp_path) as alertmanager:
        sender = Sender(alertmanager)
        rule = ALERTS["CavaticaDataStale"]
        sender.firing = [
            {
                "labels": {"alertname": "CavaticaDataStale", "job": "cavatica", **rule["labels"]},
                "annotations": {**rule["annotations"], "description": "Old."},
            }
        ]
        sender.post()
        wait_until(lambda: len(inbox.mails) == 1, "the alert", PATIENCE)
        ended, sender.firing = sender.firing, []
        sender.post(ended=ended)
        wait_until(lambda: len(inbox.mails) == 2, "its end", PATIENCE)
    assert [mail["Subject"] for mail in inbox.mails] == [
        "What is shown about the exports is old.: cavatica",
        "Over: What is shown about the exports is old.: cavatica",
    ]
    assert [mail["To"] for mail in inbox.mails] == ["operations@mail.example"] * 2
