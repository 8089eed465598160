"""The page of error codes is generated from the code."""

from scripts.error_codes import PAGE, render


def test_page_of_error_codes_is_up_to_date() -> None:
    """The page is what `python -m scripts.error_codes` generates, and not edited by hand."""
    assert PAGE.read_text(encoding="utf-8") == render()
