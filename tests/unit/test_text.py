"""Untrusted text: what is decoded, escaped, quoted and suggested."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.text import TextError, decode, excerpt, printable, suggestion


@pytest.mark.parametrize(("line", "expected"), [(7, "a.yml:7: is bad"), (None, "a.yml: is bad")])
def test_an_error_says_where(line: int | None, expected: str) -> None:
    """As compilers do it, so that editors can follow; without a line where none is known."""
    assert TextError(line, "is bad").at("a.yml") == expected


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    """Editors of Windows write one; a second one is a character."""
    assert decode(b"\xef\xbb\xbf\xef\xbb\xbfa") == "\ufeffa"


def test_what_is_not_utf_8_is_an_error_with_its_line() -> None:
    """The line is that of the first byte that fits no character."""
    with pytest.raises(TextError, match="not UTF-8 text: save it as UTF-8") as error:
        decode(b"a\nb\n\xff")
    assert error.value.line == 3


@pytest.mark.parametrize("data", [b"a\nb\n\0\0", "a\nb\n".encode("utf-16-le"), b"\0"], ids=repr)
def test_nul_bytes_are_no_text(data: bytes) -> None:
    """A crash leaves them in a file, and UTF-16 has them."""
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
)
def test_a_misspelt_word_gets_a_suggestion(word: str, hint: str) -> None:
    """A misspelt word gets the likely word or all words as a hint, for any length."""
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
def test_printable_escapes_what_does_harm_in_a_log(text: str, expected: str) -> None:
    """Control characters, broken encoding, and what turns or hides text are escaped."""
    assert printable(text) == expected


CHARACTERS = st.characters() | st.characters(categories=["Cs", "Cc"]) | st.sampled_from("\\nxu0a")


@given(st.text(CHARACTERS), st.text(CHARACTERS))
def test_printable_texts_are_printable_and_stay_different(one: str, other: str) -> None:
    """Two names never become the same label, and every label can be encoded."""
    assert printable(one).isprintable()
    printable(one).encode()  # no surrogates are left
    assert (printable(one) == printable(other)) == (one == other)


@given(st.text(CHARACTERS))
def test_printable_can_be_undone(text: str) -> None:
    """Escaping is reversible, so different texts stay different."""
    escapes = printable(text).encode("ascii", "backslashreplace").decode("ascii")
    assert escapes.encode().decode("unicode_escape") == text


def test_an_excerpt_is_short_and_printable() -> None:
    """An excerpt has at most 64 printable characters of a text."""
    assert excerpt("a\n" * 50) == r"a\n" * 32
