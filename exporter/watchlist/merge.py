"""Merging the content of all ID files into one watchlist."""

from collections import Counter
from collections.abc import Iterable

from exporter.watchlist.content import IdFile
from exporter.watchlist.watchlist import Refusals, Watchlist


def merge(contents: Iterable[tuple[IdFile, float]]) -> Watchlist:
    """Merge contents in the order of their files, each with its Unix modification time."""
    batches: dict[str, dict[str, None]] = {}
    refusals: dict[str, Counter[str]] = {}
    written: dict[str, float] = {}
    expected: Counter[str] = Counter()
    dealt_with: set[str] = set()
    seen: set[str] = set()
    acknowledged: set[str] = set()
    listed = rejected = 0
    for content, mtime in contents:
        acknowledged |= content.acknowledged
        rejected += len(content.rejected)
        listed += len(content.ids)
        if (batch := content.batch) is None:
            continue
        ids = batches.setdefault(batch, {})
        new = dict.fromkeys(content.ids)
        if not seen.isdisjoint(new):
            new = {export_id: None for export_id in new if export_id not in seen}
        ids |= new
        seen.update(new)
        if content.refused:
            refusals.setdefault(batch, Counter()).update(content.refused)
            written[batch] = max(mtime, written.get(batch, mtime))
        if content.refusals_acknowledged:
            dealt_with.add(batch)
        if content.expected is not None:
            expected[batch] += content.expected
    return Watchlist(
        batches={batch: tuple(ids) for batch, ids in sorted(batches.items())},
        acknowledged=frozenset(acknowledged),
        refused={
            batch: Refusals(dict(sorted(codes.items())), written[batch], batch in dealt_with)
            for batch, codes in sorted(refusals.items())
        },
        expected=dict(sorted(expected.items())),
        duplicates=listed - len(seen),
        rejected=rejected,
    )
