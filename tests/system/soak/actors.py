"""Threads that act repeatedly, with pauses in which all of them stop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from tests.system.soak.findings import Findings


class Actors:
    """All actors of a run.

    Args:
        findings: Records each exception as a problem.

    Attributes:
        over: Set when the run ends.
    """

    def __init__(self, findings: Findings) -> None:
        self.over = threading.Event()
        self._findings = findings
        self._threads: list[threading.Thread] = []
        self._resting = False
        self._busy = 0
        self._turn = threading.Condition()

    def start(self, name: str, act: Callable[[], object], pause: float, random: Random) -> None:
        """Start the actor, with a pause of at most this many seconds before each action."""

        def work() -> None:
            while not self.over.wait(random.uniform(0.1, max(pause, 0.1))):
                with self._turn:
                    self._turn.wait_for(lambda: not self._resting)
                    self._busy += 1
                try:
                    act()
                except Exception as error:  # noqa: BLE001 # any exception is a problem of the run
                    self._findings.add(f"{name}: {error!r}")
                finally:
                    with self._turn:
                        self._busy -= 1
                        self._turn.notify_all()

        self._threads.append(threading.Thread(target=work, name=name))
        self._threads[-1].start()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Pause all actors during the block."""
        with self._turn:
            self._resting = True
            self._turn.wait_for(lambda: not self._busy)
        try:
            yield
        finally:
            with self._turn:
                self._resting = False
                self._turn.notify_all()

    def end(self) -> None:
        """End all actors, after the actions in progress."""
        self.over.set()
        for thread in self._threads:
            thread.join()
