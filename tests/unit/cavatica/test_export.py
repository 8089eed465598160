"""The parsing of a bulk answer: exports, and the assignment of items to IDs."""

import json
import math
from datetime import datetime, timedelta, timezone
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.export import (
    FINISHED,
    MAX_MESSAGE_CHARS,
    MAX_VOLUME_CHARS,
    STATES,
    UNFINISHED,
    UNKNOWN,
    ErrorDetail,
    Export,
    LookupFailure,
    is_export_id,
    pair_items,
    parse_error,
    parse_item,
    parse_timestamp,
)

EXAMPLE = Path(__file__).parents[3] / "tests/data/api/bulk-get-completed.json"
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
END_OF_9999 = datetime.max.replace(tzinfo=timezone.utc).timestamp()
NOT_FOUND = LookupFailure("9008", 404, "Requested export does not exist.")
BUSY = LookupFailure("1000", 429, "")


def resource(export_id: object = "A", **fields: object) -> dict[str, Any]:
    """Return an item with an export, which is RUNNING unless `fields` has another state."""
    return {"resource": {"id": export_id, "state": "RUNNING"} | fields}


def failure(error: LookupFailure = NOT_FOUND) -> dict[str, Any]:
    """Return an item with an error and without an ID."""
    code = int(error.code)
    return {"error": {"status": error.status, "code": code, "message": error.message}}


def running(export_id: str) -> Export | LookupFailure:
    """Return the export that `resource` is parsed to."""
    return Export(export_id, "RUNNING")


def parsed(**fields: object) -> Export:
    """Return the export parsed from these fields."""
    export = parse_item(resource(**fields))
    assert isinstance(export, Export)
    return export


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=3,
)
offsets = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timedelta(minutes=minutes))
# Values similar to what the API sends: in most of them only one part is not valid.
errors = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(["status", "code", "message", "more_info"], json_values)
)
exports = st.fixed_dictionaries(
    {"id": st.sampled_from("ABCDE") | json_values},
    optional={
        "state": st.sampled_from([*STATES, "ABORTED"]) | json_values,
        "started_on": st.datetimes().map(str) | json_values,
        "finished_on": json_values,
        "destination": st.fixed_dictionaries({"volume": json_values}) | json_values,
        "result": st.fixed_dictionaries({"size": json_values, "storage": json_values})
        | json_values,
        "error": errors | json_values,
    },
)
item_like = (
    json_values
    | st.fixed_dictionaries({}, optional={"resource": exports | json_values, "error": errors})
    | exports
)


class TestExample:
    """The example in the API's documentation."""

    def test_is_parsed_with_every_field(self) -> None:
        """Both exports are parsed as the documentation shows them, with times to the second."""
        items = json.loads(EXAMPLE.read_text(encoding="utf-8"))["items"]
        volume = "rfranklin/input"
        assert [parse_item(item) for item in items] == [
            Export(
                id=export_id,
                state="COMPLETED",
                finished=float(finished),
                size=36433,
                volume=volume,
            )
            for export_id, finished in (
                ("gOM3zcx6CG411ac0SbNkaUE0SNRK4H0S", 1522162828),
                ("YFyyZ7rpCGtXjKTzjGGRJIIAmCd6Mh19", 1522162831),
            )
        ]


class TestStates:
    """The state of an export."""

    def test_every_state_is_finished_unfinished_or_unknown(self) -> None:
        """Each of the five states in totals is in exactly one of these groups."""
        assert sorted(STATES) == sorted([*UNFINISHED, *FINISHED, UNKNOWN])

    @pytest.mark.parametrize("state", [*STATES, "ABORTED", "A", "ON_HOLD", "A" * 32])
    def test_a_valid_state_is_kept(self, state: str) -> None:
        """A state that is not documented is kept, too, if it has the form of one."""
        assert parsed(state=state).state == state

    @pytest.mark.parametrize(
        "state",
        [
            "",
            "running",
            "RUNNING ",
            "RUNNING\n",
            "_RUN",
            "RUN-1",
            "Ä",
            "A" * 33,
            None,
            1,
            ["RUNNING"],
            {},
        ],
        ids=repr,
    )
    def test_an_invalid_state_is_unknown(self, state: object) -> None:
        """An invalid state is UNKNOWN; the other fields are kept."""
        assert parsed(state=state, started_on="1970-01-01T00:00:07Z") == Export(
            "A", "UNKNOWN", started=7.0
        )

    def test_a_missing_state_is_unknown(self) -> None:
        """An export without a state is still an export."""
        assert parse_item({"resource": {"id": "A"}}) == Export("A", "UNKNOWN")


