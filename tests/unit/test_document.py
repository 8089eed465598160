"""Documents: nested lists, dicts and texts, with their lines, from YAML and JSON."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter import document
from exporter.document import (
    MAX_DEPTH,
    MAX_VALUES,
    line_of,
    read_json,
    read_yaml,
)
from exporter.text import TextError


def import_without_libyaml() -> ModuleType:
    """Return a second copy of the module, imported as if PyYAML had no libyaml."""
    spec = importlib.util.find_spec("exporter.document")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(yaml, "CBaseLoader")
        spec.loader.exec_module(module)
    return module


WITHOUT_LIBYAML = import_without_libyaml()
read_yaml_without_libyaml: Callable[[str], object] = WITHOUT_LIBYAML.read_yaml

YAML_READERS = [
    pytest.param(read_yaml, id="libyaml"),
    pytest.param(read_yaml_without_libyaml, id="no libyaml"),
]
READERS = [*YAML_READERS, pytest.param(read_json, id="JSON")]

NO_DIRECTIVES = "directives are not supported: no line may begin with %"

# Characters that both formats can hold. YAML reads a line break in a text as a space.
TEXTS = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="\ufeff"), max_size=8
)
DOCUMENTS = st.recursive(
    TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(TEXTS, inside, max_size=3),
    max_leaves=8,
).filter(lambda value: not isinstance(value, str))


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("scalar", ["1e32", "0123", "123", "-1.50", "true", "null", "NaN"])
def test_every_scalar_is_text(read: Callable[[str], object], scalar: str) -> None:
    """Every scalar is read as its text, even where other readers convert it."""
    text = "[" + (scalar if read is not read_json or scalar != "0123" else '"0123"') + "]"
    assert read(text) == [scalar]


@pytest.mark.parametrize("read", YAML_READERS)
@pytest.mark.parametrize(
    "scalar", ["no", "~", "2024-01-01", "0x1F", "1_000", "12:30:45", "!!int 7", ".inf"]
)
def test_the_words_and_numbers_of_yaml_are_text(read: Callable[[str], object], scalar: str) -> None:
    """YAML's booleans, nulls, dates, numbers and tags are not interpreted."""
    assert read(f"- {scalar}") == [scalar.removeprefix("!!int ")]


def test_a_number_of_json_may_have_any_length() -> None:
    """Numbers are not converted, so Python's limit on the number of digits does not apply."""
    assert read_json("[" + "9" * 5000 + "]") == ["9" * 5000]


def test_yaml_and_json_can_nest() -> None:
    """Nested containers keep their structure and order."""
    text = '{"b": [{"x": "1"}, []], "a": {"c": {}}}'
    expected = {"b": [{"x": "1"}, []], "a": {"c": {}}}
    assert read_yaml(text) == expected
    assert read_json(text) == expected
    assert list(expected) == ["b", "a"]


@pytest.mark.parametrize("read", READERS)
def test_every_value_and_key_has_its_line(read: Callable[[str], object]) -> None:
    """Lines count from 1, and equal texts in two places each have their own line."""
    root = read('\n{"a": "x",\n"b": [\n"a",\n{},\n7]}')
    assert isinstance(root, dict)
    key_a, key_b = root
    assert [line_of(value) for value in (root, key_a, root["a"], key_b, root["b"])] == [
        2,
        2,
        2,
        3,
        3,
    ]
    assert [line_of(value) for value in root["b"]] == [4, 5, 6]


def test_other_values_have_no_line() -> None:
    """`line_of` returns None for a value that is not part of a document."""
    assert line_of("a text") is None


def test_json_strings_do_not_affect_line_numbers() -> None:
    r"""An escaped `\n`, brackets and quotes within a string do not count for lines or structure."""
    root = read_json('["\\n [{\\"",\n"second"]')
    assert root == ['\n [{"', "second"]
    assert isinstance(root, list)
    assert line_of(root[1]) == 2


@pytest.mark.parametrize("read", YAML_READERS)
def test_an_empty_text_is_an_empty_yaml_document(read: Callable[[str], object]) -> None:
    """YAML with only comments is read as None; the caller decides whether that is an error."""
    assert read("# nothing\n") is None


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('{"a": 1,\n"b": 2,\n"a": 3}', 3, "a key is repeated"),
        ('{"\\t": 1,\n"\\t": 2}', 2, "a key is repeated"),
        ("\n" + "[" * 51 + "]" * 51, 2, f"nested more than {MAX_DEPTH} levels deep"),
        ('\n{"a":' * 51 + "1" + "}" * 51, 52, f"nested more than {MAX_DEPTH} levels deep"),
    ],
    ids=["repeated key", "repeated key to escape", "nested lists", "nested mappings"],
)
def test_repeated_keys_and_deep_nesting_are_refused(
    read: Callable[[str], object], text: str, line: int, problem: str
) -> None:
    """Repeated keys are ambiguous and deep nesting is dangerous: both are errors with a line."""
    with pytest.raises(TextError) as error:
        read(text)
    assert (error.value.line, str(error.value)) == (line, problem)


