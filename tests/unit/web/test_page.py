"""The status page as HTML and as JSON."""

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.web.page import StatusPage, format_age, format_bytes, format_time, to_json
from exporter.web.status import (
    NOT_SCRAPED,
    ApiHealth,
    BatchRow,
    ExportRow,
    Exports,
    FileRow,
    RefusalRow,
    Status,
)
from scripts import runbooks_page

NOW = 1_700_000_000.0
HOSTILE = """"><script>alert('1')</script>{{ 7 * 7 }}&"""
STATES = {"PENDING": 1, "RUNNING": 0, "COMPLETED": 2, "FAILED": 0, "UNKNOWN": 0, HOSTILE: 1}


def page(base_url: str = "./") -> StatusPage:
    """Return the status page of an exporter of version 1.2.3."""
    return StatusPage(version="1.2.3", base_url=base_url, telemetry_path="/metrics")


def status_with(text: str) -> Status:
    """Return a status with `text` in every field that can hold text."""
    row = ExportRow(text, text, text, text, text, NOW)
    exports = Exports((row,), 1)
    return Status(
        "attention",
        text,
        time=NOW,
        batches=(BatchRow(text, 7, STATES | {text: 1}, 1, 5, 0, 2, 9, 3, 1000, NOW),),
        batches_total=1,
        attention=exports,
        refused=(RefusalRow(text, text, text, 3, NOW),),
        refused_total=3,
        unfinished=exports,
        lookup_errors=exports,
        api=ApiHealth(
            up=False,
            problem=text,
            last_success=None,
            calls=1,
            duration=0.5,
            limit=1000,
            remaining=1,
            reset=NOW,
        ),
        files=(FileRow(text, NOW, text), FileRow(text, None, text), FileRow(text, NOW, None)),
        files_total=3,
        file_errors=(text,),
        file_errors_total=1,
    )


def test_page_escapes_all_text() -> None:
    """Tags and template expressions in batch names, codes and IDs are shown, not evaluated."""
    html = page().html(status_with(HOSTILE), NOW).decode()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10
    assert "49" not in html.partition("<main>")[2].partition("</main>")[0]


@given(st.text())
def test_no_text_breaks_the_page(text: str) -> None:
    """Any text can be rendered as HTML and as JSON.

    Lone surrogates are replaced here, because they cannot reach the page.
    """
    status = status_with(text.encode(errors="replace").decode())
    assert page().html(status, NOW).endswith(b"</html>")
    assert json.loads(to_json(status))["headline"] == status.headline


def test_json_has_the_content_of_the_page() -> None:
    """The JSON form has the rows, totals and times of the page, for programs."""
    status = json.loads(to_json(status_with("x")))
    assert status["verdict"] == "attention"
    assert status["attention"]["rows"][0]["time"] == NOW
    assert status["batches"][0]["states"]["COMPLETED"] == 2


def test_rows_that_are_not_shown_are_counted() -> None:
    """A truncated table says how many rows are not shown."""
    row = ExportRow("a", "b", "FAILED", "", "", None)
    status = replace(
        NOT_SCRAPED,
        attention=Exports((row,), 1235),
        refused=(RefusalRow("a", "9006", "", 3, NOW),),
        refused_total=1003,
        file_errors=("a.yml:1: not YAML",),
        file_errors_total=2001,
    )
    html = page().html(status, NOW)
    assert b"The first 1 of 1,235; 1,234 more are not shown." in html
    assert b" 1,000 more files are not shown.</caption>" in html
    assert b"<p>2,000 more are not shown.</p>" in html


def table_of_batches(row: BatchRow) -> list[tuple[str, str]]:
    """Return header and text of each cell of a table with one batch, without its picture."""
    html = page().html(replace(NOT_SCRAPED, batches=(row,), batches_total=1), NOW).decode()
    table = html.partition('<h2 id="batches">')[2]
    heads, cells = (
        [re.sub(r"<svg.*?</svg>|<[^>]*>", "", cell, flags=re.DOTALL).strip() for cell in found]
        for found in (
            re.findall(r"<th .*?</th>", table, re.DOTALL),
            re.findall(r"<td.*?</td>", table, re.DOTALL),
        )
    )
    return [*zip(heads, cells, strict=True)]


def test_batch_is_shown_with_what_was_dealt_with_apart() -> None:
    """Of a batch each export and refused file is in one column; empty columns are left out."""
    states = {"PENDING": 1, "RUNNING": 2, "COMPLETED": 2000, "FAILED": 3, "UNKNOWN": 4}
    plain = [
        ("Batch", "b"),
        ("Progress", ""),
        ("Pending", "1"),
        ("Running", "2"),
        ("Completed", "2,000"),
        ("Failed", "3"),
        ("Unknown", "4"),
        ("Exported", "1 kB"),
        ("Last finished", "2023-11-14 22:13 UTC now"),
    ]
    bare = BatchRow("b", 2010, states, 0, 0, 0, 0, None, 0, 1000, NOW)
    assert table_of_batches(bare) == plain
    full = BatchRow("b", 2017, states | {"ABORTED": 5}, 5, 2, 0, 6, 2030, 7, 1000, NOW)
    assert table_of_batches(full) == [
        *plain[:7],
        ("Other", "5"),
        ("Refused", "6"),
        ("Dealt with", "2"),
        ("Missing", "7 of 2,030"),
        *plain[7:],
    ]


def test_page_is_readable_by_screen_readers() -> None:
    """Tables have captions and headers, pictures have labels, and the language is declared."""
    html = page().html(status_with("x"), NOW).decode()
    assert '<html lang="en">' in html
    assert html.count("<table>") == html.count("<caption>") == html.count("<thead>")
    assert html.count("<svg") == html.count('role="img" aria-label="1 pending, 2 completed')


def test_links_begin_with_the_external_url() -> None:
    """Links begin with the URL that `--web.external-url` sets."""
    html = page("https://lab.example/cavatica/").html(NOT_SCRAPED, NOW).decode()
    assert 'href="https://lab.example/cavatica/metrics"' in html
    assert 'href="https://lab.example/cavatica/runbooks"' in html


def test_runbooks_page_is_up_to_date() -> None:
    """The page equals docs/runbooks.md as `python -m scripts.runbooks_page` renders it."""
    text = runbooks_page.SOURCE.read_text(encoding="utf-8")
    assert runbooks_page.PAGE.read_text(encoding="utf-8") == runbooks_page.render(text)


def test_alert_on_the_runbooks_page_has_an_anchor() -> None:
    """The section of an alert has an anchor, which the alert's link leads to."""
    assert b'<h2 id="cavaticaexportfailed">' in page().runbooks


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "in the future"),
        (-0.5, "now"),
        (0.5, "now"),
        (1, "1 s ago"),
        (59.9, "59 s ago"),
        (60, "1 min ago"),
        (7199, "1 h ago"),
        (86400 * 2000, "2,000 d ago"),
    ],
)
def test_ages_have_their_largest_unit(seconds: float, text: str) -> None:
    """An age is shown in its largest unit."""
    assert format_age(seconds) == text


def test_times_are_in_utc_and_impossible_dates_are_numbers() -> None:
    """Times are shown in UTC; an impossible date is shown as a number."""
    assert format_time(1_522_162_828.0) == "2018-03-27 15:00 UTC"
    assert format_time(1e300) == "1e+300"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (2.5e12, "2.5 TB"),
        (3e18, "3 EB"),
    ],
)
def test_sizes_have_decimal_units(count: float, text: str) -> None:
    """A size is shown with up to three digits and a decimal unit (1 kB is 1,000 bytes)."""
    assert format_bytes(count) == text
