"""The status page as HTML and as JSON."""

import json
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
    """Return a page of version 1.2.3."""
    return StatusPage(version="1.2.3", base_url=base_url, telemetry_path="/metrics")


def status_with(text: str) -> Status:
    """Return a status that has a text in every place."""
    row = ExportRow(text, text, text, text, text, NOW)
    exports = Exports((row,), 1)
    return Status(
        "attention",
        text,
        time=NOW,
        batches=(BatchRow(text, 4, STATES | {text: 1}, 1, 1, 2, 9, 1000, NOW),),
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


def test_whatever_is_shown_is_escaped() -> None:
    """Batch names, codes and IDs do nothing in a browser."""
    html = page().html(status_with(HOSTILE), NOW).decode()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10
    assert "49" not in html.partition("<main>")[2].partition("</main>")[0]


@given(st.text())
def test_no_text_breaks_the_page(text: str) -> None:
    """Neither as HTML nor as JSON; a lone surrogate cannot come this far."""
    status = status_with(text.encode(errors="replace").decode())
    assert page().html(status, NOW).endswith(b"</html>")
    assert json.loads(to_json(status))["headline"] == status.headline


def test_json_says_the_same() -> None:
    """Rows, totals and times, for programs."""
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


def test_the_page_reads_well_without_eyes() -> None:
    """Tables have captions and headers, pictures have texts, and the language is named."""
    html = page().html(status_with("x"), NOW).decode()
    assert '<html lang="en">' in html
    assert html.count("<table>") == html.count("<caption>") == html.count("<thead>")
    assert html.count("<svg") == html.count('role="img" aria-label="1 PENDING, 2 COMPLETED')


def test_an_external_url_is_what_links_begin_with() -> None:
    """Links begin with the external URL."""
    html = page("https://lab.example/cavatica/").html(NOT_SCRAPED, NOW).decode()
    assert 'href="https://lab.example/cavatica/metrics"' in html
    assert 'href="https://lab.example/cavatica/runbooks"' in html


def test_the_runbooks_are_those_of_the_docs() -> None:
    """`python -m scripts.runbooks_page` writes the page after a change."""
    text = runbooks_page.SOURCE.read_text(encoding="utf-8")
    assert runbooks_page.PAGE.read_text(encoding="utf-8") == runbooks_page.render(text)


def test_every_alert_of_the_runbooks_has_an_anchor() -> None:
    """Every alert has an anchor on the page of runbooks."""
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


def test_times_are_utc_and_never_fail() -> None:
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
    """Sizes have decimal units."""
    assert format_bytes(count) == text