class TestIds:
    """The form of an export ID."""

    @pytest.mark.parametrize(
        "text",
        ["gOM3zcx6CG411ac0SbNkaUE0SNRK4H0S", "0c1b1c4e-5b1c-4c39-8a6e-9a9c0d0e0f10", "_", "1" * 64],
    )
    def test_have_the_documented_form(self, text: str) -> None:
        """An ID has up to 64 letters, digits, `-` and `_`, as in the documentation and clients."""
        assert is_export_id(text)

    @pytest.mark.parametrize("text", ["", "a b", "a\n", "ä", "a/b", "1" * 65, "a\x00", "\uff13"])
    def test_similar_texts_are_not_valid(self, text: str) -> None:
        """Texts that are similar to IDs are not valid."""
        assert not is_export_id(text)


def destination(key: bytes, **fields: object) -> int | None:
    """Return the hash of the destination of an export with these fields."""
    export = parse_item(resource(**fields), key)
    assert isinstance(export, Export)
    assert "location" not in repr(export)
    return export.destination


class TestPlaces:
    """The destination of an export, in both forms that are documented."""

    def test_the_volume_is_that_of_the_destination(self) -> None:
        """The volume of the destination takes precedence over that of the result."""
        export = parsed(
            source={"file": "5aba5c8b1c94b662fa6c2ae4"},
            destination={"volume": "owner/there", "location": "patient-1.bam"},
            result={"storage": {"type": "VOLUME", "volume": "owner/elsewhere"}},
        )
        assert export == Export("A", "RUNNING", volume="owner/there")

    def test_without_one_there_the_volume_is_that_of_the_result(self) -> None:
        """In the documented example the destination is a project, and the result has the volume."""
        export = parsed(
            source={"volume": "owner/source", "location": "patient-1.bam"},
            destination={"project": "owner/project", "name": "patient-1.bam"},
            result={"storage": {"type": "VOLUME", "volume": "owner/there"}},
        )
        assert export == Export("A", "RUNNING", volume="owner/there")

    @pytest.mark.parametrize("shape", [None, [], "owner/there", 7, {}, {"volume": None}], ids=repr)
    def test_an_invalid_volume_is_empty(self, shape: object) -> None:
        """If neither has a valid volume, the volume is empty; the other fields are kept."""
        export = parsed(destination=shape, result={"storage": shape, "size": 7})
        assert export == Export("A", "RUNNING", size=7, volume="")

    def test_the_hash_depends_on_volume_location_and_key(self) -> None:
        """The hash is the same for the same volume, location and key, in both documented forms."""
        places = [("o/v", "a/b"), ("o/v", "a/c"), ("o/w", "a/b"), ("o/va", "/b"), ("o", "v\ud800")]
        found = {}
        for volume, location in places:
            place = {"volume": volume, "location": location}
            first = destination(b"key", destination=place)
            again = destination(
                b"key",
                destination={"project": "p"},
                result={"storage": {"type": "VOLUME", **place}},
            )
            assert first is not None
            assert first == again
            assert 0 <= first < 2**64
            assert first != destination(b"other key", destination=place)
            found[first] = place
        assert len(found) == len(places)

    @pytest.mark.parametrize(
        "shape",
        [None, [], 7, {"volume": "o/v"}, {"volume": "o/v", "location": ""}, {"location": 7}],
        ids=repr,
    )
    def test_an_incomplete_place_has_no_hash(self, shape: object) -> None:
        """Without volume, location or key there is no hash."""
        assert destination(b"key", destination=shape, result={"storage": shape}) is None
        whole = {"volume": "o/v", "location": "x"}
        assert destination(b"", destination=whole) is None

    @pytest.mark.parametrize("result", [None, [], "text", 7, {}], ids=repr)
    def test_a_result_of_another_form_is_ignored(self, result: object) -> None:
        """The result of an unfinished export is missing or null; other forms are ignored, too."""
        assert parsed(result=result) == running("A")

    def test_text_is_made_printable_and_short(self) -> None:
        """Characters that would break log lines, labels or UTF-8 are replaced; long text is cut."""
        assert parsed(destination={"volume": "a\nb\x1b[0m\u2028\ud800é"}).volume == "a�b�[0m��é"
        assert len(parsed(destination={"volume": "v" * 9999}).volume) == MAX_VOLUME_CHARS


