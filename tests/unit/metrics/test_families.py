"""The table of metric families: names, labels and values."""

import re
from dataclasses import replace
from typing import Any

import pytest

from exporter.cavatica.answer import RateLimit
from exporter.cavatica.codes import MEANINGS
from exporter.cavatica.export import ErrorDetail, Export, LookupFailure
from exporter.metrics.export_families import EXPORT_LABELS, export_families
from exporter.metrics.families import BATCH_FAMILIES, BATCH_LABELS, FAMILIES, SCRAPE_FAMILIES
from exporter.metrics.family import Family, Samples
from exporter.tracker.snapshot import Batch, Block, WatchedExport
from exporter.watchlist.watchlist import FileStatus, Ignored, Refusals, Watchlist
from tests.support.fakes import (
    BROKEN,
    NOT_FOUND,
    completed,
    failed,
    make_snapshot,
    pending,
    running,
)

BATCH_METRICS = {
    "cavatica_watched_exports": "batch",
    "cavatica_exports": "batch state",
    "cavatica_export_errors": "batch code",
    "cavatica_export_lookup_errors": "batch code",
    "cavatica_acknowledged_exports": "batch",
    "cavatica_superseded_exports": "batch",
    "cavatica_exported_bytes": "batch",
    "cavatica_exports_last_finished_timestamp_seconds": "batch state",
    "cavatica_exports_oldest_unfinished_timestamp_seconds": "batch state",
}
EXPORT_METRICS = {
    "cavatica_export_state": "batch export_id state",
    "cavatica_export_started_timestamp_seconds": "batch export_id",
    "cavatica_export_finished_timestamp_seconds": "batch export_id",
    "cavatica_export_size_bytes": "batch export_id",
    "cavatica_export_acknowledged": "batch export_id",
    "cavatica_export_superseded": "batch export_id",
    "cavatica_export_info": "batch export_id volume",
    "cavatica_export_error_info": "batch export_id code status",
}
SCRAPE_METRICS = {
    "cavatica_exports_oldest_answer_timestamp_seconds": "batch",
    "cavatica_error_code_info": "code meaning retry",
    "cavatica_up": "",
    "cavatica_scrape_duration_seconds": "",
    "cavatica_scrape_api_calls": "",
    "cavatica_last_success_timestamp_seconds": "",
    "cavatica_last_success_age_seconds": "",
    "cavatica_api_rate_limit_requests": "",
    "cavatica_api_rate_limit_remaining_requests": "",
    "cavatica_api_rate_limit_reset_timestamp_seconds": "",
    "cavatica_api_rate_limit_window_remaining_seconds": "",
    "cavatica_refused_exports": "batch code",
    "cavatica_refused_exports_timestamp_seconds": "batch",
    "cavatica_acknowledged_refusals": "batch",
    "cavatica_expected_exports": "batch",
    "cavatica_exporter_watchlist_last_reload_successful": "",
    "cavatica_exporter_watchlist_last_reload_success_timestamp_seconds": "",
    "cavatica_exporter_watchlist_file_error": "file",
    "cavatica_exporter_watchlist_file_mtime_timestamp_seconds": "file",
    "cavatica_exporter_watchlist_duplicate_ids": "",
    "cavatica_exporter_watchlist_rejected_ids": "",
    "cavatica_exporter_watchlist_ignored_files": "",
}

SNAPSHOT = make_snapshot(api_calls=2)


def samples_of(families: tuple[Family[Any], ...], source: object) -> dict[str, Samples]:
    """Return the samples of each family of a table, by its name without the prefix."""
    samples = {family.name: family.samples(source) for family in families}
    return {name.removeprefix("cavatica_"): values for name, values in samples.items()}


def samples_of_export(watched: WatchedExport, *, messages: bool = False) -> dict[str, Samples]:
    """Return the samples of each family for an export."""
    return samples_of(export_families(expose_error_messages=messages), watched)


def answered(export: Export) -> WatchedExport:
    """Return the export as it is watched after a valid answer."""
    return WatchedExport(export.id, export.state, export)


