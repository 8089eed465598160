"""The status report: what the status page shows of a snapshot."""

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.answer import RateLimit
from exporter.cavatica.export import ErrorDetail, Export, LookupFailure
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport
from exporter.watchlist.watchlist import FileStatus, Refusals, Watchlist
from exporter.web.page import StatusPage
from exporter.web.report import MAX_ROWS, StatusReport
from exporter.web.status import Status
from tests.support.fakes import make_snapshot
from tests.support.hypothesis_examples import examples

NOW = 1_700_000_000.0
MAX_AGE = 600.0


def watched(
    export_id: str, state: str, time: float | None = None, *, acknowledged: bool = False
) -> WatchedExport:
    """Return a watched export with a state that the API returned."""
    started, finished = (time, None) if state in {"PENDING", "RUNNING"} else (None, time)
    error = ErrorDetail("9103", 403, "patient-7.bam") if state == "FAILED" else None
    export = Export(export_id, state, started=started, finished=finished, size=10, error=error)
    return WatchedExport(export_id, state, export, acknowledged=acknowledged)


def unknown(export_id: str, code: str = "", *, acknowledged: bool = False) -> WatchedExport:
    """Return an UNKNOWN export, with a lookup error if there is a code."""
    failure = LookupFailure(code, 404, "patient-8.bam") if code else None
    return WatchedExport(export_id, "UNKNOWN", failure=failure, acknowledged=acknowledged)


def snapshot(
    *batches: tuple[str, Sequence[WatchedExport]],
    up: bool = True,
    problem: str | None = None,
    watchlist: Watchlist | None = None,
) -> Snapshot:
    """Return a snapshot of batches that have one block each."""
    return make_snapshot(
        *(Batch.of(name, (Block.of(name, tuple(exports)),)) for name, exports in batches),
        watchlist=watchlist or Watchlist(),
        up=up,
        duration=0.5,
        last_success=NOW - 60,
        rate_limit=RateLimit(1000, 900, NOW + 60),
        time=NOW,
        problem=problem,
    )


def status_of(taken: Snapshot, age: float = 0.0) -> Status:
    """Return the status of a snapshot from a new report."""
    return StatusReport(MAX_AGE).of(taken, age)


@pytest.mark.parametrize(
    ("exports", "verdict", "headline"),
    [
        ([], "unknown", "Nothing is watched: the ID files list no exports."),
        ([watched("a", "COMPLETED")], "well", "All is well: 1 export completed."),
        (
            [watched("a", "COMPLETED"), watched("b", "COMPLETED"), watched("c", "RUNNING")],
            "well",
            "All is well: 2 exports completed, 1 under way.",
        ),
        ([watched("a", "FAILED")], "attention", "1 export failed."),
        ([watched("a", "ABORTED")], "attention", "1 export in an undocumented state."),
        (
            [
                *(watched(f"f{n}", "FAILED") for n in range(2)),
                watched("dealt-with", "FAILED", acknowledged=True),
                *(watched(f"o{n}", "ABORTED") for n in range(2)),
            ],
            "attention",
            "2 exports failed; 2 exports in an undocumented state.",
        ),
        (
            [watched("a", "FAILED", acknowledged=True), watched("b", "ABORTED", acknowledged=True)],
            "well",
            "All is well: 0 exports completed, 2 dealt with.",
        ),
        (
            [
                replace(watched("a", "FAILED"), superseded=True),
                *(watched(f"r{n}", "RUNNING") for n in range(1000)),
            ],
            "well",
            "All is well: 0 exports completed, 1,000 under way, 1 dealt with.",
        ),
        (
            [watched(name, name, acknowledged=True) for name in ("COMPLETED", "RUNNING")],
            "well",
            "All is well: 1 export completed, 1 under way.",
        ),
        ([unknown("a")], "unknown", "1 export in a state that is not known."),
        ([unknown("a", "9008")], "attention", "1 ID without an export."),
        (
            [unknown("a", "9008", acknowledged=True), watched("b", "COMPLETED")],
            "well",
            "All is well: 1 export completed, 1 dealt with.",
        ),
        (
            [watched("a", "FAILED"), watched("b", "FAILED"), unknown("c"), unknown("d", "9005")],
            "attention",
            "2 exports failed; 1 ID without an export; 1 export in a state that is not known.",
        ),
    ],
)
def test_headline_summarizes_all_exports(
    exports: Sequence[WatchedExport], verdict: str, headline: str
) -> None:
    """The headline says in one line whether all is well."""
    status = status_of(snapshot(("a", exports)))
    assert (status.verdict, status.headline) == (verdict, headline)


def test_verdict_is_unknown_if_the_api_call_failed() -> None:
    """If an API call of the last scrape failed, the verdict is "unknown", not "well"."""
    status = status_of(
        snapshot(("a", [watched("a", "COMPLETED")]), up=False, problem="auth: HTTP 401")
    )
    assert status.verdict == "unknown"
    assert status.headline == "The API did not answer the last scrape properly."
    assert status.api is not None
    assert status.api.problem == "auth: HTTP 401"