class TestSize:
    """The size of the resulting file."""

    @pytest.mark.parametrize(
        ("value", "size"), [(0, 0), (36433, 36433), (1e3, 1000), (2**53, 2**53), (-0.0, 0)]
    )
    def test_is_a_whole_number(self, value: object, size: int) -> None:
        """A size is a whole number of bytes, in any form that JSON allows."""
        assert parsed(result={"size": value}).size == size

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            False,
            "7",
            -1,
            1.5,
            2**53 + 1,
            10**400,
            math.nan,
            math.inf,
            -math.inf,
            [7],
            {},
        ],
        ids=lambda value: repr(value)[:20],
    )
    def test_is_none_for_other_values(self, value: object) -> None:
        """A value that cannot be a size is dropped; it does not become 0."""
        assert parsed(result={"size": value}).size is None


class TestTimestamps:
    """Times, in Unix seconds."""

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("2018-03-27T15:00:28Z", 1522162828.0),
            ("2018-03-27t15:00:28z", 1522162828.0),
            ("2018-03-27 15:00:28 Z", 1522162828.0),
            ("2018-03-27T15:00:28", 1522162828.0),
            ("2018-03-27T15:00:28.5Z", 1522162828.5),
            ("2018-03-27T15:00:28,25Z", 1522162828.25),
            ("2018-03-27T15:00:28.123456789", 1522162828.123456789),
            ("2018-03-27T15:00:28+00:00", 1522162828.0),
            ("2018-03-27T15:00:28-00:00", 1522162828.0),
            ("2018-03-27T17:00:28+02:00", 1522162828.0),
            ("2018-03-27T11:30:28-0330", 1522162828.0),
            ("2018-03-27T17:00:28+02", 1522162828.0),
            ("2018-03-27T17:00:28.5 +02:00", 1522162828.5),
            ("1970-01-01T00:00:00Z", 0.0),
            ("1969-12-31T23:00:00-01:00", 0.0),
            ("2000-02-29T00:00:00Z", 951782400.0),
            ("9999-12-31T23:59:59Z", 253402300799.0),
        ],
    )
    def test_may_have_fractions_and_offsets(self, text: str, seconds: float) -> None:
        """ISO 8601 is parsed with and without fractions and offsets; the default offset is UTC."""
        assert parse_timestamp(text) == seconds

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            1522162828,
            1522162828.0,
            "",
            "1522162828",
            "yesterday",
            "2018-03-27",
            "2018-03-27T15:00Z",
            "2018-3-27T15:00:28Z",
            "2018-02-30T15:00:28Z",
            "2018-13-01T15:00:28Z",
            "0000-01-01T00:00:00Z",
            "2018-03-27T24:00:00Z",
            "2018-03-27T15:00:60Z",
            "2018-03-27T15:00:28+24:00",
            "2018-03-27T15:00:28+02:60",
            "2018-03-27T15:00:28+2",
            "2018-03-27T15:00:28.Z",
            "2018-03-27T15:00:28.1234567890Z",
            "2018-03-27T15:00:28Z\n",
            " 2018-03-27T15:00:28Z",
            "\uff12018-03-27T15:00:28Z",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:30:00+01:00",
            "9999-12-31T23:30:00-01:00",
            "9999-12-31T23:59:59.999999999Z",
            ["2018-03-27T15:00:28Z"],
            {},
        ],
        ids=repr,
    )
    def test_other_values_are_no_time(self, value: object) -> None:
        """Any other value is dropped; it does not become 0."""
        assert parse_timestamp(value) is None

    @given(st.datetimes(timezones=st.builds(timezone, offsets)))
    def test_of_every_moment_are_parsed(self, moment: datetime) -> None:
        """Every moment from 1970 to 9999 is parsed correctly, with any offset; others are None."""
        expected = (moment - EPOCH).total_seconds()
        assert parse_timestamp(moment.isoformat()) == (
            pytest.approx(expected, abs=1e-4) if 0 <= expected < END_OF_9999 else None
        )


