"""`make bench`: a table of the exporter and a naive one, measured with a simulated CAVATICA.

The exit status is 1 if a limit or a ratio of docs/performance.md is missed.
"""

import math
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
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
        title: The row's difference from the others.
        watched: Number of IDs.
        limit: Limits of the median time in ms, and of peak memory in MB.
        files: Number of ID files, and so of batches.
        changing: Number of unfinished exports that change between two scrapes.
        recent: Number of exports that finished within the last day.
        flags: Flags of the exporter.
        unfinished: Number of exports that never finish.
        restart: Whether the measured process is a second one, which reads the first one's state
            file.
    """

    title: str
    watched: int
    limit: tuple[int, int]
    files: int = 1
    changing: int = 0
    recent: int = 0
    flags: tuple[str, ...] = ()
    unfinished: int = 100
    restart: bool = False

    @property
    def name(self) -> str:
        """The row's name in messages."""
        return f"{self.watched:,} watched" + (f", {self.title}" if self.title else "")


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one exporter.

    Attributes:
        ready: Seconds from the start of the process until it is ready; None: it has no such state.
        start: Seconds of each of the first scrapes, until every ID had an answer.
        times: Seconds of every later scrape, in ascending order.
        cpu: Seconds of processor time per scrape.
        calls: API calls per scrape.
        body: Size of the last body in bytes, uncompressed.
        compressed: Size of the last body in bytes, as it was sent.
        rss: Peak resident memory of the process in bytes.
        page: Median seconds of the status page; None if there is none.
    """

    ready: float | None
    start: list[float]
    times: list[float]
    cpu: float
    calls: float
    body: int
    compressed: int
    rss: int
    page: float | None = None

    @property
    def median(self) -> float:
        """The median of `times` in seconds."""
        return statistics.median(self.times)


_CASES = (
    Case("", 10, (10, 60), unfinished=10),
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
    Case("restarted with a state file", 100_000, (30, 200), restart=True),
)
_NAIVE_CASES = _CASES[1:4]
_SMALL, _MIDDLE, _LARGE = _CASES[2], _CASES[3], _CASES[4]
# Seconds until ready, by watched IDs.
_READY_LIMITS = {_SMALL: 1.0, **dict.fromkeys(_CASES[4:], 3.0)}
# For 10,000 exports, where a scrape makes one call and the naive exporter makes 100.
_TIMES_FASTER = 50
_GROWTH = 4
_PAGE_SECONDS = 0.05
_PAGES = 10
_HEAD = (
    *("exporter", "watched", "unfinished", "scrapes", "p50 ms", "limit", "p95 ms", "CPU ms"),
    *("API calls", "body MB", "gzip MB", "peak RSS MB", "limit", "ready s", "first s", "page ms"),
)


def main() -> int:
    """Measure all cases and print the table; return the exit status."""
    # SIGTERM raises an exception, so that every started process is stopped, too.
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
    print(f"from 1,000 to 100,000 watched a scrape grows {_growth(results):.1f} times")
    for files in (1, 1_000):
        print(
            f"looking at unchanged ID files, {files:,} of them: {_load_time(files) * 1000:.2f} ms"
        )
    missed = list(_missed(results, naive))
    print(
        "\n".join(("", *(f"MISSED: {text}" for text in missed))) if missed else "\nall limits hold"
    )
    return 1 if missed else 0


def _growth(results: Mapping[Case, Result]) -> float:
    return results[_LARGE].median / results[_SMALL].median


def _missed(results: Mapping[Case, Result], naive: Mapping[Case, Result]) -> Iterator[str]:
    """Yield a line for every limit and ratio that is missed."""
    for case, result in results.items():
        milliseconds, megabytes = case.limit
        if result.median * 1000 > milliseconds:
            yield f"{case.name}: p50 {result.median * 1000:.1f} ms, limit {milliseconds}"
        if result.rss / _MEGABYTE > megabytes:
            yield f"{case.name}: peak RSS {result.rss / _MEGABYTE:.0f} MB, limit {megabytes}"
        if result.calls != 1:
            yield f"{case.name}: {result.calls:g} API calls per scrape, not 1"
        if (limit := _READY_LIMITS.get(case)) is not None and (result.ready or 0) > limit:
            yield f"{case.name}: ready after {result.ready:.2f} s, limit {limit:g}"
        if result.page is not None and result.page > _PAGE_SECONDS:
            limit = _PAGE_SECONDS * 1000
            yield f"{case.name}: status page {result.page * 1000:.0f} ms, limit {limit:g}"
        if case.restart and len(result.start) != 1:
            yield f"{case.name}: {len(result.start)} scrapes until all is known, not 1"
    faster = naive[_MIDDLE].median / results[_MIDDLE].median
    if faster < _TIMES_FASTER:
        yield f"{_MIDDLE.name}: {faster:.0f} times faster than the naive one, not {_TIMES_FASTER}"
    if _growth(results) >= _GROWTH:
        yield f"from 1,000 to 100,000 watched a scrape grows {_growth(results):.1f} times"


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
                "" if result.page is None else f"{result.page * 1000:.0f}",
            )
        ),
        flush=True,
    )
    return result


def _run_exporter(case: Case, api: Simulator, ids: Path) -> Result:
    path = ids if case.files > 1 else ids / "batch-0000.yml"
    log = ids.parent / "log"
    flags = case.flags
    if case.restart:
        flags += (f"--exports.state-file={ids.parent / 'state'}",)
        with exporter(api.url, path, log, *flags) as first, closing(Scraper(first.url)) as scraper:
            scraper.wait_until_ready()
            _scrape_until_known(scraper)
    with exporter(api.url, path, log, *flags) as process, closing(Scraper(process.url)) as scraper:
        scraper.wait_until_ready()
        ready = time.monotonic() - process.began
        start = _scrape_until_known(scraper)
        result = _scrapes(process, scraper, api, case.changing, _SCRAPES, (ready, start))
        pages = [scraper.page() for _ in range(_PAGES)]
        return replace(result, page=statistics.median(pages))


def _scrape_until_known(scraper: Scraper) -> list[float]:
    """Return the seconds of each scrape until every ID had an answer."""
    seconds = []
    is_known = False
    while not is_known:
        scrape = scraper.scrape()
        seconds.append(scrape.seconds)
        is_known = not scrape.total("UNKNOWN")
    return seconds


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


def _load_time(files: int) -> float:
    """Return the median seconds of a load of 100,000 IDs in unchanged files."""
    with tempfile.TemporaryDirectory(prefix="cavatica-bench-") as name:
        for number in range(files):
            count = 100_000 // files
            text = "".join(f"- {number:08}{i:08}aaaaaaaabbbbbbbb\n" for i in range(count))
            (Path(name) / f"batch-{number:04}.yml").write_text(text, encoding="utf-8")
        # The clock is an hour ahead: a file that has just changed would be read again.
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
    sys.exit(main())
