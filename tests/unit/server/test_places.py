"""Places for connections: which connections are evicted."""

import threading
from collections.abc import Callable

import pytest

from exporter import background
from exporter.server.places import Place, Places, Stage


class Arrivals:
    """Connections that take places, and a record of those that lost theirs."""

    def __init__(self, limit: int) -> None:
        self.places = Places(limit)
        self.lost: list[str] = []

    def take(self, host: str, stage: Stage = Stage.READING, count: int = 1) -> list[Place | None]:
        """Take `count` places and set their stage."""
        places = []
        for number in range(count):
            place = self.places.take(host, self._record(f"{host} {number}"))
            if place:
                place.stage = stage
            places.append(place)
        return places

    def _record(self, name: str) -> Callable[[], None]:
        return lambda: self.lost.append(name)


def test_places_are_limited() -> None:
    """A connection beyond the limit gets no place until another one leaves."""
    arrivals = Arrivals(2)
    first, _ = arrivals.take("127.0.0.1", Stage.WORKING, 2)
    assert arrivals.take("127.0.0.2") == [None]
    assert first
    arrivals.places.leave(first)
    assert arrivals.take("127.0.0.2") != [None]


def test_the_oldest_silent_connection_of_the_largest_network_is_evicted() -> None:
    """When all places are taken, the network with the most connections loses its oldest one."""
    arrivals = Arrivals(6)
    arrivals.take("10.0.0.1", count=2)
    arrivals.take("10.0.0.2", count=3)
    arrivals.take("10.0.0.3", Stage.WORKING)
    assert arrivals.take("10.0.0.4") != [None]
    assert arrivals.lost == ["10.0.0.2 0"]


def test_a_connection_never_takes_the_place_of_a_smaller_network() -> None:
    """An address with many connections cannot evict those of an address with few."""
    arrivals = Arrivals(4)
    arrivals.take("10.0.0.1", Stage.SENDING)
    arrivals.take("10.0.0.2")
    arrivals.take("10.0.0.3", Stage.WORKING, 2)
    assert arrivals.take("10.0.0.3") == [None]
    assert arrivals.lost == []


def test_silent_connections_are_evicted_before_slow_readers() -> None:
    """A connection that has sent its request keeps its place while there are silent ones."""
    arrivals = Arrivals(4)
    arrivals.take("10.0.0.1", Stage.SENDING, 3)
    arrivals.take("10.0.0.2")
    arrivals.take("10.0.0.3")
    arrivals.take("10.0.0.4", Stage.WORKING)
    arrivals.take("10.0.0.5")
    assert arrivals.lost == ["10.0.0.2 0", "10.0.0.3 0", "10.0.0.1 0"]


def test_a_connection_that_has_its_answer_is_evicted() -> None:
    """After its answer, a connection that waits for the client to close counts as idle."""
    arrivals = Arrivals(4)
    [ended, working, _, _] = arrivals.take("10.0.0.1", Stage.ENDING, count=4)
    assert ended
    assert working
    assert arrivals.places.begin_answer(working)
    arrivals.take("10.0.0.1")
    assert arrivals.lost == ["10.0.0.1 0"]


def test_a_network_s_own_silent_connection_is_evicted() -> None:
    """A new connection may evict a silent one of its own network."""
    arrivals = Arrivals(2)
    arrivals.take("10.0.0.1", count=2)
    arrivals.take("10.0.0.1")
    assert arrivals.lost == ["10.0.0.1 0"]


def test_a_place_that_was_lost_is_not_freed_twice() -> None:
    """When an evicted connection ends, the place of the connection that evicted it stays taken."""
    arrivals = Arrivals(1)
    [lost] = arrivals.take("10.0.0.1")
    arrivals.take("10.0.0.1", Stage.WORKING)
    assert lost
    arrivals.places.leave(lost)
    assert arrivals.take("10.0.0.1") == [None]


def test_an_abort_that_hangs_holds_up_no_other_connection() -> None:
    """While the oldest connection is being aborted, others take, use and free their places."""
    places = Places(2)
    hangs, released = threading.Event(), threading.Event()

    def hang() -> None:
        hangs.set()
        released.wait()

    places.take("10.0.0.1", hang)
    other = places.take("10.0.0.2", hang)
    assert other
    background.start(lambda: places.take("10.0.0.1", hang), "evicts")
    assert hangs.wait(10)
    try:
        assert background.start(lambda: places.begin_answer(other), "answers").result(10)
        background.start(lambda: places.leave(other), "leaves").result(10)
        assert background.start(lambda: places.take("10.0.0.3", hang), "arrives").result(10)
    finally:
        released.set()


@pytest.mark.parametrize(("limit", "share"), [(512, 128), (4, 1), (1, 1)])
def test_one_network_has_its_share_of_answers(limit: int, share: int) -> None:
    """One network may have a quarter of the limit as concurrent answers, but at least one."""
    arrivals = Arrivals(limit)
    places = [place for place in arrivals.take("10.0.0.1", count=limit) if place]
    assert [arrivals.places.begin_answer(place) for place in places] == [
        number < share for number in range(limit)
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("2001:db8::1", "2001:db8::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::1%eth0", True),
    ],
)
def test_an_address_belongs_to_a_network(one: str, other: str, *, same: bool) -> None:
    """Each IPv4 address is a network of its own; of IPv6 it is a /64, which one client controls."""
    arrivals = Arrivals(4)
    [first] = arrivals.take(one)
    [second] = arrivals.take(other)
    assert first
    assert second
    assert arrivals.places.begin_answer(first)
    assert arrivals.places.begin_answer(second) is not same
