"""Faults of the API: each with the reason that is counted, and the states that a scrape shows.

In every case four exports are watched, and their states are known from one successful scrape. Then
the states change, but the API has its fault. `FAULTS` has the states that the next scrape shows,
and those after `--exports.max-age`. When the fault ends, a scrape shows the true states. Every case
runs through ID file, tracker, client, a server on loopback, and the page that Prometheus receives.
"""

import gzip
import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from exporter.cavatica.answer import REASONS, BulkResponse, Reason
from exporter.cavatica.client import Client
from exporter.cli import logs
from exporter.metrics.export_families import export_families
from exporter.metrics.exposition import Exposition
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.background_loader import BackgroundLoader
from exporter.watchlist.loader import WatchlistLoader
from exporter.web.application import Application
from exporter.web.page import StatusPage
from exporter.web.report import StatusReport
from scripts.ports import reserved_port
from tests.support.exporter_process import Page, preserved_logging
from tests.support.raw_server import Peer, listen
from tests.support.timing import is_within

TOKEN = "0123456789abcdef0123456789abcdef"
FILE_NAME = "patient-4711.bam"
BATCH = "tcga-7"
MAX_AGE = 300.0
LONG_DEADLINE = 5.0
# Of the rate limit: longer than the minute that passes where no end is known.
WINDOW_SECONDS = 120
SHORT_DEADLINE = 1.0
# Seconds that may pass after the deadline.
TOLERANCE = 0.5

DONE, LOST, WORK, WAIT = "Done", "Lost", "Work", "Wait"
BEFORE = {DONE: "COMPLETED", LOST: "FAILED", WORK: "RUNNING", WAIT: "PENDING"}
AFTER = {DONE: "COMPLETED", LOST: "FAILED", WORK: "COMPLETED", WAIT: "RUNNING"}
# The states without a new answer, and those when the last answer is too old.
KEPT = BEFORE
AGED = BEFORE | {WORK: "UNKNOWN", WAIT: "UNKNOWN"}

Ids = Sequence[str]
Items = Callable[[Ids], object]
Api = Callable[[], AbstractContextManager[str]]


def resource(export_id: str, state: str) -> dict[str, Any]:
    """Return an export as the API describes it, including everything that must stay secret."""
    return {
        "id": export_id,
        "state": state,
        "source": {"volume": "owner/in", "location": FILE_NAME},
        "destination": {"volume": "owner/out", "location": FILE_NAME},
        "result": {"name": FILE_NAME, "size": 7, "metadata": {"sample": FILE_NAME}},
        "started_on": "2018-03-27T15:00:20Z",
        "finished_on": "2018-03-27T15:00:28Z" if state in {"COMPLETED", "FAILED"} else None,
        "error": ERROR if state == "FAILED" else None,
    }


ERROR = {"status": 403, "code": 9103, "message": f"{FILE_NAME} {TOKEN}", "more_info": TOKEN}


def good(ids: Ids, truth: Mapping[str, str] = AFTER) -> list[dict[str, Any]]:
    """Return the items of a healthy API's answer."""
    return [{"resource": resource(export_id, truth[export_id])} for export_id in ids]


def ids_of(request: bytes) -> list[str]:
    """Return the IDs in a request."""
    ids: list[str] = json.loads(request.partition(b"\r\n\r\n")[2])["export_ids"]
    return ids


def as_json(items: object) -> bytes:
    """Return the JSON body of an answer with these items."""
    return json.dumps({"items": items}).encode()


def instead(export_id: str, *items: object) -> Items:
    """Return a good answer in which these items replace the item of one ID."""

    def spoil(ids: Ids) -> object:
        return [
            each
            for one, item in zip(ids, good(ids), strict=True)
            for each in (items if one == export_id else (item,))
        ]

    return spoil


def changed(**fields: object) -> Items:
    """Return a good answer in which `WORK` has these fields."""
    return instead(WORK, {"resource": resource(WORK, "RUNNING") | fields})


