"""From a snapshot to the bytes of a response.

A series is rendered and compressed when its export changes, not when it is scraped: the lines of a
block of exports stay in the cache, compressed, until one of their samples changes. A scrape renders
what changed and the exporter's own metrics, and concatenates the rest.
"""

import logging
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as openmetrics

from exporter.metrics.families import BATCH_FAMILIES, SCRAPE_FAMILIES
from exporter.metrics.family import Family, Samples
from exporter.metrics.gzip_parts import CompressedPart
from exporter.metrics.lines import (
    batch_lines,
    export_labels,
    export_lines,
    export_samples,
    family_header,
    sample_lines,
)
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: Seconds that rendering one changed export takes: 20 microseconds, with room for a busy machine
#: (docs/performance.md).
RENDER_SECONDS: Final = 40e-6
#: Series of single exports above which a warning is logged.
MANY_SERIES: Final = 10_000

# Size of the chunks of a body: smaller ones waste packets, larger ones cost memory for every slow
# reader.
_CHUNK_BYTES: Final = 64 * 1024

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _RenderedFamily:
    """The compressed lines of one family for the exports of a block, and their number."""

    part: CompressedPart
    series: int


@dataclass(frozen=True, slots=True)
class _RenderedBlock:
    """A block with the lines of every family."""

    block: Block
    families: tuple[_RenderedFamily, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a response.

    Attributes:
        length: Length in bytes.
        chunks: The bytes, produced while they are sent, so that a slow reader of a hundred
            megabytes needs memory for one chunk only.
    """

    length: int
    chunks: Iterator[bytes]


class Exposition:
    """Renders snapshots; may be used by several threads at once.

    Args:
        self_metrics: The exporter's own metrics.
        export_families: As returned by `exporter.metrics.export_families.export_families`.
    """

    def __init__(
        self, self_metrics: SelfMetrics, export_families: Sequence[Family[WatchedExport]]
    ) -> None:
        self._self_metrics = self_metrics
        self._export_families = export_families
        # What the last scrape used: rendered blocks by the ID of their first export, the texts of
        # each batch and each scrape family, and compressed texts; and the number of series.
        self._blocks: dict[str, _RenderedBlock] = {}
        self._batches: dict[Batch, tuple[str, ...]] = {}
        self._scrape_texts: dict[tuple[str, Samples], bytes] = {}
        self._compressed: dict[bytes, CompressedPart] = {}
        self._series = 0
        self._batch_pieces: list[bytes | CompressedPart] = []
        # Two concurrent scrapes must not render the same blocks twice.
        self._lock = threading.Lock()

    def render(self, snapshot: Snapshot, content_type: str, *, compress: bool) -> Body:
        """Return the body of the response.

        Args:
            snapshot: The snapshot to render.
            content_type: `TEXT` or `OPENMETRICS`.
            compress: Whether to return a gzip file.
        """
        with self._lock:
            before = self._series
            pieces = self._pieces(snapshot)
            series = self._series
            if compress:
                self._compressed = {
                    piece: self._compressed.get(piece) or CompressedPart.compress(piece)
                    for piece in pieces
                    if isinstance(piece, bytes)
                }
                parts = [self._compressed[p] if isinstance(p, bytes) else p for p in pieces]
        # Outside the lock: a log pipe that hangs holds up this scrape only.
        _warn(before, series)
        generate = openmetrics if content_type == OPENMETRICS else text_format
        own = generate.generate_latest(self._self_metrics)
        if compress:
            chunks = CompressedPart.concat((*parts, CompressedPart.compress(own))).to_gzip()
            return Body(sum(map(len, chunks)), _rechunk(chunks))
        length = sum(len(p) if isinstance(p, bytes) else p.length for p in pieces) + len(own)
        plain = ((p,) if isinstance(p, bytes) else p.decompress() for p in pieces)
        return Body(length, _rechunk(chain(chain.from_iterable(plain), (own,))))

    def _pieces(self, snapshot: Snapshot) -> list[bytes | CompressedPart]:
        """Return everything that depends on the snapshot; unchanged pieces come from the cache."""
        if [*self._batches] != [*snapshot.batches]:
            self._batch_pieces = self._render_batches(snapshot.batches)
        samples = [(family, family.samples(snapshot)) for family in SCRAPE_FAMILIES]
        self._scrape_texts = {
            (family.name, each): self._scrape_texts.get((family.name, each))
            or (family_header(family) + sample_lines(family, each)).encode()
            for family, each in samples
            if each
        }
        return [*self._batch_pieces, *self._scrape_texts.values()]

    def _render_batches(self, batches: Sequence[Batch]) -> list[bytes | CompressedPart]:
        """Return the totals of the batches, then the series of their exports.

        A family without samples is left out: OpenMetrics' own validator refuses an empty one.
        """
        self._batches = {batch: self._batches.get(batch) or batch_lines(batch) for batch in batches}
        pieces: list[bytes | CompressedPart] = []
        for batch_family, texts in zip(
            BATCH_FAMILIES, zip(*self._batches.values(), strict=True), strict=False
        ):
            if any(texts):
                pieces.append("".join((family_header(batch_family), *texts)).encode())
        blocks = [
            self._render_block(block)
            for batch in batches
            for block in batch.blocks
            if block.exports
        ]
        self._blocks = {rendered.block.exports[0].id: rendered for rendered in blocks}
        series = 0
        for i, family in enumerate(self._export_families):
            rendered = [block.families[i] for block in blocks]
            in_family = sum(each.series for each in rendered)
            series += in_family
            if in_family:
                pieces.append(family_header(family).encode())
                pieces.append(CompressedPart.concat(each.part for each in rendered))
        self._series = series
        return pieces

    def _render_block(self, block: Block) -> _RenderedBlock:
        before = self._blocks.get(block.exports[0].id)
        if before is not None and before.block is block:
            return before
        changes = None if before is None else _changes(before.block, block)
        common_labels = export_labels(block)
        families = []
        for i, family in enumerate(self._export_families):
            if before is not None and changes is not None and not _affects(family, changes):
                families.append(before.families[i])
            else:
                text = export_lines(family, block.exports, common_labels)
                part = CompressedPart.compress(text.encode())
                families.append(_RenderedFamily(part, text.count("\n")))
        return _RenderedBlock(block, tuple(families))


def _warn(before: int, series: int) -> None:
    """Log a warning when there are many series, and again only after there were fewer."""
    if before <= MANY_SERIES < series:
        _log.warning(
            f"More than {MANY_SERIES:,} series of single exports: drop those of COMPLETED"
            " exports with --exports.completed-retention, or remove the ID files of finished"
            " batches",
            extra={"series": series},
        )


def _changes(before: Block, after: Block) -> list[tuple[WatchedExport, WatchedExport]] | None:
    """Return the exports that changed, or None if the blocks do not hold the same exports."""
    if before.batch != after.batch or len(before.exports) != len(after.exports):
        return None
    exports = zip(before.exports, after.exports, strict=True)
    changes = [(old, new) for old, new in exports if old is not new]
    return changes if all(old.id == new.id for old, new in changes) else None


def _affects(
    family: Family[WatchedExport], changes: Iterable[tuple[WatchedExport, WatchedExport]]
) -> bool:
    """Return whether the changes affect the family's samples."""
    return any(export_samples(family, old) != export_samples(family, new) for old, new in changes)


def _rechunk(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces into chunks that are worth sending."""
    pending: list[bytes] = []
    size = 0
    for piece in pieces:
        pending.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            yield b"".join(pending)
            pending = []
            size = 0
    yield b"".join(pending)
