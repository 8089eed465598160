"""Which IDs the API is asked about next."""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator
from itertools import islice
from typing import Literal

#: How often an ID is asked for: in every scrape; soon; in places that are left.
Urgency = Literal["unfinished", "lookup error", "finished"]


class AskingQueue:
    """Three queues of IDs, each in the order in which they are asked: the longest wait comes first.

    Unfinished exports are asked on every scrape, and finished ones in the free places of its last
    call. IDs with a lookup error come between: the cause, such as the token of another account, may
    have ended, and the export may have failed since. If they do not fit into the free places, they
    share one more call with the finished ones.
    """

    def __init__(self) -> None:
        # A dict is an ordered set here.
        self._unfinished: dict[str, None] = {}
        self._in_error: deque[str] = deque()
        self._finished: deque[str] = deque()
        # Those of the last two queues that are in a plan.
        self._planned: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """Iterate over the unfinished IDs."""
        return iter(self._unfinished)

    def update(
        self, watched: Container[str], arrivals: Iterable[str], urgency: Callable[[str], Urgency]
    ) -> None:
        """Drop what is not `watched`, and add `arrivals`, in front if they are not finished."""
        new = _sorted(arrivals, urgency)
        kept = {i: None for i in self._unfinished if i in watched}
        self._unfinished = dict.fromkeys(new["unfinished"]) | kept
        self._in_error = deque(i for i in self._in_error if i in watched)
        self._in_error.extendleft(reversed(new["lookup error"]))
        self._finished = deque(i for i in self._finished if i in watched)
        self._finished.extend(new["finished"])

    def promote(self) -> None:
        """Ask for every ID with a lookup error in the next scrape."""
        self._unfinished = dict.fromkeys(self._in_error) | self._unfinished
        self._in_error.clear()

    def plan(self, size: int) -> list[list[str]]:
        """Return calls of up to `size` IDs; `requeue` must follow.

        The unfinished IDs come first, then IDs with a lookup error, then as many others as fit into
        the last call.
        """
        unfinished = len(self._unfinished)
        free = -unfinished % size if unfinished else size
        if len(self._in_error) > free:
            free += size // 2
        self._planned = [self._in_error.popleft() for _ in range(min(free, len(self._in_error)))]
        count = unfinished + len(self._planned)
        free = -count % size if count else size
        self._planned += [self._finished.popleft() for _ in range(min(free, len(self._finished)))]
        ids = [*self._unfinished, *self._planned]
        return [ids[i : i + size] for i in range(0, len(ids), size)]

    def next_call(self, size: int) -> list[str]:
        """Return up to `size` IDs for a single call, and leave the queues as they are."""
        ids = self._unfinished or self._in_error or self._finished or self._planned
        return list(islice(ids, size))

    def requeue(
        self, asked: Iterable[str], not_asked: Iterable[str], urgency: Callable[[str], Urgency]
    ) -> None:
        """Queue the IDs of a plan again: those asked at the end, the others in front."""
        self._planned = []
        waiting, done = _sorted(not_asked, urgency), _sorted(asked, urgency)
        self._unfinished = dict.fromkeys(waiting["unfinished"] + done["unfinished"])
        self._in_error.extendleft(reversed(waiting["lookup error"]))
        self._in_error.extend(done["lookup error"])
        self._finished.extendleft(reversed(waiting["finished"]))
        self._finished.extend(done["finished"])


def _sorted(ids: Iterable[str], urgency: Callable[[str], Urgency]) -> dict[Urgency, list[str]]:
    """Return the IDs of each urgency, in the given order."""
    groups: dict[Urgency, list[str]] = {"unfinished": [], "lookup error": [], "finished": []}
    for export_id in ids:
        groups[urgency(export_id)].append(export_id)
    return groups