def test_names_and_labels_are_the_documented_ones() -> None:
    """Names and labels are stable; file name, location, project, user and message are no labels."""

    def labels(families: tuple[Family[Any], ...], common: tuple[str, ...]) -> dict[str, str]:
        return {family.name: " ".join((*common, *family.labels)) for family in families}

    assert labels(BATCH_FAMILIES, BATCH_LABELS) == BATCH_METRICS
    assert labels(export_families(expose_error_messages=False), EXPORT_LABELS) == EXPORT_METRICS
    assert labels(SCRAPE_FAMILIES, ()) == SCRAPE_METRICS


def test_a_message_is_a_label_only_on_request() -> None:
    """`expose_error_messages` adds one label, to the family of errors."""
    shown = export_families(expose_error_messages=True)
    hidden = export_families(expose_error_messages=False)
    differ = {a.name: a.labels for a, b in zip(shown, hidden, strict=True) if a.labels != b.labels}
    assert differ == {"cavatica_export_error_info": ("code", "status", "message")}


def test_the_whole_table_has_every_family_once() -> None:
    """`FAMILIES`, which the tests of the documentation use, has every family once."""
    names = [family.name for family in FAMILIES]
    assert names == [*BATCH_METRICS, *EXPORT_METRICS, *SCRAPE_METRICS]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_help_text_is_one_plain_sentence(family: Family[Any]) -> None:
    """A help text ends with a full stop and has no character that one of the formats escapes."""
    assert re.fullmatch(r"[A-Z0-9][^\\\"\n]+\.", family.help)


# Families of an export.


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETED", "FAILED", "UNKNOWN"])
def test_the_current_state_is_1_and_the_others_are_0(state: str) -> None:
    """An export has a sample for each of the five states."""
    samples = dict(samples_of_export(WatchedExport("x", state))["export_state"])
    assert samples.pop((state,)) == 1
    assert set(samples.values()) == {0}
    assert len(samples) == 4


def test_an_undocumented_state_has_a_series_of_its_own() -> None:
    """An undocumented state adds a sample; the five others are 0."""
    samples = samples_of_export(WatchedExport("x", "ABORTED"))["export_state"]
    assert [(state, value) for (state,), value in samples if value] == [("ABORTED", 1)]
    assert len(samples) == 6


def test_an_export_without_an_answer_has_only_a_state() -> None:
    """An export that the API has never answered for has no series but those of its state."""
    samples = samples_of_export(WatchedExport("x", "UNKNOWN"))
    assert {name for name, values in samples.items() if values} == {"export_state"}


def test_a_completed_export_shows_the_values_of_the_answer() -> None:
    """A COMPLETED export has series for its times, its size and its volume."""
    samples = samples_of_export(answered(completed("x")))
    del samples["export_state"]
    assert {name: values for name, values in samples.items() if values} == {
        "export_started_timestamp_seconds": (((), 1_699_990_000.0),),
        "export_finished_timestamp_seconds": (((), 1_699_999_000.0),),
        "export_size_bytes": (((), 1000),),
        "export_info": ((("rfranklin/output",), 1),),
    }


def test_missing_values_have_no_series() -> None:
    """A missing value has no series, a value of 0 has one; a missing volume is an empty label."""
    samples = samples_of_export(answered(Export("x", "COMPLETED", started=0.0, size=0)))
    del samples["export_state"]
    assert {name: values for name, values in samples.items() if values} == {
        "export_started_timestamp_seconds": (((), 0.0),),
        "export_size_bytes": (((), 0),),
        "export_info": ((("",), 1),),
    }


def test_an_unknown_export_keeps_its_times() -> None:
    """An export that became UNKNOWN still shows its start time, which cannot change."""
    samples = samples_of_export(replace(answered(running("x")), state="UNKNOWN"))
    assert samples["export_started_timestamp_seconds"] == (((), 1_699_990_000.0),)


def test_only_acknowledged_exports_have_the_acknowledged_series() -> None:
    """`cavatica_export_acknowledged` is 1 for acknowledged exports and absent for others."""
    assert samples_of_export(WatchedExport("x", "UNKNOWN"))["export_acknowledged"] == ()
    acknowledged = WatchedExport("x", "UNKNOWN", acknowledged=True)
    assert samples_of_export(acknowledged)["export_acknowledged"] == (((), 1),)


