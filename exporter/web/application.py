"""The WSGI application: its routes, and the time limit of a scrape."""

import math
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from exporter.clock import Clock
from exporter.metrics.exposition import Exposition
from exporter.tracker.snapshot import Snapshot
from exporter.web.negotiation import accepts_gzip, negotiate, prefers_json
from exporter.web.page import POLICY, StatusPage, to_json
from exporter.web.report import StatusReport
from exporter.web.status import NOT_SCRAPED

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"
RUNBOOKS_PATH: Final = "/runbooks"

#: Paths that are not available for the metrics.
RESERVED_PATHS: Final = frozenset({"/", HEALTHY_PATH, READY_PATH, RUNBOOKS_PATH})
#: Maximum duration of a scrape, even if a flag or a scraper allows more: other scrapes wait for it.
MAX_TIMEOUT_SECONDS: Final = 120.0

_PLAIN = "text/plain; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_JSON = "application/json"
_PAGE_HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
    ("Vary", "Accept"),
)
# As a header, because accessibility checkers refuse the element.
_REFRESH = ("Refresh", "60")


class Application:
    """The exporter's HTTP application; may be called by several threads at once.

    Args:
        scrape: Runs a scrape by a deadline on the monotonic clock.
        exposition: Renders its result as metrics.
        report: Makes a status of the result.
        page: Renders a status as HTML.
        telemetry_path: Path of the metrics.
        timeout: Seconds for a scrape if the scraper sends no timeout.
        timeout_offset: Seconds subtracted from the scraper's timeout.
        clock: The clock of deadlines, and of times on the status page.
    """

    def __init__(
        self,
        scrape: Callable[[float], Snapshot],
        exposition: Exposition,
        *,
        report: StatusReport,
        page: StatusPage,
        telemetry_path: str,
        timeout: float,
        timeout_offset: float,
        clock: Clock,
    ) -> None:
        self._scrape = scrape
        self._exposition = exposition
        self._report = report
        self._page = page
        self._timeout = timeout
        self._timeout_offset = timeout_offset
        self._clock = clock
        # The last scrape, and its end on the monotonic clock.
        self._last: tuple[Snapshot, float] | None = None
        self._routes: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
            "/": self._status,
            RUNBOOKS_PATH: self._runbooks,
            HEALTHY_PATH: self._healthy,
            READY_PATH: self._ready,
            telemetry_path: self._metrics,
        }
        #: Set once the ID files are loaded.
        self.ready = threading.Event()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        route = self._routes.get(environ["PATH_INFO"] or "/")
        if route is None:
            return _answer(start_response, HTTPStatus.NOT_FOUND, b"Not found.\n")
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            allow = ("Allow", "GET, HEAD")
            text = b"Only GET and HEAD are supported.\n"
            return _answer(start_response, HTTPStatus.METHOD_NOT_ALLOWED, text, allow)
        return route(environ, start_response)

    def _status(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer from the last scrape; never calls the API or waits for a scrape."""
        last = self._last
        if last is None:
            status = NOT_SCRAPED
        else:
            snapshot, taken = last
            status = self._report.of(snapshot, self._clock.monotonic() - taken)
        if prefers_json(environ.get("HTTP_ACCEPT", "")):
            body, content_type = to_json(status), _JSON
        else:
            body, content_type = self._page.html(status, self._clock.time()), _HTML
        return _answer(
            start_response,
            HTTPStatus.OK,
            body,
            _REFRESH,
            *_PAGE_HEADERS,
            content_type=content_type,
        )

    def _runbooks(self, _: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        body = self._page.runbooks
        return _answer(start_response, HTTPStatus.OK, body, *_PAGE_HEADERS, content_type=_HTML)

    def _healthy(self, _: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return _answer(start_response, HTTPStatus.OK, b"Healthy.\n")

    def _ready(self, _: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if self.ready.is_set():
            return _answer(start_response, HTTPStatus.OK, b"Ready.\n")
        return _not_ready(start_response)

    def _metrics(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        arrived = self._clock.monotonic()
        if not self.ready.is_set():
            return _not_ready(start_response)
        snapshot = self._scrape(arrived + self._scrape_timeout(environ))
        self._last = snapshot, self._clock.monotonic()
        content_type = negotiate(environ.get("HTTP_ACCEPT", ""))
        compress = accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        body = self._exposition.render(snapshot, content_type, compress=compress)
        headers = [("Vary", "Accept, Accept-Encoding")]
        if compress:
            headers.append(("Content-Encoding", "gzip"))
        _start(start_response, HTTPStatus.OK, content_type, body.length, *headers)
        return body.chunks

    def _scrape_timeout(self, environ: "WSGIEnvironment") -> float:
        """Return the seconds for a scrape: positive, and less than the scraper waits."""
        try:
            seconds = float(environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", ""))
        except ValueError:
            return self._timeout
        if not math.isfinite(seconds) or seconds <= 0:
            return self._timeout
        left = seconds - self._timeout_offset
        return min(left if left > 0 else seconds / 2, MAX_TIMEOUT_SECONDS)


def _not_ready(start_response: "StartResponse") -> Iterable[bytes]:
    return _answer(
        start_response, HTTPStatus.SERVICE_UNAVAILABLE, b"The ID files are being loaded.\n"
    )


def _answer(
    start_response: "StartResponse",
    status: HTTPStatus,
    body: bytes,
    *headers: tuple[str, str],
    content_type: str = _PLAIN,
) -> Iterable[bytes]:
    _start(start_response, status, content_type, len(body), *headers)
    return [body]


def _start(
    start_response: "StartResponse",
    status: HTTPStatus,
    content_type: str,
    length: int,
    *headers: tuple[str, str],
) -> None:
    start_response(
        f"{status.value} {status.phrase}",
        [
            ("Content-Type", content_type),
            ("Content-Length", str(length)),
            ("X-Content-Type-Options", "nosniff"),
            *headers,
        ],
    )