def http(
    body: bytes | Callable[[Ids], bytes], *headers: str, status: str = "200 OK", length: int = 0
) -> Callable[[Peer], None]:
    """Answer with these bytes, and a length that is too large by `length`."""

    def talk(peer: Peer) -> None:
        while True:
            asked = ids_of(peer.receive())
            content = body if isinstance(body, bytes) else body(asked)
            lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(content) + length}"]
            peer.send("\r\n".join([*lines, "", ""]).encode() + content)
            if length:
                return

    return talk


def server(talk: Callable[[Peer], object], *, tls: ssl.SSLContext | None = None) -> Api:
    """Return a server that runs `talk` on each connection."""

    @contextmanager
    def serve() -> Iterator[str]:
        with listen(talk, tls=tls) as port:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/v2"

    return serve


def answers(content: bytes | Items, *headers: str, status: str = "200 OK", length: int = 0) -> Api:
    """Return a server that answers with these bytes, or with these items as JSON."""
    body: bytes | Callable[[Ids], bytes]
    if isinstance(content, bytes):
        body = content
    else:
        items = content
        body = lambda ids: as_json(items(ids))  # noqa: E731 # short
    return server(http(body, *headers, status=status, length=length))


def refuses(status: str, body: object = ERROR, *headers: str) -> Api:
    """Return a server that answers with an HTTP error."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answers(content, *headers, status=f"{status} {TOKEN}")


def rate_limited(peer: Peer) -> None:
    """Answer one request with a 429 and a window that ends in `WINDOW_SECONDS`."""
    reset = f"X-RateLimit-Reset: {int(time.time()) + WINDOW_SECONDS}"
    limits = ("X-RateLimit-Limit: 1000", "X-RateLimit-Remaining: 0", reset)
    http(json.dumps(ERROR).encode(), *limits, status=f"429 {TOKEN}")(peer)


def silent(peer: Peer, *, after: bytes = b"") -> None:
    """Read the request, send these bytes, and nothing more."""
    peer.receive()
    peer.send(after)
    peer.hang()


def dripping(peer: Peer, *, after: bytes = b"") -> None:
    """Read the request, send these bytes, then single bytes, slowly."""
    peer.receive()
    peer.send(after)
    peer.drip(b" " * 999)


def garbled(peer: Peer) -> None:
    """Send a good answer with an invalid line among its headers."""
    body = as_json(good(ids_of(peer.receive())))
    peer.send(HEAD + f"{TOKEN} {FILE_NAME}\r\n\r\n".encode() + body)


def flooding(peer: Peer) -> None:
    """Send an answer of 200 MB."""
    peer.receive()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(200):
        peer.send(b" " * 2**20)


def resetting(peer: Peer) -> None:
    """Read the request, and reset the connection."""
    peer.receive()
    peer.reset()


@contextmanager
def no_listener() -> Iterator[str]:
    """Yield the URL of a port on which nothing listens."""
    with reserved_port() as port:
        yield f"http://127.0.0.1:{port}/v2"


@contextmanager
def no_threads() -> Iterator[str]:
    """Make the start of a thread for a call fail, as on an overloaded machine."""
    before = threading.stack_size(1 << 46)
    try:
        yield "http://127.0.0.1:1/v2"
    finally:
        threading.stack_size(before)


@contextmanager
def failing_dns() -> Iterator[str]:
    """Make name resolution fail; yield a URL with a host name."""

    def resolve(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield "http://api.invalid/v2"


@contextmanager
def full_backlog() -> Iterator[str]:
    """Run a server whose queue of new connections is full."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.socket() as one,
        socket.socket() as two,
    ):
        for waiting in (one, two):
            waiting.setblocking(False)  # noqa: FBT003 # takes no keyword
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2"