def test_only_superseded_failures_have_the_superseded_series() -> None:
    """`cavatica_export_superseded` is 1 for superseded failures and absent for others."""
    assert samples_of_export(answered(failed("x")))["export_superseded"] == ()
    superseded = replace(answered(failed("x")), superseded=True)
    assert samples_of_export(superseded)["export_superseded"] == (((), 1),)


@pytest.mark.parametrize(
    ("watched", "labels"),
    [
        (answered(failed("x")), ("9103", "403", "patient-7.bam: access denied")),
        (answered(replace(failed("x"), error=None)), ("", "", "")),
        (answered(replace(failed("x"), error=ErrorDetail("7", None, ""))), ("7", "", "")),
        (
            WatchedExport("x", "UNKNOWN", failure=NOT_FOUND),
            ("9008", "404", "Requested export does not exist."),
        ),
        (
            WatchedExport("x", "UNKNOWN", running("x"), BROKEN),
            ("", "500", "Something went wrong."),
        ),
        (WatchedExport("x", "UNKNOWN", failure=LookupFailure("", None, "")), ("", "", "")),
    ],
    ids=[
        "failure",
        "failure without an error",
        "failure without a status",
        "lookup error",
        "lookup error without a code",
        "lookup error without anything",
    ],
)
def test_failures_and_lookup_errors_show_their_error(
    watched: WatchedExport, labels: tuple[str, ...]
) -> None:
    """The series has code and status, and only on request the message: it may have file names."""
    assert samples_of_export(watched)["export_error_info"] == ((labels[:2], 1),)
    assert samples_of_export(watched, messages=True)["export_error_info"] == ((labels, 1),)


@pytest.mark.parametrize(
    "export", [pending("x"), running("x"), completed("x")], ids=lambda export: export.state
)
def test_an_export_that_did_not_fail_has_no_error(export: Export) -> None:
    """An export that did not fail has no error series, and gets none when it becomes UNKNOWN."""
    assert samples_of_export(answered(export))["export_error_info"] == ()
    assert samples_of_export(replace(answered(export), state="UNKNOWN"))["export_error_info"] == ()


# Families of a batch and of a scrape.


def test_a_batch_shows_its_totals() -> None:
    """A batch shows the totals of its exports, in the order of their labels."""
    exports = (
        answered(completed("a", 10.5)),
        replace(answered(failed("b", 11.5)), superseded=True),
        replace(answered(replace(failed("c"), error=None)), acknowledged=True),
        answered(running("d")),
        answered(pending("e")),
        WatchedExport("f", "UNKNOWN", failure=NOT_FOUND),
        WatchedExport("g", "UNKNOWN", failure=BROKEN),
    )
    batch = Batch.of("b", (Block.of("b", exports),))
    states = {"PENDING": 1, "RUNNING": 1, "COMPLETED": 1, "FAILED": 2, "UNKNOWN": 2}
    finished = ((("COMPLETED",), 10.5), (("FAILED",), 1_699_999_500.0))
    started = ((("PENDING",), 1_699_990_000.0), (("RUNNING",), 1_699_990_000.0))
    assert samples_of(BATCH_FAMILIES, batch) == {
        "watched_exports": (((), 7),),
        "exports": tuple(((state,), number) for state, number in states.items()),
        "export_errors": ((("9103",), 1), (("none",), 1)),
        "export_lookup_errors": ((("9008",), 1), (("none",), 1)),
        "acknowledged_exports": (((), 1),),
        "superseded_exports": (((), 1),),
        "exported_bytes": (((), 1000),),
        "exports_last_finished_timestamp_seconds": finished,
        "exports_oldest_unfinished_timestamp_seconds": started,
    }


def test_a_batch_without_exports_is_all_zeros() -> None:
    """A batch without exports has totals of 0, for every state, and no times."""
    samples = samples_of(BATCH_FAMILIES, Batch.of("b", ()))
    assert {
        name: sum(value for _, value in values) for name, values in samples.items() if values
    } == {
        "watched_exports": 0,
        "exports": 0,
        "acknowledged_exports": 0,
        "superseded_exports": 0,
        "exported_bytes": 0,
    }
    assert len(samples["exports"]) == 5


