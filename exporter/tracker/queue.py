"""Which IDs the API is asked about next."""

from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from itertools import islice


class AskingQueue:
    """Two queues of IDs, each in the order in which they are asked: the longest wait comes first.

    Unfinished exports are asked on every scrape, finished ones in the free places of its last call.
    """

    def __init__(self) -> None:
        # A dict is an ordered set here.
        self._unfinished: dict[str, None] = {}
        self._finished: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        """Iterate over the unfinished IDs."""
        return iter(self._unfinished)

    def update(
        self, watched: Container[str], unfinished: Iterable[str], finished: Iterable[str]
    ) -> None:
        """Drop what is not `watched`, and add new IDs; new unfinished ones come first."""
        kept = {i: None for i in self._unfinished if i in watched}
        self._unfinished = dict.fromkeys(unfinished) | kept
        self._finished = deque(i for i in self._finished if i in watched)
        self._finished.extend(finished)

    def plan(self, size: int) -> list[list[str]]:
        """Return calls of up to `size` IDs; `requeue` must follow.

        The unfinished IDs come first, then as many others as fit into the last call.
        """
        ids = list(self._unfinished)
        free = -len(ids) % size if ids else size
        ids += [self._finished.popleft() for _ in range(min(free, len(self._finished)))]
        return [ids[i : i + size] for i in range(0, len(ids), size)]

    def next_call(self, size: int) -> list[str]:
        """Return up to `size` IDs for a single call, and leave the queues as they are."""
        return list(islice(self._unfinished or self._finished, size))

    def requeue(
        self, asked: Iterable[str], not_asked: Sequence[str], is_unfinished: Callable[[str], bool]
    ) -> None:
        """Queue the IDs of a plan again: those asked at the end, the others in front."""
        unfinished = {i: None for i in not_asked if is_unfinished(i)}
        self._finished.extendleft(i for i in reversed(not_asked) if i not in unfinished)
        for export_id in asked:
            if is_unfinished(export_id):
                unfinished[export_id] = None
            else:
                self._finished.append(export_id)
        self._unfinished = unfinished
