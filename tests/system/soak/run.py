"""One run: the simulator, the exporter's process, all who act on them, and the report."""

import contextlib
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from exporter.simulator import Fault, Lifetimes, Simulator
from tests.support.exporter_process import Running, process
from tests.system.soak.actors import Actors
from tests.system.soak.clients import Scraper, Visitor
from tests.system.soak.faults import CUT, GONE, HOLDING, NAMES, draw
from tests.system.soak.files import Files
from tests.system.soak.findings import Findings
from tests.system.soak.line import INNER_TOKEN, Line, TokenFile
from tests.system.soak.pages import Judge, read

if TYPE_CHECKING:
    import subprocess

_STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "UNKNOWN")
_LIFETIMES = Lifetimes(pending=(1.0, 15.0), running=(5.0, 60.0), failed_share=0.2)
# After a 429 without headers the exporter asks nothing for a minute.
_TRUTH_SECONDS = 90.0
# What is promised for SIGTERM.
_END_SECONDS = 5.0
# Connections that wait in the client's pool for the next call.
_POOL = 4


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard.

    Attributes:
        seconds: The length of the run, about.
        parts: After each there is a rest, in which it is measured what the process uses.
        fault: Seconds that a fault lasts, at most; as long may pass until the next.
        timeouts: What the four scrapers say that they wait, in seconds.
        max_age: `--exports.max-age` in seconds.
        growth: Bytes of resident memory that are taken for chance.
        patient: Whether there is time for what lasts: outages longer than `max_age`, and refusals
            after which the exporter asks nothing for a minute.
    """

    seconds: float
    parts: int
    fault: float
    timeouts: tuple[float, float, float, float]
    max_age: int
    growth: int
    patient: bool

    @classmethod
    def long(cls, minutes: float) -> "Plan":
        """Return the plan of `make soak`: each part takes a minute."""
        parts = max(2, round(minutes))
        return cls(60 * minutes, parts, 2.5, (1.0, 2.0, 3.0, 5.0), 10, 4 * 2**20, patient=True)

    @classmethod
    def short(cls) -> "Plan":
        """Return the plan of the tests."""
        return cls(8.0, 2, 0.3, (1.0, 1.1, 1.2, 1.5), 1, 16 * 2**20, patient=False)


@dataclass(frozen=True, slots=True)
class Use:
    """What a process uses: bytes of resident memory, threads, file descriptors."""

    resident: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Use":
        """Return the process's current use of resources."""
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":\t") for line in lines if ":\t" in line)
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return cls(int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"]), descriptors)


def soak(plan: Plan, seed: int, directory: Path) -> tuple[dict[str, str], list[str]]:
    """Run; give the report and all that was wrong.

    Args:
        plan: How long and how hard.
        seed: Draws faults, edits and exports.
        directory: Empty; the exporter's files and its log are there at the end.
    """
    findings = Findings()
    simulator = Simulator(token=INNER_TOKEN, seed=seed, lifetimes=_LIFETIMES, rate_limit=1_000_000)
    actors = Actors(findings)
    exports = directory / "exports"
    exports.mkdir()
    longest = max(plan.timeouts)
    files = Files(exports, simulator, _random(seed, "files"), 2 * longest + 1, actors.over.wait)
    files.start()
    judge = Judge(simulator, files, plan.max_age, longest, findings.count)
    with contextlib.ExitStack() as stack:
        line = Line(simulator, findings)
        stack.callback(line.close)
        token = TokenFile(directory / "token", line, _random(seed, "token"))
        token.renew()
        running = stack.enter_context(
            process(
                directory / "log",
                f"--exports.path={exports}",
                f"--exports.max-age={plan.max_age}s",
                f"--api.url={line.url}",
                f"--api.token-file={token.path}",
                "--web.listen-address=127.0.0.1:0",
                "--log.level=debug",
            )
        )
        url = running.urls[0]
        scrapers = [
            Scraper(f"{url}/metrics", timeout, number % 2 == 1, number < 2, judge, findings)
            for number, timeout in enumerate(plan.timeouts)
        ]
        visitor = Visitor(url, _random(seed, "visitor"), findings)
        for name, act, pause in (
            *((f"scraper {each.timeout:g}", each.scrape, each.timeout) for each in scrapers),
            ("visitor", visitor.visit, 1.0),
            ("files", files.edit, 2 * longest),
            ("token", token.edit, longest),
            ("reload", lambda: running.send(signal.SIGHUP), 8 * plan.fault),
        ):
            actors.start(name, act, pause, _random(seed, name))
        try:
            faults = Faults(plan, simulator, line, _random(seed, "faults"))
            uses = []
            for part in range(plan.parts):
                faults.deal()
                if plan.patient and part % 3 == 1:
                    faults.outage()
                with actors.resting():
                    uses.append(_rest(running))
        finally:
            actors.end()
        files.repair()
        token.renew()
        truth = _wait_for_truth(running, judge, findings)
        end = _end(running, simulator, findings)
        output, _ = _process(running).communicate()
        findings.search("standard output", output.encode())
    _read_log(directory / "log", findings)
    _compare(uses, plan, findings)
    took = [seconds for scraper in scrapers for seconds in scraper.took]
    least = min(scraper.timeout - max(scraper.took) for scraper in scrapers)
    count = findings.count
    shown = " ".join(f"{count[state]:,} {state}" for state in _STATES)
    return {
        "scrapes": f"{len(took):,}, median {statistics.median(took):.3f} s, "
        f"{least:.2f} s left where it was tightest; up in {count['up']:,}",
        "states": f"shown {shown}; {count['ended']:,} exports seen to end",
        "watched": f"as the files say in {count['watched']:,} scrapes without an edit",
        "faults": f"{sum(faults.count.values()):,} of {len(faults.count)} kinds, "
        f"{count['requests']:,} requests",
        "edits": ", ".join(f"{name} {number}" for name, number in sorted(files.count.items())),
        "tokens": f"{token.count} in turn, {count['requests with an old token']} late requests",
        "memory": " ".join(f"{use.resident / 1e6:.1f}" for use in uses) + " MB at rest",
        "threads": " ".join(str(use.threads) for use in uses) + " at rest",
        "descriptors": " ".join(str(use.descriptors) for use in uses) + " at rest",
        "secrets": f"looked for in {findings.searched / 1e6:.1f} MB served and logged",
        "truth": truth,
        "end": end,
    }, findings.problems


class Faults:
    """Deals faults, each as often as any other.

    Attributes:
        count: How often each was dealt.
    """

    def __init__(self, plan: Plan, simulator: Simulator, line: Line, random: Random) -> None:
        self.count: Counter[str] = Counter()
        self._plan = plan
        self._simulator = simulator
        self._line = line
        self._random = random
        self._deck: list[str] = []

    def deal(self) -> None:
        """Have faults for the time of a part."""
        plan = self._plan
        until = time.monotonic() + plan.seconds / plan.parts
        names = [*NAMES, *(HOLDING if plan.patient else ())]
        while time.monotonic() < until:
            self._deck = self._deck or self._random.sample(names, len(names))
            self._have(self._deck.pop(), self._random.uniform(0.1, plan.fault))
            time.sleep(self._random.uniform(0, plan.fault))

    def outage(self) -> None:
        """Have an outage after which every state is too old."""
        self._have(GONE, self._plan.max_age + max(self._plan.timeouts) + 3)

    def _have(self, name: str, seconds: float) -> None:
        self.count[name] += 1
        if name in {CUT, GONE}:
            with self._line.gone():
                time.sleep(seconds if name == GONE else 0)
        else:
            self._simulator.fault = draw(name, self._random)
            time.sleep(seconds)
            self._simulator.fault = None


def _random(seed: int, name: str) -> Random:
    return Random(f"{seed} {name}")  # noqa: S311 # repeatable is what it must be


def _rest(running: Running) -> Use:
    """Return the process's minimum use of resources while it is idle."""
    # The files are as somebody left them: what they say is known before they change again.
    running.scrape()
    uses = []
    for _ in range(20):
        time.sleep(0.1)
        uses.append(Use.of(_process(running).pid))
    return Use(
        min(use.resident for use in uses),
        min(use.threads for use in uses),
        min(use.descriptors for use in uses),
    )


def _compare(uses: Sequence[Use], plan: Plan, findings: Findings) -> None:
    """Two fifths of the run warm up; of what is left the later half uses no more than the first."""
    warm = uses[len(uses) * 2 // 5 :]
    first, last = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    memory = [statistics.median(use.resident for use in half) for half in (first, last)]
    if memory[1] > memory[0] + plan.growth:
        findings.add("the process's memory grows")
    if max(use.threads for use in last) > max(use.threads for use in first):
        findings.add("the process's threads grow")
    if max(use.descriptors for use in last) > max(use.descriptors for use in first) + _POOL:
        findings.add("the process's descriptors grow")


def _wait_for_truth(running: Running, judge: Judge, findings: Findings) -> str:
    """Without faults a page is the simulator's truth."""
    began = time.monotonic()
    while problems := judge.end_problems(read(running.get().text, is_openmetrics=False)):
        if time.monotonic() - began > _TRUTH_SECONDS:
            findings.problems += problems[:10]
            break
        time.sleep(0.3)
    return f"shown {time.monotonic() - began:.1f} s after the last fault"


def _end(running: Running, simulator: Simulator, findings: Findings) -> str:
    """SIGTERM finishes the running scrape, however long the API takes, and the process."""
    answers: list[float] = []

    def scrape() -> None:
        read(
            running.get(**{"X-Prometheus-Scrape-Timeout-Seconds": "20"}).text, is_openmetrics=False
        )
        answers.append(time.monotonic())

    simulator.fault = Fault(delay=15.0)
    scraper = threading.Thread(target=scrape)
    scraper.start()
    time.sleep(0.5)
    began = time.monotonic()
    status = running.stop()
    took = time.monotonic() - began
    scraper.join()
    if status != 0 or took > _END_SECONDS:
        findings.add(f"SIGTERM: status {status} after {took:.2f} s")
    if not answers:
        findings.add("SIGTERM: the running scrape was not answered")
        return "the running scrape was not answered"
    return f"SIGTERM answered in {answers[0] - began:.1f} s, exit {status} in {took:.1f} s"


def _read_log(log: Path, findings: Findings) -> None:
    for number, line in enumerate(log.read_bytes().splitlines(), 1):
        findings.search(f"line {number} of the log", line)
        if b"raceback" in line or b"nexpected error" in line:
            findings.add(f"line {number} of the log: {line.decode()}")


def _process(running: Running) -> "subprocess.Popen[str]":
    assert running.process is not None
    return running.process