def test_values_that_a_scrape_does_not_know_have_no_series() -> None:
    """Without a success, rate limit headers and ID files, their series are absent."""
    samples = samples_of(SCRAPE_FAMILIES, SNAPSHOT)
    assert {name: values[0][1] for name, values in samples.items() if values} == {
        "up": 1,
        "scrape_duration_seconds": 0.25,
        "scrape_api_calls": 2,
        "exporter_watchlist_last_reload_successful": 1,
        "exporter_watchlist_duplicate_ids": 0,
        "exporter_watchlist_rejected_ids": 0,
        "exporter_watchlist_ignored_files": 0,
    }


def test_a_scrape_shows_its_values() -> None:
    """A scrape shows the rate limit, the last success, the oldest answers and every ID file."""
    watchlist = Watchlist(
        files=(FileStatus("a.yml", 5.5, None), FileStatus("b.yml", None, "b.yml:1: broken")),
        refused={
            "a": Refusals({"": 1, "9006": 2}, 3.5, acknowledged=False),
            "b": Refusals({"9006": 5}, 4.5, acknowledged=True),
        },
        expected={"a": 9},
        ignored=(Ignored("README.md", "its extension is not that of an ID file"),),
        duplicates=3,
        rejected=4,
        reloaded=6.5,
    )
    snapshot = replace(
        SNAPSHOT,
        watchlist=watchlist,
        oldest_answers={"b": 2.5, "a": 1.5},
        up=False,
        last_success=7.5,
        last_success_age=0.25,
        rate_limit=RateLimit(1000, 0, 8.5),
        rate_limit_window=120.0,
    )
    assert samples_of(SCRAPE_FAMILIES, snapshot) == {
        "exports_oldest_answer_timestamp_seconds": ((("a",), 1.5), (("b",), 2.5)),
        "error_code_info": ((("9006", MEANINGS["9006"].meaning, MEANINGS["9006"].retry), 1),),
        "up": (((), 0),),
        "scrape_duration_seconds": (((), 0.25),),
        "scrape_api_calls": (((), 2),),
        "last_success_timestamp_seconds": (((), 7.5),),
        "last_success_age_seconds": (((), 0.25),),
        "api_rate_limit_requests": (((), 1000),),
        "api_rate_limit_remaining_requests": (((), 0),),
        "api_rate_limit_reset_timestamp_seconds": (((), 8.5),),
        "api_rate_limit_window_remaining_seconds": (((), 120.0),),
        "refused_exports": ((("a", "none"), 1), (("a", "9006"), 2), (("b", "9006"), 5)),
        "refused_exports_timestamp_seconds": ((("a",), 3.5), (("b",), 4.5)),
        "acknowledged_refusals": ((("a",), 0), (("b",), 5)),
        "expected_exports": ((("a",), 9),),
        "exporter_watchlist_last_reload_successful": (((), 0),),
        "exporter_watchlist_last_reload_success_timestamp_seconds": (((), 6.5),),
        "exporter_watchlist_file_error": ((("a.yml",), 0), (("b.yml",), 1)),
        "exporter_watchlist_file_mtime_timestamp_seconds": ((("a.yml",), 5.5),),
        "exporter_watchlist_duplicate_ids": (((), 3),),
        "exporter_watchlist_rejected_ids": (((), 4),),
        "exporter_watchlist_ignored_files": (((), 1),),
    }


def test_an_unreadable_path_is_a_failed_reload() -> None:
    """An error of the directory itself counts like that of a file."""
    snapshot = replace(SNAPSHOT, watchlist=Watchlist(error="gone"))
    reloaded = samples_of(SCRAPE_FAMILIES, snapshot)["exporter_watchlist_last_reload_successful"]
    assert reloaded == (((), 0),)


def test_codes_in_the_totals_are_explained() -> None:
    """Each error code in the totals has one sample, codes that are not documented have none."""
    exports = (
        answered(failed("a")),
        answered(replace(failed("b"), error=ErrorDetail("77", None, "a file name"))),
        answered(replace(failed("c"), error=None)),
        WatchedExport("d", "UNKNOWN", failure=LookupFailure("9008", 404, "a message")),
    )
    batches = tuple(Batch.of(name, (Block.of(name, exports),)) for name in "ab")
    infos = samples_of(SCRAPE_FAMILIES, replace(SNAPSHOT, batches=batches))["error_code_info"]
    assert infos == tuple(
        ((code, MEANINGS[code].meaning, MEANINGS[code].retry), 1) for code in ("9008", "9103")
    )
