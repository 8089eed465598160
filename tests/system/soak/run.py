"""One run: the simulator, the exporter's process, all actors, and the report."""

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
from tests.system.soak.dealer import Dealer, Plan
from tests.system.soak.files import Files
from tests.system.soak.findings import Findings
from tests.system.soak.ground import Clock, Ground
from tests.system.soak.line import INNER_TOKEN, Line, TokenFile
from tests.system.soak.lives import Lives
from tests.system.soak.pages import Judge, read
from tests.system.soak.usage import compare, rest

_STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "UNKNOWN")
_LIFETIMES = Lifetimes(pending=(1.0, 15.0), running=(5.0, 60.0), failed_share=0.2)
# After a 429 without headers the exporter asks nothing for a minute.
_TRUTH_SECONDS = 90.0


def soak(plan: Plan, seed: int, directory: Path) -> tuple[dict[str, str], list[str]]:
    """Run; give the report and all that was wrong.

    Args:
        plan: How long and how hard.
        seed: Draws faults, edits and exports.
        directory: Empty; the exporter's files and its logs are there at the end.
    """
    findings = Findings()
    simulator = Simulator(token=INNER_TOKEN, seed=seed, lifetimes=_LIFETIMES, rate_limit=1_000_000)
    actors = Actors(findings)
    served = directory / "served"
    exports = served / "exports"
    exports.mkdir(parents=True)
    ground, pause = Ground(directory / "control", served), actors.over.wait
    clock = Clock(ground, _random(seed, "clock"), pause)
    longest = max(plan.timeouts)
    files = Files(
        exports, simulator, _random(seed, "files"), 2 * longest + 1, pause, ground, plan.hang
    )
    files.start()
    certificates = Certificates(served, _random(seed, "certificates"), pause)
    judge = Judge(simulator, files, plan.max_age, longest, findings.count)
    with contextlib.ExitStack() as stack:
        line = Line(simulator, findings, ground)
        stack.callback(line.close)
        token = TokenFile(served / "token", line, _random(seed, "token"))
        token.renew()
        flags = (
            f"--exports.path={exports}",
            f"--exports.max-age={plan.max_age}s",
            f"--exports.state-file={directory / 'state'}",
            f"--api.url={line.url}",
            f"--api.token-file={token.path}",
            f"--web.config.file={certificates.web_config}",
            "--log.level=debug",
        )
        lives = Lives(directory, flags, certificates.authority, ground, findings)
        stack.callback(lives.close)
        scrapers = _scrapers(plan, lives, certificates, judge, findings)
        visitor = Visitor(lives.url, certificates.authority, _random(seed, "visitor"), findings)
        for name, act, most in (
            *((f"scraper {each.timeout:g}", each.scrape, each.timeout) for each in scrapers),
            ("visitor", visitor.visit, 1.0),
            ("files", files.edit, 2 * longest),
            ("token", token.edit, longest),
            ("certificates", certificates.edit, longest),
            ("clock", clock.move, 2 * longest),
            ("reload", lambda: lives.running.send(signal.SIGHUP), 8 * plan.fault),
        ):
            actors.start(name, act, most, _random(seed, name))

        def mend() -> None:
            files.repair()
            token.renew()
            certificates.renew()
            ground.set_clock(0.0)

        dealer = Dealer(plan, simulator, line, ground, _random(seed, "faults"))
        uses, middle, restart = [], plan.parts // 2, ""
        try:
            for part in range(plan.parts):
                dealer.deal()
                if plan.patient and part % 3 == 1:
                    dealer.outage()
                with actors.resting():
                    uses.append(rest(lives.running))
                    if part + 1 == middle:
                        mend()
                        restart = lives.restart(line, judge)
        finally:
            actors.end()
        mend()
        truth = _wait_for_truth(lives, judge, certificates, findings)
        end = lives.end(simulator)
    for log in lives.logs:
        _read_log(log, findings)
    for life in (uses[:middle], uses[middle:]):
        compare(life, plan.growth, findings)
    count = findings.count
    return {
        "scrapes": f"{_times(scrapers)}; up in {count['up']:,}",
        "states": f"shown {_counted((state, count[state]) for state in _STATES)}; "
        f"{count['ended']:,} exports seen to end",
        "watched": f"as the files say in {count['watched']:,} scrapes without an edit",
        "faults": f"{sum(dealer.count.values()):,} of {len(dealer.count)} kinds, "
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
    plan: Plan, lives: Lives, certificates: Certificates, judge: Judge, findings: Findings
) -> list[Scraper]:
    return [
        Scraper(
            f"{lives.url}/metrics",
            certificates.authority,
            timeout,
            number % 2 == 1,
            number < 2,
            judge,
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
    return Random(f"{seed} {name}")  # noqa: S311 # repeatable is what it must be


def _counted(items: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in items)


def _wait_for_truth(
    lives: Lives, judge: Judge, certificates: Certificates, findings: Findings
) -> str:
    """Without faults a page is the simulator's truth."""
    began = time.monotonic()
    while problems := judge.end_problems(read(lives.running.get().text, is_openmetrics=False)):
        if time.monotonic() - began > _TRUTH_SECONDS:
            findings.problems += problems[:10]
            break
        time.sleep(0.3)
    if not certificates.is_served(lives.url):
        findings.add("another certificate is served than the newest")
    return f"shown {time.monotonic() - began:.1f} s after the last fault"


def _read_log(log: Path, findings: Findings) -> None:
    for number, line in enumerate(log.read_bytes().splitlines(), 1):
        findings.search(f"line {number} of {log.name}", line)
        if b"raceback" in line or b"nexpected error" in line:
            findings.add(f"line {number} of {log.name}: {line.decode()}")
