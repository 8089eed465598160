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
    """Return a limiter whose share is one half."""
    return RateLimiter(0.5, clock)


def limit(clock: FakeClock, remaining: int | None, reset_in: float = 300) -> RateLimit:
    """Return the headers of an answer, in a window of 1,000 calls."""
    return RateLimit(1000, remaining, clock.time() + reset_in)


def answer(headers: RateLimit) -> BulkResponse:
    """Return a successful answer with these headers."""
    return BulkResponse({}, complete=True, rate_limit=headers, requests=1)


def test_calls_are_made_one_by_one_until_a_limit_is_known(limiter: RateLimiter) -> None:
    """The first call is made alone: its answer says how many calls are left."""
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
        # One call is always allowed: otherwise discovery would wait for ever.
        (0.0005, 1000, 0, True),
        (1.0, 1, 0, True),
        (1.0, 1, 1, False),
    ],
)
def test_additional_calls_stop_at_the_share(
    clock: FakeClock, share: float, remaining: int, in_flight: int, *, allowed: bool
) -> None:
    """Calls in flight count as made, and never fewer than (1 - share) * limit are left."""
    limiter = RateLimiter(share, clock)
    limiter.update(answer(limit(clock, remaining)))
    assert limiter.allows_additional_call(in_flight) == allowed
    assert limiter.allows_first_call()


@pytest.mark.parametrize(
    "headers", [NO_LIMIT, RateLimit(None, 1, None), RateLimit(1000, None, None)]
)
def test_incomplete_headers_limit_nothing(limiter: RateLimiter, headers: RateLimit) -> None:
    """Headers limit calls only if they have both the limit and the number of calls left."""
    limiter.update(answer(headers))
    assert limiter.allows_additional_call(3)


