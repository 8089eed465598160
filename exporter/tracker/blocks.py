"""The layout of batches in blocks, and what must be rebuilt when an export changes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final
from zlib import crc32

from exporter.tracker.snapshot import Batch, Block, WatchedExport

#: Maximum number of exports in a block; the average is half of it. A change renders its whole block
#: again, and every block costs memory.
BLOCK_SIZE: Final = 200


class Blocks:
    """The current batches; only those with changes are rebuilt.

    Args:
        states: What is known of every watched ID, which the owner keeps up to date.
    """

    def __init__(self, states: Mapping[str, WatchedExport]) -> None:
        self._states = states
        self._positions: dict[str, int] = {}
        self._blocks: list[Block] = []
        self._block_ids: list[tuple[str, tuple[str, ...]]] = []
        self._spans: dict[str, slice] = {}
        self._batches: dict[str, Batch] = {}
        self._changed: set[int] = set()

    def rebuild(
        self, states: Mapping[str, WatchedExport], batches: Mapping[str, tuple[str, ...]]
    ) -> None:
        """Lay out `batches`; blocks and batches that are equal to the old ones stay."""
        self._states = states
        old_blocks = dict(zip(self._block_ids, self._blocks, strict=True))
        old_batches = self._batches
        self._block_ids = []
        self._spans = {}
        for name, ids in batches.items():
            begin = len(self._block_ids)
            self._block_ids += ((name, block) for block in _chunk(ids))
            self._spans[name] = slice(begin, len(self._block_ids))
        self._positions = {
            export_id: index for index, (_, ids) in enumerate(self._block_ids) for export_id in ids
        }
        self._blocks = [
            self._block(batch, ids, old_blocks.get((batch, ids))) for batch, ids in self._block_ids
        ]
        self._changed.clear()
        self._batches = {
            name: _batch(name, tuple(self._blocks[span]), old_batches.get(name))
            for name, span in self._spans.items()
        }

    def mark_changed(self, export_id: str) -> None:
        """Rebuild the block of `export_id` before the next snapshot."""
        self._changed.add(self._positions[export_id])

    def batch_name(self, export_id: str) -> str:
        """Return the name of the batch that holds `export_id`."""
        return self._block_ids[self._positions[export_id]][0]

    def batches(self) -> tuple[Batch, ...]:
        """Return the batches in order of names."""
        for index in self._changed:
            batch, ids = self._block_ids[index]
            self._blocks[index] = self._block(batch, ids, None)
        for name in {self._block_ids[index][0] for index in self._changed}:
            self._batches[name] = Batch.of(name, tuple(self._blocks[self._spans[name]]))
        self._changed.clear()
        return tuple(self._batches.values())

    def _block(self, batch: str, ids: Iterable[str], old: Block | None) -> Block:
        exports = tuple(self._states[export_id] for export_id in ids)
        return old if old is not None and old.exports == exports else Block.of(batch, exports)


def _chunk(ids: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the IDs of a batch in blocks.

    Content-defined chunking: boundaries depend on the IDs, so an insertion at the top of a long
    list changes only neighbouring blocks.
    """
    least = BLOCK_SIZE // 4
    begin = 0
    for end, export_id in enumerate(ids, 1):
        size = end - begin
        if size == BLOCK_SIZE or (size >= least and crc32(export_id.encode()) % least == 0):
            yield ids[begin:end]
            begin = end
    if begin < len(ids):
        yield ids[begin:]


def _batch(name: str, blocks: tuple[Block, ...], old: Batch | None) -> Batch:
    return old if old is not None and old.blocks == blocks else Batch.of(name, blocks)
