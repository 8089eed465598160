"""From a snapshot to the bytes of an answer.

A series is rendered and compressed when its export changes, not when it is scraped: the lines of
a block of exports are kept, compressed, until one of their samples changes, and so is what a page
of blocks makes put together. A scrape renders what changed and the exporter's own metrics; the
rest is joined. The samples' lines are the same in both formats.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from exporter.metrics.families import (
    BATCH_FAMILIES,
    BATCH_LABELS,
    EXPORT_LABELS,
    SCRAPE_FAMILIES,
    Family,
    Samples,
)
from exporter.metrics.gzip_parts import Part
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: A page has the blocks that make up so many exports. Every page costs each scrape a little, and
#: every block on it something when one of them changes.
PAGE_SIZE: Final = 1000
#: Of single exports; more than these are worth a warning.
MANY_SERIES: Final = 10_000

# Of a body; fewer at a time are not worth a packet, more are memory for every slow reader.
_CHUNK_BYTES: Final = 64 * 1024

# Stands for an export's labels; no label holds it, for none holds a control character unescaped.
_PLACE: Final = "\0"
_BATCH, _EXPORT_ID = EXPORT_LABELS
# A number as prometheus_client writes it.
_number: Callable[[float], str] = floatToGoString

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Lines:
    """What one family says of some exports, compressed, and how many series that is."""

    part: Part
    series: int


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A block, and what every family says of its exports."""

    block: Block
    families: tuple[_Lines, ...]


@dataclass(frozen=True, slots=True)
class Body:
    """The body of an answer.

    Attributes:
        length: In bytes.
        chunks: Made while they are sent: whoever is slow to take a hundred megabytes needs the
            memory of one chunk.
    """

    length: int
    chunks: Iterator[bytes]


class Exposition:
    """Renders snapshots; may be used by several threads at once.

    Args:
        telemetry: The exporter's own metrics.
        export_families: As `exporter.metrics.families.export_families` gives them.
    """

    def __init__(
        self, telemetry: SelfMetrics, export_families: Sequence[Family[WatchedExport]]
    ) -> None:
        self._telemetry = telemetry
        self._export_families = export_families
        # What the last scrape used: what every family says of each block (by its first ID) and of
        # each batch, what was put together, and what was compressed.
        self._blocks: dict[str, _Rendered] = {}
        self._pages: dict[tuple[_Lines, ...], _Lines] = {}
        self._batches: dict[Batch, tuple[str, ...]] = {}
        self._scrape_texts: dict[tuple[str, Samples], bytes] = {}
        self._compressed: dict[bytes, Part] = {}
        self._has_many_series = False
        self._shown = self._of_batches(())
        # Two scrapes at once must not render the same blocks twice.
        self._lock = threading.Lock()

    def render(self, snapshot: Snapshot, content_type: str, *, compress: bool) -> Body:
        """Give the body of the answer.

        Args:
            snapshot: What is known.
            content_type: `TEXT` or `OPENMETRICS`.
            compress: Whether the body is to be a gzip file.
        """
        with self._lock:
            pieces = self._pieces(snapshot)
            if compress:
                self._compressed = {
                    p: self._compressed.get(p) or Part.of(p) for p in pieces if isinstance(p, bytes)
                }
                parts = [p if isinstance(p, Part) else self._compressed[p] for p in pieces]
        generate = openmetrics if content_type == OPENMETRICS else text_format
        own = generate.generate_latest(self._telemetry)
        if compress:
            chunks = Part.join((*parts, Part.of(own))).gzip()
            return Body(sum(map(len, chunks)), _chunks(chunks))
        length = sum(p.length if isinstance(p, Part) else len(p) for p in pieces) + len(own)
        plain = (p.plain() if isinstance(p, Part) else (p,) for p in pieces)
        return Body(length, _chunks(chain(chain.from_iterable(plain), (own,))))

    def _pieces(self, snapshot: Snapshot) -> list[bytes | Part]:
        """Give everything that is made of the snapshot; what did not change, as it was."""
        if [*self._batches] != [*snapshot.batches]:
            self._shown = self._of_batches(snapshot.batches)
        samples = [(family.name, family.samples(snapshot)) for family in SCRAPE_FAMILIES]
        self._scrape_texts = {
            key: self._scrape_texts.get(key)
            or (_header(family) + _lines(family, "", key[1])).encode()
            for family, key in zip(SCRAPE_FAMILIES, samples, strict=True)
        }
        return [*self._shown, *self._scrape_texts.values()]

    def _of_batches(self, batches: Sequence[Batch]) -> list[bytes | Part]:
        self._batches = {batch: self._batches.get(batch) or _batch(batch) for batch in batches}
        blocks = [
            self._block(block) for batch in batches for block in batch.blocks if block.exports
        ]
        self._blocks = {rendered.block.exports[0].id: rendered for rendered in blocks}
        # Of every page, what each family says of each block on it.
        pages = [
            tuple(zip(*(rendered.families for rendered in page), strict=True))
            for page in _pages(blocks)
        ]
        self._pages = {
            lines: self._pages.get(lines) or _join(lines) for page in pages for lines in page
        }
        self._warn(sum(lines.series for lines in self._pages.values()))
        pieces: list[bytes | Part] = []
        for i, family in enumerate(BATCH_FAMILIES):
            texts = (each[i] for each in self._batches.values())
            pieces.append("".join((_header(family), *texts)).encode())
        for i, export_family in enumerate(self._export_families):
            pieces.append(_header(export_family).encode())
            pieces.append(Part.join(self._pages[page[i]].part for page in pages))
        return pieces

    def _warn(self, series: int) -> None:
        """Say so once when there are many series, and again after there were fewer."""
        has_many = series > MANY_SERIES
        if has_many and not self._has_many_series:
            _log.warning(
                f"more than {MANY_SERIES:,} series of single exports: let those of COMPLETED ones"
                " go with --exports.completed-retention, or take finished batches' ID files away",
                extra={"series": series},
            )
        self._has_many_series = has_many

    def _block(self, block: Block) -> _Rendered:
        before = self._blocks.get(block.exports[0].id)
        if before is not None and before.block is block:
            return before
        changes = None if before is None else _changes(before.block, block)
        batch = _label(_BATCH, block.batch)
        commons = [f"{batch},{_label(_EXPORT_ID, watched.id)}" for watched in block.exports]
        families = []
        for i, family in enumerate(self._export_families):
            if before is not None and changes is not None and not _tells(family, changes):
                families.append(before.families[i])
            else:
                text = _export_lines(family, block.exports, commons)
                families.append(_Lines(Part.of(text.encode()), text.count("\n")))
        return _Rendered(block, tuple(families))


