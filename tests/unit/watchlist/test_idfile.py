"""ID files: every valid form, every error with its text, and the entries that are skipped."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.document import MAX_VALUES
from exporter.text import NULL
from exporter.watchlist.content import IdFile, Rejected, Remark
from exporter.watchlist.documents import KEYS
from exporter.watchlist.idfile import ENDINGS, IdFileError, parse
from exporter.watchlist.tables import ID_COLUMNS, REFUSED

DATA = Path(__file__).parents[3] / "tests/data" / "idfiles"

A = "gOM3zcx6CG411ac0SbNkaUE0SNRK4H0S"
B = "YFyyZ7rpCGtXjKTzjGGRJIIAmCd6Mh19"

IDS = st.text(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=64
)

TABLE_IDS = IDS.filter(lambda text: text not in REFUSED and text.lower() not in ID_COLUMNS)

LISTS = st.lists(IDS.filter(lambda export_id: export_id not in NULL))

NO_IDS = (
    " holds no export IDs: it must be a list of them, a mapping with export_ids,"
    " or an answer of the API with items; for none write []"
)
KNOWN = "use one of batch, export_ids, acknowledged, refusals_acknowledged, expected, items"

FILE_IDS = (
    "holds IDs of files (24 hexadecimal digits), not of exports: an export's ID is in the answer"
    " that the API gave when the export was started"
)

NAME_IT = "; the header must name the column with the IDs export_id"
NO_HEADER = "has 2 columns; add a header that names the one with the IDs export_id"
EMPTY = "is empty; for none write a comment (.txt) or a header (.tsv, .csv)"
IMPORTS = "holds imports (/storage/imports/), and only exports can be watched"

# The error of every file in DATA, without the file's name, with which it begins.
INVALID = {
    # Keys
    "invalid-unknown-key.yml": ":2: unknown key: did you mean export_ids?",
    "invalid-unknown-key.json": ":3: unknown key: did you mean acknowledged?",
    "invalid-strange-key.yml": f":3: unknown key: {KNOWN}",
    "invalid-control-key.yml": f":1: unknown key: {KNOWN}",
    "invalid-item-key.json": ":2: unknown key: did you mean items?",
    "invalid-missing-ids.yml": ":2: the key export_ids is missing",
    "invalid-missing-everything.json": ":1: the key export_ids is missing",
    "invalid-repeated-key.yml": ":4: a key is repeated",
    "invalid-repeated-key.json": ":3: a key is repeated",
    "invalid-repeated-key-within.json": ":3: a key is repeated",
    "invalid-key-list.yml": ":1: a key must be text",
    "invalid-both.json": ":1: has both export_ids and items; put one in another file",
    # Shapes
    "invalid-empty.yml": ":" + NO_IDS,
    "invalid-text.yml": ":1:" + NO_IDS,
    "invalid-text.json": ":1:" + NO_IDS,
    "invalid-ids-text.yml": ":2: export_ids must be a list of export IDs",
    "invalid-ids-mapping.json": ":2: export_ids must be a list of export IDs",
    "invalid-ids-of-mappings.yml": ":3: export_ids must hold export IDs only",
    "invalid-list-of-lists.yml": ":2: the list must hold export IDs only",
    "invalid-acknowledged-text.yml": ":3: acknowledged must be a list of export IDs",
    "invalid-acknowledged-list.json": ":2: acknowledged must hold export IDs only",
    "invalid-items-mapping.json": ":2: items must be a list, as in an answer of the API",
    "invalid-items-null.json": ":1: items must be a list, as in an answer of the API",
    "invalid-item-text.json": ":3: each of items must be a mapping",
    # Batches
    "invalid-batch-empty.yml": ":1: batch must be a name",
    "invalid-batch-blank.yml": ":1: batch must be a name",
    "invalid-batch-null-word.yml": ":1: batch must be a name",
    "invalid-batch-null.json": ":1: batch must be a name",
    "invalid-batch-list.yml": ":1: batch must be a name",
    "invalid-batch-control.yml": ":2: batch must be at most 100 printable characters",
    "invalid-batch-surrogate.json": ":1: batch must be at most 100 printable characters",
    "invalid-batch-long.yml": ":1: batch must be at most 100 printable characters",
    # Text forms, answers, and the other keys
    "invalid-file-ids.txt": ":2: " + FILE_IDS,
    "invalid-file-ids.csv": ":2: " + FILE_IDS,
    "invalid-file-ids.yml": ":2: " + FILE_IDS,
    "invalid-file-ids.json": ":1: " + FILE_IDS,
    "invalid-json.txt": ":2: must hold an ID on each line; name the file .json",
    "invalid-yaml.txt": ":1: must hold an ID on each line; name the file .yml",
    "invalid-no-header.tsv": ":1: no column export_id" + NAME_IT,
    "invalid-header.csv": ":1: no column export_id" + NAME_IT,
    "invalid-late-columns.csv": ":3: " + NO_HEADER,
    "invalid-other-ids.csv": ":3: the column id holds something other than export IDs:"
    " name the column with the export IDs export_id",
    "invalid-repeated-column.tsv": ":1: the column export_id is repeated",
    "invalid-semicolons.csv": ":1: the columns must be separated by commas",
    "invalid-semicolons-quoted.csv": ":1: the columns must be separated by commas",
    "invalid-commas.tsv": ":1: the columns must be separated by tabs",
    "invalid-open-quote.csv": ":3: not a valid table: unexpected end of data",
    "invalid-quote.tsv": r""":2: not a valid table: '\t' expected after '"'""",
    "invalid-import.json": ":3: " + IMPORTS,
    "invalid-import-alone.json": ":2: " + IMPORTS,
    "invalid-refused-call.json": ":1: is an API error (code 90001): the call started no export",
    "invalid-refused-call-no-code.json": ":1: is an API error: the call started no export",
    "invalid-both-one.json": ":1: has both export_ids and id; put one in another file",
    "invalid-batch-alone.yml": ":1: the key export_ids is missing",
    "invalid-expected.yml": ":2: expected must be a number of exports, like 884",
    "invalid-expected-list.yml": ":2: expected must be a number of exports, like 884",
    "invalid-expected-negative.json": ":1: expected must be a number of exports, like 884",
    "invalid-refusals-acknowledged.yml": ":2: refusals_acknowledged must be true or false",
    "invalid-refusals-acknowledged-list.yml": ":2: refusals_acknowledged must be true or false",
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

# The extension of a file named `tcga-7`, its content, and what it is parsed to.
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
        IdFile("tcga-7", (A,), refused={"9006": 1, "1": 1}),
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
        IdFile("kids", (A,), frozenset({A}), (), remarks=(Remark("unknown key", 1),)),
        id="answer with a batch and acknowledged IDs",
    ),
    pytest.param(
        ".json",
        json.dumps({"items": [{"id": A}], "href": "", "acknowleged": [A], "id": A}, indent=1),
        IdFile("tcga-7", (A,), remarks=(
            Remark("unknown key; did you mean acknowledged?", 8),
            Remark("unknown key", 11))),
        id="list with misspelt keys",
    ),
    pytest.param(
        ".yml",
        f"id: {A}\nstate: FAILED\nstarted_on: x\nitem: x\nexpects: 1\n",
        IdFile("tcga-7", (A,), remarks=(
            Remark("unknown key", 4),
            Remark("unknown key; did you mean expected?", 5))),
        id="single export with misspelt keys",
    ),
    pytest.param(
        ".json",
        json.dumps({"items": [], "\x1b" * 70: 1} | dict.fromkeys(map(str, range(22)))),
        IdFile("tcga-7", (), remarks=(
            *(Remark("unknown key", 1) for _ in range(20)),
            Remark("3 more unknown keys", None))),
        id="many unknown keys",
    ),
    pytest.param(
        ".yml", f"acknowledged: [{B}]", IdFile(None, (), frozenset({B}), ()),
        id="acknowledged IDs alone: no batch",
    ),
    pytest.param(
        ".yml", f"batch: kids\nacknowledged: [{B}]", IdFile("kids", (), frozenset({B}), ()),
        id="acknowledged IDs and a batch: an empty batch",
    ),
    pytest.param(
        ".yml", f"export_ids:\n#  - {A}\nacknowledged:\n", IdFile("tcga-7", (), frozenset(), ()),
        id="every line commented out",
    ),
    pytest.param(
        ".json", '{"export_ids": null, "acknowledged": null}',
        IdFile("tcga-7", (), frozenset(), ()), id="null instead of lists",
    ),
    *(
        pytest.param(
            ".yml", f"export_ids: {null}\nacknowledged: {null}",
            IdFile("tcga-7", (), frozenset(), ()), id=f"{null!r} instead of lists",
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
    pytest.param(
        ".json",
        json.dumps(
            {"items": [{"error": {"status": 403, "code": 9006}}, {"error": {}}, {"error": "no"},
                       {"resource": {}, "error": {"code": 9006}}], "refusals_acknowledged": True}
        ),
        IdFile("tcga-7", (), refused={"9006": 2, "": 2}, refusals_acknowledged=True),
        id="answer with nothing but refusals",
    ),
    pytest.param(
        ".json",
        json.dumps({"href": "https://x/storage/exports/a", "id": A, "state": "PENDING"}),
        IdFile("tcga-7", (A,)),
        id="answer of the start of one export",
    ),
    pytest.param(
        ".yml", "expected: 884\nrefusals_acknowledged: true",
        IdFile("tcga-7", (), refusals_acknowledged=True, expected=884),
        id="neither IDs nor acknowledged, as beside a table of the same name",
    ),
    pytest.param(
        ".yml", f"expected: ~\nrefusals_acknowledged:\nexport_ids: [{A}]",
        IdFile("tcga-7", (A,)), id="null for optional keys",
    ),
    pytest.param(
        ".yml", '[{"id": "\\ud83e\\uddec", "x": 1}]'.replace("[{", '{"items": [{') + "}",
        IdFile("tcga-7", (), rejected=(Rejected("🧬", 1),)),
        id="JSON that is not valid YAML",
    ),
    pytest.param("", '\n {"items": [{"id": "a", "name": "\\ud83e\\uddec"}]}',
        IdFile("tcga-7", ("a",)), id="JSON that is not valid YAML, without an extension",
    ),
    # Lists
    pytest.param(
        ".txt", f"# of today\n{A}  # why\n\n\t{B}\r\ninvalid\nNA\n",
        IdFile("tcga-7", (A, B), refused={"": 2}), id="list",
    ),
    pytest.param(".TXT", f"\ufeff{A}", IdFile("tcga-7", (A,)), id="list with a byte order mark"),
    pytest.param(".txt", "# none yet\n", IdFile("tcga-7", ()), id="list without IDs"),
    pytest.param(
        ".txt", f"{A}\u00a0\n{A} {B}\n",
        IdFile("tcga-7", (), rejected=(Rejected(rf"{A}\xa0", 1), Rejected(f"{A} {B}"[:64], 2))),
        id="list with a no-break space",
    ),
    # Tables
    pytest.param(
        ".tsv", f"file\texport_id\tid\na.bam\t{A}\t1\nb.bam\t\t2\nc.bam\t invalid \t3\nd\n",
        IdFile("tcga-7", (A,), refused={"": 3}), id="table",
    ),
    pytest.param(
        ".Csv", f'\ufeff"file","Export_ID"\r\n"a, ""b""\n.bam","{A}"\r\n\r\n"c","{B}"\r\n',
        IdFile("tcga-7", (A, B)), id="table of a spreadsheet",
    ),
    pytest.param(
        ".tsv", f"#id\tsample\n{A}\ts1\nNA\ts2\n", IdFile("tcga-7", (A,), refused={"": 1}),
        id="table with a column id",
    ),
    pytest.param(
        ".csv", f"{A}\n{B}\n'!'\n",
        IdFile("tcga-7", (A, B), rejected=(Rejected("'!'", 3),)), id="table of one column",
    ),
    pytest.param(".csv", f'""\n{B}\n', IdFile("tcga-7", (B,), refused={"": 1}),
        id="table of one column that begins with a refusal",
    ),
    pytest.param(
        ".csv", f",\nfile,export_id\na,{A}\n,\nb,\n , \n,\n",
        IdFile("tcga-7", (A,), refused={"": 1}), id="table with empty rows",
    ),
    pytest.param(
        ".csv", f' \nexport_id\n{A}\n \n\t\n""\n" "\n{B}\n \n',
        IdFile("tcga-7", (A, B), refused={"": 1}), id="table of one column with blank lines",
    ),
    pytest.param(".csv", "export_id\n", IdFile("tcga-7", ()), id="table with nothing but a header"),
    pytest.param(".yml", "[]", IdFile("tcga-7", (), frozenset(), ()), id="empty list"),
    pytest.param(".json", '{"items": []}', IdFile("tcga-7", (), frozenset(), ()), id="no items"),
    pytest.param(
        ".yml", f"- {A}\n- {A}\n", IdFile("tcga-7", (A, A), frozenset(), ()),
        id="an ID that is listed twice",
    ),
    pytest.param(
        ".yml", "- 1e32\n- 0123\n- no\n- 123\n- 2024-01-01\n- -1\n- _-\n",
        IdFile(
            "tcga-7", ("1e32", "0123", "no", "123", "2024-01-01", "-1", "_-"), frozenset(), ()
        ),
        id="IDs that look like numbers, dates or words of YAML",
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
    """Each valid form is parsed to its batch, its IDs and its other values."""
    assert parse(text.encode(), "tcga-7" + ending) == expected


@pytest.mark.parametrize(("name", "problem"), INVALID.items(), ids=INVALID)
def test_invalid_files(name: str, problem: str) -> None:
    """The error of an invalid file names the file, the line, the key, and the remedy."""
    with pytest.raises(IdFileError) as error:
        parse((DATA / name).read_bytes(), name)
    assert str(error.value) == name + problem


def test_every_invalid_file_is_in_the_table() -> None:
    """Every file in the directory of invalid files has its error in the table."""
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
def test_default_batch_is_the_file_name_without_its_extension(name: str, batch: str) -> None:
    """Without `batch`, the batch is the file's name without its extension.

    It is never empty, and never truncated, because two truncated names could be equal.
    """
    assert parse(b"[]", name).batch == batch


@pytest.mark.parametrize(
    "data", [b"", b"\n\n", b" \t\r\n", b"\xef\xbb\xbf", b"\xc2\xa0\n"], ids=repr
)
@pytest.mark.parametrize("ending", [".txt", ".tsv", ".CSV"])
def test_empty_text_file_is_an_error(ending: str, data: bytes) -> None:
    """An empty file may be damaged; a file without IDs has a comment or a header instead."""
    with pytest.raises(IdFileError) as error:
        parse(data, "x" + ending)
    assert str(error.value) == f"x{ending}: {EMPTY}"


@pytest.mark.parametrize(("ending", "text"), [(".csv", ",,\n,,\n"), (".tsv", "\t\n\t")])
def test_table_of_blank_rows_is_empty(ending: str, text: str) -> None:
    """A table of separators alone counts as empty: spreadsheets write blank rows like that."""
    with pytest.raises(IdFileError) as error:
        parse(text.encode(), "x" + ending)
    assert str(error.value) == f"x{ending}: {EMPTY}"


@pytest.mark.parametrize(
    "before", [b"", f"# IDs\n{A}\n".encode()], ids=["NUL bytes only", "NUL bytes at the end"]
)
@pytest.mark.parametrize("ending", ENDINGS)
def test_nul_bytes_are_an_error_of_the_file(ending: str, before: bytes) -> None:
    """NUL bytes are an error: after a crash, file systems show them for unwritten content."""
    with pytest.raises(IdFileError) as error:
        parse(before + bytes(99), "x" + ending)
    line = before.count(b"\n") + 1
    assert str(error.value) == (
        f"x{ending}:{line}: holds NUL bytes, as after a crash or in UTF-16: save it as UTF-8"
    )


@pytest.mark.parametrize("name", ["x.yml", "x.YAML", "x", "x.ids"])
def test_file_without_another_extension_is_yaml(name: str) -> None:
    """A file is read as YAML unless its extension is that of another format."""
    assert parse(b"- a", name).ids == ("a",)


def test_extensions_and_keys_are_those_of_the_documentation() -> None:
    """A change of the extensions or keys must be made in the documentation, too."""
    assert ENDINGS == (".yml", ".yaml", ".json", ".txt", ".tsv", ".csv")
    assert KEYS == ("batch", "export_ids", "acknowledged", "refusals_acknowledged", "expected")


@pytest.mark.parametrize(
    "text", ["", "a b", "a/b", "Größe", "a" * 65, "a\n", "a:b", "../etc", "a,", "\x00", "\ud800"]
)
def test_invalid_export_id_is_skipped(text: str) -> None:
    """An entry that is not a valid export ID is skipped, and reported with its line."""
    expected = (Rejected(text[:64].encode("unicode_escape").decode(), 3),)
    if text == "Größe":
        expected = (Rejected("Größe", 3),)
    ids = parse(f'[\n"{A}",\n{json.dumps(text)},\n"{B}"]'.encode(), "x.json")
    assert ids == IdFile("x", (A, B), frozenset(), expected)


@pytest.mark.parametrize(
    ("name", "text", "header", "line"),
    [
        ("x.txt", f"export_id\n{A}\n", "export_id", 1),
        ("x.txt", f"Id\n{A}\n", "Id", 1),
        ("x.csv", f"export_id\n{A}\nexport_id\n", "export_id", 3),
        ("x.tsv", f"id\tsample\n{A}\ta\nid\tsample\n", "id", 3),
    ],
)
def test_a_header_is_no_id(name: str, text: str, header: str, line: int) -> None:
    """The header of a table that is named .txt, or of joined tables, is rejected as such."""
    parsed = parse(text.encode(), name)
    assert parsed.ids == (A,)
    assert parsed.rejected == (Rejected(f"{header} (a table's header)", line),)


def test_rejected_ids_have_their_lines() -> None:
    """The same invalid text in two places is reported twice, each with its line."""
    text = "export_ids:\n- a!\n- b\n- a!\nacknowledged:\n- c!\n"
    expected = (Rejected("a!", 2), Rejected("a!", 4), Rejected("c!", 6))
    assert parse(text.encode(), "x.yml").rejected == expected


def test_two_lines_that_yaml_folds_are_rejected() -> None:
    """Without its dash, YAML folds a line into the one before; the result is not a valid ID."""
    assert parse(f"- {A}\n  {B}\n".encode(), "x.yml").rejected == (Rejected(f"{A} {B}"[:64], 1),)


@pytest.mark.parametrize(
    "item", ["{}", '{"resource": {}}', '{"resource": {"id": null}}', '{"id": []}', '{"id": ""}']
)
def test_an_item_without_an_id_or_an_error_is_counted_as_rejected(item: str) -> None:
    """An item of an answer with neither an ID nor an error counts as rejected."""
    ids = parse(f'{{"items": [{{"id": "a"}},\n{item}]}}'.encode(), "x.json")
    assert (ids.ids, ids.rejected) == (("a",), (Rejected("an item without id", 2),))


def test_item_with_an_invalid_id_is_rejected_with_the_line_of_the_id() -> None:
    """An item with an invalid ID is rejected, not counted as refused, even if it has an error."""
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
def test_other_encodings_than_utf_8_are_errors(data: bytes, name: str, line: int) -> None:
    """A file in another encoding is an error that names the first line that is not UTF-8."""
    with pytest.raises(IdFileError) as error:
        parse(data, name)
    assert str(error.value) == f"{name}:{line}: not UTF-8 text: save it as UTF-8"


@pytest.mark.parametrize("name", ["x.yml", "x.json"])
def test_a_byte_order_mark_and_windows_line_ends_do_not_matter(name: str) -> None:
    """A file of a Windows editor is valid, and its lines are numbered like those of others."""
    ids = parse(b'\xef\xbb\xbf[\r\n"a",\r\n"b!"\r\n]\r\n', name)
    assert (ids.ids, ids.rejected) == (("a",), (Rejected("b!", 3),))


def test_error_escapes_the_file_name() -> None:
    """Control characters in a file's name are escaped, so that it cannot forge a log line."""
    with pytest.raises(IdFileError) as error:
        parse(b"- [", "a\nlevel=info.yml")
    assert str(error.value).startswith(r"a\nlevel=info.yml:2: not YAML")


