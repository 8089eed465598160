"""The length and load of a run, and the choice of its faults."""

import time
from collections import Counter
from dataclasses import dataclass
from random import Random

from exporter.simulator import Simulator
from tests.system.soak.endpoint import Endpoint
from tests.system.soak.environment import Environment
from tests.system.soak.faults import (
    BLACK_HOLE_FIRST,
    CUT,
    EXISTING_SILENT,
    NAMES,
    NEW_SILENT,
    RATE_LIMITS,
    REFUSED,
    draw,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """Length and load of a run.

    Attributes:
        seconds: Approximate length of the run.
        parts: Number of parts; after each, all threads pause and the process's use is measured.
        fault: Maximum length of a fault in seconds, and of the time between two faults.
        timeouts: Scrape timeouts of the four scrapers, in seconds.
        max_age: `--exports.max-age` in seconds.
        hang: Maximum time for which the file server hangs, in seconds.
        growth: Growth of resident memory, in bytes, that is regarded as chance.
        long_faults: Whether there are outages longer than `max_age`, and 429s after which the
            exporter makes no call for a minute.
    """

    seconds: float
    parts: int
    fault: float
    timeouts: tuple[float, float, float, float]
    max_age: int
    hang: float
    growth: int
    long_faults: bool

    @classmethod
    def long(cls, minutes: float) -> "Plan":
        """Return the plan of `make soak`: each part takes a minute, or a quarter of the run."""
        parts = max(4, round(minutes))
        return cls(
            60 * minutes, parts, 2.5, (1.0, 2.0, 3.0, 5.0), 10, 8.0, 4 * 2**20, long_faults=True
        )

    @classmethod
    def short(cls) -> "Plan":
        """Return the plan of the tests."""
        return cls(8.0, 4, 0.3, (1.0, 1.1, 1.2, 1.5), 1, 2.0, 16 * 2**20, long_faults=False)


class FaultScheduler:
    """Causes faults in random order, each as often as any other.

    Attributes:
        count: Number of times that each fault was caused.
    """

    def __init__(
        self,
        plan: Plan,
        simulator: Simulator,
        endpoint: Endpoint,
        environment: Environment,
        random: Random,
    ) -> None:
        self.count: Counter[str] = Counter()
        self._plan = plan
        self._simulator = simulator
        self._endpoint = endpoint
        self._environment = environment
        self._random = random
        self._remaining: list[str] = []

    def run_part(self) -> None:
        """Cause faults for the length of a part."""
        plan = self._plan
        until = time.monotonic() + plan.seconds / plan.parts
        names = [*NAMES, *(RATE_LIMITS if plan.long_faults else ())]
        while time.monotonic() < until:
            self._remaining = self._remaining or self._random.sample(names, len(names))
            self._cause(self._remaining.pop(), self._random.uniform(0.1, plan.fault))
            time.sleep(self._random.uniform(0, plan.fault))

    def outage(self) -> None:
        """Cause an outage that lasts until every state is too old."""
        self._cause(REFUSED, self._plan.max_age + max(self._plan.timeouts) + 3)

    def _cause(self, name: str, seconds: float) -> None:
        self.count[name] += 1
        endpoint = self._endpoint
        if name == EXISTING_SILENT:
            endpoint.relay.silence()
            time.sleep(seconds)
        elif name in {CUT, REFUSED}:
            with endpoint.unavailable():
                time.sleep(seconds if name == REFUSED else 0)
        elif name == NEW_SILENT:
            endpoint.relay.silence()
            with endpoint.relay.discarding():
                time.sleep(seconds)
        elif name == BLACK_HOLE_FIRST:
            # Cut the connections: only a new connection resolves the name.
            with self._environment.black_hole():
                with endpoint.unavailable():
                    pass
                time.sleep(seconds)
        else:
            self._simulator.fault = draw(name, self._random)
            time.sleep(seconds)
            self._simulator.fault = None
