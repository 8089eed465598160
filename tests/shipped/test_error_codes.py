"""The page of error codes is the table."""

from scripts.error_codes import PAGE, render


def test_the_page_of_error_codes_is_the_table() -> None:
    """It is made by `python -m scripts.error_codes`, never edited by hand."""
    assert PAGE.read_text(encoding="utf-8") == render()
