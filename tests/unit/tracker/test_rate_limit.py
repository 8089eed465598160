"""The share of the account's rate limit that the exporter uses."""

import pytest

from exporter.cavatica.answer import BulkResponse, RateLimit
from exporter.tracker.rate_limit import RateLimiter, allowed_calls
from tests.support.fakes import NO_LIMIT, FakeClock, error


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock."""
    return FakeClock()


@pytest.fixture
def limiter(clock: FakeClock) -> RateLimiter:
    """Return a limiter of one half."""
    return RateLimiter(0.5, clock)


def limit(clock: FakeClock, remaining: int | None, reset_in: float = 300) -> RateLimit:
    """Return headers of a window of 1000 calls."""
    return RateLimit(1000, remaining, clock.time() + reset_in)


def answer(told: RateLimit) -> BulkResponse:
    """Return a good answer with these headers."""
    return BulkResponse({}, complete=True, rate_limit=told, requests=1)


def test_before_anything_is_known_calls_go_one_by_one(limiter: RateLimiter) -> None:
    """The first call goes alone: its answer says whether there is room for more."""
    assert limiter.rate_limit is None
    assert limiter.allows_first_call()
    assert limiter.allows_additional_call(0)
    assert not limiter.allows_additional_call(1)


@pytest.mark.parametrize(
    ("share", "remaining", "in_flight", "allowed"),
    [
        (0.5, 501, 0, True),
        (0.5, 500, 0, False),
        (0.5, 504, 3, True),
        (0.5, 503, 3, False),
        (0.0005, 999, 0, False),
        # Otherwise discovery would wait for ever.
        (0.0005, 1000, 0, True),
        (1.0, 1, 0, True),
        (1.0, 1, 1, False),
    ],
)
def test_further_calls_stop_at_the_share(
    clock: FakeClock, share: float, remaining: int, in_flight: int, *, allowed: bool
) -> None:
    """Calls under way count as made, and what is left never falls below (1 - share) * limit."""
    limiter = RateLimiter(share, clock)
    limiter.update(answer(limit(clock, remaining)))
    assert limiter.allows_additional_call(in_flight) == allowed
    assert limiter.allows_first_call()


@pytest.mark.parametrize("told", [NO_LIMIT, RateLimit(None, 1, None), RateLimit(1000, None, None)])
def test_an_account_without_a_known_limit_is_not_held_back(
    limiter: RateLimiter, told: RateLimit
) -> None:
    """Headers that do not say both numbers limit nothing."""
    limiter.update(answer(told))
    assert limiter.allows_additional_call(3)


def test_at_0_remaining_there_is_no_call_until_the_reset(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """Not even the first call of a scrape is made while the account has none left."""
    limiter.update(answer(limit(clock, 0, reset_in=200)))
    clock.pass_by(199)
    assert not limiter.allows_first_call()
    assert not limiter.allows_additional_call(0)
    clock.pass_by(1)
    assert limiter.allows_first_call()


@pytest.mark.parametrize("reset_in", [-1, 0, 3601, 1e9])
def test_a_reset_that_makes_no_sense_is_a_minute_away(
    limiter: RateLimiter, clock: FakeClock, reset_in: float
) -> None:
    """A reset in the past or beyond any window holds calls for 60 s."""
    limiter.update(answer(limit(clock, 0, reset_in)))
    clock.pass_by(59)
    assert not limiter.allows_first_call()
    clock.pass_by(1)
    assert limiter.allows_first_call()


def test_a_429_without_headers_holds_for_a_minute(limiter: RateLimiter, clock: FakeClock) -> None:
    """Where a refusal says nothing of the limit, what was known of it stays."""
    known = limit(clock, 700)
    limiter.update(answer(known))
    limiter.update(error("rate_limited", NO_LIMIT))
    assert limiter.rate_limit == known
    clock.pass_by(59)
    assert not limiter.allows_first_call()
    clock.pass_by(1)
    assert limiter.allows_first_call()


def test_a_429_holds_until_its_reset_whatever_remains(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """A refusal is believed, even if its headers say that calls are left."""
    limiter.update(error("rate_limited", limit(clock, 700, reset_in=100)))
    clock.pass_by(99)
    assert not limiter.allows_first_call()
    clock.pass_by(1)
    assert limiter.allows_first_call()


def test_the_longest_hold_counts(limiter: RateLimiter, clock: FakeClock) -> None:
    """Of two concurrent refusals, the longer hold counts."""
    limiter.update(error("rate_limited", limit(clock, 0, reset_in=300)))
    limiter.update(error("rate_limited", NO_LIMIT))
    clock.pass_by(299)
    assert not limiter.allows_first_call()


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_jump_of_the_wall_clock_does_not_move_a_hold(
    limiter: RateLimiter, clock: FakeClock, jump: float
) -> None:
    """A hold is measured on the monotonic clock."""
    limiter.update(error("rate_limited", limit(clock, 0, reset_in=300)))
    clock.unix += jump
    clock.pass_by(299)
    assert not limiter.allows_first_call()
    clock.pass_by(1)
    assert limiter.allows_first_call()


def test_after_the_reset_the_next_call_goes_alone(limiter: RateLimiter, clock: FakeClock) -> None:
    """In a new window one call goes first: its answer says how many are left."""
    limiter.update(answer(limit(clock, 500, reset_in=100)))
    clock.pass_by(99)
    assert not limiter.allows_additional_call(0)
    clock.pass_by(1)
    assert limiter.allows_additional_call(0)
    assert not limiter.allows_additional_call(1)


def test_a_clock_ahead_of_the_apis_does_not_lift_the_share(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """What an answer said a moment ago counts, though its reset looks past."""
    limiter.update(answer(limit(clock, 500, reset_in=-3600)))
    assert not limiter.allows_additional_call(0)


def test_answers_side_by_side_may_arrive_in_any_order(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """Within a window the least that remains is what remains."""
    limiter.update(answer(limit(clock, 700)))
    limiter.update(answer(limit(clock, 702)))
    assert limiter.rate_limit == limit(clock, 700)


@pytest.mark.parametrize("reset", [1_700_000_600.0, 57.0, None])
def test_a_new_window_brings_new_calls(
    limiter: RateLimiter, clock: FakeClock, reset: float | None
) -> None:
    """With another reset, or with none that makes sense, the latest answer counts."""
    limiter.update(answer(limit(clock, 1) if reset == 1_700_000_600.0 else RateLimit(9, 1, reset)))
    limiter.update(answer(RateLimit(9, 8, reset)))
    assert limiter.rate_limit == RateLimit(9, 8, reset)


@pytest.mark.parametrize("first", [None, 5])
def test_a_count_that_is_missing_is_no_count(
    limiter: RateLimiter, clock: FakeClock, first: int | None
) -> None:
    """Two answers of a window are only compared where both say what remains."""
    second = 5 if first is None else None
    limiter.update(answer(limit(clock, first)))
    limiter.update(answer(limit(clock, second)))
    assert limiter.rate_limit == limit(clock, second)


def test_an_answer_without_headers_changes_nothing(limiter: RateLimiter, clock: FakeClock) -> None:
    """An answer without headers keeps the known limit."""
    limiter.update(answer(limit(clock, 500)))
    limiter.update(answer(NO_LIMIT))
    assert limiter.rate_limit == limit(clock, 500)
    assert not limiter.allows_additional_call(0)


# Of a share, in whole calls.


@pytest.mark.parametrize("percent", range(1, 101))
@pytest.mark.parametrize("limit", [100, 1000])
def test_a_share_is_as_many_calls_as_it_says(clock: FakeClock, percent: int, limit: int) -> None:
    """No hundredth loses or gains a call by the rounding of numbers."""
    limiter = RateLimiter(percent / 100, clock)
    calls = 0
    limiter.update(answer(RateLimit(limit, limit, clock.time() + 300)))
    while limiter.allows_additional_call(0):
        calls += 1
        limiter.update(answer(RateLimit(limit, limit - calls, clock.time() + 300)))
    assert calls == allowed_calls(percent / 100, limit) == percent * limit // 100


# Calls that tell nothing.


@pytest.mark.parametrize("told", [None, NO_LIMIT, RateLimit(1000, None, None)])
def test_a_failure_that_tells_nothing_may_have_been_counted(
    limiter: RateLimiter, clock: FakeClock, told: RateLimit | None
) -> None:
    """Its requests come off what is left; what the API said is shown as it was said."""
    limiter.update(answer(limit(clock, 503)))
    limiter.update(error("server_error", told, requests=2))
    assert limiter.rate_limit == limit(clock, 503)
    assert limiter.allows_additional_call(0)
    assert not limiter.allows_additional_call(1)
    limiter.update(error("timeout", told))
    assert not limiter.allows_additional_call(0)
    assert limiter.allows_first_call()


def test_a_failure_that_tells_nothing_does_not_lift_the_limit(limiter: RateLimiter) -> None:
    """Failures without headers do not allow concurrent calls before the API reports a limit."""
    for told in (None, NO_LIMIT, RateLimit(None, 5, None), RateLimit(1000, None, None)):
        limiter.update(error("server_error", told, requests=2))
        assert limiter.rate_limit is None
        assert limiter.allows_additional_call(0)
        assert not limiter.allows_additional_call(1)


def test_what_tells_nothing_is_not_taken_off_twice(limiter: RateLimiter, clock: FakeClock) -> None:
    """An answer that counts those requests, too, says what is left."""
    limiter.update(answer(limit(clock, 510)))
    limiter.update(error("timeout", requests=2))
    limiter.update(answer(limit(clock, 507)))
    assert limiter.allows_additional_call(6)
    assert not limiter.allows_additional_call(7)


def test_what_tells_nothing_is_not_forgotten_within_a_window(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """An answer that was sent before those requests may arrive after them."""
    limiter.update(answer(limit(clock, 510)))
    limiter.update(error("timeout", requests=8))
    limiter.update(answer(limit(clock, 509)))
    assert limiter.allows_additional_call(1)
    assert not limiter.allows_additional_call(2)


def test_a_new_window_owes_nothing(limiter: RateLimiter, clock: FakeClock) -> None:
    """Unconfirmed requests of an earlier window do not count in a new one."""
    limiter.update(answer(limit(clock, 510, reset_in=100)))
    limiter.update(error("timeout", requests=9))
    clock.pass_by(100)
    limiter.update(answer(limit(clock, 502)))
    assert limiter.allows_additional_call(1)


@pytest.mark.parametrize("is_known", [False, True])
def test_a_window_in_which_nothing_is_told_has_its_share_too(
    limiter: RateLimiter, clock: FakeClock, *, is_known: bool
) -> None:
    """In a window without reported limits, no more requests than the share are sent."""
    if is_known:
        limiter.update(answer(limit(clock, 700, reset_in=100)))
        clock.pass_by(100)
    sent = 0
    while limiter.allows_additional_call(0):
        assert not limiter.allows_additional_call(1)
        limiter.update(error("server_error", NO_LIMIT, requests=2))
        sent += 2
    assert sent == 500
    limiter.update(answer(limit(clock, 999)))
    assert limiter.allows_additional_call(3)


def test_an_account_without_headers_is_never_held_back(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """Good answers without a limit allow concurrent calls for ever."""
    for _ in range(100):
        limiter.update(answer(NO_LIMIT))
        assert limiter.allows_additional_call(3)
        clock.pass_by(59)
