"""ID files: every valid form, every error with its text, and what is left out."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.text import NULL
from exporter.watchlist.idfile import ENDINGS, KEYS, IdFile, IdFileError, Rejected, parse

DATA = Path(__file__).parents[3] / "tests/data" / "idfiles"

A = "gOM3zcx6CG411ac0SbNkaUE0SNRK4H0S"
B = "YFyyZ7rpCGtXjKTzjGGRJIIAmCd6Mh19"

IDS = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=64
)

LISTS = st.lists(IDS.filter(lambda export_id: export_id not in NULL))

NO_IDS = (
    " holds no export IDs: it must be a list of them, a mapping with export_ids,"
    " or an answer of the API with items; for none write []"
)
KNOWN = "known are batch, export_ids, acknowledged, items"

# Every file there with the text of its error, which begins with the file's name.
INVALID = {
    # Keys
    "invalid-unknown-key.yml": ":2: unknown key export_id: did you mean export_ids?",
    "invalid-unknown-key.json": ":3: unknown key acknowleged: did you mean acknowledged?",
    "invalid-strange-key.yml": f":3: unknown key volume: {KNOWN}",
    "invalid-control-key.yml": rf":1: unknown key \x1b[31m: {KNOWN}",
    "invalid-item-key.json": ":2: unknown key item: did you mean items?",
    "invalid-missing-ids.yml": ":2: the key export_ids is missing",
    "invalid-missing-everything.json": ":1: the key export_ids is missing",
    "invalid-repeated-key.yml": ":4: the key export_ids is repeated",
    "invalid-repeated-key.json": ":3: the key export_ids is repeated",
    "invalid-repeated-key-within.json": ":3: the key id is repeated",
    "invalid-key-list.yml": ":1: a key must be text",
    "invalid-both.json": ":1: has both export_ids and items; put one in another file",
    # Shapes
    "invalid-empty.yml": ":" + NO_IDS,
    "invalid-text.yml": ":1:" + NO_IDS,
    "invalid-text.json": ":1:" + NO_IDS,
    "invalid-ids-text.yml": ":2: export_ids must be a list of export IDs",
    "invalid-ids-mapping.json": ":2: export_ids must be a list of export IDs",
    "invalid-ids-of-mappings.yml": ":3: export_ids must hold nothing but export IDs",
    "invalid-list-of-lists.yml": ":2: the list must hold nothing but export IDs",
    "invalid-acknowledged-text.yml": ":3: acknowledged must be a list of export IDs",
    "invalid-acknowledged-list.json": ":2: acknowledged must hold nothing but export IDs",
    "invalid-items-mapping.json": ":2: items must be a list, as in an answer of the API",
    "invalid-items-null.json": ":1: items must be a list, as in an answer of the API",
    "invalid-item-text.json": ":3: every one of items must be a mapping",
    # Batches
    "invalid-batch-empty.yml": ":1: batch must be a name",
    "invalid-batch-blank.yml": ":1: batch must be a name",
    "invalid-batch-null-word.yml": ":1: batch must be a name",
    "invalid-batch-null.json": ":1: batch must be a name",
    "invalid-batch-list.yml": ":1: batch must be a name",
    "invalid-batch-control.yml": ":2: batch must be at most 100 printable characters",
    "invalid-batch-surrogate.json": ":1: batch must be at most 100 printable characters",
    "invalid-batch-long.yml": ":1: batch must be at most 100 printable characters",
    # YAML
    "invalid-alias.yml": ":3: aliases are not supported: write the value out",
    "invalid-merge-key.yml": ":3: aliases are not supported: write the value out",
    "invalid-two-documents.yml": ":3: more than one document",
    "invalid-tab.yml": ":2: not YAML: found character that cannot start any token",
    "invalid-quote.yml": ":4: not YAML: found unexpected end of stream,"
    " while scanning a quoted scalar that begins in line 2",
    "invalid-colon.yml": ":2: not YAML: mapping values are not allowed in this context",
    "invalid-dash.yml": ":1: not YAML: block sequence entries are not allowed in this context",
    "invalid-conflict.yml": ":4: not YAML: could not find expected ':',"
    " while scanning a simple key that begins in line 2",
    # JSON
    "invalid-empty.json": ":1: not JSON: Expecting value",
    "invalid-quotes.json": ":1: not JSON: Expecting value",
    "invalid-comma.json": ":3: not JSON: Expecting ',' delimiter",
    "invalid-half.json": ":3: not JSON: Expecting property name enclosed in double quotes",
}

# What the text says, with the file's name `tcga-7` and the ending beside it.
VALID = [
    pytest.param(
        ".yml",
        f"batch: kids\nexport_ids:\n  - {A}\n  - {B}\nacknowledged:\n  - {B}\n",
        IdFile("kids", (A, B), frozenset({B}), ()),
        id="mapping",
    ),
    pytest.param(
        ".json",
        json.dumps({"batch": "kids", "export_ids": [A, B], "acknowledged": [B]}),
        IdFile("kids", (A, B), frozenset({B}), ()),
        id="mapping in JSON",
    ),
    pytest.param(
        ".json",
        json.dumps({"export_ids": [A, B]}),
        IdFile("tcga-7", (A, B), frozenset(), ()),
        id="saved body of the bulk get call",
    ),
    pytest.param(
        ".yaml", f"# first\n- {A}  # why\n- '{B}'\n", IdFile("tcga-7", (A, B), frozenset(), ()),
        id="bare list",
    ),
    pytest.param(
        ".json", json.dumps([A, B]), IdFile("tcga-7", (A, B), frozenset(), ()),
        id="bare list in JSON",
    ),
    pytest.param(
        ".json",
        json.dumps({"items": [{"resource": {"id": A, "state": "PENDING"}}]}),
        IdFile("tcga-7", (A,), frozenset(), ()),
        id="answer of the start call",
    ),
    pytest.param(
        ".json",
        json.dumps(
            {"items": [{"error": {"code": 9006}}, {"resource": {"id": A}, "error": None},
                       {"resource": None, "error": {"code": 1}}]}
        ),
        IdFile("tcga-7", (A,), frozenset(), ()),
        id="answer with errors",
    ),
    pytest.param(
        ".json",
        json.dumps(
            {"href": "https://x", "items": [{"id": A, "state": "FAILED", "error": {"code": 1}}],
             "links": [{"rel": "next"}]}
        ),
        IdFile("tcga-7", (A,), frozenset(), ()),
        id="answer of the list call",
    ),
    pytest.param(
        ".yml",
        f"items:\n- resource: {{id: {A}}}\n",
        IdFile("tcga-7", (A,), frozenset(), ()),
        id="answer in YAML",
    ),
    pytest.param(
        ".json",
        json.dumps({"items": [{"id": A}], "batch": "kids", "acknowledged": [A], "volume": "v"}),
        IdFile("kids", (A,), frozenset({A}), ()),
        id="answer with a batch and acknowledged IDs",
    ),
    pytest.param(
        ".yml", f"acknowledged: [{B}]", IdFile(None, (), frozenset({B}), ()),
        id="acknowledged IDs alone: no batch",
    ),
    pytest.param(
        ".yml", f"batch: kids\nacknowledged: [{B}]", IdFile("kids", (), frozenset({B}), ()),
        id="acknowledged IDs and a batch: a batch of none",
    ),
    pytest.param(
        ".yml", f"export_ids:\n#  - {A}\nacknowledged:\n", IdFile("tcga-7", (), frozenset(), ()),
        id="every line commented out",
    ),
    pytest.param(
        ".json", '{"export_ids": null, "acknowledged": null}',
        IdFile("tcga-7", (), frozenset(), ()), id="null for none",
    ),
    *(
        pytest.param(
            ".yml", f"export_ids: {null}\nacknowledged: {null}",
            IdFile("tcga-7", (), frozenset(), ()), id=f"{null!r} for none",
        )
        for null in NULL
    ),
    *(
        pytest.param(
            ".yml", f"- {A}\n- {null}", IdFile("tcga-7", (A,), frozenset(), (Rejected(null, 2),)),
            id=f"{null!r} is not an ID",
        )
        for null in NULL
    ),
    pytest.param(".yml", "[]", IdFile("tcga-7", (), frozenset(), ()), id="empty list"),
    pytest.param(".json", '{"items": []}', IdFile("tcga-7", (), frozenset(), ()), id="no items"),
    pytest.param(
        ".yml", f"- {A}\n- {A}\n", IdFile("tcga-7", (A, A), frozenset(), ()),
        id="an ID as often as it is listed",
    ),
    pytest.param(
        ".yml", "- 1e32\n- 0123\n- no\n- 123\n- 2024-01-01\n- -1\n- _-\n",
        IdFile(
            "tcga-7", ("1e32", "0123", "no", "123", "2024-01-01", "-1", "_-"), frozenset(), ()
        ),
        id="IDs that look like something else",
    ),
    pytest.param(
        ".json", "[1e32, 123, -1, true, false, NaN]",
        IdFile("tcga-7", ("1e32", "123", "-1", "true", "false", "NaN"), frozenset(), ()),
        id="JSON's numbers and words",
    ),
    pytest.param(
        ".yml", "batch: 2024\nexport_ids: []", IdFile("2024", (), frozenset(), ()),
        id="a batch that looks like a number",
    ),
    pytest.param(
        ".yml", "batch: Größe 7 / 中文\nexport_ids: []",
        IdFile("Größe 7 / 中文", (), frozenset(), ()), id="a batch in any script",
    ),
    pytest.param(
        ".yml", "batch: " + "t" * 100 + "\nexport_ids: []",
        IdFile("t" * 100, (), frozenset(), ()), id="the longest batch",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("ending", "text", "expected"), VALID)
def test_valid_forms(ending: str, text: str, expected: IdFile) -> None:
    """Each of these is a file."""
    assert parse(text.encode(), "tcga-7" + ending) == expected


@pytest.mark.parametrize(("name", "problem"), INVALID.items(), ids=INVALID)
def test_invalid_files(name: str, problem: str) -> None:
    """The error tells the file, the line, the key, and what to do."""
    with pytest.raises(IdFileError) as error:
        parse((DATA / name).read_bytes(), name)
    assert str(error.value) == name + problem


def test_every_invalid_file_is_in_the_table() -> None:
    """A file that nobody looks at shows nothing."""
    assert sorted(file.name for file in DATA.iterdir()) == sorted(INVALID)


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("tcga-7.yml", "tcga-7"),
        ("tcga.7.yaml", "tcga.7"),
        ("Größe 7.yml", "Größe 7"),
        ("ids", "ids"),
        (".yml", ".yml"),
        ("two\nlines.yml", r"two\nlines"),
        ("\udcff.yml", r"\udcff"),
        ("n" * 250 + ".yml", "n" * 250),
    ],
)
def test_the_default_batch_is_the_name_without_its_ending(name: str, batch: str) -> None:
    """A file needs no `batch`; a batch is never empty, and never cut to that of another file."""
    assert parse(b"[]", name).batch == batch


@pytest.mark.parametrize("name", ["x.yml", "x.yaml", "x", "x.txt"])
def test_what_does_not_end_in_json_is_yaml(name: str) -> None:
    """A file given by its path may have any name."""
    assert parse(b"- a", name).ids == ("a",)


def test_the_endings_and_the_keys_are_those_of_the_documentation() -> None:
    """What names a file an ID file, and what may stand in it."""
    assert ENDINGS == (".yml", ".yaml", ".json")
    assert KEYS == ("batch", "export_ids", "acknowledged")


@pytest.mark.parametrize(
    "text", ["", "a b", "a/b", "Größe", "a" * 65, "a\n", "a:b", "../etc", "a,", "\x00", "\ud800"]
)
def test_what_is_no_export_id_is_left_out(text: str) -> None:
    """It costs only itself, and is told with its line."""
    expected = (Rejected(text[:64].encode("unicode_escape").decode(), 3),)
    if text == "Größe":
        expected = (Rejected("Größe", 3),)
    ids = parse(f'[\n"{A}",\n{json.dumps(text)},\n"{B}"]'.encode(), "x.json")
    assert ids == IdFile("x", (A, B), frozenset(), expected)


def test_rejected_ids_have_the_line_on_which_they_stand() -> None:
    """The same text in two places is told twice, each with its own line."""
    text = "export_ids:\n- a!\n- b\n- a!\nacknowledged:\n- c!\n"
    expected = (Rejected("a!", 2), Rejected("a!", 4), Rejected("c!", 6))
    assert parse(text.encode(), "x.yml").rejected == expected


def test_a_missing_dash_makes_no_id_of_two_lines() -> None:
    """YAML folds two lines into one text, which is no ID and is told as it was read."""
    assert parse(f"- {A}\n  {B}\n".encode(), "x.yml").rejected == (Rejected(f"{A} {B}"[:64], 1),)


@pytest.mark.parametrize(
    "item", ["{}", '{"resource": {}}', '{"resource": {"id": null}}', '{"id": []}', '{"id": ""}']
)
def test_an_item_without_an_id_or_an_error_is_counted_as_rejected(item: str) -> None:
    """An answer that tells neither has lost an export; that is not passed over in silence."""
    ids = parse(f'{{"items": [{{"id": "a"}},\n{item}]}}'.encode(), "x.json")
    assert (ids.ids, ids.rejected) == (("a",), (Rejected("an item without id", 2),))


def test_an_item_with_an_ill_formed_id_is_rejected_with_the_line_of_the_id() -> None:
    """Even if an error stands beside it: there is an ID, so somebody wanted it watched."""
    ids = parse(b'{"items": [{"id":\n"a b", "error": {}}]}', "x.json")
    assert ids.rejected == (Rejected("a b", 2),)


@pytest.mark.parametrize("name", ["x.yml", "x.json"])
@pytest.mark.parametrize(
    ("data", "line"),
    [
        ('["a"]'.encode("utf-16"), 1),
        ('["a"]'.encode("utf-32"), 1),
        ('["a",\n"Größe"]'.encode("latin-1"), 2),
        (b"\xef\xbb\xbf\n\n\xff", 3),
    ],
)
def test_text_is_utf_8(data: bytes, name: str, line: int) -> None:
    """Another encoding is told as such, with the line where it shows."""
    with pytest.raises(IdFileError) as error:
        parse(data, name)
    assert str(error.value) == f"{name}:{line}: not UTF-8 text: save it as UTF-8"


@pytest.mark.parametrize("name", ["x.yml", "x.json"])
def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(name: str) -> None:
    """A file of Windows' editors is a file, and its lines are counted as anywhere."""
    ids = parse(b'\xef\xbb\xbf[\r\n"a",\r\n"b!"\r\n]\r\n', name)
    assert (ids.ids, ids.rejected) == (("a",), (Rejected("b!", 3),))


