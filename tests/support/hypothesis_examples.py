"""The number of examples for slow properties."""

from hypothesis import settings


def examples(percent: int) -> settings:
    """Return settings with `percent` of the profile's examples, so that `make fuzz` raises them."""
    return settings(max_examples=max(1, settings().max_examples * percent // 100))
