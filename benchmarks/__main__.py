"""`make bench`: one table, of the exporter and of a naive one, against a simulated CAVATICA."""

import math
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Exporter, Simulator, exporter, naive_exporter, simulator
from benchmarks.scraper import Scraper
from exporter.watchlist.loader import WatchlistLoader

_SCRAPES = 60
_NAIVE_SCRAPES = 3
_LOADS = 50
_MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        title: What is special about it.
        watched: IDs in all.
        limit: Of the median, in ms, and of the memory, in MB.
        files: ID files, and so batches.
        changing: Of the unfinished exports, how many change between two scrapes.
        recent: How many of the exports finished within a day.
        flags: For the exporter.
        unfinished: How many of the exports never finish.
    """

    title: str
    watched: int
    limit: tuple[int, int]
    files: int = 1
    changing: int = 0
    recent: int = 0
    flags: tuple[str, ...] = ()
    unfinished: int = 100


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of one exporter.

    Attributes:
        ready: Seconds from the start of the process until it is ready; None if it cannot tell.
        start: Seconds of each of the first scrapes, until every ID was answered for.
        times: Seconds of every scrape, in ascending order.
        cpu: Seconds of processor time, per scrape.
        calls: Of the API, per scrape.
        body: Bytes of the last body.
        compressed: Bytes of it as it was sent.
        rss: The most memory the process ever had, in bytes.
    """

    ready: float | None
    start: list[float]
    times: list[float]
    cpu: float
    calls: float
    body: int
    compressed: int
    rss: int

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.times)


_CASES = (
    Case("", 100, (10, 60)),
    Case("", 1_000, (10, 60)),
    Case("", 10_000, (12, 80)),
    Case("one file", 100_000, (30, 200)),
    Case("1,000 files", 100_000, (30, 200), files=1_000),
    Case("20 change, in 20 blocks", 100_000, (70, 200), files=100, changing=20),
    Case(
        "retention 1d, 1,000 within",
        100_000,
        (25, 150),
        recent=1_000,
        flags=("--exports.completed-retention=1d",),
    ),
)
_NAIVE_CASES = _CASES[:3]
_HEAD = (
    *("exporter", "watched", "unfinished", "scrapes", "p50 ms", "limit", "p95 ms", "CPU ms"),
    *("API calls", "body MB", "gzip MB", "peak RSS MB", "limit", "ready s", "first s"),
)


def main() -> None:
    """Measure and print."""
    # As an exception, so that every process that was started is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    implementation = f"{platform.python_implementation()} {platform.python_version()}"
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{implementation}, {os.cpu_count()} cores, load {load}\n")
    print(_line(_HEAD))
    print(_line("---" for _ in _HEAD))
    results = {case: _measure(case, _run_exporter) for case in _CASES}
    naive = {case: _measure(case, _run_naive) for case in _NAIVE_CASES}
    print()
    for case, slow in naive.items():
        fast = results[case]
        print(
            f"{case.watched:,} watched: {slow.median / fast.median:.0f} times faster than the naive"
            f" exporter, {slow.cpu / max(fast.cpu, 1e-4):.0f} times less processor time,"
            f" {fast.calls:g} instead of {slow.calls:g} calls"
        )
    small, large = results[_CASES[1]].median, results[_CASES[3]].median
    print(f"from 1,000 to 100,000 watched a scrape grows {large / small:.1f} times")
    for files in (1, 1_000):
        print(f"looking at unchanged ID files, {files:,} of them: {_look(files) * 1000:.2f} ms")


def _measure(case: Case, run: Callable[[Case, Simulator, Path], Result]) -> Result:
    with tempfile.TemporaryDirectory(prefix="cavatica-bench-") as name:
        ids = Path(name) / "ids"
        finished = case.watched - case.unfinished - case.recent
        with simulator(
            ids,
            *("--unfinished", str(case.unfinished), "--recent", str(case.recent)),
            *("--finished", str(finished), "--files", str(case.files)),
        ) as api:
            result = run(case, api, ids)
    own = run is _run_exporter
    p95 = result.times[math.ceil(0.95 * len(result.times)) - 1]
    print(
        _line(
            (
                ("ours" if own else "naive") + (f", {case.title}" if case.title else ""),
                f"{case.watched:,}",
                f"{case.unfinished}",
                f"{len(result.times)}",
                f"{result.median * 1000:.1f}",
                f"{case.limit[0]}" if own else "",
                f"{p95 * 1000:.1f}",
                f"{result.cpu * 1000:.1f}",
                f"{result.calls:g}",
                f"{result.body / _MEGABYTE:.2f}",
                f"{result.compressed / _MEGABYTE:.3f}",
                f"{result.rss / _MEGABYTE:.0f}",
                f"{case.limit[1]}" if own else "",
                "" if result.ready is None else f"{result.ready:.2f}",
                ", ".join(f"{seconds:.1f}" for seconds in result.start),
            )
        ),
        flush=True,
    )
    return result


def _run_exporter(case: Case, api: Simulator, ids: Path) -> Result:
    path = ids if case.files > 1 else ids / "batch-0000.yml"
    with (
        exporter(api.url, path, ids.parent / "log", *case.flags) as process,
        closing(Scraper(process.url)) as scraper,
    ):
        while scraper.status("/-/ready") != 200:  # noqa: PLR2004 # OK
            time.sleep(0.005)
        ready = time.monotonic() - process.began
        start = []
        is_known = False
        while not is_known:
            first = scraper.scrape()
            start.append(first.seconds)
            is_known = not first.total("UNKNOWN")
        return _scrapes(process, scraper, api, case.changing, _SCRAPES, (ready, start))


def _run_naive(_: Case, api: Simulator, ids: Path) -> Result:
    with (
        naive_exporter(api.url, ids, ids.parent / "log") as process,
        closing(Scraper(process.url)) as scraper,
    ):
        start = [scraper.scrape().seconds]
        return _scrapes(process, scraper, api, 0, _NAIVE_SCRAPES, (None, start))


def _scrapes(
    process: Exporter,
    scraper: Scraper,
    api: Simulator,
    changing: int,
    count: int,
    start: tuple[float | None, list[float]],
) -> Result:
    scraper.scrape()
    calls, cpu = api.remaining_calls(), process.cpu_seconds()
    times = []
    for _ in range(count):
        if changing:
            api.change(changing)
        last = scraper.scrape()
        times.append(last.seconds)
    return Result(
        *start,
        times=sorted(times),
        cpu=(process.cpu_seconds() - cpu) / count,
        calls=(calls - api.remaining_calls()) / count,
        body=len(last.body()),
        compressed=len(last.compressed),
        rss=process.peak_rss(),
    )


def _look(files: int) -> float:
    """Give the median of seconds that looking at 100,000 IDs in so many unchanged files takes."""
    with tempfile.TemporaryDirectory(prefix="cavatica-bench-") as name:
        for number in range(files):
            count = 100_000 // files
            text = "".join(f"- {number:08}{i:08}aaaaaaaabbbbbbbb\n" for i in range(count))
            (Path(name) / f"batch-{number:04}.yml").write_text(text, encoding="utf-8")
        # An hour from now, so that the files did not change just now.
        loader = WatchlistLoader(Path(name), lambda: time.time() + 3600)
        loader.load()
        times = []
        for _ in range(_LOADS):
            began = time.perf_counter()
            loader.load()
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
