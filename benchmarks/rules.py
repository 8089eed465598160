"""The cost of the alert rules in a real Prometheus that stores a day of 10,000 exports.

`python -m benchmarks.rules` measures the rules; with files as arguments it measures these in turn,
to compare them in one run. The exit status is 1 if the limit of docs/performance.md is missed.
"""

import os
import re
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from benchmarks.processes import exporter, simulator
from benchmarks.scraper import Scraper
from tests.support.servers import VERSIONS, Prometheus, find_program, programs_of, promtool

_RULES = Path(__file__).parents[1] / "alerts" / "cavatica-exports.rules.yml"
_LIMIT = 0.275
# A tenth of the finished exports failed. The alerts are about failures within the last day.
_EXPORTS = ("--unfinished", "100", "--recent", "200", "--finished", "9700")
_SCRAPES = 40
_TURNS = 5
_EVALUATIONS = 8
_HOUR, _DAY = 3_600, 86_400
# Ages of the stored samples. Prometheus has several blocks for a day, and searches each of them if
# a rule looks back so far. Some rules compare with what was a day ago.
_HISTORY = (*range(_DAY + 600, _DAY - 1_200, -240), *range(20 * _HOUR, 2 * _HOUR, -4 * _HOUR))
_INSTANCE = "exporter:10036"
_HEAD = (
    *("Prometheus", "rules", "series", "evaluations", "p50 ms", "limit", "least ms", "CPU ms"),
    "slowest rules, ms",
)


@dataclass(frozen=True, slots=True)
class Result:
    """The measurements of one rule file.

    Attributes:
        seconds: Duration of each evaluation of all rules.
        cpu: Seconds of processor time per evaluation, of each turn.
        rules: Seconds of single evaluations by the rule's name.
    """

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    rules: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


def main(files: Sequence[str]) -> int:
    """Measure the rules in each version of Prometheus and print the table; return the status."""
    paths = [Path(each) for each in files] or [_RULES]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(_line(_HEAD))
    print(_line("---" for _ in _HEAD))
    missed = []
    for version in VERSIONS:
        if find_program("prometheus", version) is None:
            print(_line([version, "not measured: `make servers` gets it", *[""] * 7]))
            continue
        with programs_of(version), tempfile.TemporaryDirectory(prefix="cavatica-bench-") as name:
            series, results = _measure(Path(name), paths)
        for path, result in results.items():
            _print(version, path, series, result)
            if statistics.median(result.seconds) > _LIMIT:
                missed.append(f"{version}, {path.name}")
    print("\n".join(("", *(f"MISSED: {text}" for text in missed))) if missed else "\nit holds")
    return 1 if missed else 0


def _print(version: str, path: Path, series: int, result: Result) -> None:
    medians = sorted(((statistics.median(v), name) for name, v in result.rules.items()))
    slowest = (f"{name} {seconds * 1000:.0f}" for seconds, name in reversed(medians[-3:]))
    cells = (
        *(version, path.name, f"{series:,}", f"{len(result.seconds)}"),
        *(f"{statistics.median(result.seconds) * 1000:.0f}", f"{_LIMIT * 1000:.0f}"),
        *(f"{min(result.seconds) * 1000:.0f}", f"{statistics.median(result.cpu) * 1000:.0f}"),
        ", ".join(slowest),
    )
    print(_line(cells), flush=True)


def _measure(directory: Path, paths: Sequence[Path]) -> tuple[int, Mapping[Path, Result]]:
    """Return the number of series, and the results of each file, measured in turn."""
    results = {path: Result() for path in paths}
    with _running(directory) as (prometheus, target):
        copies = {}
        for number, path in enumerate(paths):
            # More often than once a minute, so that the benchmark does not take an hour.
            fast = re.sub(r"\binterval: 1m\b", "interval: 2s", path.read_text(encoding="utf-8"))
            copies[path] = directory / f"{number}.yml"
            copies[path].write_text(fast, encoding="utf-8")
        for path in list(paths) * _TURNS:
            _configure(prometheus, target, 120, copies[path])
            _evaluate(prometheus, results[path])
        [count] = prometheus.query('count({job="cavatica"})')
    return int(count.value), results


@contextmanager
def _running(directory: Path) -> Iterator[tuple[Prometheus, str]]:
    """Run a Prometheus that has scraped the exporter, and has a day of history."""
    ids = directory / "ids"
    with (
        simulator(ids, *_EXPORTS) as api,
        exporter(api.url, ids / "batch-0000.yml", directory / "log") as process,
        closing(Scraper(process.url)) as scraper,
    ):
        scraper.wait_until_ready()
        while scraper.scrape().total("UNKNOWN"):
            pass
        prometheus = Prometheus("{}", directory / "prometheus")
        _store_history(scraper.scrape().body(), prometheus.directory / "data")
        target = process.url.removeprefix("http://")
        with prometheus:
            _configure(prometheus, target, 2)
            while (
                sum(
                    each.value for each in prometheus.query("sum(count_over_time(cavatica_up[5m]))")
                )
                < _SCRAPES
            ):
                time.sleep(1)
            yield prometheus, target


def _store_history(body: str, data: Path) -> None:
    """Make blocks with the series of single exports that rules select, as they are now."""
    now = time.time()
    text = data.with_name("history.txt")
    with text.open("w", encoding="utf-8") as file:
        for family in ("export_state", "export_finished_timestamp_seconds", "export_error_info"):
            file.write(f"# TYPE cavatica_{family} gauge\n")
            begin = f"cavatica_{family}{{"
            for line in filter(lambda line: line.startswith(begin), body.split("\n")):
                series = line.replace("{", f'{{job="cavatica",instance="{_INSTANCE}",', 1)
                file.writelines(f"{series} {now - age:.0f}\n" for age in _HISTORY)
        file.write("# EOF\n")
    done = promtool("tsdb", "create-blocks-from", "openmetrics", text, data)
    if done.returncode:
        raise RuntimeError(done.stderr)
    text.unlink()


def _configure(prometheus: Prometheus, target: str, interval: int, *rules: Path) -> None:
    scrapes = {
        "job_name": "cavatica",
        "static_configs": [{"targets": [target]}],
        "relabel_configs": [{"target_label": "instance", "replacement": _INSTANCE}],
        "scrape_interval": f"{interval}s",
        "scrape_timeout": "2s",
    }
    content = {"rule_files": [str(each) for each in rules], "scrape_configs": [scrapes]}
    prometheus.config_file.write_text(yaml.safe_dump(content), encoding="utf-8")
    prometheus.reload()


def _evaluate(prometheus: Prometheus, result: Result) -> None:
    """Add some evaluations of the rules that are configured."""
    group = "prometheus_rule_group_last"
    last = cpu = 0.0
    # The first two do not count: with them begins what the rules remember.
    count = -2
    while count < _EVALUATIONS:
        time.sleep(0.25)
        metrics = prometheus.get("/metrics").text
        at = _value(metrics, f"{group}_evaluation_timestamp_seconds")
        # At first it is a time long ago.
        if at <= max(last, 0):
            continue
        last = at
        count += 1
        if count == 0:
            cpu = _value(metrics, "process_cpu_seconds_total")
        elif count > 0:
            result.seconds.append(_value(metrics, f"{group}_duration_seconds"))
    result.cpu.append((_value(metrics, "process_cpu_seconds_total") - cpu) / _EVALUATIONS)
    for each in prometheus.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]:
        result.rules[each["name"]].append(each["evaluationTime"])


def _value(metrics: str, name: str) -> float:
    """Return the value of a metric, or 0 if there is none."""
    found = re.search(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
