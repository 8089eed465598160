"""Time limits: strict on an idle machine, longer on a busy one."""

import time
from contextlib import nullcontext

import pytest

from tests.support import timing
from tests.support.timing import slowdown, within


@pytest.mark.parametrize(("factor", "fails"), [(1.0, True), (1000.0, False)])
def test_limit_grows_with_the_slowdown(
    monkeypatch: pytest.MonkeyPatch, factor: float, *, fails: bool
) -> None:
    """A block that takes too long fails, unless the machine is slower by as much."""
    monkeypatch.setattr(timing, "slowdown", lambda: factor)
    problem = r"^took .* s instead of less than 0.1 s$"
    with pytest.raises(AssertionError, match=problem) if fails else nullcontext(), within(0.1):
        time.sleep(0.11)


def test_slowdown_is_at_least_1() -> None:
    """The slowdown never makes a limit shorter."""
    assert slowdown() >= 1
