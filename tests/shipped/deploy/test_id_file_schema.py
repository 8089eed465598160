"""The JSON schema of ID files for editors accepts the same documents as the exporter."""

import json
import re
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.watchlist.idfile import IdFileError, parse
from tests.support.deploy_tools import DEPLOY, ROOT

SCHEMA = json.loads((DEPLOY / "editor/id-file.schema.json").read_text())
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)

Document = Any

# Values that schema and exporter must judge alike. Numbers as IDs are left out: the exporter
# accepts them as text, and the schema requires quotes.
nothing = st.sampled_from([None, "", "~", "null", "Null", "NULL"])
ids = st.one_of(
    st.from_regex(r"[A-Za-z0-9_-]{1,65}", fullmatch=True),
    st.from_regex(r"[0-9a-f]{24}", fullmatch=True),
    st.sampled_from(["a b", "a/b", "é", "a" * 64, "a" * 65, "a\n"]),
    nothing,
    st.just([]),
    st.just({}),
)
lists = st.lists(ids, max_size=3)
files = st.lists(st.just("5f1d3c2b4a5e6f7a8b9c0d1e"), max_size=2)
batches = st.one_of(
    nothing,
    st.integers(),
    st.booleans(),
    lists,
    st.sampled_from([" ", " ~ ", "a" * 100, "a" * 101, "tcga-7", "a\tb", "a\x7f", "a\n"]),
)
counts = st.one_of(
    nothing,
    st.integers(-2, 10**9 + 1),
    st.sampled_from(["884", "884\n", "1e3", "-1", "1234567890", "many", [], {}]),
)
booleans = st.one_of(nothing, st.booleans(), st.sampled_from(["true", "TRUE", "yes", [], {}]))
hrefs = st.sampled_from(
    [None, "https://x.example/v2/storage/exports/a", "https://x.example/v2/storage/imports/a"]
)
exports = st.fixed_dictionaries(
    {}, optional={"id": ids, "href": hrefs, "state": st.just("PENDING")}
)
errors: st.SearchStrategy[object] = st.one_of(
    nothing, st.just({"code": 9001, "message": "no"}), st.just({}), st.just("no")
)
items = st.one_of(
    exports,
    st.fixed_dictionaries({}, optional={"resource": st.one_of(exports, nothing), "error": errors}),
    st.builds(lambda export, error: {**export, "error": error}, exports, errors),
    lists,
    nothing,
)
mappings = st.fixed_dictionaries(
    {},
    optional={
        "acknowledged": st.one_of(lists, nothing),
        "acknowleged": lists,
        "batch": batches,
        "code": st.just(9001),
        "expected": counts,
        "export_ids": st.one_of(lists, files, nothing, st.just({})),
        "id": ids,
        "items": st.one_of(st.lists(items, max_size=3), nothing, st.just({})),
        "message": st.just("no"),
        "refusals_acknowledged": booleans,
        "state": st.just("PENDING"),
    },
)
documents = st.one_of(lists, files, mappings, st.sampled_from([None, "", "text", 7]))


def accepted(document: Document, name: str = "file.json") -> bool:
    """Return whether the exporter accepts a document and all its entries."""
    try:
        return not parse(json.dumps(document).encode(), name).rejected
    except IdFileError:
        return False


@given(documents)
@example({"export_ids": ["a"], "items": []})
@example({"items": [{"resource": {"id": "a"}, "error": {}}]})
@example({"id": "a", "state": "PENDING", "export_ids": []})
@example({"batch": "a"})
@example({"items": [], "acknowleged": []})
@example({"export_ids": [], "acknowleged": []})
@example(["5f1d3c2b4a5e6f7a8b9c0d1e", "a"])
def test_schema_agrees_with_the_exporter(document: Document) -> None:
    """The schema and the exporter accept the same documents."""
    assert VALIDATOR.is_valid(document) == accepted(document)


EXAMPLES = re.findall(
    r"^```(?:yaml|json)\n(.*?)^```",
    (ROOT / "docs/id-files.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_on_the_page_are_valid(text: str) -> None:
    """The examples in docs/id-files.md are valid."""
    assert [error.message for error in VALIDATOR.iter_errors(yaml.safe_load(text))] == []


def test_schema_is_a_valid_schema() -> None:
    """The file is a valid JSON schema (draft 7)."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_comparison_finds_a_wrong_key() -> None:
    """A schema with a misspelt key disagrees with the exporter."""
    wrong = json.loads(json.dumps(SCHEMA).replace('"acknowledged"', '"acknowleged"'))
    document = {"acknowledged": ["a"]}
    assert accepted(document)
    assert not jsonschema.Draft7Validator(wrong).is_valid(document)