@pytest.mark.parametrize("read", READERS)
def test_nesting_up_to_the_limit_is_accepted(read: Callable[[str], object]) -> None:
    """A document of exactly the maximum depth is accepted."""
    assert read("[" * MAX_DEPTH + "]" * MAX_DEPTH)


@pytest.mark.parametrize("read", READERS)
def test_keys_containers_and_texts_all_count_as_values(
    read: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, containers and texts count; the first beyond the limit is an error with its line."""
    monkeypatch.setattr(document, "MAX_VALUES", 5)
    monkeypatch.setattr(WITHOUT_LIBYAML, "MAX_VALUES", 5)
    assert read('{"a": 1, "b": []}')
    with pytest.raises(TextError, match="holds more than 5 values") as error:
        read('[{"a": 1,\n"b": []}]')
    assert error.value.line == 2


@pytest.mark.slow
@pytest.mark.parametrize("read", [read_yaml, read_json])
def test_at_most_250_000_values_are_read(read: Callable[[str], object]) -> None:
    """250,000 values are read within a scrape; millions would delay it."""
    assert MAX_VALUES == 250_000
    with pytest.raises(TextError, match="holds more than 250000 values"):
        read("[" + "1," * 249_999 + "1]")


@pytest.mark.parametrize(
    "text",
    ["[" * 250_001, "[1" + ",1" * 250_000, "[" + "{}," * 125_001],
    ids=["nested lists", "numbers", "mappings"],
)
def test_far_too_many_values_of_json_are_not_decoded(text: str) -> None:
    """JSON with far too many values is refused before the decoder blocks the whole process."""
    with pytest.raises(TextError, match="holds more than 250000 values") as error:
        read_json(text)
    assert error.value.line is None


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("- a\n- b: [c\n", 3, "did not find expected ',' or ']', while parsing a flow sequence"),
        ("a:\n\t- b", 2, "found character that cannot start any token"),
        ("- é\U0001f600\n- \x07", 2, "the character U+0007 is not allowed"),
        ("\x00", 1, "the character U+0000 is not allowed"),
        ("- \ufffe", 1, "the character U+FFFE is not allowed"),
        ('- "\\ud83d"', 1, "found invalid Unicode character escape code"),
    ],
)
def test_invalid_yaml_is_an_error_with_its_line(text: str, line: int, problem: str) -> None:
    """The error names the line, the problem, and the start of an unfinished construct."""
    with pytest.raises(TextError) as error:
        read_yaml(text)
    assert error.value.line == line
    assert str(error.value).startswith(f"not YAML: {problem}")
    # PyYAML's own reader describes the problem in other words.
    with pytest.raises(TextError, match=r"^not YAML: ") as error:
        read_yaml_without_libyaml(text)
    assert error.value.line == line


@pytest.mark.parametrize("text", ['- "\\ud83d"', '- "\\UFFFFFFFF"', '- "\\U00110000"'])
def test_an_escape_that_is_no_character_is_not_yaml(text: str) -> None:
    """Such an escape is refused without libyaml, too: the text could not be encoded for output."""
    with pytest.raises(TextError, match="not YAML: an escape sequence is not a valid character"):
        read_yaml_without_libyaml(text)


def test_without_libyaml_large_files_are_refused() -> None:
    """Without libyaml a large file would take minutes; the error recommends JSON instead."""
    read_yaml("#" * 2**20 + "\n[]")
    with pytest.raises(TextError, match=r"larger than 1048576 characters.*save it as JSON"):
        read_yaml_without_libyaml("#" * 2**20 + "\n[]")


@pytest.mark.slow
def test_without_libyaml_the_exporter_works(tmp_path: Path) -> None:
    """The exporter reads a YAML ID file if PyYAML has no libyaml."""
    (tmp_path / "kids.yml").write_text("- a\n")
    program = """if True:
        import sys
        sys.modules["yaml._yaml"] = None
        from exporter.cli.command import main
        main()
    """
    arguments = ["--exports.path", str(tmp_path), "--config.check"]
    process = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"SB_AUTH_TOKEN": "x"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 ID file, 1 export ID in 1 batch" in process.stdout
    assert "  kids: 1\n" in process.stdout
    assert process.returncode == 0


@pytest.mark.parametrize("read", YAML_READERS)
@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("- *a", 1, "aliases are not supported: write the value out"),
        ("- a\n--- b", 2, "more than one document"),
        ("- a\n---\n", 3, "more than one document"),
        ("a: 1\n? {b: c}\n: d", 2, "a key must be text"),
        ("# ids\n%YAML 1.2\n---\n- a", 2, NO_DIRECTIVES),
        ("- a\n...\n%TAG !a! b\n---\n- a", 3, NO_DIRECTIVES),
        ("[a,\n%b]", 2, NO_DIRECTIVES),
    ],
)
def test_unsupported_features_of_yaml_are_refused(
    read: Callable[[str], object], text: str, line: int, problem: str
) -> None:
    """Anything in YAML but lists, mappings and texts is refused, and the error names it."""
    with pytest.raises(TextError) as error:
        read(text)
    assert (error.value.line, str(error.value)) == (line, problem)


@pytest.mark.parametrize(
    "before", ["", "\ufeff", "#\n", "#\r", "#\r\n", "#\x85", "#\u2028", "#\u2029"]
)
def test_a_directive_is_found_wherever_libyaml_accepts_one(before: str) -> None:
    """Directives are found after every kind of line break: libyaml could take minutes for them."""
    text = before + "%TAG !a! tag:x,\n--- !a!b c"
    started = [event for event in yaml.parse(text, yaml.CBaseLoader) if hasattr(event, "tags")]
    assert started[0].tags
    with pytest.raises(TextError, match=f"^{NO_DIRECTIVES}$") as error:
        read_yaml(text)
    assert error.value.line == 1 + before.startswith("#")


@pytest.mark.parametrize("read", YAML_READERS)
def test_a_percent_sign_within_a_line_is_text(read: Callable[[str], object]) -> None:
    """A percent sign is a directive only at the start of a line."""
    assert read("- 100%\n- '%'\n#%\n") == ["100%", "%"]


@pytest.mark.parametrize("read", YAML_READERS)
@pytest.mark.parametrize(
    "text", ["admin: @hunter2", "admin: `hunter2", "a: b: hunter2", "hunter2\nb:\n- c"]
)
def test_a_yaml_error_does_not_show_the_text(read: Callable[[str], object], text: str) -> None:
    """The text may be a password that lacks its quotes, or the token in a file of a wrong name."""
    with pytest.raises(TextError) as error:
        read(text)
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, "Expecting value"),
        ("['a']", 1, "Expecting value"),
        ('["a"\n"b"]', 2, "Expecting ',' delimiter"),
        ('["a\n"]', 1, "Invalid control character at"),
        ('["a"]\n["b"]', 2, "Extra data"),
        ("[01]", 1, "Expecting ',' delimiter"),
    ],
)
def test_invalid_json_is_an_error_with_its_line(text: str, line: int, problem: str) -> None:
    """The error names the line and the message of the standard library's parser."""
    with pytest.raises(TextError) as error:
        read_json(text)
    assert (error.value.line, str(error.value)) == (line, f"not JSON: {problem}")


def test_json_beyond_the_recursion_limit_is_too_deep() -> None:
    """The decoder fails at Python's recursion limit, where the line is not known."""
    with pytest.raises(TextError, match="nested more than 50 levels deep") as error:
        read_json("[" * 200_000)
    assert error.value.line is None


@given(DOCUMENTS)
def test_both_formats_read_what_was_written(value: object) -> None:
    """A document that is written as JSON or as YAML is read back unchanged."""
    assert read_json(json.dumps(value)) == value
    assert read_json(json.dumps(value, ensure_ascii=False, indent=1)) == value
    assert read_yaml(yaml.dump(value, Dumper=yaml.CSafeDumper, default_style='"')) == value


@pytest.mark.parametrize("read", READERS)
@given(text=st.text() | st.text('[]{}",:\\-? \n\t&*#!%|>a1'))
def test_any_text_is_a_document_or_a_text_error(read: Callable[[str], object], text: str) -> None:
    """Any text is read as a document or refused with a printable `TextError`."""
    try:
        read(text)
    except TextError as error:
        assert str(error).isprintable()  # noqa: PT017 - most texts are errors, some are not