@given(
    IDS.filter(lambda batch: batch not in NULL),
    LISTS,
    LISTS,
    st.sampled_from(["mapping", "list", "items"]),
)
def test_file_written_by_a_library_is_read_back(
    batch: str, ids: list[str], acknowledged: list[str], form: str
) -> None:
    """A file that a library wrote as YAML or JSON is parsed to the values that it was given."""
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
    """IDs such as `1e5` or `off` need no quotes in YAML."""
    text = "".join(f"- {export_id}\n" for export_id in ids)
    assert parse(text.encode(), "x.yml").ids == tuple(ids)


@pytest.mark.parametrize("name", ["x.yml", "x.json", "x.txt", "x.tsv", "x.csv"])
@given(data=st.binary() | st.text('[]{}",:\\-? \n\t&*#!%|>a1').map(str.encode))
def test_no_bytes_raise_anything_but_an_id_file_error(data: bytes, name: str) -> None:
    """Any bytes are parsed, or raise an `IdFileError` whose text is a single line."""
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
    """A document of known keys with values of any type is parsed, or raises `IdFileError`."""
    try:
        ids = parse(json.dumps(value).encode(), "x.json")
    except IdFileError:
        return
    assert all(isinstance(export_id, str) for export_id in ids.ids)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x.txt", "x.tsv", "x.csv"])
