"""`make demo`: the exporter against a simulated CAVATICA, watched by Prometheus and Alertmanager.

Where these two are at hand (`make servers`, or PATH) they run beside it with the bundled rules and
routes, and nobody is sent anything. Without them the exporter runs alone, and that is said.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
ALERTS = ROOT / "alerts"
SERVERS = ROOT / ".servers/new/bin"

_START_SECONDS = 20.0
_STOP_SECONDS = 10.0

_LINKS = """
Status page    {exporter}/
Alerts         {prometheus}/alerts
Alertmanager   {alertmanager}

Exports begin, finish and fail within minutes; the first alert is there within three. Ctrl-C ends
everything.
"""


def free_port() -> int:
    """Return a port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find(program: str) -> str | None:
    """Return the path of a server, of those that `make servers` unpacked or of PATH."""
    unpacked = SERVERS / program
    return str(unpacked) if unpacked.exists() else shutil.which(program)


def prometheus_configuration(exporter: int, alertmanager: int) -> str:
    """Return a configuration that scrapes and evaluates often, for somebody who waits."""
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
    """Return the example's routes with receivers that send nothing."""
    example = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text(encoding="utf-8"))
    return yaml.safe_dump(
        {
            "route": example["route"],
            "inhibit_rules": example["inhibit_rules"],
            "receivers": [{"name": each["name"]} for each in example["receivers"]],
        }
    )


@contextlib.contextmanager
def running(command: Sequence[str], directory: Path, log: Path | None) -> Iterator[None]:
    """Run a program, and end it at the end."""
    output = log.open("wb") if log else None
    with subprocess.Popen(command, cwd=directory, stdout=output, stderr=output) as process:
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def answers(url: str) -> bool | None:
    """Return whether a URL is answered with a page; None while nothing listens there."""
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310 # our own server
            return True
    except urllib.error.HTTPError:
        return False
    except OSError:
        return None


def page_of(url: str) -> str:
    """Return where an Alertmanager shows its alerts: Debian's has no pages, only the API."""
    end = time.monotonic() + _START_SECONDS
    while (answered := answers(url)) is None and time.monotonic() < end:
        time.sleep(0.1)
    return f"{url}api/v2/alerts" if answered is False else url


def main() -> None:
    """Run everything until a signal ends it."""
    exporter = [sys.executable, "-m", "exporter", "--demo"]
    prometheus, alertmanager = find("prometheus"), find("alertmanager")
    if not (prometheus and alertmanager):
        sys.stdout.write("Prometheus and Alertmanager are not at hand: the exporter runs alone.\n")
        sys.stdout.flush()
        os.execv(sys.executable, exporter)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ports = [free_port() for _ in range(3)]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.suppress(KeyboardInterrupt))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cavatica-demo-")))
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
        for command in commands:
            name = Path(command[0]).name
            log = None if command[0] == sys.executable else directory / f"{name}.log"
            # Debian's Alertmanager finds its own templates below the working directory.
            stack.enter_context(running(command, SERVERS.parent if log else ROOT, log))
        sys.stdout.write(
            _LINKS.format(exporter=urls[0], prometheus=urls[1], alertmanager=page_of(f"{urls[2]}/"))
        )
        sys.stdout.flush()
        while True:
            time.sleep(3600)


if __name__ == "__main__":
    main()
