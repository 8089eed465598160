"""The WSGI application: routes, negotiation, and the time limit of a scrape."""

import base64
import gzip
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.export_families import export_families
from exporter.metrics.exposition import OPENMETRICS, TEXT, Exposition
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.snapshot import Snapshot
from exporter.web.application import Application
from exporter.web.negotiation import accepts_gzip, negotiate, prefers_json
from exporter.web.page import StatusPage
from exporter.web.report import StatusReport
from tests.support.fakes import FakeClock, make_snapshot

SNAPSHOT = make_snapshot()
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@dataclass
class Scrapes:
    """A fake tracker: records the deadlines, and returns the snapshot."""

    deadlines: list[float] = field(default_factory=list)

    def __call__(self, deadline: float) -> Snapshot:
        """Record the deadline, and return the snapshot."""
        self.deadlines.append(deadline)
        return SNAPSHOT


@dataclass(frozen=True)
class Answer:
    """The answer of the application."""

    status: str
    headers: Mapping[str, str]
    body: bytes


class Client:
    """A client of an application whose monotonic clock is at 1,000 s; checks PEP 3333."""

    def __init__(self, *, ready: bool = True, telemetry_path: str = "/metrics") -> None:
        """Make the application, with a timeout of 10 s and an offset of 500 ms."""
        self.clock = FakeClock()
        self.clock.steady = 1000.0
        self.scrapes = Scrapes()
        telemetry = SelfMetrics(version="1", revision="", python="3", exporter_metrics=False)
        self.app = Application(
            self.scrapes,
            Exposition(telemetry, export_families(expose_error_messages=False)),
            report=StatusReport(600.0),
            page=StatusPage(version="1.2.3", base_url="./", telemetry_path=telemetry_path),
            telemetry_path=telemetry_path,
            timeout=10.0,
            timeout_offset=0.5,
            clock=self.clock,
        )
        if ready:
            self.app.ready.set()

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send a request for a path, and return the answer."""
        environ: dict[str, Any] = {"REQUEST_METHOD": method, "SCRIPT_NAME": "", "PATH_INFO": path}
        environ["QUERY_STRING"] = ""
        setup_testing_defaults(environ)
        environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        environ["wsgi.input"] = io.BytesIO()
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, fields: list[tuple[str, str]], _: object = None) -> Any:  # noqa: ANN401 # as PEP 3333 has it
            started.append((status, fields))
            return None  # no `write`: the application returns its body

        chunks = validator(self.app)(environ, start_response)
        try:
            body = b"".join(chunks)
        finally:
            chunks.close()  # type: ignore[attr-defined] # the validator's has it
        [(status, fields)] = started
        return Answer(status, dict(fields), body)


def test_metrics_request_runs_one_scrape() -> None:
    """A request for the metrics runs one scrape, and is answered with its result."""
    client = Client()
    answer = client.get("/metrics")
    assert answer.status == "200 OK"
    assert b"\ncavatica_up 1.0\n" in answer.body
    assert b"\ncavatica_exporter_build_info{" in answer.body
    assert len(client.scrapes.deadlines) == 1


def test_metrics_path_is_configurable() -> None:
    """The metrics are at the path that `--web.telemetry-path` sets, and at no other."""
    client = Client(telemetry_path="/exports")
    assert client.get("/exports").status == "200 OK"
    assert client.get("/metrics").status == "404 Not Found"


def test_other_requests_run_no_scrape() -> None:
    """Probes, browsers and a POST of the metrics run no scrape, so they cost no API call."""
    client = Client()
    for path in ("/", "/runbooks", "/-/healthy", "/-/ready", "/favicon.ico"):
        client.get(path)
    client.get("/metrics", "POST")
    assert client.scrapes.deadlines == []


def test_metrics_are_unavailable_until_the_id_files_are_loaded() -> None:
    """Until the ID files are loaded, `/-/ready` and the metrics are 503, because nothing is known.

    The process is healthy, and the status page is available.
    """
    client = Client(ready=False)
    for path in ("/-/ready", "/metrics"):
        assert client.get(path).status == "503 Service Unavailable"
    assert client.get("/-/healthy").status == "200 OK"
    assert client.get("/").status == "200 OK"
    assert client.scrapes.deadlines == []
    client.app.ready.set()
    assert client.get("/-/ready").status == "200 OK"


@pytest.mark.parametrize("path", ["/", "/runbooks", "/metrics", "/-/healthy", "/-/ready"])
def test_head_has_the_status_and_headers_of_get(path: str) -> None:
    """HEAD is answered with the status and the headers of GET; the server omits the body."""
    client = Client()
    got, head = client.get(path), client.get(path, "HEAD")
    assert (got.status, got.headers) == (head.status, head.headers)
    assert got.headers["Content-Length"] == str(len(got.body))


@pytest.mark.parametrize("path", ["/", "/runbooks", "/metrics", "/-/healthy", "/-/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_other_methods_are_not_allowed(method: str, path: str) -> None:
    """Other methods are answered 405, and the header `Allow` lists GET and HEAD."""
    answer = Client().get(path, method)
    assert answer.status == "405 Method Not Allowed"
    assert answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/metrics/", "/Metrics", "/-/", "/-/healthy/", "/x", "/é", "/\0"])
def test_other_paths_are_not_found(path: str) -> None:
    """An unknown path is answered 404, for every method."""
    client = Client()
    assert client.get(path).status == "404 Not Found"
    assert client.get(path, "POST").status == "404 Not Found"


@pytest.mark.parametrize("path", ["/", "/runbooks", "/metrics", "/-/healthy", "/-/ready", "/x"])
def test_answers_forbid_content_sniffing(path: str) -> None:
    """Answers name their charset and have `nosniff`, so that a browser guesses no other type."""
    answer = Client().get(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Type"].endswith("; charset=utf-8")


def links(body: bytes) -> list[str]:
    """Return the targets of the links of a page."""
    found: list[str] = []

    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            found.extend(value for name, value in attrs if tag == "a" and name == "href" and value)

    Links().feed(body.decode())
    return found


@pytest.mark.parametrize("path", ["/", "/runbooks"])
def test_pages_have_relative_links_that_work(path: str) -> None:
    """The links of a page are relative, so that they work below a reverse proxy's path prefix."""
    client = Client(telemetry_path="/deep/exports")
    answer = client.get(path)
    found = [link for link in links(answer.body) if not link.startswith("#")]
    assert found
    for link in found:
        target = urljoin(f"http://exporter/prefix{path}", link)
        assert target.startswith("http://exporter/prefix/")
        assert client.get(target.removeprefix("http://exporter/prefix")).status == "200 OK"