def test_errors_in_the_id_files_need_attention() -> None:
    """Files with errors are listed first, and their errors in full."""
    files = (FileStatus("a.yml", NOW, None), FileStatus("b.yml", None, "b.yml:1: not YAML"))
    status = status_of(
        snapshot(("a", [watched("a", "COMPLETED")]), watchlist=Watchlist(files=files))
    )
    assert (status.verdict, status.headline) == ("attention", "1 error in the ID files.")
    assert [file.name for file in status.files] == ["b.yml", "a.yml"]
    assert status.file_errors == ("b.yml:1: not YAML",)


def test_refused_files_and_missing_exports_need_attention() -> None:
    """Refusals are listed by batch and code until acknowledged; missing exports are counted."""
    refused = Refusals({"9006": 2, "": 1}, NOW - 60, acknowledged=False)
    known = Refusals({"9006": 4}, NOW - 90, acknowledged=True)
    watchlist = Watchlist(
        refused={"a": refused, "b": known}, expected={"a": 10, "b": 5}, rejected=2
    )
    batches = [("a", [watched("1", "COMPLETED")]), ("b", [watched("2", "COMPLETED")])]
    status = status_of(snapshot(*batches, watchlist=watchlist))
    assert status.headline == (
        "3 files refused at the start; 6 exports expected and not listed;"
        " 2 entries of the ID files are not valid export IDs."
    )
    assert [(row.batch, row.code, row.count) for row in status.refused] == [
        ("a", "9006", 2),
        ("a", "", 1),
    ]
    assert [
        (row.name, row.refused, row.dealt_with, row.expected, row.missing) for row in status.batches
    ] == [("a", 3, 0, 10, 6), ("b", 0, 4, 5, 0)]


def test_one_invalid_entry_is_counted_in_the_singular() -> None:
    """A single entry that is not a valid export ID has a headline in the singular."""
    taken = snapshot(("a", [watched("1", "COMPLETED")]), watchlist=Watchlist(rejected=1))
    assert status_of(taken).headline == "1 entry of the ID files is not a valid export ID."


def test_unfinished_exports_of_an_outdated_scrape_are_unknown() -> None:
    """If the last scrape is older than the maximum age, unfinished exports count as UNKNOWN.

    Their states may have changed since; those of finished exports cannot.
    """
    taken = snapshot(
        ("a", [watched("a", "RUNNING"), watched("b", "COMPLETED"), watched("c", "PENDING")])
    )
    assert status_of(taken, MAX_AGE).verdict == "well"
    status = status_of(taken, MAX_AGE + 1)
    assert status.verdict == "unknown"
    assert status.headline.startswith("The last scrape is too long ago: is Prometheus down?")
    [batch] = status.batches
    assert batch.states == {"PENDING": 0, "RUNNING": 0, "COMPLETED": 1, "FAILED": 0, "UNKNOWN": 2}


def test_failures_are_shown_newest_first_with_their_meaning() -> None:
    """A failure is shown with its code and this project's meaning of the code.

    Text of an API answer is never shown, because it can hold file names.
    """
    failures = [watched("old", "FAILED", NOW - 9), watched("new", "FAILED", NOW - 1)]
    rows = status_of(snapshot(("a", [*failures, watched("never", "FAILED")]))).attention.rows
    assert [row.id for row in rows] == ["new", "old", "never"]
    assert rows[0].code == "9103"
    assert "location" in rows[0].meaning
    assert "patient" not in repr(rows)


def test_unfinished_exports_are_shown_oldest_first() -> None:
    """Unfinished exports are sorted by their start, oldest first; unknown times come last."""
    exports = [watched("x", "PENDING"), watched("b", "RUNNING", NOW), watched("a", "PENDING", 5.0)]
    rows = status_of(snapshot(("a", exports))).unfinished.rows
    assert [row.id for row in rows] == ["a", "b", "x"]


def test_lookup_errors_are_shown_with_their_code() -> None:
    """A lookup error has its code, and its meaning if the code is in the project's table."""
    rows = status_of(snapshot(("a", [unknown("a", "9008"), unknown("b", "1")]))).lookup_errors.rows
    assert [(row.id, row.code, bool(row.meaning)) for row in rows] == [
        ("a", "9008", True),
        ("b", "1", False),
    ]


def test_table_is_truncated_and_counts_the_rest() -> None:
    """A table has at most `MAX_ROWS` rows, and says how many further ones there are."""
    failures = [watched(f"e{number}", "FAILED", NOW - number) for number in range(MAX_ROWS + 5)]
    table = status_of(snapshot(("a", failures))).attention
    assert (len(table.rows), table.more) == (MAX_ROWS, 5)
    assert table.rows[0].id == "e0"
    files = tuple(FileStatus(f"{number}", None, "broken") for number in range(MAX_ROWS + 5))
    status = status_of(snapshot(watchlist=Watchlist(files=files)))
    assert (len(status.file_errors), status.file_errors_total) == (MAX_ROWS, MAX_ROWS + 5)
    assert status.headline == f"{MAX_ROWS + 5} errors in the ID files."


