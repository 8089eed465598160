"""A day of an account's life, with a round of discovery every five minutes."""

import statistics
from collections.abc import Iterator
from random import Random

import pytest

from exporter.simulator import Lifetimes, Listing
from tests.unit.tool.conftest import DAY, Account

ROUND_SECONDS = 300
LIVES = Lifetimes(pending=(1, 600), running=(10, 7200), failed_share=0.1)
PART_WITH_NEWS = 0.15
# Over before anybody could see them unfinished.
SHORT = Lifetimes(pending=(0, 1), running=(1, 60), failed_share=0.1)


def arrivals(random: Random) -> Iterator[int]:
    """Return how many exports are started before each round: mostly none, sometimes a batch."""
    for _ in range(int(DAY) // ROUND_SECONDS):
        yield random.choice((1, 5, 40)) if random.random() < PART_WITH_NEWS else 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("listing", "usual", "most"),
    [
        (Listing(order="newest"), 2, 3),
        (Listing(order="oldest"), 3, 4),
        (Listing(order="newest", honors_fields=False, honors_states=False), 3, 4),
        (Listing(order="id"), 10, 25),
    ],
    ids=["newest", "oldest", "slim", "id"],
)
def test_every_export_is_watched_in_the_end(
    account: Account, listing: Listing, usual: int, most: int
) -> None:
    """Every export is found for any order of the list; a quiet round costs one call."""
    random = Random(11)  # noqa: S311 # no secret
    account.simulator.listing = listing
    ids = account.simulator.start(300, ago=DAY, lifetimes=LIVES)
    assert account.discover().whole
    calls: list[int] = []
    quiet: list[int] = []
    for count in arrivals(random):
        account.clock.advance(ROUND_SECONDS)
        for _ in range(count):
            lifetimes = SHORT if random.random() < 0.2 else LIVES
            ids += account.simulator.start(
                1,
                volume=random.choice(("me/a", "me/b")),
                ago=random.uniform(0, ROUND_SECONDS),
                lifetimes=lifetimes,
            )
        done = account.discover()
        assert done.whole
        assert account.ids() == sorted(ids)
        (calls if count else quiet).append(done.calls)
    assert set(quiet) == {1}
    # But for the one pass a day over the whole list.
    *calls, _ = sorted(calls)
    assert statistics.median(calls) <= usual
    assert max(calls) <= most