def test_page_can_load_only_its_own_style_sheet() -> None:
    """The Content-Security-Policy allows the style sheet, by its hash, and no script."""
    answer = Client().get("/")
    policy = answer.headers["Content-Security-Policy"]
    style = answer.body.partition(b"<style>")[2].partition(b"</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert b"<script" not in answer.body
    assert b" style=" not in answer.body
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Refresh"] == "60"


def test_page_before_the_first_scrape_says_so() -> None:
    """Before the first scrape, the page says that there was none, without an API call."""
    client = Client()
    assert b"no scrape since the start" in client.get("/").body
    assert client.scrapes.deadlines == []


def test_page_is_outdated_when_the_last_scrape_is_older_than_max_age() -> None:
    """Once the last scrape is more than 600 s ago, unfinished exports count as unknown."""
    client = Client()
    client.get("/metrics")
    client.clock.advance(600)
    assert json.loads(client.get("/", accept="application/json").body)["outdated"] is False
    client.clock.advance(1)
    status = json.loads(client.get("/", accept="application/json").body)
    assert status["outdated"] is True
    assert status["verdict"] == "unknown"
    assert len(client.scrapes.deadlines) == 1


@pytest.mark.parametrize(
    ("accept", "json_preferred"),
    [
        ("application/json", True),
        ("application/json, text/html;q=0.9", True),
        ("text/html, application/json;q=0.9", False),
        ("text/*, application/json;q=0.9", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("*/*", False),
        ("", False),
        ("application/json;q=0", False),
    ],
)
def test_programs_get_json_and_browsers_html(accept: str, *, json_preferred: bool) -> None:
    """The status page is JSON for clients that prefer `application/json`, otherwise HTML."""
    assert prefers_json(accept) is json_preferred
    content_type = Client().get("/", accept=accept).headers["Content-Type"]
    assert content_type.startswith("application/json" if json_preferred else "text/html")


@pytest.mark.parametrize(
    ("header_value", "seconds"),
    [
        ("", 10.0),
        ("10", 9.5),
        ("30.000000", 29.5),
        ("1.5", 1.0),
        ("0.6", 0.1),
        ("0.5", 0.25),
        ("0.1", 0.05),
        ("1e9", 120.0),
        ("0", 10.0),
        ("-1", 10.0),
        ("nan", 10.0),
        ("inf", 10.0),
        ("-inf", 10.0),
        ("1e999", 10.0),
        ("ten", 10.0),
        ("10,20", 10.0),
        ("\xe9", 10.0),
    ],
)
def test_scrape_ends_before_the_scraper_times_out(header_value: str, seconds: float) -> None:
    """The deadline is the scraper's timeout less the offset, or half of it if nothing is left.

    It is at most 120 s away. An invalid header is ignored, so the flag's timeout applies.
    """
    client = Client()
    client.get("/metrics", x_prometheus_scrape_timeout_seconds=header_value)
    assert client.scrapes.deadlines == [pytest.approx(1000.0 + seconds)]


def test_scrape_without_a_timeout_header_uses_the_flags_timeout() -> None:
    """If the scraper sends no timeout, that of `--api.timeout` applies."""
    client = Client()
    client.get("/metrics")
    assert client.scrapes.deadlines == [1010.0]


@pytest.mark.slow
@given(header_value=st.text(st.characters(max_codepoint=255)) | st.floats().map(str))
def test_any_timeout_header_leads_to_a_deadline_within_two_minutes(header_value: str) -> None:
    """No value of the header sets a deadline in the past or more than two minutes away."""
    client = Client()
    client.get("/metrics", x_prometheus_scrape_timeout_seconds=header_value)
    [deadline] = client.scrapes.deadlines
    assert 1000 <= deadline <= 1120


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", TEXT),
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("application/openmetrics-text", OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", OPENMETRICS),
        ('application/openmetrics-text; version="1.0.0"', OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.2,text/plain;q=0.3", TEXT),
        ("application/openmetrics-text;version=1.0.0;q=0.3,text/plain;q=0.2", OPENMETRICS),
        ("application/openmetrics-text; q=0.3 , text/plain ; q=0.3", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;q=high", TEXT),
        ("application/openmetrics-text;q=nan", TEXT),
        ("application/openmetrics-text;version=9.9.9", TEXT),
        ("application/openmetrics-text;version=abc,text/plain;q=0.1", TEXT),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily", TEXT),
        (";;,,=;q", TEXT),
    ],
)
def test_format_has_the_highest_q_value(accept: str, expected: str) -> None:
    """The format with the highest q-value in `Accept` is sent, and text by default."""
    assert negotiate(accept) == expected
    answer = Client().get("/metrics", accept=accept)
    assert answer.headers["Content-Type"] == expected
    assert answer.body.endswith(b"# EOF\n") == (expected == OPENMETRICS)


@pytest.mark.parametrize(
    ("accept_encoding", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZIP", True),
        ("deflate, gzip;q=1.0, *;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.001", True),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("*;q=0, gzip", True),
        ("identity", False),
        ("br, zstd", False),
        ("gzip;q=x", False),
    ],
)
def test_answer_is_compressed_if_gzip_is_accepted(accept_encoding: str, *, expected: bool) -> None:
    """Compression follows `Accept-Encoding` as in RFC 9110, with q-values and `Vary`."""
    assert accepts_gzip(accept_encoding) == expected
    answer = Client().get("/metrics", accept_encoding=accept_encoding)
    assert answer.headers.get("Content-Encoding") == ("gzip" if expected else None)
    assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    body = gzip.decompress(answer.body) if expected else answer.body
    assert body == Client().get("/metrics").body


@given(header=st.text(st.characters(max_codepoint=255)))
def test_any_accept_header_can_be_negotiated(header: str) -> None:
    """Any text in `Accept` leads to a format, and any in `Accept-Encoding` to yes or no."""
    assert negotiate(header) in {TEXT, OPENMETRICS}
    assert accepts_gzip(header) in {True, False}
