"""One run: the simulator, the exporter's process, the threads that act on it, and the report."""

import contextlib
import signal
import statistics
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random

from exporter.simulator import Lifetimes, Simulator
from tests.system.soak.actors import Actors
from tests.system.soak.certificates import Certificates
from tests.system.soak.clients import Scraper, Visitor
from tests.system.soak.endpoint import INNER_TOKEN, Endpoint, TokenFile
from tests.system.soak.environment import Clock, Environment
from tests.system.soak.files import Files
from tests.system.soak.findings import Findings
from tests.system.soak.pages import PageChecker, read
from tests.system.soak.restartable import RestartableExporter
from tests.system.soak.schedule import FaultScheduler, Plan
from tests.system.soak.usage import compare, measure_at_rest

_STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "UNKNOWN")
_LIFETIMES = Lifetimes(pending=(1.0, 15.0), running=(5.0, 60.0), failed_share=0.2)
# After a 429 without headers the exporter makes no call for a minute.
_TRUTH_SECONDS = 90.0


def soak(plan: Plan, seed: int, directory: Path) -> tuple[dict[str, str], list[str]]:
    """Run; return the report and all problems.

    Args:
        plan: Length and load of the run.
        seed: Seed of the choice of faults, edits and exports.
        directory: An empty directory for the exporter's files and logs.
    """
    findings = Findings()
    simulator = Simulator(token=INNER_TOKEN, seed=seed, lifetimes=_LIFETIMES, rate_limit=1_000_000)
    actors = Actors(findings)
    served = directory / "served"
    exports = served / "exports"
    exports.mkdir(parents=True)
    environment, pause = Environment(directory / "control", served), actors.over.wait
    clock = Clock(environment, _random(seed, "clock"), pause)
    longest = max(plan.timeouts)
    files = Files(
        exports, simulator, _random(seed, "files"), 2 * longest + 1, pause, environment, plan.hang
    )
    files.start()
    certificates = Certificates(served, _random(seed, "certificates"), pause)
    checker = PageChecker(simulator, files, plan.max_age, longest, findings.count)
    with contextlib.ExitStack() as stack:
        endpoint = Endpoint(simulator, findings, environment)
        stack.callback(endpoint.close)
        token = TokenFile(served / "token", endpoint, _random(seed, "token"))
        token.renew()
        flags = (
            f"--exports.path={exports}",
            f"--exports.max-age={plan.max_age}s",
            f"--exports.state-file={directory / 'state'}",
            f"--api.url={endpoint.url}",
            f"--api.token-file={token.path}",
            f"--web.config.file={certificates.web_config}",
            "--log.level=debug",
        )
        exporter = RestartableExporter(
            directory, flags, certificates.authority, environment, findings
        )
        stack.callback(exporter.close)
        scrapers = _scrapers(plan, exporter, certificates, checker, findings)
        visitor = Visitor(exporter.url, certificates.authority, _random(seed, "visitor"), findings)
        for name, act, most in (
            *((f"scraper {each.timeout:g}", each.scrape, each.timeout) for each in scrapers),
            ("visitor", visitor.visit, 1.0),
            ("files", files.edit, 2 * longest),
            ("token", token.edit, longest),
            ("certificates", certificates.edit, longest),
            ("clock", clock.move, 2 * longest),
            ("reload", lambda: exporter.running.send(signal.SIGHUP), 8 * plan.fault),
        ):
            actors.start(name, act, most, _random(seed, name))

        def repair() -> None:
            files.repair()
            token.renew()
            certificates.renew()
            environment.set_clock(0.0)

        scheduler = FaultScheduler(plan, simulator, endpoint, environment, _random(seed, "faults"))
        uses, middle, restart = [], plan.parts // 2, ""
        try:
            for part in range(plan.parts):
                scheduler.run_part()
                if plan.long_faults and part % 3 == 1:
                    scheduler.outage()
                with actors.resting():
                    uses.append(measure_at_rest(exporter.running))
                    if part + 1 == middle:
                        repair()
                        restart = exporter.restart(endpoint, checker)
        finally:
            actors.end()
        repair()
        truth = _wait_for_truth(exporter, checker, certificates, findings)
        end = exporter.end(simulator)
    for log in exporter.logs:
        _read_log(log, findings)
    for measured in (uses[:middle], uses[middle:]):
        compare(measured, plan.growth, findings)
    count = findings.count
    return {
        "scrapes": f"{_times(scrapers)}; up in {count['up']:,}",
        "states": f"shown {_counted((state, count[state]) for state in _STATES)}; "
        f"{count['ended']:,} exports seen to end",
        "watched": f"as the files say in {count['watched']:,} scrapes without an edit",
        "faults": f"{sum(scheduler.count.values()):,} of {len(scheduler.count)} kinds, "
        f"{count['requests']:,} requests",
        "edits": _counted(sorted(files.count.items())),
        "clock": _counted(sorted(clock.count.items())),
        "tokens": f"{token.count} in turn, {count['requests with an old token']} late requests",
        "certificates": f"{certificates.count} in turn",
        "memory": " ".join(f"{use.resident / 1e6:.1f}" for use in uses) + " MB at rest",
        "threads": " ".join(str(use.threads) for use in uses) + " at rest",
        "descriptors": " ".join(str(use.descriptors) for use in uses) + " at rest",
        "secrets": f"looked for in {findings.searched / 1e6:.1f} MB served and logged",
        "restart": restart,
        "truth": truth,
        "end": end,
    }, findings.problems


def _scrapers(
    plan: Plan,
    exporter: RestartableExporter,
    certificates: Certificates,
    checker: PageChecker,
    findings: Findings,
) -> list[Scraper]:
    return [
        Scraper(
            f"{exporter.url}/metrics",
            certificates.authority,
            timeout,
            number % 2 == 1,
            number < 2,
            checker,
            findings,
        )
        for number, timeout in enumerate(plan.timeouts)
    ]


def _times(scrapers: Sequence[Scraper]) -> str:
    took = [seconds for scraper in scrapers for seconds in scraper.took]
    least = min(scraper.timeout - max(scraper.took) for scraper in scrapers)
    return (
        f"{len(took):,}, median {statistics.median(took):.3f} s, {least:.2f} s left where it was"
        " tightest"
    )


def _random(seed: int, name: str) -> Random:
    return Random(f"{seed} {name}")  # noqa: S311 # must be repeatable


def _counted(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in items)


def _wait_for_truth(
    exporter: RestartableExporter,
    checker: PageChecker,
    certificates: Certificates,
    findings: Findings,
) -> str:
    """Wait until a page shows the simulator's states, as it must without faults."""
    began = time.monotonic()
    while problems := checker.end_problems(read(exporter.running.get().text, is_openmetrics=False)):
        if time.monotonic() - began > _TRUTH_SECONDS:
            findings.problems += problems[:10]
            break
        time.sleep(0.3)
    if not certificates.is_served(exporter.url):
        findings.add("another certificate is served than the newest")
    return f"shown {time.monotonic() - began:.1f} s after the last fault"


def _read_log(log: Path, findings: Findings) -> None:
    for number, line in enumerate(log.read_bytes().splitlines(), 1):
        findings.search(f"line {number} of {log.name}", line)
        if b"raceback" in line or b"nexpected error" in line:
            findings.add(f"line {number} of {log.name}: {line.decode()}")
