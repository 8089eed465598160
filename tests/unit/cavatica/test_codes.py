"""The table of the platform's error codes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.codes import MEANINGS, PLACES, RETRIES, Meaning, explain


@pytest.mark.parametrize(
    ("code", "http", "retry", "place"),
    [
        ("9000", 503, "now", "run"),
        ("9005", 403, "repair", "lookup"),
        ("9006", 403, "never", "start"),
        ("9008", 404, "never", "lookup"),
        ("9020", 403, "repair", "start"),
        ("9027", 400, "never", "start"),
        ("9103", 403, "repair", "run"),
        ("9107", 409, "never", "run"),
        ("90001", 401, "repair", "call"),
        ("5001", 403, "repair", "run"),
        ("1000", 429, "now", "call"),
    ],
)
def test_a_known_code_is_explained(code: str, http: int, retry: str, place: str) -> None:
    """A code has its HTTP status, where it occurs, and whether another attempt can help."""
    meaning = explain(code)
    assert meaning is not None
    assert (meaning.code, meaning.http, meaning.retry) == (code, http, retry)
    assert place in meaning.places


@given(st.text())
def test_explain_accepts_any_text(code: str) -> None:
    """A text that is not in the table has no meaning, and is not an error."""
    assert explain(code) is MEANINGS.get(code)


@pytest.mark.parametrize("code", ["", "none", "9999", "7001", " 9005", "09005"])
def test_an_unknown_code_has_no_meaning(code: str) -> None:
    """`explain` returns None for an unknown code, so that its number is shown instead."""
    assert explain(code) is None


@pytest.mark.parametrize("meaning", MEANINGS.values(), ids=MEANINGS)
def test_a_meaning_fits_into_messages(meaning: Meaning) -> None:
    """A meaning is a short phrase, a sentence that says what to do, and words of closed lists."""
    assert meaning.meaning[0].islower()
    assert not meaning.meaning.endswith(".")
    assert len(meaning.meaning) <= 80
    assert meaning.action[0].isupper()
    assert meaning.action.endswith(".")
    assert meaning.retry in RETRIES
    assert set(meaning.places) <= set(PLACES)


def test_the_rule_of_thousands_is_for_2xxx_to_6xxx_only() -> None:
    """In 2xxx to 6xxx, x000 is 503, x001 is 403, x002 is 404 and x003 is 409; 9xxx differs."""
    for thousand in range(2, 7):
        statuses = [MEANINGS[f"{thousand}00{digit}"].http for digit in range(4)]
        assert statuses == [503, 403, 404, 409]
    assert MEANINGS["9002"].http == 403