class TestErrors:
    """Errors that the platform reports."""

    def test_a_failed_export_has_its_error(self) -> None:
        """A FAILED export has the code, status and message of its error."""
        error = {"status": 403, "code": 9103, "message": "No access.", "more_info": "https://…"}
        export = parsed(state="FAILED", error=error)
        assert export == Export("A", "FAILED", error=ErrorDetail("9103", 403, "No access."))

    @pytest.mark.parametrize("value", [None, [], "error", 7, True], ids=repr)
    def test_another_form_is_no_error(self, value: object) -> None:
        """The error of an export without one is null; other forms are ignored, too."""
        assert parse_error(value) is None
        assert parsed(error=value).error is None

    def test_an_empty_object_is_an_error(self) -> None:
        """An empty object is an error without code, status and message."""
        assert parse_error({}) == ErrorDetail("", None, "")

    @pytest.mark.parametrize(
        ("value", "code"), [(0, "0"), (9002, "9002"), (9e3, "9000"), ("9002", "9002"), ("0", "0")]
    )
    def test_a_code_is_a_number(self, value: object, code: str) -> None:
        """A code is a number, or a text of digits."""
        assert parse_error({"code": value}) == ErrorDetail(code, None, "")

    @pytest.mark.parametrize(
        "value",
        ["patient-1.bam", "a-secret", "", " 1", "1\n", "\uff13", "1" * 17, -1, 1.5, None, True, []],
        ids=repr,
    )
    def test_other_values_are_no_code(self, value: object) -> None:
        """Codes become labels, so a value that is not a number is dropped."""
        assert parse_error({"code": value}) == ErrorDetail("", None, "")

    def test_a_message_is_made_printable_and_short(self) -> None:
        """A message is changed so that it fits into one log line and one label."""
        assert parse_error({"message": "a\r\nb\x00"}) == ErrorDetail("", None, "a��b�")
        error = parse_error({"message": "m" * 9999})
        assert error is not None
        assert len(error.message) == MAX_MESSAGE_CHARS

    @pytest.mark.parametrize(
        ("status", "temporary"),
        [(500, True), (503, True), (499, False), (404, False), (None, False)],
    )
    def test_the_platforms_own_fault_is_temporary(
        self, status: int | None, *, temporary: bool
    ) -> None:
        """An error item with a status 5xx says nothing about the ID."""
        assert LookupFailure("", status, "").temporary is temporary


class TestItem:
    """One element of `items`."""

    def test_with_an_error_is_a_lookup_failure(self) -> None:
        """An item may have an error instead of an export."""
        assert parse_item(failure()) == NOT_FOUND
        assert parse_item({"resource": None, **failure()}) == NOT_FOUND
        assert parse_item({"resource": [], **failure()}) == NOT_FOUND

    def test_with_an_export_is_that_export(self) -> None:
        """An item with an export and an error counts as the export."""
        assert parse_item({**resource(), "error": None}) == running("A")
        assert parse_item({**resource(), **failure()}) == running("A")

    @pytest.mark.parametrize(
        "item",
        [
            None,
            7,
            "A",
            [],
            {},
            {"resource": None},
            {"resource": []},
            {"resource": {}},
            {"error": None},
            {"id": "A", "state": "RUNNING"},
            {"resource": {"state": "RUNNING"}},
            *(resource(bad) for bad in (None, 7, "", "a b", ["A"], "1" * 65)),
        ],
        ids=repr,
    )
    def test_of_another_form_is_none(self, item: object) -> None:
        """An item without a usable export or error is None; other items are not affected."""
        assert parse_item(item) is None

    @given(item_like)
    def test_of_any_form_does_not_raise(self, item: object) -> None:
        """Parsing never raises, and the resulting texts are valid in labels."""
        found = parse_item(item)
        error = found.error if isinstance(found, Export) else found
        texts = [error.code, error.message] if error else []
        if isinstance(found, Export):
            assert is_export_id(found.id)
            texts += [found.state, found.volume]
            times = (found.started, found.finished)
            assert all(time is None or 0 <= time < math.inf for time in times)
        assert all(text.isprintable() and text.encode() is not None for text in texts)


