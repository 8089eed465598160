"""Finding the account's exports in the API's list.

Little of the list is documented: no order, no filter by time, and items that may have only href, ID
and state. It changes while it is paged. But every answer states how many exports match, and exports
are never deleted: once that many different exports are known, none is missing, whatever the order.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

from exporter.cavatica.answer import MAX_IDS, ApiError, ListResponse
from exporter.cavatica.export import FAILED, UNFINISHED, Export, LookupFailure
from exporter.tool.api import PacedApi

# Passes over the whole list without anything new before it is considered inconsistent.
_FRUITLESS_PASSES = 4


@dataclass(slots=True)
class Found:
    """What a search has found so far.

    Attributes:
        total: How many exports the account has, by the latest answer.
        exports: The exports seen, by ID.
        without_details: IDs of exports of which only the state is known.
        unusable: Items without a usable ID, in the latest pass.
        whole: Whether every export of the account is known now.
        every: Whether this search saw every export, not only the new ones.
    """

    total: int
    exports: dict[str, Export] = field(default_factory=dict)
    without_details: set[str] = field(default_factory=set)
    unusable: int = 0
    whole: bool = False
    every: bool = False

    @property
    def has_seen_all(self) -> bool:
        """Whether as many different exports were seen as exist."""
        return len(self.exports) + self.unusable >= self.total

    def add(self, response: ListResponse) -> list[str]:
        """Add a part of the list, and return its IDs."""
        for export in response.exports:
            self.exports[export.id] = export
            if export.id in response.without_details:
                self.without_details.add(export.id)
            else:
                self.without_details.discard(export.id)
        return [export.id for export in response.exports]


class Search:
    """Searches the list for exports.

    Args:
        api: Makes the calls.
        is_known: Returns whether an export was found earlier, by its ID.
        known: Number of listed exports known before the search.
        progress: Called with the number of exports seen and their total.
    """

    def __init__(
        self,
        api: PacedApi,
        is_known: Callable[[str], bool],
        known: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self._api = api
        self._is_known = is_known
        self._known = known
        self._progress = progress

    def probe(self) -> tuple[Found, bool]:
        """Make one call; return what it found, and whether it shows no sign of new exports."""
        response = self._api.list_exports(offset=0, limit=1)
        found = Found(total_of(response))
        ids = found.add(response)
        quiet = found.total == self._known and all(map(self._is_known, ids))
        found.whole = quiet
        return found, quiet

    def find_new(self, found: Found) -> None:
        """Find the new exports where they are most likely, else by reading the whole list."""
        if self._ends_at_known(found, newest_first=True) or self._ends_at_known(
            found, newest_first=False
        ):
            found.whole, found.every = True, found.has_seen_all
        else:
            found.whole = self._are_open(found)
        if not found.whole:
            self._read_all(found, lambda: self._has_all(found) or found.has_seen_all)
            found.every = found.has_seen_all

    def find_every(self, found: Found) -> None:
        """Read the whole list until every export was seen, or nothing new appears."""
        found.exports.clear()
        self._read_all(found, lambda: found.has_seen_all)
        found.every = found.whole

    def _read_all(self, found: Found, is_enough: Callable[[], bool]) -> None:
        # An export that moves while the list is paged can be missed: read the list again.
        fruitless = 0
        while fruitless < _FRUITLESS_PASSES:
            before = len(found.exports)
            found.unusable = offset = 0
            ids: list[str] = []
            while offset < found.total:
                response = self._page(found, offset, MAX_IDS)
                found.unusable += response.unusable
                previous, ids = ids, found.add(response)
                items = len(ids) + response.unusable
                # The same page again: the API, or a proxy, ignores the offset.
                if not items or (ids and ids == previous):
                    break
                offset += items
                self._progress(len(found.exports), found.total)
                if is_enough():
                    break
            if is_enough():
                found.whole = True
                return
            fruitless = fruitless + 1 if len(found.exports) == before else 0

    def _ends_at_known(self, found: Found, *, newest_first: bool) -> bool:
        """Read the list from one end for as long as each page has something new."""
        begin, end = 0, found.total
        while begin < end:
            limit = min(MAX_IDS, end - begin)
            offset = begin if newest_first else end - limit
            ids = found.add(self._page(found, offset, limit))
            new = sum(not self._is_known(export_id) for export_id in ids)
            if not new:
                return False
            if new < len(ids) and self._has_all(found):
                return True
            begin, end = (begin + limit, end) if newest_first else (begin, end - limit)
        return self._has_all(found)

    def _are_open(self, found: Found) -> bool:
        """Read the list of unfinished and failed exports, if the API supports such filters."""
        states = (*UNFINISHED, FAILED)
        offset, total = 0, 1
        while offset < total:
            response = self._api.list_exports(offset=offset, limit=MAX_IDS, states=states)
            total = total_of(response)
            if total >= found.total or not response.exports:
                return False
            offset += len(found.add(response))
            self._progress(len(found.exports), found.total)
        return self._has_all(found)

    def _has_all(self, found: Found) -> bool:
        new = sum(not self._is_known(export_id) for export_id in found.exports)
        return 0 <= found.total - self._known <= new

    def _page(self, found: Found, offset: int, limit: int) -> ListResponse:
        response = self._api.list_exports(offset=offset, limit=limit)
        found.total = total_of(response)
        return response


def total_of(response: ListResponse) -> int:
    """Return the number of exports.

    Raises:
        ApiError: the answer does not state it.
    """
    if response.total is None:
        raise ApiError("invalid_response", "the list has no header X-Total-Matching-Query")
    return response.total


@dataclass(slots=True)
class Details:
    """IDs of exports whose details the API did not return.

    Attributes:
        refused: Those that the API refuses.
        pending: Those whose details a later answer may have.
    """

    refused: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)


def get_details(api: PacedApi, found: Found, ids: Collection[str]) -> Details:
    """Fetch the details that exports among `ids` lack, and drop pending ones from `found`.

    Raises:
        ApiError: there is no usable answer.
    """
    wanted = found.without_details.intersection(ids)
    details = Details()
    for export_id, outcome in _outcomes(api, wanted):
        if isinstance(outcome, Export):
            found.exports[export_id] = outcome
            found.without_details.discard(export_id)
        elif outcome is None or outcome.temporary:
            details.pending.add(export_id)
            del found.exports[export_id]
        else:
            details.refused.add(export_id)
    return details


def look_up(api: PacedApi, found: Found, ids: Collection[str]) -> dict[str, Export]:
    """Return the exports among `ids` whose details the API returns, now or in what was found.

    Raises:
        ApiError: there is no usable answer.
    """
    seen = found.exports.keys() - found.without_details
    exports = {export_id: found.exports[export_id] for export_id in seen.intersection(ids)}
    outcomes = _outcomes(api, set(ids) - seen)
    return exports | {i: outcome for i, outcome in outcomes if isinstance(outcome, Export)}


def _outcomes(
    api: PacedApi, ids: Collection[str]
) -> Iterator[tuple[str, Export | LookupFailure | None]]:
    """Ask for each ID, and yield it with the outcome."""
    wanted = sorted(ids)
    for begin in range(0, len(wanted), MAX_IDS):
        part = wanted[begin : begin + MAX_IDS]
        outcomes = api.bulk_get(part).outcomes
        yield from ((export_id, outcomes.get(export_id)) for export_id in part)
