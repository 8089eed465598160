"""From a host name to a socket, in spite of faulty addresses and name servers."""

import errno
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace

import pytest

from exporter import background
from exporter.cavatica import dialing
from exporter.cavatica.dialing import AddressInfo, Resolver, connect
from scripts.ports import reserved_port
from tests.support.timing import within
from tests.support.waits import PATIENCE, wait_until

Resolve = Callable[..., list[AddressInfo]]


def address(port: int, host: str = "127.0.0.1") -> AddressInfo:
    """Return a resolver's result for a port of this machine."""
    if ":" in host:
        return (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (host, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


@contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port that neither accepts nor refuses, because its backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Yield a port that refuses connections."""
    with reserved_port() as port:
        yield port


class TestConnect:
    """`connect` connects to the first address that accepts."""

    @pytest.mark.parametrize(("holes", "timeout"), [(1, 3.0), (3, 3.0), (7, 2.2)])
    def test_reaches_an_address_behind_others_that_drop_packets(
        self, holes: int, timeout: float
    ) -> None:
        """The next address is tried early enough, even within a short timeout."""
        with black_hole() as hole, socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            addresses = [*[address(hole)] * holes, address(port)]
            with within(min(timeout, 0.25 * holes + 1)), connect(addresses, timeout) as sock:
                assert sock.getpeername()[1] == port

    def test_accepts_a_connection_that_was_made_in_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a busy machine the thread may look only after the deadline."""
        times = itertools.chain([0.0, 0.0, 0.0], itertools.repeat(5.0))
        with socket.create_server(("127.0.0.1", 0)) as listener, monkeypatch.context() as patch:
            patch.setattr(dialing, "time", SimpleNamespace(monotonic=lambda: next(times)))
            connect([address(listener.getsockname()[1])], 1).close()

    def test_tries_the_next_address_at_once_after_a_refusal(self, closed_port: int) -> None:
        """After a refusal the next address is tried at once."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with within(5), connect([address(closed_port), address(port)], 60) as sock:
                assert sock.getpeername()[1] == port

    def test_tries_both_address_families_alternately(self) -> None:
        """If all addresses of one family drop packets, those of the other are not tried last."""
        with black_hole() as hole, socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            # Only labelled as IPv6, so that it is tried second; `record` connects to it by IPv4.
            other = (socket.AF_INET6, *address(port)[1:])
            tried: list[int] = []
            with pytest.MonkeyPatch.context() as patch:
                real = socket.socket

                def record(family: int, *rest: int) -> socket.socket:
                    tried.append(family)
                    return real(socket.AF_INET, *rest)

                patch.setattr(socket, "socket", record)
                with connect([address(hole), address(hole), other], PATIENCE) as sock:
                    assert sock.getpeername()[1] == port
            assert tried[:2] == [socket.AF_INET, socket.AF_INET6]

    def test_raises_the_error_of_the_last_address(self, closed_port: int) -> None:
        """If all addresses refuse, the error is that of the last one."""
        with pytest.raises(ConnectionRefusedError, match="Connection refused"):
            connect([address(closed_port), address(closed_port)], PATIENCE)

    def test_times_out_if_an_address_does_not_answer(self, closed_port: int) -> None:
        """The timeout comes at the deadline, even if another address has refused before."""
        with black_hole() as hole:
            began = time.monotonic()
            with within(1.3), pytest.raises(TimeoutError):
                connect([address(closed_port), address(hole)], 0.3)
            assert time.monotonic() - began > 0.3

    def test_skips_addresses_that_this_machine_cannot_use(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An address of an unsupported family and one without a route are skipped."""

        class Socket(socket.socket):
            def connect_ex(self, place: tuple[str, int]) -> int:  # type: ignore[override] # as here
                return errno.ENETUNREACH if place[0] == "127.0.0.9" else super().connect_ex(place)

        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            unknown = (9999, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
            unreachable = address(port, "127.0.0.9")
            monkeypatch.setattr(socket, "socket", Socket)
            with connect([unknown, unreachable, address(port)], PATIENCE) as sock:
                assert sock.getpeername() == ("127.0.0.1", port)
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


class TestResolver:
    """The resolver; a lookup may take longer than a call."""

    @pytest.fixture
    def lookups(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Resolve]]:
        """Replace the system's resolver by scripted lookups, the last of which repeats."""
        scripted: list[Resolve] = []

        def resolve(host: str, port: int, *_: int) -> list[AddressInfo]:
            act = scripted.pop(0) if len(scripted) > 1 else scripted[0]
            return act(host, port)

        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        yield scripted
        wait_until(
            lambda: all(thread.name != "resolver" for thread in threading.enumerate()),
            "the lookups have ended",
        )

    def test_asks_the_system(self) -> None:
        """The system's addresses are returned in its order."""
        assert address(443) in Resolver().resolve("127.0.0.1", 443, PATIENCE)

    def test_raises_an_os_error_without_a_thread(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If no thread can be started for the lookup, an `OSError` says so."""

        def refuse(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(background, "start", refuse)
        with pytest.raises(OSError, match="no thread") as raised:
            Resolver().resolve("a.example", 443, PATIENCE)
        assert raised.value.strerror == "no thread can be started for the lookup"

    def test_uses_a_late_answer_for_the_next_call(self, lookups: list[Resolve]) -> None:
        """With a dead first name server every lookup is late, but serves the second call."""
        proceed = threading.Event()
        lookups[:] = [lambda _, port: [address(port)] if proceed.wait(PATIENCE) else []]
        resolver = Resolver()
        with pytest.raises(TimeoutError):
            resolver.resolve("api.invalid", 443, 0.05)
        proceed.set()
        assert resolver.resolve("api.invalid", 443, PATIENCE) == [address(443)]

    def test_looks_a_name_up_once_at_a_time(self, lookups: list[Resolve]) -> None:
        """Calls share a lookup, so that a dead name server does not hold a thread for each call."""
        proceed = threading.Event()
        count: list[str] = []

        def wait(host: str, port: int) -> list[AddressInfo]:
            count.append(host)
            proceed.wait(PATIENCE)
            return [address(port)]

        lookups[:] = [wait]
        resolver = Resolver()
        for _ in range(4):
            with pytest.raises(TimeoutError):
                resolver.resolve("api.invalid", 443, 0.02)
        wait_until(lambda: count, "a lookup begins")
        assert count == ["api.invalid"]
        proceed.set()

    @pytest.mark.parametrize(("timeout", "limit"), [(PATIENCE, PATIENCE / 2), (0.9, 0.8)])
    def test_uses_the_last_addresses_while_a_lookup_takes_long(
        self, lookups: list[Resolve], timeout: float, limit: float
    ) -> None:
        """After a second, or half of a shorter time, there is still time to connect to them."""
        proceed = threading.Event()

        def wait(*_: object) -> list[AddressInfo]:
            proceed.wait(PATIENCE)
            return []

        lookups[:] = [lambda _, port: [address(port)], wait]
        resolver = Resolver()
        resolver.resolve("api.invalid", 443, PATIENCE)
        with within(limit):
            assert resolver.resolve("api.invalid", 443, timeout) == [address(443)]
        proceed.set()

    @pytest.mark.parametrize(
        ("error", "is_used"),
        [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)],
        ids=["no answer", "unknown name"],
    )
    def test_uses_the_last_addresses_if_no_name_server_answers(
        self, lookups: list[Resolve], error: int, *, is_used: bool
    ) -> None:
        """If no name server answers, the last addresses are used; an unknown name is an error."""

        def fail(*_: object) -> list[AddressInfo]:
            raise socket.gaierror(error, "as the test wants it")

        lookups[:] = [lambda _, port: [address(port)], fail]
        resolver = Resolver()
        resolver.resolve("api.invalid", 443, PATIENCE)
        if is_used:
            assert resolver.resolve("api.invalid", 443, PATIENCE) == [address(443)]
        else:
            with pytest.raises(socket.gaierror):
                resolver.resolve("api.invalid", 443, PATIENCE)

    def test_does_not_use_addresses_of_the_day_before(
        self, lookups: list[Resolve], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Addresses older than a day are not used: they may belong to another host."""

        def fail(*_: object) -> list[AddressInfo]:
            raise socket.gaierror(socket.EAI_AGAIN, "as the test wants it")

        lookups[:] = [lambda _, port: [address(port)], fail]
        resolver = Resolver()
        resolver.resolve("api.invalid", 443, PATIENCE)
        later = time.monotonic() + 86401
        monkeypatch.setattr("exporter.cavatica.dialing.time.monotonic", lambda: later)
        with pytest.raises(socket.gaierror):
            resolver.resolve("api.invalid", 443, PATIENCE)
