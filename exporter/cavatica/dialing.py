"""From a host name to a connected socket, within one deadline for all attempts.

Two network faults must not use up the whole time: an address that drops packets, and a name server
that does not answer.
"""

import errno
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from contextlib import closing
from functools import partial
from itertools import chain, zip_longest
from typing import Final, cast

from exporter import background

#: Family, type, protocol, canonical name and address, as `socket.getaddrinfo` returns them.
AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

# RFC 8305, section 5: "a recommended value for a default delay is 250 milliseconds".
_STAGGER_SECONDS: Final = 0.25
# RFC 8767 serves stale addresses after 1.8 s without an answer; scrapes have less time than people.
_FRESH_LOOKUP_SECONDS: Final = 1.0
# RFC 8767, section 5: "between 1 and 3 days". TLS proves who answers at an old address.
_OLDEST_SECONDS: Final = 86400.0


class Resolver:
    """Looks up host names; may be used by several threads at once.

    The system's resolver has no timeout of its own: with a dead first name server it takes five
    seconds, longer than many scrapes last. So each lookup runs in its own thread, one per name, and
    its result serves the next call if it comes late. If a lookup takes more than a second, or half
    of the time, an address that was valid within the last day is reused.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lookups: dict[tuple[str, int], futures.Future[list[AddressInfo]]] = {}
        self._known: dict[tuple[str, int], tuple[float, list[AddressInfo]]] = {}

    def resolve(self, host: str, port: int, timeout: float) -> list[AddressInfo]:
        """Return the addresses of `host`, in the system's order of preference.

        Raises:
            OSError: the name does not exist, no name server answered in time, or no thread can be
                started.
        """
        name = host, port
        with self._lock:
            lookup = self._lookups.get(name)
            if lookup is None or lookup.done():
                lookup = self._lookups[name] = self._start(name)
            known = self._last_addresses(name)
        try:
            return lookup.result(min(timeout / 2, _FRESH_LOOKUP_SECONDS) if known else timeout)
        except futures.TimeoutError:
            if not known:
                raise TimeoutError from None
        except socket.gaierror as error:
            if not known or error.errno != socket.EAI_AGAIN:
                raise
        return known

    def _start(self, name: tuple[str, int]) -> futures.Future[list[AddressInfo]]:
        try:
            return background.start(partial(self._look_up, name), "resolver")
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, "no thread can be started for the lookup") from error

    def _last_addresses(self, name: tuple[str, int]) -> list[AddressInfo]:
        moment, addresses = self._known.get(name, (0.0, []))
        return addresses if time.monotonic() - moment < _OLDEST_SECONDS else []

    def _look_up(self, name: tuple[str, int]) -> list[AddressInfo]:
        try:
            found: list[AddressInfo] = socket.getaddrinfo(*name, 0, socket.SOCK_STREAM)  # type: ignore[assignment] # addresses of the internet alone
        except UnicodeError:
            raise socket.gaierror(socket.EAI_NONAME, "not a host name") from None
        with self._lock:
            self._known[name] = time.monotonic(), found
        return found


def connect(addresses: Sequence[AddressInfo], timeout: float) -> socket.socket:
    """Connect to the first of `addresses` that accepts ("happy eyeballs", RFC 8305).

    Each further attempt starts after a quarter of a second without an answer, or sooner if time
    would not suffice for all addresses.

    Raises:
        OSError: none accepted; the error of the last one, or a timeout.
    """
    end = time.monotonic() + timeout
    waiting = deque(_by_turns(addresses))
    stagger = min(_STAGGER_SECONDS, timeout / (len(waiting) + 1))
    begin_next = time.monotonic()
    error: OSError = TimeoutError()
    with closing(_Attempts()) as attempts:
        while waiting or attempts:
            now = time.monotonic()
            if now < end and waiting and (now >= begin_next or not attempts):
                begin_next = now + stagger
                error = attempts.begin(waiting.popleft()) or error
                continue
            until = min(begin_next, end) if waiting else end
            for sock, problem in attempts.wait(max(until - now, 0)):
                if problem is None:
                    return sock
                error, begin_next = problem, now
            if now >= end:
                # Addresses that neither accept nor refuse.
                break
        raise TimeoutError if attempts else error


class _Attempts:
    """Sockets that are connecting; `close` closes those that remain."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def close(self) -> None:
        """Close all sockets that are still connecting."""
        for key in list(self._selector.get_map().values()):
            _socket_of(key).close()
        self._selector.close()

    def __bool__(self) -> bool:
        return bool(self._selector.get_map())

    def begin(self, address: AddressInfo) -> OSError | None:
        """Start connecting; return the error of an immediate failure."""
        family, kind, protocol, _, place = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            return error
        sock.settimeout(0)
        # Head and body are sent in two writes.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = sock.connect_ex(place)
        if number not in {0, errno.EINPROGRESS}:
            sock.close()
            return OSError(number, os.strerror(number))
        self._selector.register(sock, selectors.EVENT_WRITE)
        return None

    def wait(self, seconds: float) -> Iterator[tuple[socket.socket, OSError | None]]:
        """Yield the sockets that have connected, or failed with an error and are closed."""
        for key, _ in self._selector.select(seconds):
            sock = _socket_of(key)
            self._selector.unregister(sock)
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                sock.close()
            yield sock, OSError(number, os.strerror(number)) if number else None


def _socket_of(key: selectors.SelectorKey) -> socket.socket:
    return cast("socket.socket", key.fileobj)


def _by_turns(addresses: Sequence[AddressInfo]) -> Iterable[AddressInfo]:
    """Yield the addresses of both families alternately (RFC 8305, section 4)."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    others = [each for each in addresses if each[0] != addresses[0][0]]
    pairs = chain.from_iterable(zip_longest(first, others))
    return (each for each in pairs if each is not None)
