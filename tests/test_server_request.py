"""How the bytes of a request are read."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.server.request import (
    MAX_HEAD_BYTES,
    MAX_LINE_BYTES,
    Request,
    RequestError,
    find_end,
    parse,
)


def request_of(head: bytes) -> Request:
    """The request of bytes that hold a whole head."""
    return parse(head[: find_end(head)])


def status_of(head: bytes) -> str:
    """The status that the bytes are refused with."""
    with pytest.raises(RequestError) as refused:
        request_of(head)
    return refused.value.status


def test_a_scrape_is_read() -> None:
    """Method, path, query, version and headers are what the scraper sent."""
    head = (
        b"GET /metrics?a=b?c HTTP/1.1\r\nHost: localhost:10036\r\n"
        b"X-Prometheus-Scrape-Timeout-Seconds:  9.5 \r\n\r\n"
    )
    expected = Request(
        "GET",
        "/metrics",
        "a=b?c",
        "1.1",
        (("Host", "localhost:10036"), ("X-Prometheus-Scrape-Timeout-Seconds", "9.5")),
    )
    assert expected == request_of(head)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"*", "*", ""),
        (b"/a%20b", "/a%20b", ""),
        (b"//host/path", "//host/path", ""),
        (b"http://host:1/path?q", "/path", "q"),
        (b"HTTPS://[::1/path", "/path", ""),
        (b"http://host?q", "/", "q"),
    ],
)
def test_every_form_of_target_has_a_path(target: bytes, path: str, query: str) -> None:
    """The target may be a path, all of the server, or what one sends to a proxy."""
    request = request_of(b"GET %b HTTP/1.0\r\n\r\n" % target)
    assert (path, query) == (request.path, request.query)


def test_lines_may_end_without_carriage_return() -> None:
    """A request typed by hand is a request."""
    assert request_of(b"GET / HTTP/1.0\nA: b\n\n").headers == (("A", "b"),)


def test_what_follows_the_head_does_not_matter() -> None:
    """A body is left where it is."""
    assert find_end(b"PUT / HTTP/1.1\r\n\r\nbody\r\n\r\n") == len(b"PUT / HTTP/1.1\r\n\r\n")


def test_an_unfinished_head_needs_more() -> None:
    """As long as the empty line is missing, nothing is wrong and nothing is there."""
    whole = b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
    for length in range(len(whole)):
        assert find_end(whole[:length], max(0, length - 1)) == 0
    assert find_end(whole, len(whole) - 1) == len(whole)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01", "400 Bad Request"),
        (b"GET\r\n\r\n", "400 Bad Request"),
        (b"GET /\r\n\r\n", "400 Bad Request"),
        (b"GET  / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1 \r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1\r\n\r\n", "400 Bad Request"),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET /\xe4 HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET path HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET ftp://host/ HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"CONNECT host:443 HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"A" * 33 + b" / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\n: no name\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nA: b\x00\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nA: b\rB: c\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/0.9\r\n\r\n", "505 HTTP Version Not Supported"),
        (b"PRI * HTTP/2.0\r\n\r\n", "505 HTTP Version Not Supported"),
        (b"G" * MAX_LINE_BYTES, "414 URI Too Long"),
        (b"GET /" + b"a" * MAX_LINE_BYTES + b" HTTP/1.1\r\n\r\n", "414 URI Too Long"),
        (
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEAD_BYTES // 6),
            "431 Request Header Fields Too Large",
        ),
        (
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (MAX_HEAD_BYTES // 6) + b"\r\n",
            "431 Request Header Fields Too Large",
        ),
    ],
)
def test_what_is_no_request_is_refused(head: bytes, status: str) -> None:
    """Each kind of nonsense has its status."""
    assert status == status_of(head)


def test_the_environment_is_that_of_wsgi() -> None:
    """The application sees decoded path, query and headers as PEP 3333 says."""
    environ = request_of(b"GET /a%20%C3%A4?b=%20 HTTP/1.1\r\nX-A: 1\r\nx-a: 2\r\n\r\n").environ()
    assert environ == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a \xc3\xa4",
        "QUERY_STRING": "b=%20",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_X_A": "1,2",
    }


@pytest.mark.parametrize("name", ["X_A", "Content-Length", "Content-Type"])
def test_headers_that_mislead_are_left_out(name: str) -> None:
    """`X_A` would pass for `X-A`, and there is no body of any length or type."""
    environ = request_of(b"GET / HTTP/1.1\r\n%b: 1\r\n\r\n" % name.encode()).environ()
    assert not [key for key in environ if "X_A" in key or "CONTENT" in key]


@given(st.binary(max_size=60), st.sampled_from([b"", b"GET ", b"GET / HTTP/1.1\r\n"]))
def test_any_bytes_are_a_request_or_refused(data: bytes, begin: bytes) -> None:
    """Whatever comes before the empty line is a request or an error of the client's."""
    head = begin + data + b"\r\n\r\n"
    with contextlib.suppress(RequestError):
        parse(head[: find_end(head)]).environ()