def _changes(before: Block, after: Block) -> list[tuple[WatchedExport, WatchedExport]] | None:
    """Give the exports that changed; None if the blocks are not of the same exports."""
    if before.batch != after.batch or len(before.exports) != len(after.exports):
        return None
    exports = zip(before.exports, after.exports, strict=True)
    changes = [(old, new) for old, new in exports if old is not new]
    return changes if all(old.id == new.id for old, new in changes) else None


def _tells(
    family: Family[WatchedExport], changes: Iterable[tuple[WatchedExport, WatchedExport]]
) -> bool:
    """Whether the family's lines tell of the changes."""
    return any(_samples(family, old) != _samples(family, new) for old, new in changes)


def _samples(family: Family[WatchedExport], watched: WatchedExport) -> Samples:
    return () if watched.retired else family.samples(watched)


def _pages(blocks: Iterable[_Rendered]) -> Iterator[list[_Rendered]]:
    """Group the blocks, always in the same way."""
    page: list[_Rendered] = []
    size = 0
    for rendered in blocks:
        page.append(rendered)
        size += len(rendered.block.exports)
        if size >= PAGE_SIZE:
            yield page
            page = []
            size = 0
    if page:
        yield page


def _join(lines: Sequence[_Lines]) -> _Lines:
    return _Lines(Part.join(each.part for each in lines), sum(each.series for each in lines))


def _chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Put small pieces together, until they are worth sending."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK_BYTES:
            yield b"".join(waiting)
            waiting = []
            size = 0
    yield b"".join(waiting)


def _header(family: Family[Any]) -> str:
    return f"# HELP {family.name} {family.help}\n# TYPE {family.name} gauge\n"


def _lines(family: Family[Any], common: str, samples: Samples) -> str:
    lines = []
    for values, value in samples:
        own = map(_label, family.labels, values)
        labels = ",".join((common, *own) if common else own)
        braced = f"{{{labels}}}" if labels else ""
        lines.append(f"{family.name}{braced} {_number(value)}\n")
    return "".join(lines)


def _label(name: str, value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return f'{name}="{escaped}"'


def _batch(batch: Batch) -> tuple[str, ...]:
    common = _label(*BATCH_LABELS, batch.name)
    return tuple(_lines(family, common, family.samples(batch)) for family in BATCH_FAMILIES)


def _export_lines(
    family: Family[WatchedExport], exports: Sequence[WatchedExport], commons: Sequence[str]
) -> str:
    """Write a family's lines for exports, each with the labels that all its series have in common.

    What stands around the labels of an export is the same for all with the same samples, and most
    have: it is written once.
    """
    around: dict[Samples, list[str]] = {}
    lines = []
    for watched, common in zip(exports, commons, strict=True):
        if not (samples := _samples(family, watched)):
            continue
        if not family.labels:
            lines += [f"{family.name}{{{common}}} {_number(v)}\n" for _, v in samples]
            continue
        if (pieces := around.get(samples)) is None:
            pieces = around[samples] = _lines(family, _PLACE, samples).split(_PLACE)
        lines.append(common.join(pieces))
    return "".join(lines)
