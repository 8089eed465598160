"""Run the exporter in a thread of the test's process, or as a process of its own."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests
from prometheus_client.parser import text_string_to_metric_families

from exporter.cli.command import main
from tests.support.waits import PATIENCE, wait_until

MODULE = (sys.executable, "-m", "exporter")
LOOPBACK = "--web.listen-address=127.0.0.1:0"

Labels = tuple[tuple[str, str], ...]


@contextmanager
def preserved_logging() -> Iterator[None]:
    """Restore the logging configuration after the block: the exporter changes it."""
    root, own = logging.getLogger(), logging.getLogger("exporter")
    handlers, levels = root.handlers[:], (root.level, own.level)
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(levels[0])
        own.setLevel(levels[1])


def run(*arguments: str) -> int:
    """Run the command to its end and return its exit status; in a thread, as it blocks signals."""
    codes: list[int] = []

    def work() -> None:
        try:
            main(arguments)
        except SystemExit as end:
            codes.append(int(end.code or 0))

    with preserved_logging():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(PATIENCE)
    assert codes, "the command does not end, or with an exception"
    return codes[0]


@dataclass(slots=True)
class Page:
    """An answer of `/metrics`: the value of every series."""

    samples: Mapping[tuple[str, Labels], float]

    @classmethod
    def of(cls, text: str) -> "Page":
        """Parse the text format."""
        return cls(
            {
                (sample.name, tuple(sorted(sample.labels.items()))): sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
            }
        )

    def __call__(self, name: str, **labels: str) -> float | None:
        """Return the value of a series, or None if there is none with exactly these labels."""
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def all(self, name: str) -> list[dict[str, str]]:
        """Return the labels of every series of that name."""
        return [dict(labels) for each, labels in self.samples if each == name]

    def states(self, batch: str) -> dict[str, float]:
        """Return the number of exports of a batch by state, without states that no export has."""
        return {
            labels["state"]: value
            for (name, pairs), value in self.samples.items()
            if name == "cavatica_exports" and value
            for labels in [dict(pairs)]
            if labels["batch"] == batch
        }


@dataclass(slots=True)
class RunningExporter:
    """An exporter that listens.

    Attributes:
        urls: URLs of its listeners, in the order of the flags.
        process: Its process, or None if it runs in a thread.
        thread: The thread in which it runs, or None if it is a process.
        signals: Its thread that waits for signals, or None if it is a process.
        log_file: The file of its process's standard error.
        status: Its exit status, once it has ended.
        authority: File of the authority that signed its certificate; None: the system's.
    """

    urls: list[str] = field(default_factory=list)
    process: "subprocess.Popen[str] | None" = None
    thread: threading.Thread | None = None
    signals: threading.Thread | None = None
    log_file: Path | None = None
    status: int | None = None
    authority: Path | None = None

    @property
    def log(self) -> str:
        """Everything that the process wrote to standard error."""
        return self.log_file.read_text(encoding="utf-8") if self.log_file else ""

    def get(self, path: str = "/metrics", **headers: str) -> requests.Response:
        """GET a path of the first address."""
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(self.authority) if self.authority else True
            return session.get(f"{self.urls[0]}{path}", headers=headers, timeout=PATIENCE)

    def scrape(self, **headers: str) -> Page:
        """Scrape once, and parse the answer."""
        answer = self.get("/metrics", **headers)
        assert answer.status_code == 200, answer.text
        return Page.of(answer.text)

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        if self.process:
            self.process.send_signal(number)
        elif self.thread and self.thread.ident:
            # To the thread that waits for signals: other threads are the test's own.
            assert self.signals
            assert self.signals.ident
            signal.pthread_kill(self.signals.ident, number)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop it by a signal, and return its exit status."""
        self.send(number)
        if self.process:
            self.status = self.process.wait(PATIENCE)
        elif self.thread:
            self.thread.join(PATIENCE)
        assert self.status is not None, "it does not end"
        return self.status


class _StartLog(logging.Handler):
    """Records where the exporter listens, and when it is ready."""

    def __init__(self, running: RunningExporter) -> None:
        super().__init__()
        self._running = running
        self.ready = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "Listening":
            self._running.urls.append(vars(record)["url"])
        elif record.getMessage() == "Ready":
            self.ready.set()


@contextmanager
def serving(*arguments: str) -> Iterator[RunningExporter]:
    """Run the exporter in a thread of this process: ready inside the block, stopped after it."""
    running = RunningExporter()
    start_log = _StartLog(running)
    logger = logging.getLogger("exporter.cli.service")

    def work() -> None:
        try:
            main(arguments)
        except SystemExit as end:
            running.status = int(end.code or 0)

    before = set(threading.enumerate())
    running.thread = threading.Thread(target=work)
    with preserved_logging():
        logger.addHandler(start_log)
        running.thread.start()
        try:
            assert start_log.ready.wait(PATIENCE), "it does not get ready"
            [running.signals] = [
                each
                for each in threading.enumerate()
                if each.name == "signals" and each not in before
            ]
            yield running
        finally:
            if running.status is None:
                running.stop()
            logger.removeHandler(start_log)


def environment(**variables: str) -> dict[str, str]:
    """Return this process's environment without settings of the exporter, plus `variables`."""
    own = ("CAVATICA_EXPORTER_", "SB_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    return kept | variables


def run_process(
    arguments: Sequence[str],
    *,
    command: Sequence[str | Path] = MODULE,
    stdout: int = subprocess.PIPE,
) -> "subprocess.CompletedProcess[str]":
    """Run the exporter as a process to its end, and capture its output."""
    return subprocess.run(
        [*command, *arguments],
        env=environment(),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@contextmanager
def process(
    log: Path,
    *arguments: str,
    ready: str = "msg=Ready",
    command: Sequence[str] = MODULE,
    **variables: str,
) -> Iterator[RunningExporter]:
    """Run the exporter as a process: `ready` is in its log inside the block; stopped after it."""
    with log.open("wb") as stderr:
        popen = subprocess.Popen(
            [*command, *arguments],
            env=environment(**variables),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    running = RunningExporter(process=popen, log_file=log)
    with popen:
        try:
            wait_until(
                lambda: popen.poll() is not None or ready in running.log,
                "the exporter is ready",
            )
            assert popen.poll() is None, running.log
            running.urls = re.findall(r"msg=Listening url=(\S+)", running.log)
            yield running
        finally:
            popen.terminate()
            try:
                popen.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                # Otherwise the end of `with popen` would wait for the process for ever.
                popen.kill()
                raise
