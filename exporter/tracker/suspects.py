"""Finding the IDs for which the API refuses whole calls, by bisection."""

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Final

from exporter.cavatica.answer import MAX_IDS

# Calls of suspects that a scrape may always make: the halves of two refused calls.
_CALLS: Final = 4
# Number of short calls at the start of a scrape, after one in which the API refused every call.
_PROBES: Final = 4


class Suspects:
    """The IDs of refused calls, which are halved until each bad ID is alone in its call.

    The API does not name the ID that it refuses (HTTP 400). If it answered another call of the same
    scrape, the refusal is about the call's IDs: the next scrapes make a separate call for each half
    of them. IDs of an answered half are no longer suspected, a refused half is halved again, and an
    ID that is refused alone is a bad one.

    If the API refused every call of a scrape, most likely nothing is wrong with the IDs, and none
    is suspected. In case every call does hold a bad ID, the next scrape begins with shorter calls.
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

        Suspects have at most four calls or, if that is more, twice the calls that all IDs would
        take if none were suspected.

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

    def record(
        self, asked: int, refused: Collection[Sequence[str]], answered: Collection[Sequence[str]]
    ) -> list[str]:
        """Record how the calls of a scrape ended.

        Args:
            asked: How many IDs the calls held.
            refused: The IDs of each call that the API refused.
            answered: The IDs of each call that it answered.

        Returns:
            IDs that are no longer suspected, although they may not have been asked for.
        """
        bad = len(self._alone)
        for ids in answered:
            self._groups.pop(tuple(ids), None)
            self._alone.pop(ids[0], None)
        if len(self._alone) < bad:
            # The API accepts such IDs again: one by one, the others would take too many scrapes.
            others = tuple(self._alone)
            self._alone.clear()
            cuts = range(0, len(others), MAX_IDS)
            self._groups |= {others[cut : cut + MAX_IDS]: None for cut in cuts}
        if answered:
            self._probe = None
            for ids in refused:
                self._blame(tuple(ids))
        elif refused and sum(map(len, refused)) == asked:
            self._probe = ((self._probe or max(map(len, refused))) + 1) // 2
            cleared = list(chain.from_iterable(self._groups))
            self._groups.clear()
            return cleared
        return []

    def _next_bad(self) -> list[str]:
        return list(islice(self._alone, 1))

    def _blame(self, ids: tuple[str, ...]) -> None:
        self._groups.pop(ids, None)
        if len(ids) == 1:
            # At the end of the queue: each scrape asks for one bad ID.
            self._alone.pop(ids[0], None)
            self._alone[ids[0]] = None
        else:
            half = (len(ids) + 1) // 2
            self._groups |= {ids[:half]: None, ids[half:]: None}
