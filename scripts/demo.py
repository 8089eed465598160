"""`make demo`: the exporter with a simulated CAVATICA, scraped by a Prometheus.

If Prometheus and Alertmanager are available (from `make servers`, or on PATH), they run with the
bundled rules and routes. No message is sent; firing alerts are printed. Otherwise only the exporter
runs, and a line says so.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import NoReturn

import yaml

from scripts.ports import reserved_port

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "alerts"
SERVERS = ROOT / ".servers"

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0
_LOOK_SECONDS = 5.0
_LOG_LINES = 10

_LINKS = """
Status page    {exporter}
Alerts         {prometheus}
Alertmanager   {alertmanager}

Exports begin, finish and fail within minutes. Firing alerts are printed below, the first failure
within three minutes. Ctrl-C ends everything.

"""


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Make a temporary directory for the block; exit with 2 if it cannot be created."""
    try:
        directory = tempfile.TemporaryDirectory(prefix="cavatica-demo-")
    except OSError as error:
        print(f"error: no directory for temporary files: {error.strerror}", file=sys.stderr)
        sys.exit(2)
    with directory as name:
        yield Path(name)


def find(program: str) -> str | None:
    """Return the path of a server: the newest that `make servers` unpacked, or the one on PATH."""
    for version in ("new", "old"):
        if (unpacked := SERVERS / version / "bin" / program).exists():
            return str(unpacked)
    return shutil.which(program) or shutil.which(f"prometheus-{program}")  # as in Debian


def prometheus_configuration(exporter: int, alertmanager: int) -> str:
    """Return a configuration that scrapes and evaluates often."""
    return yaml.safe_dump(
        {
            "global": {"scrape_interval": "15s", "evaluation_interval": "15s"},
            "rule_files": [str(ALERTS / "cavatica-exports.rules.yml")],
            "alerting": {
                "alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager}"]}]}]
            },
            "scrape_configs": [
                {
                    "job_name": "cavatica",
                    "static_configs": [{"targets": [f"127.0.0.1:{exporter}"]}],
                }
            ],
        }
    )


def alertmanager_configuration() -> str:
    """Return the routes of the example, with receivers that send nothing."""
    example = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text(encoding="utf-8"))
    return yaml.safe_dump(
        {
            "route": example["route"],
            "inhibit_rules": example["inhibit_rules"],
            "receivers": [{"name": each["name"]} for each in example["receivers"]],
        }
    )


@dataclass(frozen=True)
class Child:
    """A running program; without a log file, its errors go to standard error."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None


def check(children: Sequence[Child]) -> None:
    """Raise an error if a program has ended.

    Raises:
        SystemExit: a program has ended; the message has the end of its log.
    """
    for child in children:
        if (status := child.process.poll()) is not None:
            said = _log_end(child.log) if child.log else ""
            sys.exit(f"error: {child.name} ended with status {status}{said}")


def _log_end(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
    return "; the end of its log:\n" + "\n".join(lines)


@contextlib.contextmanager
def running(command: Sequence[str], directory: Path, log: Path | None) -> Iterator[Child]:
    """Run a program during the block; without a log file, only its errors are shown."""
    with contextlib.ExitStack() as stack:
        output = stack.enter_context(log.open("wb")) if log else subprocess.DEVNULL
        errors = output if log else None
        process = stack.enter_context(
            subprocess.Popen(command, cwd=directory, stdout=output, stderr=errors)
        )
        try:
            yield Child(log.stem if log else "exporter", process, log)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def status_of(url: str) -> int | None:
    """Return the HTTP status of a URL; None without an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 # our own server
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (OSError, HTTPException):
        return None


def page_of(page: str, instead: str, child: Child) -> str:
    """Wait until a server answers; return `page`, or `instead` if there is no such page.

    Debian's servers have no web pages, only APIs.

    Raises:
        SystemExit: the server ends, or does not answer in time.
    """
    end = time.monotonic() + _START_SECONDS
    while (status := status_of(page)) in (None, HTTPStatus.SERVICE_UNAVAILABLE):
        check([child])
        if time.monotonic() > end:
            said = _log_end(child.log) if child.log else ""
            sys.exit(f"error: no answer within {_START_SECONDS:.0f} s: {page}{said}")
        time.sleep(0.1)
    return instead if status == HTTPStatus.NOT_FOUND else page


def firing_alerts(api: str) -> dict[str, str]:
    """Return a line for each alert that fires in Prometheus, by the alert's labels and begin."""
    try:
        with urllib.request.urlopen(api, timeout=5) as answer:  # noqa: S310 # our own server
            alerts = json.load(answer)["data"]["alerts"]
    except (OSError, HTTPException, ValueError):
        # It may be ending: an answer that breaks off is not JSON.
        return {}
    return {
        json.dumps([each["labels"], each["activeAt"]], sort_keys=True): "  ".join(
            (
                time.strftime("%H:%M:%S"),
                each["labels"]["alertname"],
                each["annotations"]["description"],
            )
        )
        for each in alerts
        if each["state"] == "firing"
    }


def print_alerts(api: str, children: Sequence[Child]) -> NoReturn:
    """Print each alert when it begins to fire, until a program ends."""
    printed: set[str] = set()
    while True:
        check(children)
        firing = firing_alerts(api)
        for key in firing.keys() - printed:
            print(firing[key], flush=True)
        printed |= firing.keys()
        time.sleep(_LOOK_SECONDS)


def main() -> None:
    """Run all programs until a signal."""
    exporter = [sys.executable, "-m", "exporter", "--demo"]
    prometheus, alertmanager = find("prometheus"), find("alertmanager")
    if not (prometheus and alertmanager):
        sys.stdout.write("Prometheus and Alertmanager are not at hand: the exporter runs alone.\n")
        sys.stdout.flush()
        os.execv(sys.executable, exporter)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        ports = [stack.enter_context(reserved_port()) for _ in range(3)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        directory = stack.enter_context(scratch())
        (directory / "prometheus.yml").write_text(
            prometheus_configuration(ports[0], ports[2]), encoding="utf-8"
        )
        (directory / "alertmanager.yml").write_text(alertmanager_configuration(), encoding="utf-8")
        commands = (
            [*exporter, f"--web.listen-address=127.0.0.1:{ports[0]}", "--log.level=warn"],
            [
                prometheus,
                f"--config.file={directory}/prometheus.yml",
                f"--storage.tsdb.path={directory}/prometheus",
                f"--web.listen-address=127.0.0.1:{ports[1]}",
            ],
            [
                alertmanager,
                f"--config.file={directory}/alertmanager.yml",
                f"--storage.path={directory}/alertmanager",
                f"--web.listen-address=127.0.0.1:{ports[2]}",
                "--cluster.listen-address=",
            ],
        )
        children: list[Child] = []
        for command in commands:
            name = Path(command[0]).name.removeprefix("prometheus-")
            log = None if command[0] == sys.executable else directory / f"{name}.log"
            # The unpacked Alertmanager looks for its templates below the working directory.
            place = Path(command[0]).parents[1] if log else ROOT
            children.append(stack.enter_context(running(command, place, log)))
        alerts = f"{urls[1]}/api/v1/alerts"
        links = _LINKS.format(
            exporter=page_of(f"{urls[0]}/", f"{urls[0]}/", children[0]),
            prometheus=page_of(f"{urls[1]}/alerts", alerts, children[1]),
            alertmanager=page_of(f"{urls[2]}/", f"{urls[2]}/api/v2/alerts", children[2]),
        )
        print(links, end="", flush=True)
        print_alerts(alerts, children)


if __name__ == "__main__":
    main()
