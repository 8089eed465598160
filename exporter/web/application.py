"""The WSGI application: routes, negotiation and the landing page."""

import html
import math
import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from exporter.metrics.exposition import Exposition
from exporter.tracker.snapshot import Snapshot
from exporter.web.negotiation import accepts_gzip, negotiate

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

HEALTHY_PATH: Final = "/-/healthy"
READY_PATH: Final = "/-/ready"

#: Where there are no metrics.
RESERVED_PATHS: Final = frozenset({"/", HEALTHY_PATH, READY_PATH})
#: A scrape takes no longer, whatever a flag or a scraper says: others wait for it.
MAX_TIMEOUT_SECONDS: Final = 120.0

_PLAIN = "text/plain; charset=utf-8"


class Application:
    """Answers HTTP requests; may be called by several threads at once.

    Args:
        scrape: Makes a scrape by a deadline on `monotonic`.
        exposition: Renders it.
        version: Of the exporter, for the landing page.
        telemetry_path: Where the metrics are.
        timeout: Seconds for a scrape whose scraper does not say how long it waits.
        timeout_offset: Seconds that are taken off what the scraper says.
        monotonic: The clock of deadlines.
    """

    def __init__(
        self,
        scrape: Callable[[float], Snapshot],
        exposition: Exposition,
        *,
        version: str,
        telemetry_path: str,
        timeout: float,
        timeout_offset: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._scrape = scrape
        self._exposition = exposition
        self._timeout = timeout
        self._timeout_offset = timeout_offset
        self._monotonic = monotonic
        self._landing_page = _landing_page(version, telemetry_path).encode()
        self._routes: dict[str, Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]] = {
            "/": self._landing,
            HEALTHY_PATH: self._healthy,
            READY_PATH: self._ready,
            telemetry_path: self._metrics,
        }
        #: To be set once the ID files are loaded.
        self.ready = threading.Event()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request."""
        route = self._routes.get(environ["PATH_INFO"] or "/")
        if route is None:
            return _answer(start_response, HTTPStatus.NOT_FOUND, b"Not found.\n")
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            allow = ("Allow", "GET, HEAD")
            text = b"Only GET and HEAD are answered.\n"
            return _answer(start_response, HTTPStatus.METHOD_NOT_ALLOWED, text, allow)
        return route(environ, start_response)

    def _landing(self, _: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        policy = ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
        return _answer(
            start_response,
            HTTPStatus.OK,
            self._landing_page,
            policy,
            content_type="text/html; charset=utf-8",
        )

    def _healthy(self, _: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        return _answer(start_response, HTTPStatus.OK, b"Healthy.\n")

    def _ready(self, _: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if self.ready.is_set():
            return _answer(start_response, HTTPStatus.OK, b"Ready.\n")
        return _not_ready(start_response)

    def _metrics(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        arrived = self._monotonic()
        if not self.ready.is_set():
            return _not_ready(start_response)
        snapshot = self._scrape(arrived + self._seconds(environ))
        content_type = negotiate(environ.get("HTTP_ACCEPT", ""))
        compress = accepts_gzip(environ.get("HTTP_ACCEPT_ENCODING", ""))
        body = self._exposition.render(snapshot, content_type, compress=compress)
        headers = [("Vary", "Accept, Accept-Encoding")]
        if compress:
            headers.append(("Content-Encoding", "gzip"))
        _start(start_response, HTTPStatus.OK, content_type, body.length, *headers)
        return body.chunks

    def _seconds(self, environ: "WSGIEnvironment") -> float:
        """Give how long the scrape may take: less than the scraper waits, but never nothing."""
        try:
            told = float(environ.get("HTTP_X_PROMETHEUS_SCRAPE_TIMEOUT_SECONDS", ""))
        except ValueError:
            return self._timeout
        if not math.isfinite(told) or told <= 0:
            return self._timeout
        left = told - self._timeout_offset
        return min(left if left > 0 else told / 2, MAX_TIMEOUT_SECONDS)


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


def _landing_page(version: str, telemetry_path: str) -> str:
    links = [
        (telemetry_path, "Metrics"),
        (HEALTHY_PATH, "Healthy"),
        (READY_PATH, "Ready"),
    ]
    items = "".join(
        f'<li><a href="{html.escape(path)}">{html.escape(title)}</a></li>\n'
        for path, title in links
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>CAVATICA exporter</title>
<style>body {{ font-family: sans-serif; margin: 2rem; max-width: 40rem; }}</style>
</head>
<body>
<h1>CAVATICA exporter</h1>
<p>Prometheus metrics of bulk export jobs on CAVATICA. Version {html.escape(version)}.</p>
<ul>
{items}</ul>
</body>
</html>
"""