@contextmanager
def untrusted_certificate() -> Iterator[str]:
    """Run a server with an untrusted certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with server(Peer.hang, tls=context)() as url:
        yield url


@contextmanager
def refusing_proxy() -> Iterator[str]:
    """Run a proxy that requires a password; expect one request in each scrape."""
    visits: list[Peer] = []

    def refuse(peer: Peer) -> None:
        visits.append(peer)
        peer.receive()
        peer.send(f"HTTP/1.1 407 {TOKEN}\r\nContent-Length: 0\r\n\r\n".encode())

    with listen(refuse) as proxy, pytest.MonkeyPatch.context() as patch:
        patch.setenv("https_proxy", f"http://127.0.0.1:{proxy}")
        patch.delenv("no_proxy", raising=False)
        patch.delenv("NO_PROXY", raising=False)
        yield "https://api.invalid/v2"
    assert len(visits) == 1


@contextmanager
def redirecting() -> Iterator[str]:
    """Run a server that redirects to another one; expect no connection to that one."""
    visits: list[Peer] = []
    with listen(visits.append) as port:
        place = f"Location: http://127.0.0.1:{port}/{TOKEN}"
        with answers(good, place, status="307 Elsewhere")() as url:
            yield url
    assert visits == []


@dataclass(frozen=True)
class Fault:
    """One fault, and what a scrape shows of it.

    Attributes:
        name: What goes wrong.
        api: An API with the fault.
        reason: Reason of the failed requests; None if none fails and `cavatica_up` stays 1.
        now: States that the scrape shows.
        later: States that a scrape shows after `--exports.max-age`.
        requests: Number of HTTP requests that the scrape sends.
        seconds: Deadline of the scrape.
    """

    name: str
    api: Api
    reason: Reason | None
    now: Mapping[str, str] = field(default_factory=lambda: KEPT)
    later: Mapping[str, str] = field(default_factory=lambda: AGED)
    requests: int = 1
    seconds: float = LONG_DEADLINE


def partly(name: str, items: Items, *, now: str = "RUNNING", later: str = "UNKNOWN") -> Fault:
    """Return a fault: an answer with valid items for all IDs but `WORK`."""
    return Fault(
        name, answers(items), "invalid_response", AFTER | {WORK: now}, AFTER | {WORK: later}
    )


def odd(name: str, items: Items, *, state: str = "RUNNING") -> Fault:
    """Return a fault: an answer with an item for every ID, of which that of `WORK` is unusual."""
    return Fault(name, answers(items), None, AFTER | {WORK: state}, AFTER | {WORK: state})


def broken(name: str, content: bytes, *headers: str) -> Fault:
    """Return a fault: a 200 answer that cannot be parsed."""
    return Fault(name, answers(content, *headers), "invalid_response")


HTML = f"<html>Dear {TOKEN}, {FILE_NAME} is not here</html>".encode()
BOM = b"\xef\xbb\xbf"
BOMB = gzip.compress(b" " * 64 * 2**20, 1)
NEVER = {"status": 404, "code": 9008, "message": FILE_NAME, "more_info": TOKEN}
HEAD = b"HTTP/1.1 200 OK\r\n"
BODY_FOLLOWS = HEAD + b"Content-Length: 999\r\n\r\n"

FAULTS = [
    # Connections
    Fault("connection refused", no_listener, "connection", requests=2),
    Fault("connection reset", server(Peer.reset), "connection", requests=2),
    Fault("reset after the request", server(resetting), "connection", requests=2),
    Fault("DNS failure", failing_dns, "connection", requests=2),
    Fault("TLS error", untrusted_certificate, "tls"),
    Fault("refused by the proxy", refusing_proxy, "proxy"),
    Fault("connect timeout", full_backlog, "timeout", seconds=SHORT_DEADLINE),
    Fault("read timeout", server(silent), "timeout", seconds=SHORT_DEADLINE),
    Fault(
        "stall in the body",
        server(partial(silent, after=BODY_FOLLOWS)),
        "timeout",
        seconds=SHORT_DEADLINE,
    ),
    Fault(
        "slow bytes in the head",
        server(partial(dripping, after=HEAD + b"X-Long: ")),
        "timeout",
        seconds=SHORT_DEADLINE,
    ),
    Fault(
        "slow bytes in the body",
        server(partial(dripping, after=BODY_FOLLOWS)),
        "timeout",
        seconds=SHORT_DEADLINE,
    ),
    Fault(
        "another protocol", server(lambda peer: peer.send(b"SSH-2.0\r\n")), "connection", requests=2
    ),
    Fault("no thread left", no_threads, "connection", requests=2),
    # Redirects and HTTP errors
    Fault("redirect to another host", redirecting, "redirect"),
    Fault("400", refuses("400"), "client_error"),
    Fault("401", refuses("401"), "auth"),
    Fault("403", refuses("403"), "auth"),
    Fault("404", refuses("404"), "client_error"),
    Fault("409", refuses("409"), "client_error"),
    Fault("429 with good headers", server(rate_limited), "rate_limited"),
    Fault("429 without headers", refuses("429"), "rate_limited"),
    Fault(
        "429 with invalid headers",
        refuses("429", HTML, f"X-RateLimit-Reset: {TOKEN}"),
        "rate_limited",
    ),
    Fault(
        "429 with a reset in the far future",
        refuses("429", ERROR, "X-RateLimit-Reset: 99999999999"),
        "rate_limited",
    ),
    Fault("500", refuses("500"), "server_error"),
    Fault("502", refuses("502", HTML), "server_error", requests=2),
    Fault("503 maintenance", refuses("503", {"status": 503, "code": 0}), "maintenance"),
    Fault("503 other", refuses("503", HTML), "server_error"),
    Fault("504", refuses("504", b""), "server_error", requests=2),
    # Answers that cannot be parsed
    broken("HTML with 200", HTML),
    broken("empty body", b""),
    broken("truncated JSON", as_json(good(list(AFTER)))[:-9]),
    broken("not UTF-8", b'{"items": ["\xff"]}'),
    broken("NaN alone", b"NaN"),
    broken("deep nesting", b"[" * 100_000),
    broken("deep nesting in the items", b'{"items": ' + b"[" * 100_000),
    broken("items missing", json.dumps({"error": ERROR}).encode()),
    broken("items null", b'{"items": null}'),
    broken("items an object", b'{"items": {"resource": {}}}'),
    broken("items a text", b'{"items": "Work"}'),
    broken("not gzip", b"{}", "Content-Encoding: gzip"),
    Fault("200 MB", server(flooding), "invalid_response"),
    Fault("gzip bomb", answers(BOMB, "Content-Encoding: gzip"), "invalid_response"),
    Fault(
        "gzip bomb in a gzip bomb",
        answers(gzip.compress(BOMB * 4, 1), "Content-Encoding: gzip, gzip"),
        "invalid_response",
    ),
    Fault(
        "negative chunk size",
        server(partial(silent, after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")),
        "connection",
        requests=2,
    ),
    Fault("length too large", answers(good, length=9), "connection", requests=2),
    Fault("length too small", answers(good, length=-9), "invalid_response"),
    Fault("two lengths", answers(good, "Content-Length: 1"), "invalid_response"),
    # Answers without a valid item for every ID
    Fault("items empty", answers(lambda _: []), "invalid_response"),
    partly("fewer items", instead(WORK)),
    partly("item null", instead(WORK, None)),
    partly("item a list", instead(WORK, [])),
    partly("item empty", instead(WORK, {})),
    partly("resource null", instead(WORK, {"resource": None})),
    partly("resource a list", instead(WORK, {"resource": [FILE_NAME]})),
    partly("export without its resource", instead(WORK, resource(WORK, "COMPLETED"))),
    partly("id missing", instead(WORK, {"resource": {"state": "COMPLETED"}})),
    partly("id a number", changed(id=7)),
    partly("id not asked for", changed(id="Stranger")),
    partly("id twice, and another missing", instead(WORK, *good([WAIT]))),
    partly(
        "id twice, in contradiction",
        instead(WORK, *good([WORK]), {"resource": resource(WORK, "FAILED")}),
    ),
    partly("more items", lambda ids: [*good(ids), {}], now="COMPLETED", later="COMPLETED"),
    partly("more errors", instead(WORK, {"error": NEVER}, {"error": NEVER}), now="UNKNOWN"),
    # Answers that are accepted, although they are unusual
    Fault("a BOM", server(http(lambda ids: BOM + as_json(good(ids)))), None, AFTER, AFTER),
    Fault("invalid header line", server(garbled), None, AFTER, AFTER),
    odd("an error instead of an export", instead(WORK, {"error": NEVER}), state="UNKNOWN"),
    odd(
        "an error of the platform",
        instead(WORK, {"error": ERROR | {"status": 503}}),
        state="UNKNOWN",
    ),
    odd("an empty error", instead(WORK, {"error": {}}), state="UNKNOWN"),
    odd("unknown state", changed(state="ABORTED"), state="ABORTED"),
    odd("unknown state in lower case", changed(state="aborted"), state="UNKNOWN"),
    odd("state with a secret", changed(state=TOKEN), state="UNKNOWN"),
    odd("state null", changed(state=None), state="UNKNOWN"),
    odd("timestamps with fractions and offsets", changed(started_on="2018-03-27T17:00:20.5+02:00")),
    odd("invalid timestamps", changed(started_on=FILE_NAME, finished_on=[])),
    odd("timestamps before 1970", changed(started_on="0001-01-01T00:00:00Z")),
    odd("NaN", changed(result={"size": float("nan")})),
    odd("huge numbers", changed(result={"size": 10**4000}, error={"status": 10**30, "code": -1})),
    odd("wrong shapes everywhere", changed(source=1, destination=[], result="", error=TOKEN)),
]


class Clock:
    """The real clock, which a test can move forward (`ahead`) and set wrong (`wrong_by`)."""

    def __init__(self) -> None:
        """Start with the right time."""
        self.ahead = 0.0
        self.wrong_by = 0.0

    def time(self) -> float:
        """Return the Unix time."""
        return time.time() + self.ahead + self.wrong_by

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return time.monotonic() + self.ahead


class Exporter:
    """The exporter in this process, without its command line and web server."""

    def __init__(self, directory: Path) -> None:
        """Watch the ID files in a directory."""
        self.file = directory / f"{BATCH}.json"
        self.watch(BEFORE)
        self.clock = Clock()
        self.pages: list[str] = []
        self.self_metrics = SelfMetrics(version="1", revision="", python="", exporter_metrics=False)
        self.client = self._client("http://127.0.0.1:1/v2")
        tracker = Tracker(
            BackgroundLoader(WatchlistLoader(directory, self.clock.time)).load,
            self._bulk_get,
            ExportStates(MAX_AGE, 0.0),
            quota_share=0.5,
            clock=self.clock,
        )
        self.application = Application(
            tracker.scrape,
            Exposition(self.self_metrics, export_families(expose_error_messages=False)),
            report=StatusReport(MAX_AGE),
            page=StatusPage(version="1", base_url="./", telemetry_path="/metrics"),
            telemetry_path="/metrics",
            timeout=10.0,
            timeout_offset=0.0,
            clock=self.clock,
        )
        self.application.ready.set()

    def scrape(self, api: Api, seconds: float = LONG_DEADLINE) -> Page:
        """Scrape as Prometheus does while the API is `api`; expect an answer by the deadline."""
        status: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": str(seconds),
        }
        with api() as url:
            self.client = self._client(url)
            began = time.monotonic()
            body = self.application(environ, lambda line, *_: status.append(line) or bytes)  # type: ignore[func-returns-value] # only its side effect matters
            took = time.monotonic() - began
        assert status == ["200 OK"]
        assert is_within(took, seconds + TOLERANCE)
        self.pages.append(b"".join(body).decode())
        return Page.of(self.pages[-1])

    def watch(self, ids: Iterable[str]) -> None:
        """Write the IDs into the file."""
        self.file.write_text(json.dumps({"export_ids": list(ids)}), encoding="utf-8")

    def _bulk_get(self, ids: Ids, deadline: float) -> BulkResponse:
        return self.client.bulk_get(ids, deadline)

    def _client(self, url: str) -> Client:
        return Client(
            url,
            lambda: TOKEN,
            user_agent="a-test",
            observe=self.self_metrics.observe,
            monotonic=self.clock.monotonic,
        )


HEALTHY_BEFORE = answers(lambda ids: good(ids, BEFORE))
HEALTHY = answers(good)


@pytest.fixture
def exporter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Exporter]:
    """Return an exporter that logs at debug level; then expect no secret in its log and pages."""
    with preserved_logging():
        logs.configure("debug", "logfmt")
        logging.getLogger().setLevel(logging.DEBUG)
        logging.getLogger().addHandler(caplog.handler)
        line = Exporter(tmp_path)
        yield line
    records = caplog.get_records("setup") + caplog.get_records("call")
    formatters = [logs.Formatter(style) for style in logs.FORMATS]
    lines = [each.format(record) for record in records for each in formatters]
    said = "\n".join([*lines, *line.pages])
    assert "cavatica_up" in said
    assert TOKEN not in said
    assert FILE_NAME not in said


def shown(page: Page) -> dict[str, str]:
    """Return the state of every export; expect exactly one for each."""
    states: dict[str, str] = {}
    for labels in page.all("cavatica_export_state"):
        if page("cavatica_export_state", **labels):
            assert labels["export_id"] not in states
            states[labels["export_id"]] = labels["state"]
    return states


def failures(page: Page) -> dict[str, float]:
    """Return the number of failed requests so far, by reason."""
    name = "cavatica_api_request_failures_total"
    counts = {reason: page(name, reason=reason) or 0.0 for reason in REASONS}
    return {reason: count for reason, count in counts.items() if count}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_scrape_during_a_fault_shows_the_expected_states(fault: Fault, exporter: Exporter) -> None:
    """During each fault, reason and states are as in `FAULTS`; afterwards the states are true."""
    assert shown(exporter.scrape(HEALTHY_BEFORE)) == BEFORE
    page = exporter.scrape(fault.api, fault.seconds)
    assert shown(page) == fault.now
    assert page("cavatica_up") == (0 if fault.reason else 1)
    assert failures(page) == ({fault.reason: fault.requests} if fault.reason else {})
    assert page("cavatica_scrape_api_calls") == fault.requests
    assert sum(page.states(BATCH).values()) == 4
    exporter.clock.ahead += MAX_AGE + 1
    assert shown(exporter.scrape(fault.api, fault.seconds)) == fault.later
    exporter.clock.ahead += MAX_AGE + 1
    page = exporter.scrape(HEALTHY)
    assert shown(page) == AFTER
    assert page("cavatica_up") == 1


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_has_a_fault(reason: Reason) -> None:
    """Every reason that is counted occurs in `FAULTS`."""
    assert reason in {fault.reason for fault in FAULTS}


def test_no_call_is_made_while_rate_limited(exporter: Exporter) -> None:
    """After a 429 no call is made until the rate limit resets; then all states are current."""
    exporter.scrape(HEALTHY_BEFORE)
    exporter.scrape(server(rate_limited))
    # The second scrape comes after the minute that passes where no reset is known.
    for seconds in (0, 61):
        exporter.clock.ahead += seconds
        page = exporter.scrape(HEALTHY)
        assert (page("cavatica_up"), page("cavatica_scrape_api_calls")) == (0, 0)
        assert shown(page) == KEPT
    exporter.clock.ahead += WINDOW_SECONDS - 60
    assert shown(exporter.scrape(HEALTHY)) == AFTER


@pytest.mark.parametrize("wrong_by", [-86400.0, -1e9, 1e9])
def test_wrong_wall_clock_changes_no_state(exporter: Exporter, wrong_by: float) -> None:
    """A jump of the wall clock does not change the age of answers, which are kept for max-age."""
    exporter.scrape(HEALTHY_BEFORE)
    exporter.clock.wrong_by = wrong_by
    assert shown(exporter.scrape(refuses("500"))) == KEPT
    exporter.clock.ahead += MAX_AGE + 1
    assert shown(exporter.scrape(refuses("500"))) == AGED
    assert shown(exporter.scrape(HEALTHY)) == AFTER


def test_one_failed_call_of_three_affects_only_its_ids(exporter: Exporter) -> None:
    """Calls that succeed update their IDs; the IDs of the failed call keep their states."""
    ids = [f"{number:03}" for number in range(250)]
    exporter.watch(ids)

    def talk(peer: Peer) -> None:
        asked = ids_of(peer.receive())
        body = as_json(good(asked, dict.fromkeys(ids, "RUNNING")))
        if "120" in asked:
            peer.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
        else:
            peer.send(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)

    page = exporter.scrape(answers(lambda ids: good(ids, dict.fromkeys(ids, "PENDING"))))
    assert page.states(BATCH) == {"PENDING": 250}
    page = exporter.scrape(server(talk))
    assert page.states(BATCH) == {"RUNNING": 150, "PENDING": 100}
    assert page("cavatica_up") == 0
    assert page("cavatica_scrape_api_calls") == 3
    assert failures(page) == {"server_error": 1}
