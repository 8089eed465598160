"""Threads that act repeatedly, with pauses in which all of them stop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

from tests.system.soak.findings import Findings


class Actors:
    """All actors of a run.

    Args:
        findings: Takes their exceptions: each is one.

    Attributes:
        over: Set at the end.
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
                except Exception as error:  # noqa: BLE001 # whatever it is, the run has failed
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
        """Wait for the action in progress, and end."""
        self.over.set()
        for thread in self._threads:
            thread.join()
