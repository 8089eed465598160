"""The exporter's environment: a file server, a wall clock and a resolver that tests control."""

import mmap
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

from tests.system.soak import bootstrap
from tests.system.soak.bootstrap import BLACK_HOLE, CONTROL

_DAY: Final = 86400.0
_STEP_SECONDS: Final = 0.1


class Environment:
    """Writes the control file of `bootstrap`, which the exporter's process reads.

    Args:
        control: The control file to create.
        root: The directory on the simulated file server.

    Attributes:
        command: Begin of the exporter's command line; flags follow.
    """

    def __init__(self, control: Path, root: Path) -> None:
        control.write_bytes(bytes(CONTROL.size))
        with control.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), CONTROL.size)
        self._ahead, self._hangs, self._hole = 0.0, False, False
        self._recovered = 0.0
        self.command = (sys.executable, str(Path(bootstrap.__file__)), str(control), str(root))

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Make the file server hang during the block."""
        self._hangs = True
        self._pack()
        try:
            yield
        finally:
            self._recovered = time.monotonic()
            self._hangs = False
            self._pack()

    @contextmanager
    def black_hole(self) -> Iterator[None]:
        """Make the API's name resolve first to an address that drops all packets."""
        self._hole = True
        self._pack()
        try:
            yield
        finally:
            self._hole = False
            self._pack()

    def set_clock(self, ahead: float) -> None:
        """Set the wall clock `ahead` seconds ahead of the true time."""
        self._ahead = ahead
        self._pack()

    def answers_since(self) -> float:
        """Return the monotonic time since which the file server has answered."""
        return time.monotonic() if self._hangs else self._recovered

    def _pack(self) -> None:
        CONTROL.pack_into(self._map, 0, self._ahead, self._hangs, self._hole)


@dataclass(slots=True)
class Clock:
    """Moves the exporter's wall clock.

    Attributes:
        environment: The environment with the clock.
        random: Chooses the changes.
        pause: Waits for a number of seconds.
        count: Number of changes of each kind.
    """

    environment: Environment
    random: Random
    pause: Callable[[float], object]
    count: Counter[str] = field(default_factory=Counter)

    def move(self) -> None:
        """Change the clock once."""
        move = self.random.choice([self._jump, self._run_slow, self._right])
        move()
        self.count[move.__name__.strip("_").replace("_", " ")] += 1

    def _jump(self) -> None:
        self.environment.set_clock(
            self.random.choice([-400 * _DAY, -3600, -61, -2, 2, 61, 30 * _DAY])
        )

    def _run_slow(self) -> None:
        """Run the clock at half speed for a while; from then on it is behind."""
        for step in range(20):
            self.environment.set_clock(-step * _STEP_SECONDS / 2)
            self.pause(_STEP_SECONDS)

    def _right(self) -> None:
        self.environment.set_clock(0.0)


@contextmanager
def drop_connections(port: int) -> Iterator[None]:
    """Silently drop connections to this port of `BLACK_HOLE`."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((BLACK_HOLE, port))
        # Linux drops packets of new connections when the queue of a listener is full.
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0)
            filler.connect_ex((BLACK_HOLE, port))
        yield
