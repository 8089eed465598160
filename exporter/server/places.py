"""Places for connections, shared fairly among the addresses of clients."""

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

#: One network may use a quarter of all places for concurrent answers.
_SHARE: Final = 4
#: A provider's customer usually controls a whole network of this size.
_IPV6_PREFIX: Final = 64


class Stage(Enum):
    """What a connection is waiting for."""

    READING = auto()
    """The client: handshake or request."""
    WORKING = auto()
    """The application."""
    SENDING = auto()
    """The client, which receives the answer."""
    ENDING = auto()
    """The client, which has received the answer."""


_IDLE: Final = (Stage.READING, Stage.ENDING)
_ANSWERING: Final = (Stage.WORKING, Stage.SENDING)


class Place:
    """The place of one connection.

    Args:
        network: The client's network; its clients share their places.
        abort: Aborts the connection; called from another thread.
    """

    __slots__ = ("abort", "network", "stage")

    def __init__(self, network: str, abort: Callable[[], None]) -> None:
        self.network = network
        self.abort = abort
        self.stage = Stage.READING


class Places:
    """A limited number of places.

    When all are taken, a new connection evicts the oldest connection of the network with the most
    connections. Only these can be evicted: idle connections of the new client's own network and of
    networks with more connections; and if there are none, connections of such networks that are
    slow to receive their answer. Without one, the new connection gets no place.

    Args:
        limit: Number of places.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._share = max(limit // _SHARE, 1)
        self._lock = threading.Lock()
        # In the order of arrival.
        self._taken: dict[Place, None] = {}

    def take(self, host: str, abort: Callable[[], None]) -> Place | None:
        """Return a place for a new connection, or None if there is none."""
        place = Place(_network(host), abort)
        victim = None
        with self._lock:
            if len(self._taken) >= self._limit:
                victim = self._victim(place.network)
                if victim is None:
                    return None
                del self._taken[victim]
            self._taken[place] = None
        # Outside the lock: aborting logs, and a log pipe that hangs holds up this connection only.
        if victim is not None:
            victim.abort()
        return place

    def begin_answer(self, place: Place) -> bool:
        """Return whether the client's network may have one more request answered now."""
        with self._lock:
            answers = sum(
                1
                for other in self._taken
                if other.network == place.network and other.stage in _ANSWERING
            )
            if answers >= self._share:
                return False
            place.stage = Stage.WORKING
        return True

    def leave(self, place: Place) -> None:
        """Free a place, unless another connection has taken it."""
        with self._lock:
            self._taken.pop(place, None)

    def _victim(self, network: str) -> Place | None:
        """Return the place to evict for a connection from `network`, or None."""
        counts = Counter(place.network for place in self._taken)
        idle, slow = [], []
        for place in self._taken:
            is_larger = counts[place.network] > counts[network]
            if place.stage in _IDLE and (is_larger or place.network == network):
                idle.append(place)
            elif place.stage is Stage.SENDING and is_larger:
                slow.append(place)
        # Among equals the first, which is the oldest.
        return max(idle or slow, key=lambda place: counts[place.network], default=None)


def _network(host: str) -> str:
    """Return the client's network: an IPv4 address or an IPv6 prefix."""
    # From Python 3.9 on, the module parses a zone, as in `fe80::1%eth0`.
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
