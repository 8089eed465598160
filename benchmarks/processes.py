"""The processes of a benchmark: a simulated CAVATICA, and an exporter."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

TOKEN = "simulated"  # noqa: S105 # made up, for the simulator
# High enough for all calls about 100,000 IDs in one window.
_RATE_LIMIT = 1_000_000
_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
_LISTENING = re.compile(r"Listening.* url=(\S+)")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Simulator:
    """A simulated CAVATICA in a process of its own.

    Attributes:
        url: Base URL of its API.
        process: Its process, with pipes for standard input and output.
    """

    url: str
    process: "subprocess.Popen[str]"

    def change(self, exports: int) -> None:
        """Change a number of unfinished exports."""
        stdin, stdout = _pipes(self.process)
        stdin.write(f"{exports}\n")
        stdin.flush()
        stdout.readline()

    def remaining_calls(self) -> int:
        """Return the number of calls that the rate limit leaves; this request does not count."""
        request = urllib.request.Request(  # noqa: S310 # the simulator's URL, on loopback
            f"{self.url}/rate_limit", headers={"X-SBG-Auth-Token": TOKEN}
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310 # as above, http only
            rate: dict[str, int] = json.load(response)["rate"]
        return rate["remaining"]


@dataclass(frozen=True, slots=True)
class Exporter:
    """An exporter in a process of its own.

    Attributes:
        url: URL of its server, without a path.
        began: Monotonic time at which the process was started.
        log: File with its standard error.
        process: Its process.
    """

    url: str
    began: float
    log: Path
    process: "subprocess.Popen[bytes]"

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used so far, with a resolution of about 10 ms."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii")
        # proc(5): fields 14 and 15 are utime and stime; field 2 is in parentheses.
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS

    def peak_rss(self) -> int:
        """Return its peak resident memory in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        [kilobytes] = re.findall(r"VmHWM:\s+(\d+) kB", status)
        return int(kilobytes) * 1024


@contextlib.contextmanager
def simulator(ids: Path, *flags: str) -> Iterator[Simulator]:
    """Run a simulated CAVATICA that writes its ID files into the directory `ids`."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "exporter.simulator", "--token", TOKEN),
            *("--rate-limit", str(_RATE_LIMIT), "--write-ids", str(ids), *flags),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        stdin, stdout = _pipes(process)
        try:
            yield Simulator(stdout.readline().strip(), process)
        finally:
            stdin.close()
            _wait(process)


@contextlib.contextmanager
def exporter(url: str, ids: Path, log: Path, *flags: str) -> Iterator[Exporter]:
    """Run the exporter against the API at `url`, with the ID files `ids`."""
    arguments = [
        *("-m", "exporter", "--api.url", url, "--exports.path", str(ids)),
        *("--web.listen-address", "127.0.0.1:0", *flags),
    ]
    with _server(arguments, log) as server:
        yield server


@contextlib.contextmanager
def naive_exporter(url: str, ids: Path, log: Path) -> Iterator[Exporter]:
    """Run the naive exporter against the API at `url`, with the ID files in `ids`."""
    arguments = [
        *("-m", "benchmarks.naive_exporter", "--url", url),
        *("--token", TOKEN, "--exports", str(ids)),
    ]
    with _server(arguments, log) as server:
        yield server


@contextlib.contextmanager
def _server(arguments: Sequence[str], log: Path) -> Iterator[Exporter]:
    # Without the developer's own settings.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("CAVATICA_EXPORTER_")}
    environment["SB_AUTH_TOKEN"] = TOKEN
    began = time.monotonic()
    with (
        log.open("wb") as stderr,
        subprocess.Popen([sys.executable, *arguments], stderr=stderr, env=environment) as process,
    ):
        try:
            yield Exporter(_wait_for_url(log, process), began, log, process)
        finally:
            process.terminate()
            _wait(process)


def _wait_for_url(log: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if (found := _LISTENING.search(log.read_text(encoding="utf-8"))) is not None:
            return found[1]
        time.sleep(0.005)
    raise RuntimeError(f"does not start: {process.args!r}\n{log.read_text(encoding='utf-8')}")


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise ValueError("the process was started without pipes")
    return process.stdin, process.stdout


def _wait(process: "subprocess.Popen[str] | subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