def test_text_file_has_at_most_as_many_lines_as_a_document_has_values(name: str) -> None:
    """A file of `MAX_VALUES` lines is read in a second; the first line beyond is an error."""
    parse(b"a\n" * MAX_VALUES, name)
    with pytest.raises(
        IdFileError, match=f"^{name}:{MAX_VALUES + 1}: holds more than {MAX_VALUES}"
    ):
        parse(b"a\n" * (MAX_VALUES + 1), name)


@given(ids=st.lists(TABLE_IDS))
@pytest.mark.parametrize("name", ["x.tsv", "x.csv"])
def test_table_written_by_a_library_is_read_back(name: str, ids: list[str]) -> None:
    """A table written by `csv` is read back, whatever its other columns hold."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, delimiter="\t" if name.endswith("tsv") else ",")
    rows.writerow(["file", "export_id"])
    rows.writerows(['a "b",\tc\nd', export_id] for export_id in ids)
    assert parse(text.getvalue().encode(), name) == IdFile("x", tuple(ids))


@given(ids=st.lists(TABLE_IDS, min_size=1))
def test_list_of_one_id_per_line_is_read_back(ids: list[str]) -> None:
    """A text file of one ID per line is parsed to these IDs."""
    assert parse("\n".join(ids).encode(), "x.txt") == IdFile("x", tuple(ids))
