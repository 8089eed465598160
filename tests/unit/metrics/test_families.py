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

OF_A_BATCH = {
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
OF_AN_EXPORT = {
    "cavatica_export_state": "batch export_id state",
    "cavatica_export_started_timestamp_seconds": "batch export_id",
    "cavatica_export_finished_timestamp_seconds": "batch export_id",
    "cavatica_export_size_bytes": "batch export_id",
    "cavatica_export_acknowledged": "batch export_id",
    "cavatica_export_superseded": "batch export_id",
    "cavatica_export_info": "batch export_id volume",
    "cavatica_export_error_info": "batch export_id code status",
}
OF_A_SCRAPE = {
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


def of(families: tuple[Family[Any], ...], source: object) -> dict[str, Samples]:
    """Return what each family of a table says, without its prefix."""
    samples = {family.name: family.samples(source) for family in families}
    return {name.removeprefix("cavatica_"): values for name, values in samples.items()}


def of_export(watched: WatchedExport, *, messages: bool = False) -> dict[str, Samples]:
    """Return what each family says of an export."""
    return of(export_families(expose_error_messages=messages), watched)


def seen(export: Export) -> WatchedExport:
    """Return what is known after a proper answer."""
    return WatchedExport(export.id, export.state, export)


def test_names_and_labels_are_the_documented_ones() -> None:
    """They are a promise; file name, location, project, user and message are no labels."""

    def labels(families: tuple[Family[Any], ...], common: tuple[str, ...]) -> dict[str, str]:
        return {family.name: " ".join((*common, *family.labels)) for family in families}

    assert labels(BATCH_FAMILIES, BATCH_LABELS) == OF_A_BATCH
    assert labels(export_families(expose_error_messages=False), EXPORT_LABELS) == OF_AN_EXPORT
    assert labels(SCRAPE_FAMILIES, ()) == OF_A_SCRAPE


def test_a_message_is_a_label_only_when_asked_for() -> None:
    """The flag changes only the labels of the error family."""
    shown = export_families(expose_error_messages=True)
    hidden = export_families(expose_error_messages=False)
    differ = {a.name: a.labels for a, b in zip(shown, hidden, strict=True) if a.labels != b.labels}
    assert differ == {"cavatica_export_error_info": ("code", "status", "message")}


def test_the_whole_table_has_every_family_once() -> None:
    """The table for documentation tests has every family once."""
    names = [family.name for family in FAMILIES]
    assert names == [*OF_A_BATCH, *OF_AN_EXPORT, *OF_A_SCRAPE]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_help_text_is_one_plain_sentence(family: Family[Any]) -> None:
    """It ends with a full stop and has nothing that either format escapes."""
    assert re.fullmatch(r"[A-Z0-9][^\\\"\n]+\.", family.help)


# Of an export.


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETED", "FAILED", "UNKNOWN"])
def test_the_current_state_is_1_and_the_others_are_0(state: str) -> None:
    """Each of the five states has a sample."""
    samples = dict(of_export(WatchedExport("x", state))["export_state"])
    assert samples.pop((state,)) == 1
    assert set(samples.values()) == {0}
    assert len(samples) == 4


def test_a_state_that_is_not_in_the_list_is_one_more_series() -> None:
    """An undocumented state adds a sample; the five others are 0."""
    samples = of_export(WatchedExport("x", "ABORTED"))["export_state"]
    assert [(state, value) for (state,), value in samples if value] == [("ABORTED", 1)]
    assert len(samples) == 6


def test_an_export_that_was_never_answered_for_only_has_a_state() -> None:
    """An export without an answer has only a state."""
    samples = of_export(WatchedExport("x", "UNKNOWN"))
    assert {name for name, values in samples.items() if values} == {"export_state"}


def test_a_completed_export_shows_what_the_api_said() -> None:
    """Times, size and volume."""
    samples = of_export(seen(completed("x")))
    del samples["export_state"]
    assert {name: values for name, values in samples.items() if values} == {
        "export_started_timestamp_seconds": (((), 1_699_990_000.0),),
        "export_finished_timestamp_seconds": (((), 1_699_999_000.0),),
        "export_size_bytes": (((), 1000),),
        "export_info": ((("rfranklin/output",), 1),),
    }


def test_values_that_the_api_did_not_give_are_left_out() -> None:
    """They are not 0, but a size and a time of 0 are; a missing volume is an empty label."""
    samples = of_export(seen(Export("x", "COMPLETED", started=0.0, size=0)))
    del samples["export_state"]
    assert {name: values for name, values in samples.items() if values} == {
        "export_started_timestamp_seconds": (((), 0.0),),
        "export_size_bytes": (((), 0),),
        "export_info": ((("",), 1),),
    }


def test_an_unknown_export_keeps_its_times() -> None:
    """Times are facts."""
    samples = of_export(replace(seen(running("x")), state="UNKNOWN"))
    assert samples["export_started_timestamp_seconds"] == (((), 1_699_990_000.0),)


def test_only_acknowledged_ids_have_that_series() -> None:
    """It is 1 or not there."""
    assert of_export(WatchedExport("x", "UNKNOWN"))["export_acknowledged"] == ()
    acknowledged = WatchedExport("x", "UNKNOWN", acknowledged=True)
    assert of_export(acknowledged)["export_acknowledged"] == (((), 1),)


def test_only_superseded_failures_have_that_series() -> None:
    """It is 1 or not there."""
    assert of_export(seen(failed("x")))["export_superseded"] == ()
    made_good = replace(seen(failed("x")), superseded=True)
    assert of_export(made_good)["export_superseded"] == (((), 1),)


@pytest.mark.parametrize(
    ("watched", "labels"),
    [
        (seen(failed("x")), ("9103", "403", "patient-7.bam: access denied")),
        (seen(replace(failed("x"), error=None)), ("", "", "")),
        (seen(replace(failed("x"), error=ErrorDetail("7", None, ""))), ("7", "", "")),
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
)
def test_failures_and_lookup_errors_show_their_error(
    watched: WatchedExport, labels: tuple[str, ...]
) -> None:
    """Code and status, and the message only if it is exposed: it may hold file names."""
    assert of_export(watched)["export_error_info"] == ((labels[:2], 1),)
    assert of_export(watched, messages=True)["export_error_info"] == ((labels, 1),)


@pytest.mark.parametrize("export", [pending("x"), running("x"), completed("x")])
def test_an_export_that_did_not_fail_has_no_error(export: Export) -> None:
    """Neither has one that failed in what the API said before, but is UNKNOWN now."""
    assert of_export(seen(export))["export_error_info"] == ()
    assert of_export(replace(seen(export), state="UNKNOWN"))["export_error_info"] == ()


# Of a batch and of a scrape.


def test_a_batch_shows_its_totals() -> None:
    """In order of their labels."""
    exports = (
        seen(completed("a", 10.5)),
        replace(seen(failed("b", 11.5)), superseded=True),
        replace(seen(replace(failed("c"), error=None)), acknowledged=True),
        seen(running("d")),
        seen(pending("e")),
        WatchedExport("f", "UNKNOWN", failure=NOT_FOUND),
        WatchedExport("g", "UNKNOWN", failure=BROKEN),
    )
    batch = Batch.of("b", (Block.of("b", exports),))
    states = {"PENDING": 1, "RUNNING": 1, "COMPLETED": 1, "FAILED": 2, "UNKNOWN": 2}
    finished = ((("COMPLETED",), 10.5), (("FAILED",), 1_699_999_500.0))
    started = ((("PENDING",), 1_699_990_000.0), (("RUNNING",), 1_699_990_000.0))
    assert of(BATCH_FAMILIES, batch) == {
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
    """Its totals are there, with every state; times are not."""
    samples = of(BATCH_FAMILIES, Batch.of("b", ()))
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


def test_a_scrape_that_knows_nothing_says_so() -> None:
    """Without a success, headers and files their series are missing."""
    samples = of(SCRAPE_FAMILIES, SNAPSHOT)
    assert {name: values[0][1] for name, values in samples.items() if values} == {
        "up": 1,
        "scrape_duration_seconds": 0.25,
        "scrape_api_calls": 2,
        "exporter_watchlist_last_reload_successful": 1,
        "exporter_watchlist_duplicate_ids": 0,
        "exporter_watchlist_rejected_ids": 0,
        "exporter_watchlist_ignored_files": 0,
    }


def test_a_scrape_shows_what_it_found() -> None:
    """The API's limit, the last success, the oldest answers and every ID file."""
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
    assert of(SCRAPE_FAMILIES, snapshot) == {
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


def test_a_path_that_cannot_be_read_is_no_successful_reload() -> None:
    """An error of the directory itself counts as that of a file."""
    snapshot = replace(SNAPSHOT, watchlist=Watchlist(error="gone"))
    reloaded = of(SCRAPE_FAMILIES, snapshot)["exporter_watchlist_last_reload_successful"]
    assert reloaded == (((), 0),)


def test_codes_in_the_totals_are_explained() -> None:
    """Each code of the totals has one sample; a code that is not in the table has none."""
    exports = (
        seen(failed("a")),
        seen(replace(failed("b"), error=ErrorDetail("77", None, "a file name"))),
        seen(replace(failed("c"), error=None)),
        WatchedExport("d", "UNKNOWN", failure=LookupFailure("9008", 404, "a message")),
    )
    batches = tuple(Batch.of(name, (Block.of(name, exports),)) for name in "ab")
    infos = of(SCRAPE_FAMILIES, replace(SNAPSHOT, batches=batches))["error_code_info"]
    assert infos == tuple(
        ((code, MEANINGS[code].meaning, MEANINGS[code].retry), 1) for code in ("9008", "9103")
    )
