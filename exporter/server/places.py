"""Places for connections, shared fairly among the addresses of clients."""

import ipaddress
import threading
from collections import Counter
from collections.abc import Callable
from enum import Enum, auto
from typing import Final

#: Part of all places in which one address may have requests answered at the same time.
_SHARE: Final = 4
#: One customer of a provider usually has all addresses of such a network.
_IPV6_PREFIX: Final = 64


class Stage(Enum):
    """What a connection is waiting for."""

    READING = auto()
    """The client: handshake or request."""
    WORKING = auto()
    """The application."""
    SENDING = auto()
    """The client, which takes the answer."""
    ENDING = auto()
    """The client, which has its answer."""


_IDLE: Final = (Stage.READING, Stage.ENDING)
_ANSWERING: Final = (Stage.WORKING, Stage.SENDING)


class Place:
    """The place of one connection.

    Args:
        network: Clients of one network share its places.
        abort: Ends the connection; called by another thread.
    """

    __slots__ = ("abort", "network", "stage")

    def __init__(self, network: str, abort: Callable[[], None]) -> None:
        self.network = network
        self.abort = abort
        self.stage = Stage.READING


class Places:
    """A limited number of places.

    When all are taken, a new connection takes the place of one that waits for its client. Silent
    clients lose theirs first, then clients that are slow to take an answer; the network with the
    most connections loses first, and never to one that has more.

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
        with self._lock:
            if len(self._taken) >= self._limit:
                victim = self._victim(place.network)
                if victim is None:
                    return None
                del self._taken[victim]
                victim.abort()
            self._taken[place] = None
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
        """Return the place to free for a connection from `network`, or None."""
        counts = Counter(place.network for place in self._taken)
        idle, slow = [], []
        for place in self._taken:
            is_larger = counts[place.network] > counts[network]
            if place.stage in _IDLE and (is_larger or place.network == network):
                idle.append(place)
            elif place.stage is Stage.SENDING and is_larger:
                slow.append(place)
        # Of equals the first, which is the oldest.
        return max(idle or slow, key=lambda place: counts[place.network], default=None)


def _network(host: str) -> str:
    """Return what stands for the client's network: an IPv4 address or an IPv6 prefix."""
    # A zone, as in `fe80::1%eth0`, is part of an address to the module from Python 3.9 on.
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address), _IPV6_PREFIX), strict=False))
