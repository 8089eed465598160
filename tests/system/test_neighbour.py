"""Another program of the same account uses up the rate limit, window after window."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click
import pytest

from exporter.cavatica.answer import ApiError
from exporter.cavatica.client import Client
from exporter.cli.duration import parse_duration
from exporter.cli.flags import Flags, make_command
from exporter.simulator import Lifetimes, Simulator, serve
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.watchlist import Watchlist

TOKEN = "simulated"
WINDOW = 300
HOUR = 3600
# Few calls in a window, so that the neighbour need not make a thousand.
LIMIT = 10
YEARS = Lifetimes(pending=(0, 0), running=(1e9, 1e9))


@dataclass(slots=True)
class Clock:
    """Both kinds of time, set by hand; the simulator's, too."""

    now: float = 1_700_000_000.0

    def time(self) -> float:
        """Return Unix time."""
        return self.now

    def monotonic(self) -> float:
        """Return the time that never jumps."""
        return self.now


def default_max_age() -> float:
    """Return the default of `--exports.max-age`."""

    def run(flags: Flags) -> int:
        raise NotImplementedError

    options = make_command(run, "").params
    [text] = [o.default for o in options if isinstance(o, click.Option) and "max_age" in o.name]
    return parse_duration(str(text))


class Site:
    """An exporter and a neighbour on one account.

    Attributes:
        clock: The one clock.
        tracker: The exporter's.
    """

    def __init__(self, url: str, clock: Clock, ids: Sequence[str], max_age: float) -> None:
        self.clock = clock
        self._neighbour = self._client(url)
        watchlist = Watchlist(batches={"b": tuple(ids)})
        self.tracker = Tracker(
            lambda _: watchlist,
            self._client(url).bulk_get,
            ExportStates(max_age, 0),
            quota_share=0.5,
            clock=clock,
        )
        self._ids = ids

    def _client(self, url: str) -> Client:
        return Client(
            url,
            lambda: TOKEN,
            user_agent="test",
            observe=lambda _: None,
            monotonic=self.clock.monotonic,
        )

    def use_up(self) -> None:
        """Make calls as the neighbour until the account has none left."""
        for _ in range(LIMIT):
            with contextlib.suppress(ApiError):
                self.call()

    def call(self) -> None:
        """Make a call as the neighbour."""
        self._neighbour.bulk_get(self._ids, self.clock.now + 10)

    def hour(self, interval: int, busy: int) -> list[int]:
        """Return how many exports were UNKNOWN in each scrape of an hour.

        Args:
            interval: Seconds between two scrapes.
            busy: Seconds after which the neighbour has used up a window.
        """
        unknown = []
        begin = self.clock.now
        for second in range(HOUR):
            self.clock.now = begin + second
            if second % WINDOW == 0:
                # The neighbour is always there, so one window follows the other.
                self.call()
            if second % WINDOW == busy:
                self.use_up()
            if second % interval == 0:
                snapshot = self.tracker.scrape(self.clock.now + 10)
                unknown.append(snapshot.batches[0].totals.states["UNKNOWN"])
        return unknown


@pytest.fixture
def account() -> Iterator[tuple[str, Clock, Sequence[str]]]:
    """Yield a simulated account with three exports that run."""
    clock = Clock()
    simulator = Simulator(token=TOKEN, clock=clock.time, rate_limit=LIMIT, rate_window=WINDOW)
    ids = simulator.start(3, ago=1e6, lifetimes=YEARS)
    with serve(simulator) as url:
        yield url, clock, ids


@pytest.mark.parametrize(("interval", "busy"), [(60, 30), (60, 200), (120, 50), (300, 10)])
def test_a_neighbour_makes_no_state_unknown(
    account: tuple[str, Clock, Sequence[str]], interval: int, busy: int
) -> None:
    """One answer in two windows is enough, by default; it is as true as the API's last word."""
    site = Site(*account, default_max_age())
    assert site.hour(interval, busy) == [0] * (HOUR // interval)


def test_an_answer_must_be_younger_than_max_age(
    account: tuple[str, Clock, Sequence[str]],
) -> None:
    """With less than two windows the same neighbour does make states UNKNOWN."""
    site = Site(*account, WINDOW)
    assert 3 in site.hour(120, 50)