def test_without_calls_left_no_call_is_made_until_the_reset(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """While the account has no calls left, not even the first call of a scrape is made."""
    limiter.update(answer(limit(clock, 0, reset_in=200)))
    clock.advance(199)
    assert not limiter.allows_first_call()
    assert not limiter.allows_additional_call(0)
    clock.advance(1)
    assert limiter.allows_first_call()


@pytest.mark.parametrize("reset_in", [-1, 0, 361, 1800, 3600, 1e9])
def test_implausible_reset_blocks_calls_for_a_minute(
    limiter: RateLimiter, clock: FakeClock, reset_in: float
) -> None:
    """A reset that is in the past or beyond any window blocks calls for 60 s."""
    limiter.update(answer(limit(clock, 0, reset_in)))
    clock.advance(59)
    assert not limiter.allows_first_call()
    clock.advance(1)
    assert limiter.allows_first_call()


def test_429_without_headers_blocks_calls_for_a_minute(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """A 429 without headers blocks calls for 60 s, and the known limit stays."""
    known = limit(clock, 700)
    limiter.update(answer(known))
    limiter.update(error("rate_limited", NO_LIMIT))
    assert limiter.rate_limit == known
    clock.advance(59)
    assert not limiter.allows_first_call()
    clock.advance(1)
    assert limiter.allows_first_call()


def test_429_blocks_calls_until_its_reset(limiter: RateLimiter, clock: FakeClock) -> None:
    """A 429 blocks calls until its reset, even if its headers say that calls are left."""
    limiter.update(error("rate_limited", limit(clock, 700, reset_in=100)))
    clock.advance(99)
    assert not limiter.allows_first_call()
    clock.advance(1)
    assert limiter.allows_first_call()


def test_longest_block_counts(limiter: RateLimiter, clock: FakeClock) -> None:
    """If concurrent calls are answered 429, the latest of the resets counts."""
    limiter.update(error("rate_limited", limit(clock, 0, reset_in=300)))
    limiter.update(error("rate_limited", NO_LIMIT))
    clock.advance(299)
    assert not limiter.allows_first_call()


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_jump_of_the_wall_clock_does_not_move_a_block(
    limiter: RateLimiter, clock: FakeClock, jump: float
) -> None:
    """The time until calls are allowed again is measured on the monotonic clock."""
    limiter.update(error("rate_limited", limit(clock, 0, reset_in=300)))
    clock.unix += jump
    clock.advance(299)
    assert not limiter.allows_first_call()
    clock.advance(1)
    assert limiter.allows_first_call()


def test_first_call_of_a_window_is_made_alone(limiter: RateLimiter, clock: FakeClock) -> None:
    """After a reset one call is made alone: its answer says how many calls are left."""
    limiter.update(answer(limit(clock, 500, reset_in=100)))
    clock.advance(99)
    assert not limiter.allows_additional_call(0)
    clock.advance(1)
    assert limiter.allows_additional_call(0)
    assert not limiter.allows_additional_call(1)


def test_clock_ahead_of_the_apis_does_not_lift_the_share(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """The calls left in the last answer count, even if its reset looks past."""
    limiter.update(answer(limit(clock, 500, reset_in=-3600)))
    assert not limiter.allows_additional_call(0)


def test_concurrent_answers_may_arrive_in_any_order(limiter: RateLimiter, clock: FakeClock) -> None:
    """Of the answers in one window, the lowest number of calls left counts."""
    limiter.update(answer(limit(clock, 700)))
    limiter.update(answer(limit(clock, 702)))
    assert limiter.rate_limit == limit(clock, 700)


@pytest.mark.parametrize("reset", [1_700_000_600.0, 57.0, None])
def test_answer_of_a_new_window_replaces_the_limit(
    limiter: RateLimiter, clock: FakeClock, reset: float | None
) -> None:
    """If the reset changed, is missing or implausible, the latest answer counts."""
    limiter.update(answer(limit(clock, 1) if reset == 1_700_000_600.0 else RateLimit(9, 1, reset)))
    limiter.update(answer(RateLimit(9, 8, reset)))
    assert limiter.rate_limit == RateLimit(9, 8, reset)


@pytest.mark.parametrize("first", [None, 5])
def test_answers_without_the_calls_left_are_not_compared(
    limiter: RateLimiter, clock: FakeClock, first: int | None
) -> None:
    """If one of two answers in a window lacks the number of calls left, the latest counts."""
    second = 5 if first is None else None
    limiter.update(answer(limit(clock, first)))
    limiter.update(answer(limit(clock, second)))
    assert limiter.rate_limit == limit(clock, second)


def test_an_answer_without_headers_changes_nothing(limiter: RateLimiter, clock: FakeClock) -> None:
    """After a successful answer without headers, the known limit still applies."""
    limiter.update(answer(limit(clock, 500)))
    limiter.update(answer(NO_LIMIT))
    assert limiter.rate_limit == limit(clock, 500)
    assert not limiter.allows_additional_call(0)


# The share in whole calls


@pytest.mark.parametrize("percent", range(1, 101))
@pytest.mark.parametrize("limit", [100, 1000])
def test_share_is_the_exact_number_of_calls(clock: FakeClock, percent: int, limit: int) -> None:
    """Each percentage allows its exact number of calls, in spite of floating-point rounding."""
    limiter = RateLimiter(percent / 100, clock)
    calls = 0
    limiter.update(answer(RateLimit(limit, limit, clock.time() + 300)))
    while limiter.allows_additional_call(0):
        calls += 1
        limiter.update(answer(RateLimit(limit, limit - calls, clock.time() + 300)))
    assert calls == allowed_calls(percent / 100, limit) == percent * limit // 100


# Unconfirmed requests: of failures without rate-limit headers


@pytest.mark.parametrize("headers", [None, NO_LIMIT, RateLimit(1000, None, None)])
def test_unconfirmed_requests_are_subtracted_from_the_calls_left(
    limiter: RateLimiter, clock: FakeClock, headers: RateLimit | None
) -> None:
    """The API may have counted requests of a failure without headers, so the limiter does.

    `rate_limit` still is what the API reported.
    """
    limiter.update(answer(limit(clock, 503)))
    limiter.update(error("server_error", headers, requests=2))
    assert limiter.rate_limit == limit(clock, 503)
    assert limiter.allows_additional_call(0)
    assert not limiter.allows_additional_call(1)
    limiter.update(error("timeout", headers))
    assert not limiter.allows_additional_call(0)
    assert limiter.allows_first_call()


def test_failures_without_headers_do_not_allow_concurrent_calls(limiter: RateLimiter) -> None:
    """Until the API reports a limit, failures without complete headers allow one call at a time."""
    for headers in (None, NO_LIMIT, RateLimit(None, 5, None), RateLimit(1000, None, None)):
        limiter.update(error("server_error", headers, requests=2))
        assert limiter.rate_limit is None
        assert limiter.allows_additional_call(0)
        assert not limiter.allows_additional_call(1)


def test_unconfirmed_requests_are_not_subtracted_twice(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """If the next answer has fewer calls left, the API counted as many unconfirmed requests."""
    limiter.update(answer(limit(clock, 510)))
    limiter.update(error("timeout", requests=2))
    limiter.update(answer(limit(clock, 507)))
    assert limiter.allows_additional_call(6)
    assert not limiter.allows_additional_call(7)


def test_unconfirmed_requests_count_until_an_answer_includes_them(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """The next answer may be older than the unconfirmed requests, and not include them."""
    limiter.update(answer(limit(clock, 510)))
    limiter.update(error("timeout", requests=8))
    limiter.update(answer(limit(clock, 509)))
    assert limiter.allows_additional_call(1)
    assert not limiter.allows_additional_call(2)


def test_unconfirmed_requests_do_not_count_in_a_new_window(
    limiter: RateLimiter, clock: FakeClock
) -> None:
    """The limit starts again with each window, so older unconfirmed requests are dropped."""
    limiter.update(answer(limit(clock, 510, reset_in=100)))
    limiter.update(error("timeout", requests=9))
    clock.advance(100)
    limiter.update(answer(limit(clock, 502)))
    assert limiter.allows_additional_call(1)


@pytest.mark.parametrize("is_known", [False, True])
def test_share_applies_in_a_window_without_headers(
    limiter: RateLimiter, clock: FakeClock, *, is_known: bool
) -> None:
    """If all calls of a window fail without headers, the share of 1,000 calls is not exceeded."""
    if is_known:
        limiter.update(answer(limit(clock, 700, reset_in=100)))
        clock.advance(100)
    sent = 0
    while limiter.allows_additional_call(0):
        assert not limiter.allows_additional_call(1)
        limiter.update(error("server_error", NO_LIMIT, requests=2))
        sent += 2
    assert sent == 500
    limiter.update(answer(limit(clock, 999)))
    assert limiter.allows_additional_call(3)


def test_account_without_headers_is_not_limited(limiter: RateLimiter, clock: FakeClock) -> None:
    """As long as successful answers have no headers, concurrent calls are allowed."""
    for _ in range(100):
        limiter.update(answer(NO_LIMIT))
        assert limiter.allows_additional_call(3)
        clock.advance(59)
