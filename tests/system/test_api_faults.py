"""Faults of the API: each with its reason, and the states that a scrape shows.

In every case four exports are watched, and known from one good scrape. Then they go on, but the
API has its fault; what the scrape shows at once, and after `--exports.max-age`, is in the table.
When the fault ends, everything is shown as it is. All of it runs through the whole line: ID file,
tracker, client, a server on loopback, and the page that Prometheus gets.
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
from tests.support.exporter_process import Page, preserved_logging
from tests.support.raw_server import Peer, listen

TOKEN = "0123456789abcdef0123456789abcdef"
FILE_NAME = "patient-4711.bam"
BATCH = "tcga-7"
MAX_AGE = 300.0
PATIENT = 5.0
HURRIED = 0.3
# What a busy machine may add.
TOLERANCE = 0.5

DONE, LOST, WORK, WAIT = "Done", "Lost", "Work", "Wait"
BEFORE = {DONE: "COMPLETED", LOST: "FAILED", WORK: "RUNNING", WAIT: "PENDING"}
AFTER = {DONE: "COMPLETED", LOST: "FAILED", WORK: "COMPLETED", WAIT: "RUNNING"}
# Nothing new is known, and after a while it is too old.
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
    """Return a healthy API's answer."""
    return [{"resource": resource(export_id, truth[export_id])} for export_id in ids]


def ids_of(request: bytes) -> list[str]:
    """Return the IDs that a request asks for."""
    ids: list[str] = json.loads(request.partition(b"\r\n\r\n")[2])["export_ids"]
    return ids


def as_json(items: object) -> bytes:
    """Return an answer's body with these items, as JSON."""
    return json.dumps({"items": items}).encode()


def instead(export_id: str, *items: object) -> Items:
    """Return a good answer in which these items replace those of one ID."""

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


def says(talk: Callable[[Peer], object], *, tls: ssl.SSLContext | None = None) -> Api:
    """Return a server that runs this conversation."""

    @contextmanager
    def serve() -> Iterator[str]:
        with listen(talk, tls=tls) as port:
            yield f"{'https' if tls else 'http'}://127.0.0.1:{port}/v2"

    return serve


def answers(content: bytes | Items, *headers: str, status: str = "200 OK", length: int = 0) -> Api:
    """Return a server that answers with these bytes, or with JSON of these items."""
    body: bytes | Callable[[Ids], bytes]
    if isinstance(content, bytes):
        body = content
    else:
        items = content
        body = lambda ids: as_json(items(ids))  # noqa: E731 # short
    return says(http(body, *headers, status=status, length=length))


def refuses(status: str, body: object = ERROR, *headers: str) -> Api:
    """Return a server that answers with an error."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answers(content, *headers, status=f"{status} {TOKEN}")


def silent(peer: Peer, *, after: bytes = b"") -> None:
    """Read the request, send these bytes, and nothing more."""
    peer.receive()
    peer.send(after)
    peer.hang()


def dripping(peer: Peer, *, after: bytes = b"") -> None:
    """Read the request, send these bytes, then others one by one."""
    peer.receive()
    peer.send(after)
    peer.drip(b" " * 999)


def garbled(peer: Peer) -> None:
    """Answer well, except for an invalid line among the headers."""
    body = as_json(good(ids_of(peer.receive())))
    peer.send(HEAD + f"{TOKEN} {FILE_NAME}\r\n\r\n".encode() + body)


def flooding(peer: Peer) -> None:
    """Answer with 200 MB."""
    peer.receive()
    peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
    for _ in range(200):
        peer.send(b" " * 2**20)


def breaking(peer: Peer) -> None:
    """Read the request, and break down."""
    peer.receive()
    peer.reset()


@contextmanager
def nobody() -> Iterator[str]:
    """Yield a port at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    yield f"http://127.0.0.1:{port}/v2"


@contextmanager
def crowded() -> Iterator[str]:
    """Simulate a machine that cannot start another thread for a call."""
    before = threading.stack_size(1 << 46)
    try:
        yield "http://127.0.0.1:1/v2"
    finally:
        threading.stack_size(before)


