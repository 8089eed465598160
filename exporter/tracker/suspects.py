"""Which IDs are suspected of having an API call refused, and in which calls they are asked."""

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

# Calls of suspects that a scrape may always make: the halves of two refused calls.
_CALLS: Final = 4
# First calls of a scrape that are short after one in which the API refused every call.
_PROBES: Final = 4


class Suspects:
    """IDs of calls that the API refused, until each bad ID stands alone.

    The API does not name the ID that it refuses (HTTP 400). Where it answered another call of the
    same scrape, the refusal is about the call's IDs: on the next scrapes the two halves of the call
    are asked by calls of their own. A half that is answered is free again, one that is refused is
    halved again, and an ID that is refused alone is the bad one.

    Where the API refused every call of a scrape, most likely nothing is wrong with the IDs, and
    nobody is suspected. Should all calls hold a bad ID nevertheless, shorter first calls find out.
    """

    def __init__(self) -> None:
        # Dicts are ordered sets here: the longest wait comes first.
        self._groups: dict[tuple[str, ...], None] = {}
        self._alone: dict[str, None] = {}
        self._probe: int | None = None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the suspects and the bad IDs; no other call may hold them."""
        return chain(chain.from_iterable(self._groups), self._alone)

    def update(self, watched: Container[str], bad: Iterable[str]) -> None:
        """Drop what is not `watched`, and add IDs that are known to be bad."""
        groups = (tuple(i for i in group if i in watched) for group in self._groups)
        self._groups = {group: None for group in groups if group}
        self._alone = {i: None for i in chain(self._alone, bad) if i in watched}

    def plan(self, calls: Sequence[list[str]], size: int) -> list[list[str]]:
        """Return the calls of a scrape: `calls`, those of suspects, and one of a bad ID.

        At most four calls are those of suspects, or twice as many as if there were none.

        Args:
            calls: The calls of all other IDs.
            size: The most IDs in a call.
        """
        suspects = sum(map(len, self._groups))
        limit = max(_CALLS, 2 * (len(calls) + -(-suspects // size)))
        plan = [*calls, *map(list, islice(self._groups, limit)), *([i] for i in self._next_bad())]
        if self._probe is None or not plan:
            return plan
        first, *others = plan
        cuts = range(0, min(len(first), _PROBES * self._probe), self._probe)
        probes = [first[cut : cut + self._probe] for cut in cuts]
        rest = first[_PROBES * self._probe :]
        return [*probes, *([rest] if rest else []), *others]

    def learn(
        self, asked: int, refused: Collection[Sequence[str]], answered: Collection[Sequence[str]]
    ) -> list[str]:
        """Take over how the calls of a scrape ended.

        Args:
            asked: How many IDs the calls held.
            refused: The IDs of each call that the API refused.
            answered: The IDs of each call that it answered.

        Returns:
            Those that are suspected no more although they may not have been asked.
        """
        for ids in answered:
            self._groups.pop(tuple(ids), None)
            self._alone.pop(ids[0], None)
        if answered:
            self._probe = None
            for ids in refused:
                self._blame(tuple(ids))
        elif refused and sum(map(len, refused)) == asked:
            self._probe = ((self._probe or max(map(len, refused))) + 1) // 2
            acquitted = list(chain.from_iterable(self._groups))
            self._groups.clear()
            return acquitted
        return []

    def _next_bad(self) -> list[str]:
        return list(islice(self._alone, 1))

    def _blame(self, ids: tuple[str, ...]) -> None:
        self._groups.pop(ids, None)
        if len(ids) == 1:
            # Behind the other ones: one of them is asked on each scrape.
            self._alone.pop(ids[0], None)
            self._alone[ids[0]] = None
        else:
            half = (len(ids) + 1) // 2
            self._groups |= {ids[:half]: None, ids[half:]: None}
