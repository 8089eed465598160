"""From a snapshot to the bytes of an answer.

A series is rendered and compressed when its export changes, not when it is scraped: the lines of
a block of exports are kept, compressed, for as long as the block is the same object, and so is
what a page of blocks makes put together. A scrape renders changed blocks, the totals and the
exporter's own metrics; the rest is joined. The samples' lines are the same in both formats.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import exposition as text_format
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from exporter.deflate import Part
from exporter.families import (
    BATCH_FAMILIES,
    BATCH_LABELS,
    EXPORT_LABELS,
    SCRAPE_FAMILIES,
    Family,
    Samples,
)
from exporter.snapshot import Batch, Block, Snapshot, WatchedExport
from exporter.telemetry import Telemetry

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

#: A page has the blocks that make up so many exports. Every page costs each scrape a little, and
#: every block on it something when one of them changes.
PAGE_SIZE: Final = 1000
#: Of single exports; more than these are worth a warning.
MANY_SERIES: Final = 10_000

Page = tuple[Block, ...]
# Stands for an export's labels; no label holds it, for none holds a control character unescaped.
_PLACE: Final = "\0"
_BATCH, _EXPORT_ID = EXPORT_LABELS
# A number as prometheus_client writes it.
_number: Callable[[float], str] = floatToGoString

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """What is said of some exports.

    Attributes:
        families: Of every family the samples' lines.
        series: How many lines that are.
    """

    families: tuple[Part, ...]
    series: int


class Exposition:
    """Renders snapshots; may be used by several threads at once.

    Args:
        telemetry: The exporter's own metrics.
        export_families: As `exporter.families.export_families` gives them.
    """

    def __init__(
        self, telemetry: Telemetry, export_families: Sequence[Family[WatchedExport]]
    ) -> None:
        self._telemetry = telemetry
        self._export_families = export_families
        # Of each block, each page and each batch, what every family says of it.
        self._blocks: dict[Block, _Rendered] = {}
        self._pages: dict[Page, _Rendered] = {}
        self._batches: dict[Batch, tuple[str, ...]] = {}
        self._has_many_series = False
        # Two scrapes at once must not render the same blocks twice.
        self._lock = threading.Lock()

    def render(self, snapshot: Snapshot, content_type: str, *, compress: bool) -> bytes:
        """Give the body of the answer.

        Args:
            snapshot: What is known.
            content_type: `TEXT` or `OPENMETRICS`.
            compress: Whether the body is to be a gzip file.
        """
        pieces = self._pieces(snapshot, content_type)
        if compress:
            return Part.join(p if isinstance(p, Part) else Part.of(p) for p in pieces).gzip()
        return b"".join(p.piece() if isinstance(p, Part) else p for p in pieces)

    def _pieces(self, snapshot: Snapshot, content_type: str) -> Iterator[bytes | Part]:
        with self._lock:
            self._blocks = {
                block: self._blocks.get(block) or self._block(block)
                for batch in snapshot.batches
                for block in batch.blocks
            }
            self._pages = {
                page: self._pages.get(page) or self._page(page) for page in _pages(self._blocks)
            }
            self._batches = {
                batch: self._batches.get(batch) or _batch(batch) for batch in snapshot.batches
            }
            pages, batches = [*self._pages.values()], [*self._batches.values()]
            self._warn(sum(page.series for page in pages))
        texts = []
        for index, family in enumerate(BATCH_FAMILIES):
            texts += [_header(family), *(batch[index] for batch in batches)]
        for i, export_family in enumerate(self._export_families):
            yield "".join((*texts, _header(export_family))).encode()
            yield from [page.families[i] for page in pages]
            texts.clear()
        for scrape_family in SCRAPE_FAMILIES:
            samples = scrape_family.samples(snapshot)
            texts += [_header(scrape_family), _lines(scrape_family, "", samples)]
        yield "".join(texts).encode()
        generate = openmetrics if content_type == OPENMETRICS else text_format
        yield generate.generate_latest(self._telemetry)

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
        batch = _label(_BATCH, block.batch)
        exports = [
            (f"{batch},{_label(_EXPORT_ID, watched.id)}", watched)
            for watched in block.exports
            if not watched.retired
        ]
        texts = [_export_lines(family, exports) for family in self._export_families]
        return _Rendered(
            tuple(Part.of(text.encode()) for text in texts), sum(text.count("\n") for text in texts)
        )

    def _page(self, page: Page) -> _Rendered:
        blocks = [self._blocks[block] for block in page]
        families = zip(*(block.families for block in blocks), strict=True)
        return _Rendered(
            tuple(Part.join(parts) for parts in families), sum(block.series for block in blocks)
        )


def _pages(blocks: Iterable[Block]) -> Iterator[Page]:
    """Group the blocks, always in the same way: a page is known by its blocks."""
    page: list[Block] = []
    size = 0
    for block in blocks:
        page.append(block)
        size += len(block.exports)
        if size >= PAGE_SIZE:
            yield tuple(page)
            page.clear()
            size = 0
    if page:
        yield tuple(page)


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
    family: Family[WatchedExport], exports: Iterable[tuple[str, WatchedExport]]
) -> str:
    """Write a family's lines for many exports.

    What stands around the labels of an export is the same for all with the same samples, and most
    have: it is written once.
    """
    around: dict[Samples, list[str]] = {}
    lines = []
    for common, watched in exports:
        samples = family.samples(watched)
        if not family.labels:
            lines += [f"{family.name}{{{common}}} {_number(v)}\n" for _, v in samples]
            continue
        if (pieces := around.get(samples)) is None:
            pieces = around[samples] = _lines(family, _PLACE, samples).split(_PLACE)
        lines.append(common.join(pieces))
    return "".join(lines)