@contextmanager
def nowhere() -> Iterator[str]:
    """Make name resolution fail; yield a URL with such a host."""

    def resolve(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        yield "http://api.invalid/v2"


@contextmanager
def full() -> Iterator[str]:
    """Run a server that accepts no more connections."""
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as listener,
        socket.socket() as one,
        socket.socket() as two,
    ):
        for waiting in (one, two):
            waiting.setblocking(False)  # noqa: FBT003 # its only way
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v2"


@contextmanager
def untrusted() -> Iterator[str]:
    """Run a server with an untrusted certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with says(Peer.hang, tls=context)() as url:
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
def elsewhere() -> Iterator[str]:
    """Run a server that redirects to another, which must not be visited."""
    visits: list[Peer] = []
    with listen(visits.append) as port:
        place = f"Location: http://127.0.0.1:{port}/{TOKEN}"
        with answers(good, place, status="307 Elsewhere")() as url:
            yield url
    assert visits == []


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: What goes wrong.
        api: The API that has it.
        reason: Of the failed requests; None for what is no failure, and `cavatica_up` stays 1.
        now: The states that the scrape shows.
        later: The states once the good answer is older than `--exports.max-age`.
        requests: How many HTTP requests the scrape sends.
        seconds: The scrape's deadline.
    """

    name: str
    api: Api
    reason: Reason | None
    now: Mapping[str, str] = field(default_factory=lambda: KEPT)
    later: Mapping[str, str] = field(default_factory=lambda: AGED)
    requests: int = 1
    seconds: float = PATIENT


def partly(name: str, items: Items, *, now: str = "RUNNING", later: str = "UNKNOWN") -> Fault:
    """Return an answer that is good except for `WORK`, and does not cover every ID."""
    return Fault(
        name, answers(items), "invalid_response", AFTER | {WORK: now}, AFTER | {WORK: later}
    )


def odd(name: str, items: Items, *, state: str = "RUNNING") -> Fault:
    """Return an answer that covers every ID but describes `WORK` in an unusual way."""
    return Fault(name, answers(items), None, AFTER | {WORK: state}, AFTER | {WORK: state})


def broken(name: str, content: bytes, *headers: str) -> Fault:
    """Return a 200 answer that cannot be parsed."""
    return Fault(name, answers(content, *headers), "invalid_response")


HTML = f"<html>Dear {TOKEN}, {FILE_NAME} is not here</html>".encode()
BOM = b"\xef\xbb\xbf"
BOMB = gzip.compress(b" " * 64 * 2**20, 1)
SOON = f"X-RateLimit-Reset: {int(time.time()) + 120}"
NEVER = {"status": 404, "code": 9008, "message": FILE_NAME, "more_info": TOKEN}
HEAD = b"HTTP/1.1 200 OK\r\n"
BODY_FOLLOWS = HEAD + b"Content-Length: 999\r\n\r\n"

