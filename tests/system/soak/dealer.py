"""The length and load of a run, and the choice of its faults."""

import time
from collections import Counter
from dataclasses import dataclass
from random import Random

from exporter.simulator import Simulator
from tests.system.soak.faults import CUT, GONE, HOLDING, HOLE, KEPT, NAMES, NEW, draw
from tests.system.soak.ground import Ground
from tests.system.soak.line import Line


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how hard.

    Attributes:
        seconds: The length of the run, about.
        parts: After each there is a rest, in which it is measured what the process uses.
        fault: Seconds that a fault lasts, at most; as long may pass until the next.
        timeouts: What the four scrapers say that they wait, in seconds.
        max_age: `--exports.max-age` in seconds.
        hang: Seconds that the file server hangs, at most.
        growth: Bytes of resident memory that are taken for chance.
        patient: Whether there is time for what lasts: outages longer than `max_age`, and refusals
            after which the exporter asks nothing for a minute.
    """

    seconds: float
    parts: int
    fault: float
    timeouts: tuple[float, float, float, float]
    max_age: int
    hang: float
    growth: int
    patient: bool

    @classmethod
    def long(cls, minutes: float) -> "Plan":
        """Return the plan of `make soak`: each part takes a minute, or a quarter of the run."""
        parts = max(4, round(minutes))
        return cls(60 * minutes, parts, 2.5, (1.0, 2.0, 3.0, 5.0), 10, 8.0, 4 * 2**20, patient=True)

    @classmethod
    def short(cls) -> "Plan":
        """Return the plan of the tests."""
        return cls(8.0, 4, 0.3, (1.0, 1.1, 1.2, 1.5), 1, 2.0, 16 * 2**20, patient=False)


class Dealer:
    """Deals faults, each as often as any other.

    Attributes:
        count: How often each was dealt.
    """

    def __init__(
        self, plan: Plan, simulator: Simulator, line: Line, ground: Ground, random: Random
    ) -> None:
        self.count: Counter[str] = Counter()
        self._plan = plan
        self._simulator = simulator
        self._line = line
        self._ground = ground
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
        line = self._line
        if name == KEPT:
            line.relay.silence()
            time.sleep(seconds)
        elif name in {CUT, GONE}:
            with line.gone():
                time.sleep(seconds if name == GONE else 0)
        elif name == NEW:
            line.relay.silence()
            with line.relay.swallowing():
                time.sleep(seconds)
        elif name == HOLE:
            # Only a new connection looks the name up.
            with self._ground.black_hole():
                with line.gone():
                    pass
                time.sleep(seconds)
        else:
            self._simulator.fault = draw(name, self._random)
            time.sleep(seconds)
            self._simulator.fault = None
