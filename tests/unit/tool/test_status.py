"""The numbers of `cavatica-exports status`, which are those of the status page."""

from exporter.cavatica.export import Export, LookupFailure
from exporter.tool.status import make_status
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport
from exporter.watchlist.watchlist import Refusals, Watchlist
from exporter.web.report import StatusReport
from tests.support.fakes import make_snapshot

STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED", "ABORTED", "UNKNOWN", "no such job")
NAMES = {
    "pending": "PENDING",
    "running": "RUNNING",
    "completed": "COMPLETED",
    "failed": "FAILED",
    "unknown": "UNKNOWN",
}


def export(state: str, number: int, dealt_with: str) -> WatchedExport:
    """Return an export in a state that was dealt with in some way, or was not."""
    export_id = f"{state[:4]}-{number}-{dealt_with}"
    if state == "no such job":
        watched = WatchedExport(export_id, "UNKNOWN", failure=LookupFailure("9008", 404, ""))
    elif state == "UNKNOWN":
        watched = WatchedExport(export_id, state)
    else:
        watched = WatchedExport(export_id, state, Export(export_id, state))
    return WatchedExport(
        watched.id,
        watched.state,
        watched.export,
        watched.failure,
        acknowledged=dealt_with == "acknowledged",
        superseded=dealt_with == "superseded" and state == "FAILED",
    )


def batch(name: str, offset: int) -> Batch:
    """Return a batch with another number of exports for each state, dealt with and open."""
    exports = tuple(
        export(state, number, dealt_with)
        for place, state in enumerate(STATES)
        for dealt_with in ("", "acknowledged", "superseded")
        for number in range(place + len(dealt_with) % 7 + offset)
    )
    return Batch.of(name, (Block.of(name, exports),))


def world() -> Snapshot:
    """Return a world with something of everything."""
    refused = {
        "a": Refusals({"9006": 3, "": 1}, 1.0, acknowledged=False),
        "b": Refusals({"9006": 7}, 1.0, acknowledged=True),
    }
    watchlist = Watchlist(refused=refused, expected={"a": 1000, "b": 5})
    return make_snapshot(batch("a", 0), batch("b", 2), batch("c", 1), watchlist=watchlist)


def test_the_numbers_are_those_of_the_page() -> None:
    """Words mean the same in `status` and on the status page; there, order and rest may differ."""
    page = {row.name: row for row in StatusReport(600).of(world(), 0).batches}
    rows = make_status(world()).batches
    assert [row["batch"] for row in rows] == ["a", "b", "c"]
    for row in rows:
        same = page[str(row["batch"])]
        assert {name: row[name] for name in NAMES} == {
            name: same.states[state] for name, state in NAMES.items()
        }
        assert (row["other"], row["refused"], row["dealt_with"]) == (
            same.other,
            same.refused,
            same.dealt_with,
        )
        assert row["expected"] == same.expected
        assert row["missing"] == (None if same.expected is None else same.missing)


def test_what_needs_attention_adds_up() -> None:
    """The list of what needs attention has as many as the columns of the batches."""
    status = make_status(world())
    for row in status.batches:
        counts: dict[str, int] = {}
        for each in status.attention:
            if each["batch"] == row["batch"]:
                counts[str(each["what"])] = counts.get(str(each["what"]), 0) + int(
                    each["count"] or 0
                )
        assert counts["FAILED"] == row["failed"]
        assert counts["ABORTED"] == row["other"]
        assert counts.get("refused", 0) == row["refused"]
        # The others have no answer yet.
        assert counts["lookup error"] < int(row["unknown"] or 0)