FAULTS = [
    # The way there
    Fault("connection refused", nobody, "connection", requests=2),
    Fault("connection reset", says(Peer.reset), "connection", requests=2),
    Fault("reset after the request", says(breaking), "connection", requests=2),
    Fault("DNS failure", nowhere, "connection", requests=2),
    Fault("TLS error", untrusted, "tls"),
    Fault("refused by the proxy", refusing_proxy, "proxy"),
    Fault("connect timeout", full, "timeout", seconds=HURRIED),
    Fault("read timeout", says(silent), "timeout", seconds=HURRIED),
    Fault(
        "silence in the body", says(partial(silent, after=BODY_FOLLOWS)), "timeout", seconds=HURRIED
    ),
    Fault(
        "drip in the head",
        says(partial(dripping, after=HEAD + b"X-Long: ")),
        "timeout",
        seconds=HURRIED,
    ),
    Fault(
        "drip in the body", says(partial(dripping, after=BODY_FOLLOWS)), "timeout", seconds=HURRIED
    ),
    Fault(
        "another protocol", says(lambda peer: peer.send(b"SSH-2.0\r\n")), "connection", requests=2
    ),
    Fault("no thread left", crowded, "connection", requests=2),
    # Refusals
    Fault("redirect to another host", elsewhere, "redirect"),
    Fault("400", refuses("400"), "client_error"),
    Fault("401", refuses("401"), "auth"),
    Fault("403", refuses("403"), "auth"),
    Fault("404", refuses("404"), "client_error"),
    Fault("409", refuses("409"), "client_error"),
    Fault(
        "429 with good headers",
        refuses("429", ERROR, "X-RateLimit-Limit: 1000", "X-RateLimit-Remaining: 0", SOON),
        "rate_limited",
    ),
    Fault("429 without headers", refuses("429"), "rate_limited"),
    Fault("429 with nonsense", refuses("429", HTML, f"X-RateLimit-Reset: {TOKEN}"), "rate_limited"),
    Fault(
        "429 that never ends",
        refuses("429", ERROR, "X-RateLimit-Reset: 99999999999"),
        "rate_limited",
    ),
    Fault("500", refuses("500"), "server_error"),
    Fault("502", refuses("502", HTML), "server_error", requests=2),
    Fault("503 maintenance", refuses("503", {"status": 503, "code": 0}), "maintenance"),
    Fault("503 other", refuses("503", HTML), "server_error"),
    Fault("504", refuses("504", b""), "server_error", requests=2),
    # Answers that cannot be read
    broken("HTML with 200", HTML),
    broken("empty body", b""),
    broken("truncated JSON", as_json(good(list(AFTER)))[:-9]),
    broken("no UTF-8", b'{"items": ["\xff"]}'),
    broken("NaN alone", b"NaN"),
    broken("deep nesting", b"[" * 100_000),
    broken("deep nesting in the items", b'{"items": ' + b"[" * 100_000),
    broken("items missing", json.dumps({"error": ERROR}).encode()),
    broken("items null", b'{"items": null}'),
    broken("items an object", b'{"items": {"resource": {}}}'),
    broken("items a text", b'{"items": "Work"}'),
    broken("no gzip", b"{}", "Content-Encoding: gzip"),
    Fault("200 MB", says(flooding), "invalid_response"),
    Fault("gzip bomb", answers(BOMB, "Content-Encoding: gzip"), "invalid_response"),
    Fault(
        "gzip bomb in a gzip bomb",
        answers(gzip.compress(BOMB * 4, 1), "Content-Encoding: gzip, gzip"),
        "invalid_response",
    ),
    Fault(
        "a chunk of less than nothing",
        says(partial(silent, after=HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n")),
        "connection",
        requests=2,
    ),
    Fault("length too large", answers(good, length=9), "connection", requests=2),
    Fault("length too small", answers(good, length=-9), "invalid_response"),
    Fault("length no number", answers(good, "Content-Length: 1"), "invalid_response"),
    # Answers that do not account for every ID
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
    # Answers that are as they may be, if odd
    Fault("a BOM", says(http(lambda ids: BOM + as_json(good(ids)))), None, AFTER, AFTER),
    Fault("a header that is none", says(garbled), None, AFTER, AFTER),
    odd("an error in the place of an export", instead(WORK, {"error": NEVER}), state="UNKNOWN"),
    odd(
        "an error of the platform",
        instead(WORK, {"error": ERROR | {"status": 503}}),
        state="UNKNOWN",
    ),
    odd("an empty error", instead(WORK, {"error": {}}), state="UNKNOWN"),
    odd("unknown state", changed(state="ABORTED"), state="ABORTED"),
    odd("unknown state in small letters", changed(state="aborted"), state="UNKNOWN"),
    odd("state with a secret", changed(state=TOKEN), state="UNKNOWN"),
    odd("state null", changed(state=None), state="UNKNOWN"),
    odd("timestamps with fractions and offsets", changed(started_on="2018-03-27T17:00:20.5+02:00")),
    odd("timestamps of nonsense", changed(started_on=FILE_NAME, finished_on=[])),
    odd("timestamps before 1970", changed(started_on="0001-01-01T00:00:00Z")),
    odd("NaN", changed(result={"size": float("nan")})),
    odd("huge numbers", changed(result={"size": 10**4000}, error={"status": 10**30, "code": -1})),
    odd("wrong shapes everywhere", changed(source=1, destination=[], result="", error=TOKEN)),
]


class Clock:
    """The real clock, which can be put forward, and set wrong."""

    def __init__(self) -> None:
        """Begin with the right time."""
        self.ahead = 0.0
        self.wrong_by = 0.0

    def time(self) -> float:
        """Return the Unix time."""
        return time.time() + self.ahead + self.wrong_by

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return time.monotonic() + self.ahead


class Exporter:
    """The whole line, but for the command and the web server."""

    def __init__(self, directory: Path) -> None:
        """Watch what is in this directory."""
        self.file = directory / f"{BATCH}.json"
        self.watch(BEFORE)
        self.clock = Clock()
        self.pages: list[str] = []
        self.telemetry = SelfMetrics(version="1", revision="", python="", exporter_metrics=False)
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
            Exposition(self.telemetry, export_families(expose_error_messages=False)),
            report=StatusReport(MAX_AGE),
            page=StatusPage(version="1", base_url="./", telemetry_path="/metrics"),
            telemetry_path="/metrics",
            timeout=10.0,
            timeout_offset=0.0,
            clock=self.clock,
        )
        self.application.ready.set()

    def scrape(self, api: Api, seconds: float = PATIENT) -> Page:
        """Scrape as Prometheus does while the API is this one; the answer comes in time."""
        status: list[str] = []
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/metrics",
            "HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS": str(seconds),
        }
        with api() as url:
            self.client = self._client(url)
            began = time.monotonic()
            body = self.application(environ, lambda line, *_: status.append(line) or bytes)  # type: ignore[func-returns-value] # only its effect matters
            took = time.monotonic() - began
        assert status == ["200 OK"]
        assert took < seconds + TOLERANCE
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
            observe=self.telemetry.observe,
            monotonic=self.clock.monotonic,
        )


