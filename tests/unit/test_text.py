"""Untrusted text: decoding, escaping, excerpts and suggestions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.text import TextError, decode, excerpt, printable, suggestion


@pytest.mark.parametrize(("line", "expected"), [(7, "a.yml:7: is bad"), (None, "a.yml: is bad")])
def test_an_error_names_file_and_line(line: int | None, expected: str) -> None:
    """The form is that of compilers, which editors understand; the line is omitted if unknown."""
    assert TextError(line, "is bad").at("a.yml") == expected


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    """A byte order mark, which Windows editors write, is removed; a second one is a character."""
    assert decode(b"\xef\xbb\xbf\xef\xbb\xbfa") == "\ufeffa"


def test_text_that_is_not_utf_8_is_an_error_with_its_line() -> None:
    """The line is that of the first byte that is not valid UTF-8."""
    with pytest.raises(TextError, match="not UTF-8 text: save it as UTF-8") as error:
        decode(b"a\nb\n\xff")
    assert error.value.line == 3


@pytest.mark.parametrize("data", [b"a\nb\n\0\0", "a\nb\n".encode("utf-16-le"), b"\0"], ids=repr)
def test_text_with_nul_bytes_is_an_error(data: bytes) -> None:
    """A crash can leave NUL bytes in a file, and UTF-16 contains them."""
    with pytest.raises(TextError, match="holds NUL bytes") as error:
        decode(data)
    assert error.value.line == (3 if data.startswith(b"a\nb") else 1)


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("export_id", "did you mean export_ids?"),
        ("volume", "use one of batch, export_ids"),
        ("batch" + "x" * 10**6, "use one of batch, export_ids"),
    ],
    ids=["similar word", "other word", "very long word"],
)
def test_a_misspelt_word_gets_a_suggestion(word: str, hint: str) -> None:
    """The hint for a word of any length is the most similar known word, or all known words."""
    assert suggestion(word, ["batch", "export_ids"]) == hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("batch 7: Größe 中文 🧬", "batch 7: Größe 中文 🧬"),
        ("a\nb\tc\x00\x7f", r"a\nb\tc\x00\x7f"),
        ("\x1b[31m", r"\x1b[31m"),
        ("a\u202eb\u200bc\u00a0d", r"a\u202eb\u200bc\xa0d"),
        ("\udcff", r"\udcff"),
        ("a\\nb", r"a\\nb"),
    ],
)
def test_printable_escapes_characters_that_harm_a_log(text: str, expected: str) -> None:
    """Control characters, broken encoding and characters that turn or hide text are escaped."""
    assert printable(text) == expected


CHARACTERS = st.characters() | st.characters(categories=["Cs", "Cc"]) | st.sampled_from("\\nxu0a")


@given(st.text(CHARACTERS), st.text(CHARACTERS))
def test_printable_texts_are_printable_and_stay_different(one: str, other: str) -> None:
    """Different names never become the same label, and every label can be encoded."""
    assert printable(one).isprintable()
    printable(one).encode()  # no surrogates are left
    assert (printable(one) == printable(other)) == (one == other)


@given(st.text(CHARACTERS))
def test_printable_can_be_undone(text: str) -> None:
    """Escaping is reversible, so different texts stay different."""
    escapes = printable(text).encode("ascii", "backslashreplace").decode("ascii")
    assert escapes.encode().decode("unicode_escape") == text


def test_an_excerpt_is_short_and_printable() -> None:
    """An excerpt shows the first 64 characters of a text, escaped."""
    assert excerpt("a\n" * 50) == r"a\n" * 32