def test_an_error_shows_a_strange_name_escaped() -> None:
    """A file's name cannot forge a line of the log."""
    with pytest.raises(IdFileError) as error:
        parse(b"- [", "a\nlevel=info.yml")
    assert str(error.value).startswith(r"a\nlevel=info.yml:2: not YAML")


@given(
    IDS.filter(lambda batch: batch not in NULL),
    LISTS,
    LISTS,
    st.sampled_from(["mapping", "list", "items"]),
)
def test_a_dumped_file_is_read_back_from_both_formats(
    batch: str, ids: list[str], acknowledged: list[str], form: str
) -> None:
    """What a program wrote is what is watched, be it YAML or JSON."""
    value: object = {"batch": batch, "export_ids": ids, "acknowledged": acknowledged}
    expected = IdFile(batch, tuple(ids), frozenset(acknowledged), ())
    if form == "list":
        value, expected = ids, IdFile("x", tuple(ids), frozenset(), ())
    elif form == "items":
        value = {"items": [{"resource": {"id": i}} for i in ids], "batch": batch}
        expected = IdFile(batch, tuple(ids), frozenset(), ())
    assert parse(json.dumps(value).encode(), "x.json") == expected
    assert parse(yaml.dump(value, Dumper=yaml.CSafeDumper).encode(), "x.yml") == expected


