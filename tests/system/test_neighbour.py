"""Another program on the same account uses up the rate limit in every window."""

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
# A low limit, so that the other program need not make a thousand calls.
LIMIT = 10
YEARS = Lifetimes(pending=(0, 0), running=(1e9, 1e9))


@dataclass(slots=True)
class Clock:
    """One time for the exporter and the simulator, both wall clock and monotonic; tests set it."""

    now: float = 1_700_000_000.0

    def time(self) -> float:
        """Return Unix time."""
        return self.now

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return self.now


def default_max_age() -> float:
    """Return the default of `--exports.max-age`."""

    def run(flags: Flags) -> int:
        raise NotImplementedError

    options = make_command(run, "").params
    [text] = [o.default for o in options if isinstance(o, click.Option) and "max_age" in o.name]
    return parse_duration(str(text))


class Site:
    """An exporter and another program, the neighbour, on one account.

    Attributes:
        clock: The clock of both.
        tracker: The exporter's tracker.
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
        """Make calls as the neighbour until the rate limit is used up."""
        for _ in range(LIMIT):
            with contextlib.suppress(ApiError):
                self.call()

    def call(self) -> None:
        """Make one call as the neighbour."""
        self._neighbour.bulk_get(self._ids, self.clock.now + 10)

    def scrape_for_an_hour(self, interval: int, busy: int) -> list[int]:
        """Return the number of UNKNOWN exports in each scrape of an hour.

        Args:
            interval: Seconds between two scrapes.
            busy: Seconds after the begin of a window at which the neighbour uses it up.
        """
        unknown = []
        begin = self.clock.now
        for second in range(HOUR):
            self.clock.now = begin + second
            if second % WINDOW == 0:
                # A call begins a window, and the neighbour always makes one at once.
                self.call()
            if second % WINDOW == busy:
                self.use_up()
            if second % interval == 0:
                snapshot = self.tracker.scrape(self.clock.now + 10)
                unknown.append(snapshot.batches[0].totals.states["UNKNOWN"])
        return unknown


@pytest.fixture
def account() -> Iterator[tuple[str, Clock, Sequence[str]]]:
    """Yield the URL, the clock and the IDs of a simulated account with three running exports."""
    clock = Clock()
    simulator = Simulator(token=TOKEN, clock=clock.time, rate_limit=LIMIT, rate_window=WINDOW)
    ids = simulator.start(3, ago=1e6, lifetimes=YEARS)
    with serve(simulator) as url:
        yield url, clock, ids


@pytest.mark.parametrize(("interval", "busy"), [(60, 30), (60, 200), (120, 50), (300, 10)])
def test_used_up_rate_limit_makes_no_state_unknown(
    account: tuple[str, Clock, Sequence[str]], interval: int, busy: int
) -> None:
    """One answer in two windows keeps all states known, with the default `--exports.max-age`."""
    site = Site(*account, default_max_age())
    assert site.scrape_for_an_hour(interval, busy) == [0] * (HOUR // interval)


def test_max_age_of_one_window_makes_states_unknown(
    account: tuple[str, Clock, Sequence[str]],
) -> None:
    """With a `--exports.max-age` below two windows, the same neighbour makes states UNKNOWN."""
    site = Site(*account, WINDOW)
    assert 3 in site.scrape_for_an_hour(120, 50)