HEALTHY_BEFORE = answers(lambda ids: good(ids, BEFORE))
HEALTHY = answers(good)


@pytest.fixture
def exporter(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Exporter]:
    """Run the exporter at its most verbose; nothing that it logs or serves may hold a secret."""
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
    """Return the state of every export; each must have exactly one."""
    states: dict[str, str] = {}
    for labels in page.all("cavatica_export_state"):
        if page("cavatica_export_state", **labels):
            assert labels["export_id"] not in states
            states[labels["export_id"]] = labels["state"]
    return states


def failures(page: Page) -> dict[str, float]:
    """Return the failed requests so far, by reason."""
    name = "cavatica_api_request_failures_total"
    counts = {reason: page(name, reason=reason) or 0.0 for reason in REASONS}
    return {reason: count for reason, count in counts.items() if count}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_ends_in_a_right_scrape(fault: Fault, exporter: Exporter) -> None:
    """The scrape is in time, with the right reason and states, and later scrapes recover."""
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
def test_every_reason_is_the_end_of_a_fault(reason: Reason) -> None:
    """No reason is there for nothing."""
    assert reason in {fault.reason for fault in FAULTS}


def test_no_call_is_made_while_the_account_is_on_hold(exporter: Exporter) -> None:
    """After a 429 no call is made until the limit is reset; then all states are current again."""
    exporter.scrape(HEALTHY_BEFORE)
    exporter.scrape(refuses("429", ERROR, "X-RateLimit-Remaining: 0", SOON))
    page = exporter.scrape(HEALTHY)
    assert (page("cavatica_up"), page("cavatica_scrape_api_calls")) == (0, 0)
    assert shown(page) == KEPT
    exporter.clock.ahead += 121
    assert shown(exporter.scrape(HEALTHY)) == AFTER


@pytest.mark.parametrize("wrong_by", [-86400.0, -1e9, 1e9])
def test_a_clock_that_jumps_changes_no_state(exporter: Exporter, wrong_by: float) -> None:
    """The age of an answer does not depend on the wall clock."""
    exporter.scrape(HEALTHY_BEFORE)
    exporter.clock.wrong_by = wrong_by
    assert shown(exporter.scrape(refuses("500"))) == KEPT
    exporter.clock.ahead += MAX_AGE + 1
    assert shown(exporter.scrape(refuses("500"))) == AGED
    assert shown(exporter.scrape(HEALTHY)) == AFTER


def test_of_several_calls_one_fails(exporter: Exporter) -> None:
    """The answers of the other calls count; the IDs of the failed call keep their state."""
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
    page = exporter.scrape(says(talk))
    assert page.states(BATCH) == {"RUNNING": 150, "PENDING": 100}
    assert page("cavatica_up") == 0
    assert page("cavatica_scrape_api_calls") == 3
    assert failures(page) == {"server_error": 1}
