"""The definition of a metric family."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

#: For each sample, the values of the family's own labels and the sample's value.
Samples = tuple[tuple[tuple[str, ...], float], ...]


@dataclass(frozen=True, slots=True)
class Family(Generic[T]):
    """One metric family.

    Attributes:
        name: The metric's name.
        help: A noun phrase that ends in a full stop; no character in it needs escaping.
        labels: The family's own labels, after those common to every family of its table.
        samples: Returns the samples of a batch, an export or a snapshot.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    samples: Callable[[T], Samples]


def single(value: float | None) -> Samples:
    """Return the sample of a family without labels; none for None."""
    return () if value is None else (((), value),)


def labelled(values: Iterable[tuple[str, float]]) -> Samples:
    """Return the samples of a family with one label."""
    return tuple(((label,), value) for label, value in values)
