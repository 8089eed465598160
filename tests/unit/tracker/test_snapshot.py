"""Totals: of a block's exports, and of a batch's blocks."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.export import ErrorDetail, Export
from exporter.tracker.snapshot import Batch, Block, Totals, WatchedExport
from tests.support.fakes import BROKEN, NOT_FOUND, completed, failed, pending, running


def watched(export: Export, *, acknowledged: bool = False) -> WatchedExport:
    """Return a watched export whose last answer was `export`."""
    return WatchedExport(export.id, export.state, export, acknowledged=acknowledged)


UNKNOWN = WatchedExport("u", "UNKNOWN")
EXPORTS = st.sampled_from(
    [
        UNKNOWN,
        replace(UNKNOWN, failure=NOT_FOUND),
        replace(UNKNOWN, failure=BROKEN),
        replace(UNKNOWN, export=running("u")),
        watched(pending("p")),
        watched(running("r")),
        watched(replace(running("r"), started=5.0)),
        watched(replace(running("r"), started=None)),
        watched(completed("c")),
        watched(replace(completed("c"), finished=7.0, size=None)),
        replace(watched(completed("c")), retired=True),
        watched(failed("f")),
        watched(failed("f"), acknowledged=True),
        watched(replace(failed("f"), error=None)),
        watched(Export("a", "ABORTED")),
    ]
)


def totals(*exports: WatchedExport) -> Totals:
    """Return the totals of a block of these exports."""
    return Block.of("b", exports).totals


def test_exports_are_counted_by_state() -> None:
    """Each documented state has a count, even if 0; another one only if an export has it."""
    none = {"PENDING": 0, "RUNNING": 0, "COMPLETED": 0, "FAILED": 0, "UNKNOWN": 0}
    assert totals() == Totals(states=none)
    total = totals(
        UNKNOWN, watched(running("r")), watched(running("s")), watched(Export("a", "LOST"))
    )
    assert total.states == none | {"UNKNOWN": 1, "RUNNING": 2, "LOST": 1}
    assert total.watched == 4


def test_failed_exports_are_counted_by_code() -> None:
    """A failure without an error, or whose error has no code, counts as `none`."""
    total = totals(
        watched(failed("a")),
        watched(failed("b"), acknowledged=True),
        watched(replace(failed("c"), error=None)),
        watched(replace(failed("d"), error=ErrorDetail("", 500, ""))),
    )
    assert total.errors == {"9103": 2, "none": 2}
    assert total.acknowledged == 1


def test_only_failures_are_acknowledged() -> None:
    """An acknowledged ID whose export did not fail is not counted as acknowledged."""
    assert totals(watched(completed("c"), acknowledged=True)).acknowledged == 0


def test_only_the_state_that_is_shown_counts() -> None:
    """An export that is UNKNOWN now is not counted by the state of its last answer."""
    old = replace(UNKNOWN, export=running("u"))
    assert totals(old).states["RUNNING"] == 0
    assert totals(old).oldest_unfinished == {}


def test_lookup_errors_are_counted_by_code() -> None:
    """An error that the API returned instead of an export counts, without a code as `none`."""
    total = totals(replace(UNKNOWN, failure=NOT_FOUND), replace(UNKNOWN, failure=BROKEN))
    assert total.lookup_errors == {"9008": 1, "none": 1}


def test_sizes_of_completed_exports_add_up() -> None:
    """Sizes of COMPLETED exports are added up, retired or not; a missing size adds nothing."""
    total = totals(
        watched(completed("a")),
        replace(watched(completed("b")), retired=True),
        watched(replace(completed("c"), size=None)),
        watched(replace(failed("d"), size=77)),
    )
    assert total.exported_bytes == 2000


def test_the_latest_finish_and_the_oldest_start_count() -> None:
    """A state has the latest finish or the oldest start of its exports, if any is known."""
    total = totals(
        watched(completed("a", 10.0)),
        watched(completed("b", 30.0)),
        watched(completed("c", 20.0)),
        watched(replace(running("d"), started=6.0)),
        watched(replace(running("e"), started=5.0)),
        watched(replace(pending("f"), started=None)),
        watched(replace(failed("g"), finished=None)),
    )
    assert total.last_finished == {"COMPLETED": 30.0}
    assert total.oldest_unfinished == {"RUNNING": 5.0}


def test_a_batch_has_the_latest_finish_and_the_oldest_start_of_its_blocks() -> None:
    """A batch has the latest finish and the oldest start of its blocks, in any order."""
    early = Block.of("b", (watched(replace(running("r"), started=5.0)), watched(failed("f", 6.0))))
    late = Block.of("b", (watched(replace(running("r"), started=7.0)), watched(failed("f", 8.0))))
    for blocks in ((early, late), (late, early)):
        total = Batch.of("b", blocks).totals
        assert total.oldest_unfinished == {"RUNNING": 5.0}
        assert total.last_finished == {"FAILED": 8.0}


@given(st.lists(st.lists(EXPORTS, max_size=5), max_size=4))
def test_a_batch_has_the_totals_of_all_its_exports(blocks: list[list[WatchedExport]]) -> None:
    """A batch's totals do not depend on its division into blocks."""
    batch = Batch.of("b", tuple(Block.of("b", tuple(exports)) for exports in blocks))
    assert batch.totals == totals(*(export for exports in blocks for export in exports))
    assert sum(batch.totals.states.values()) == batch.totals.watched


def test_published_exports_are_immutable() -> None:
    """A published snapshot does not change with the next scrape."""
    with pytest.raises(AttributeError):
        UNKNOWN.state = "RUNNING"  # type: ignore[misc] # the test: it is refused