class TestPairing:
    """The assignment of items to IDs."""

    def test_exports_are_assigned_by_their_id(self) -> None:
        """An export is assigned to its ID at any position."""
        assert pair_items(["A", "B"], [resource("B"), resource("A")]) == (
            {"A": running("A"), "B": running("B")},
            True,
        )

    @pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
    def test_errors_are_assigned_by_order(self, order: tuple[int, ...]) -> None:
        """Errors are assigned, in order, to the IDs without an export."""
        items = [resource("A"), failure(NOT_FOUND), resource("C"), failure(BUSY)]
        shuffled = [items[place] for place in order]
        first, second = [NOT_FOUND, BUSY] if order.index(1) < order.index(3) else [BUSY, NOT_FOUND]
        assert pair_items(["A", "B", "C", "D"], shuffled) == (
            {"A": running("A"), "B": first, "C": running("C"), "D": second},
            True,
        )

    def test_no_items_for_no_ids_are_complete(self) -> None:
        """No items are a complete answer for no IDs."""
        assert pair_items([], []) == ({}, True)

    def test_fewer_errors_than_remaining_ids_are_not_assigned(self) -> None:
        """With fewer errors than remaining IDs, it is not known which IDs the errors belong to."""
        assert pair_items(["A", "B", "C"], [resource("A"), failure()]) == (
            {"A": running("A"), "B": None, "C": None},
            False,
        )

    def test_an_additional_error_is_ignored(self) -> None:
        """An additional error is ignored if every ID has an export."""
        assert pair_items(["A"], [resource("A"), failure()]) == ({"A": running("A")}, False)

    def test_more_errors_than_remaining_ids_are_not_assigned(self) -> None:
        """With more errors than remaining IDs, no error is assigned."""
        assert pair_items(["A"], [failure(NOT_FOUND), failure(BUSY)]) == ({"A": None}, False)

    def test_an_id_without_an_item_has_no_outcome(self) -> None:
        """IDs without an item have no outcome: their state stays."""
        assert pair_items(["A", "B"], [resource("A")]) == ({"A": running("A")}, False)
        assert pair_items(["A", "B"], []) == ({}, False)

    @pytest.mark.parametrize(
        "item", [None, {}, {"resource": None}, resource(7), resource("X")], ids=repr
    )
    def test_an_item_without_a_requested_id_counts_for_the_order(self, item: object) -> None:
        """An item that is unusable or was not requested still counts for the order of errors."""
        assert pair_items(["A", "B"], [item, failure()]) == ({"B": NOT_FOUND}, False)
        assert pair_items(["A", "B"], [resource("B"), item]) == ({"B": running("B")}, False)

    def test_items_without_a_requested_id_are_not_errors(self) -> None:
        """Any number of unrelated items leaves the missing IDs without an outcome."""
        items = [resource("A"), resource("X"), resource("Y"), None]
        assert pair_items(["A", "B"], items) == ({"A": running("A")}, False)

    def test_an_export_that_was_not_requested_is_ignored(self) -> None:
        """If the answer has more than was requested, the requested part is used."""
        assert pair_items(["A"], [resource("X"), resource("A")]) == ({"A": running("A")}, False)

    def test_a_repeated_export_counts_once(self) -> None:
        """A repeated item is used, but the answer does not count as complete."""
        assert pair_items(["A"], [resource("A"), resource("A")]) == ({"A": running("A")}, False)
        assert pair_items(["A", "B"], [resource("A"), resource("A")])[1] is False

    def test_contradicting_exports_are_ignored(self) -> None:
        """Different items for one ID are all ignored."""
        items = [resource("A"), resource("A", state="FAILED"), resource("A"), resource("B")]
        assert pair_items(["A", "B"], items) == ({"B": running("B")}, False)

    def test_an_id_with_contradicting_exports_gets_no_error(self) -> None:
        """Errors are assigned only to IDs without any item."""
        items = [resource("A"), failure(), resource("A", state="FAILED")]
        assert pair_items(["A", "B"], items) == ({"B": NOT_FOUND}, False)

    @given(st.lists(st.sampled_from("ABCDE"), unique=True), st.lists(item_like, max_size=4))
    def test_any_items_do_not_raise(self, ids: list[str], items: list[object]) -> None:
        """Only requested IDs have an outcome, exports only of their own ID; complete means all."""
        outcomes, complete = pair_items(ids, items)
        assert outcomes.keys() <= set(ids)
        for export_id, outcome in outcomes.items():
            assert not isinstance(outcome, Export) or outcome.id == export_id
        if complete:
            assert len(items) == len(ids)
            assert all(outcomes.get(export_id) is not None for export_id in ids)

    @given(st.lists(st.sampled_from("ABCDEFGH"), unique=True), st.data())
    def test_a_correct_answer_is_complete(self, ids: list[str], data: st.DataObject) -> None:
        """Any mixture of exports and errors in the requested order is assigned correctly."""
        truth: dict[str, Export | LookupFailure] = {
            export_id: data.draw(st.sampled_from([running(export_id), NOT_FOUND, BUSY]))
            for export_id in ids
        }
        items = [
            failure(outcome) if isinstance(outcome, LookupFailure) else resource(export_id)
            for export_id, outcome in truth.items()
        ]
        assert pair_items(ids, items) == (truth, True)