@given(st.lists(IDS.filter(lambda export_id: export_id not in {"-", *NULL}), min_size=1))
def test_ids_need_no_quotes_in_yaml(ids: list[str]) -> None:
    """Whatever YAML would make of `1e5` or `off`: an ID in a plain line is that ID."""
    text = "".join(f"- {export_id}\n" for export_id in ids)
    assert parse(text.encode(), "x.yml").ids == tuple(ids)


@pytest.mark.parametrize("name", ["x.yml", "x.json"])
@given(data=st.binary() | st.text('[]{}",:\\-? \n\t&*#!%|>a1').map(str.encode))
def test_no_bytes_raise_anything_but_an_id_file_error(data: bytes, name: str) -> None:
    """Whatever a file holds, it is a file or an error that can be shown in one line."""
    try:
        parse(data, name)
    except IdFileError as error:
        assert str(error).isprintable()  # noqa: PT017 - most bytes are errors, some are not


VALUES = st.recursive(
    st.sampled_from(["a", "a!", "", None, 1, True, "batch"]),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(
            st.sampled_from([*KEYS, "items", "resource", "id", "error", "x"]), inside, max_size=4
        )
    ),
    max_leaves=8,
)


@given(VALUES)
def test_no_shape_raises_anything_but_an_id_file_error(value: object) -> None:
    """Known keys with values of any shape are a file or an error."""
    try:
        ids = parse(json.dumps(value).encode(), "x.json")
    except IdFileError:
        return
    assert all(isinstance(export_id, str) for export_id in ids.ids)
