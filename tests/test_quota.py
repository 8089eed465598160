"""How much of the account's rate limit the exporter leaves to others."""

import pytest

from exporter.api import RateLimit
from exporter.quota import Quota
from tests.fakes import NO_LIMIT, FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock."""
    return FakeClock()


@pytest.fixture
def quota(clock: FakeClock) -> Quota:
    """Give a quota of one half."""
    return Quota(0.5, clock)


def limit(clock: FakeClock, remaining: int | None, reset_in: float = 300) -> RateLimit:
    """Give headers of a window of 1000 calls."""
    return RateLimit(1000, remaining, clock.time() + reset_in)


def test_before_anything_is_known_calls_go_one_by_one(quota: Quota) -> None:
    """The first call goes alone: its answer says whether there is room for more."""
    assert quota.rate_limit is None
    assert quota.allows_first_call()
    assert quota.allows_further_call(0)
    assert not quota.allows_further_call(1)


@pytest.mark.parametrize(
    ("share", "remaining", "under_way", "allowed"),
    [
        (0.5, 501, 0, True),
        (0.5, 500, 0, False),
        (0.5, 504, 3, True),
        (0.5, 503, 3, False),
        (0.0, 1000, 0, False),
        (1.0, 1, 0, True),
        (1.0, 1, 1, False),
    ],
)
def test_further_calls_stop_at_the_share(
    clock: FakeClock, share: float, remaining: int, under_way: int, *, allowed: bool
) -> None:
    """Calls under way count as made, and what is left never falls below (1 - share) * limit."""
    quota = Quota(share, clock)
    quota.learn(limit(clock, remaining), refused=False)
    assert quota.allows_further_call(under_way) == allowed
    assert quota.allows_first_call()


@pytest.mark.parametrize("told", [NO_LIMIT, RateLimit(None, 1, None), RateLimit(1000, None, None)])
def test_an_account_without_a_known_limit_is_not_held_back(quota: Quota, told: RateLimit) -> None:
    """Headers that do not say both numbers limit nothing."""
    quota.learn(told, refused=False)
    assert quota.allows_further_call(3)


def test_at_0_remaining_there_is_no_call_until_the_reset(quota: Quota, clock: FakeClock) -> None:
    """Not even the first call of a scrape is made while the account has none left."""
    quota.learn(limit(clock, 0, reset_in=200), refused=False)
    clock.pass_by(199)
    assert not quota.allows_first_call()
    assert not quota.allows_further_call(0)
    clock.pass_by(1)
    assert quota.allows_first_call()


@pytest.mark.parametrize("reset_in", [-1, 0, 3601, 1e9])
def test_a_reset_that_makes_no_sense_is_a_minute_away(
    quota: Quota, clock: FakeClock, reset_in: float
) -> None:
    """A reset in the past or beyond any window holds calls for 60 s."""
    quota.learn(limit(clock, 0, reset_in), refused=False)
    clock.pass_by(59)
    assert not quota.allows_first_call()
    clock.pass_by(1)
    assert quota.allows_first_call()


def test_a_429_without_headers_holds_for_a_minute(quota: Quota, clock: FakeClock) -> None:
    """Where a refusal says nothing of the limit, what was known of it stays."""
    known = limit(clock, 700)
    quota.learn(known, refused=False)
    quota.learn(NO_LIMIT, refused=True)
    assert quota.rate_limit == known
    clock.pass_by(59)
    assert not quota.allows_first_call()
    clock.pass_by(1)
    assert quota.allows_first_call()


def test_a_429_holds_until_its_reset_whatever_remains(quota: Quota, clock: FakeClock) -> None:
    """A refusal is believed, even if its headers say that calls are left."""
    quota.learn(limit(clock, 700, reset_in=100), refused=True)
    clock.pass_by(99)
    assert not quota.allows_first_call()
    clock.pass_by(1)
    assert quota.allows_first_call()


def test_the_longest_hold_counts(quota: Quota, clock: FakeClock) -> None:
    """Of two refusals side by side the one that says less does not shorten the other's hold."""
    quota.learn(limit(clock, 0, reset_in=300), refused=True)
    quota.learn(NO_LIMIT, refused=True)
    clock.pass_by(299)
    assert not quota.allows_first_call()


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_jump_of_the_wall_clock_does_not_move_a_hold(
    quota: Quota, clock: FakeClock, jump: float
) -> None:
    """A hold is measured on the clock that never jumps."""
    quota.learn(limit(clock, 0, reset_in=300), refused=True)
    clock.unix += jump
    clock.pass_by(299)
    assert not quota.allows_first_call()
    clock.pass_by(1)
    assert quota.allows_first_call()


def test_after_the_reset_the_next_call_goes_alone(quota: Quota, clock: FakeClock) -> None:
    """In a new window the first answer tells what is left of it."""
    quota.learn(limit(clock, 500, reset_in=100), refused=False)
    clock.pass_by(99)
    assert not quota.allows_further_call(0)
    clock.pass_by(1)
    assert quota.allows_further_call(0)
    assert not quota.allows_further_call(1)


def test_a_clock_ahead_of_the_apis_does_not_lift_the_share(quota: Quota, clock: FakeClock) -> None:
    """What an answer said a moment ago counts, though its reset looks past."""
    quota.learn(limit(clock, 500, reset_in=-3600), refused=False)
    assert not quota.allows_further_call(0)


def test_answers_side_by_side_may_arrive_in_any_order(quota: Quota, clock: FakeClock) -> None:
    """Within a window the least that remains is what remains."""
    quota.learn(limit(clock, 700), refused=False)
    quota.learn(limit(clock, 702), refused=False)
    assert quota.rate_limit == limit(clock, 700)


@pytest.mark.parametrize("reset", [1_700_000_600.0, 57.0, None])
def test_a_new_window_brings_new_calls(quota: Quota, clock: FakeClock, reset: float | None) -> None:
    """With another reset, or with none that makes sense, the latest answer counts."""
    quota.learn(
        limit(clock, 1) if reset == 1_700_000_600.0 else RateLimit(9, 1, reset), refused=False
    )
    quota.learn(RateLimit(9, 8, reset), refused=False)
    assert quota.rate_limit == RateLimit(9, 8, reset)


@pytest.mark.parametrize("first", [None, 5])
def test_a_count_that_is_missing_is_no_count(
    quota: Quota, clock: FakeClock, first: int | None
) -> None:
    """Two answers of a window are only compared where both say what remains."""
    second = 5 if first is None else None
    quota.learn(limit(clock, first), refused=False)
    quota.learn(limit(clock, second), refused=False)
    assert quota.rate_limit == limit(clock, second)


def test_an_answer_without_headers_changes_nothing(quota: Quota, clock: FakeClock) -> None:
    """What is known stays until an answer says something else."""
    quota.learn(limit(clock, 500), refused=False)
    quota.learn(NO_LIMIT, refused=False)
    assert quota.rate_limit == limit(clock, 500)
    assert not quota.allows_further_call(0)
