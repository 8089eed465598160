"""`discover` once, or repeatedly until a signal ends it."""

import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import Final

import click

from exporter import background, files
from exporter.cavatica.answer import ApiError
from exporter.cli import logs
from exporter.cli.reloads import Reloads
from exporter.cli.signals import Signals
from exporter.clock import Clock
from exporter.text import counted
from exporter.tool.discover import Round
from exporter.tool.ledger import LedgerError
from exporter.tool.program import StoppedError

#: Seconds to wait for a call in flight at the end.
LAST_CALL_SECONDS: Final = 3.5

#: HELP texts by the rest of the name, after `cavatica_discover_`.
METRICS: Final = {
    "last_success_timestamp_seconds": (
        "Unix time in seconds at the end of the last round that found every export."
    ),
    "exports": "Number of export IDs in the files of discover.",
    "calls": "Number of API calls made by the last round.",
    "up": "Result of the last round: 1 if every export is known, 0 otherwise.",
}
_SAMPLE = re.compile(r"^cavatica_discover_(\w+) (\S+)$", re.MULTILINE)
_MAX_METRICS_BYTES = 65536

_log = logging.getLogger(__name__)


class Loop:
    """Runs rounds.

    Args:
        one_round: Runs a round.
        url: The API's URL, for messages.
        calls: Returns the number of calls so far.
        metrics_file: Where the metrics of the last round go, or None.
        clock: Wall clock and monotonic clock.
        report: Called with each completed round.
        stop: Set to end the loop.
        leave: Ends the process at once; an argument for tests.
    """

    def __init__(
        self,
        one_round: Callable[[], Round],
        url: str,
        calls: Callable[[], int],
        metrics_file: Path | None,
        *,
        clock: Clock,
        report: Callable[[Round], None],
        stop: threading.Event,
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._one_round = one_round
        self._url = url
        self._calls = calls
        self._metrics_file = metrics_file
        self._clock = clock
        self._report = report
        self._stop = stop
        self._leave = leave

    def once(self) -> str | None:
        """Run a round; return its problem, or None."""
        before = self._calls()
        done: Round | None = None
        try:
            done = self._one_round()
            problems = [*_problems(done)]
        except StoppedError:
            raise
        except ApiError as error:
            problems = [f"no usable answer from {self._url}: {error.problem}; nothing is written"]
        except LedgerError as error:
            problems = [str(error)]
        except Exception as error:  # noqa: BLE001 # the next round may succeed
            problems = [logs.unexpected(error)]
        try:
            self._write_metrics(done, self._calls() - before)
        except OSError as error:
            problems.append(f"{self._metrics_file}: cannot be written: {error.strerror}")
        except Exception as error:  # noqa: BLE001 # the exports are found all the same
            problems.append(f"{self._metrics_file}: {logs.unexpected(error)}")
        if done is not None:
            # Last, because standard output may fail, too.
            self._report(done)
        return "; ".join(problems) or None

    def every(self, seconds: float, signals: Signals, reload: Callable[[], object]) -> int:
        """Run rounds until a signal ends the loop; SIGHUP calls `reload`."""
        rounds = background.start(lambda: self._rounds(seconds), "discover")
        Reloads({"token": reload}).serve(signals)
        self._stop.set()
        try:
            rounds.result(LAST_CALL_SECONDS)
        except futures.TimeoutError:
            # A hanging call cannot be ended otherwise; files are only replaced atomically.
            self._leave(0)
        return 0

    def _rounds(self, seconds: float) -> None:
        while True:
            began = self._clock.monotonic()
            try:
                problem = self.once()
            except StoppedError:
                return
            except Exception as error:  # noqa: BLE001 # nothing ends the loop but a signal
                problem = logs.unexpected(error)
            if problem is not None:
                _log.error("Discovery failed", extra={"err": problem})
            rest = began + seconds - self._clock.monotonic()
            if self._stop.wait(max(rest, 0.0)):
                return

    def _write_metrics(self, done: Round | None, calls: int) -> None:
        if self._metrics_file is None:
            return
        values = {"exports": "0"} | _read_metrics(self._metrics_file)
        values |= {"calls": str(calls), "up": str(int(done is not None and done.whole))}
        if done is not None:
            values["exports"] = str(done.exports)
            if done.whole:
                values["last_success_timestamp_seconds"] = f"{self._clock.time():.3f}"
        lines = [
            f"# HELP cavatica_discover_{name} {text}\n# TYPE cavatica_discover_{name} gauge\n"
            f"cavatica_discover_{name} {values[name]}\n"
            for name, text in METRICS.items()
            if name in values
        ]
        files.remove_stale(self._metrics_file, self._clock.time())
        files.replace_file(self._metrics_file, ["".join(lines).encode()], mode=0o644)


def _problems(done: Round) -> Iterator[str]:
    """Yield why a round did not find every export."""
    if done.missing:
        yield (
            f"the list never showed {done.missing} of {counted(done.total, 'export')}; what it"
            " showed is written"
        )
    if done.pending:
        yield (
            f"the API returned no details yet for {done.pending} of"
            f" {counted(done.total, 'export')}; the others are written"
        )


def _read_metrics(path: Path) -> dict[str, str]:
    """Return an earlier round's values, to keep those that a failed round does not change."""
    try:
        text = files.read(path, _MAX_METRICS_BYTES)[0].decode()
    except (OSError, ValueError):
        return {}
    return {name: value for name, value in _SAMPLE.findall(text) if name in METRICS}


class ProgressBar:
    """A progress bar on standard error, if that is a terminal."""

    def __init__(self) -> None:
        # A parent may have closed it; then there is none.
        self._width = 30 if sys.stderr and sys.stderr.isatty() else 0

    def show(self, seen: int, total: int) -> None:
        """Show how many of all exports were seen."""
        if self._width and total:
            full = self._width * min(seen, total) // total
            bar = "#" * full + "-" * (self._width - full)
            # A line of the log overwrites it.
            self._write(f"[{bar}] {seen:,} of {total:,} exports\r")

    def clear(self) -> None:
        """Remove the bar."""
        if self._width:
            self._write("\x1b[K")

    def _write(self, text: str) -> None:
        try:
            click.echo(text, nl=False, err=True)
        except OSError:
            # The terminal is gone, but the round goes on.
            self._width = 0