def test_batches_that_need_attention_come_first() -> None:
    """Batches that need attention come first, the others by name."""
    batches = [
        ("a", [watched("1", "COMPLETED", 5.0)]),
        ("b", [watched("2", "COMPLETED")]),
        ("c", [watched("3", "FAILED", 7.0), watched("4", "ABORTED")]),
    ]
    rows = status_of(snapshot(*batches)).batches
    assert [row.name for row in rows] == ["c", "a", "b"]
    assert (rows[0].states["FAILED"], rows[0].other, rows[0].last_finished) == (1, 1, 7.0)


def test_batches_with_what_was_dealt_with_do_not_come_first() -> None:
    """Acknowledged refusals need nobody; an ID without an export does."""
    known = Refusals({"9006": 9}, NOW, acknowledged=True)
    batches = [
        ("a", [watched("1", "FAILED", acknowledged=True)]),
        ("b", [watched("2", "COMPLETED")]),
        ("c", [unknown("3", "9008")]),
    ]
    rows = status_of(snapshot(*batches, watchlist=Watchlist(refused={"b": known}))).batches
    assert [row.name for row in rows] == ["c", "a", "b"]


@pytest.mark.parametrize("odd", [False, True])
def test_title_names_undocumented_states_only_if_there_are_any(*, odd: bool) -> None:
    """The table of failures has exports in undocumented states, too."""
    exports = [watched("a", "FAILED"), *([watched("b", "ABORTED")] if odd else [])]
    status = status_of(snapshot(("a", exports)))
    page = StatusPage(version="1", base_url="./", telemetry_path="/metrics")
    title = "Failed or in an undocumented state, and" if odd else "Failed, and"
    assert f">{title} nobody has dealt with them</h2>" in page.html(status, NOW).decode()


EXPORTS = st.builds(
    lambda name, kind, acknowledged, superseded: replace(
        kind(name), acknowledged=acknowledged, superseded=superseded
    ),
    st.uuids().map(str),
    st.sampled_from(
        [
            unknown,
            lambda name: unknown(name, "9008"),
            *(
                functools.partial(watched, state=state)
                for state in ("PENDING", "RUNNING", "COMPLETED", "FAILED", "ABORTED")
            ),
        ]
    ),
    st.booleans(),
    st.booleans(),
)
REFUSALS = st.builds(Refusals, st.just({"9006": 2, "": 1}), st.just(NOW), st.booleans())


@examples(60)
@given(
    st.lists(st.lists(EXPORTS, max_size=6), max_size=3),
    st.dictionaries(st.sampled_from("012"), REFUSALS),
    st.dictionaries(st.sampled_from("012"), st.integers(0, 12)),
    st.booleans(),
)
def test_numbers_add_up(
    batches: list[list[WatchedExport]],
    refused: dict[str, Refusals],
    expected: dict[str, int],
    outdated: bool,  # noqa: FBT001 # as hypothesis passes it
) -> None:
    """The headline has the sums of the batches' columns, and each export is counted once."""
    taken = snapshot(
        *((str(number), exports) for number, exports in enumerate(batches)),
        watchlist=Watchlist(refused=refused, expected=expected),
    )
    status = status_of(taken, MAX_AGE + 1 if outdated else 0)
    for row in status.batches:
        files = refused[row.name].count if row.name in refused else 0
        counted = sum(row.states.values()) + row.refused + row.dealt_with
        assert counted == row.watched + files
        assert row.missing == max(expected.get(row.name, 0) - counted, 0)
        assert row.other == sum(count for state, count in row.states.items() if state == "ABORTED")

    def number(pattern: str) -> int:
        found = re.search(rf"([0-9,]+) {pattern}", status.headline)
        return int(found[1]) if found else 0

    def column(state: str) -> int:
        return sum(row.states[state] for row in status.batches)

    assert number("exports? failed") == column("FAILED")
    assert number("exports? in an undocumented state") == sum(row.other for row in status.batches)
    unknown_ids = number("IDs? without an export")
    assert unknown_ids == sum(row.lookup_errors for row in status.batches)
    assert unknown_ids + number("exports? in a state that is not known") == column("UNKNOWN")
    assert number("exports? expected and not listed") == status.missing
    if status.verdict == "well":
        assert number("exports? completed") == column("COMPLETED")
        assert number("under way") == column("PENDING") + column("RUNNING")
        assert number("dealt with") == sum(row.dealt_with for row in status.batches)


def test_unchanged_block_is_not_searched_again() -> None:
    """A block that did not change is not searched again, to keep the page cheap."""

    class Exports(tuple[WatchedExport, ...]):
        __slots__ = ()
        walks = 0

        def __iter__(self) -> "Iterator[WatchedExport]":
            Exports.walks += 1
            return super().__iter__()

    block = Block.of("a", Exports([watched("a", "FAILED")]))
    batch = Batch.of("a", (block,))
    report = StatusReport(MAX_AGE)
    report.of(replace(snapshot(), batches=(batch,)), 0)
    walks = Exports.walks
    again = report.of(replace(snapshot(), batches=(batch,)), 0)
    assert again.attention.total == 1
    assert Exports.walks == walks
