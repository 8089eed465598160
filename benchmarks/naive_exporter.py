"""The exporter that a user would write in an afternoon, with which the real one is compared.

On every scrape it asks for every ID with the official client, in chunks of 100, and sets Gauges of
prometheus_client. It has the real exporter's series of single exports.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, make_server

import sevenbridges
import yaml
from prometheus_client import CollectorRegistry, Gauge, make_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_STATES = ("PENDING", "RUNNING", "COMPLETED", "FAILED")
_CHUNK = 100


class NaiveExporter:
    """Queries the API for every ID on every request, and answers with all metrics."""

    def __init__(self, api: sevenbridges.Api, batches: dict[str, list[str]]) -> None:
        self._api = api
        self._batch_of = {i: batch for batch, ids in batches.items() for i in ids}
        self._registry = CollectorRegistry()
        self._metrics_app = make_wsgi_app(self._registry)
        self._state = self._gauge("state", "state")
        self._started = self._gauge("started_timestamp_seconds")
        self._finished = self._gauge("finished_timestamp_seconds")
        self._size = self._gauge("size_bytes")
        self._info = self._gauge("info", "volume")
        self._error = self._gauge("error_info", "code", "status")

    def _gauge(self, name: str, *labels: str) -> Gauge:
        names = ("batch", "export_id", *labels)
        return Gauge(f"cavatica_export_{name}", name, names, registry=self._registry)

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer one request (WSGI)."""
        ids = list(self._batch_of)
        for i in range(0, len(ids), _CHUNK):
            for record in self._api.exports.bulk_get(ids[i : i + _CHUNK]):
                if record.valid:
                    self._set(record.resource)
        body: Iterable[bytes] = self._metrics_app(environ, start_response)
        return body

    def _set(self, export: sevenbridges.Export) -> None:
        labels = (self._batch_of[export.id], export.id)
        for state in _STATES:
            self._state.labels(*labels, state).set(state == export.state)
        # Only keys that the answer has: for others the client makes one more call for each export.
        if export.state != "PENDING":
            self._started.labels(*labels).set(export.started_on.timestamp())
        if export.state in {"COMPLETED", "FAILED"}:
            self._finished.labels(*labels).set(export.finished_on.timestamp())
        self._info.labels(*labels, export.destination.volume).set(1)
        if export.state == "COMPLETED":
            size = export._result["size"]  # noqa: SLF001 # `export.result` makes a call for the file
            self._size.labels(*labels).set(size)
        if export.state == "FAILED":
            self._error.labels(*labels, export.error.code, export.error.status).set(1)


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log no requests."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve on a free port of loopback until a signal ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--exports", type=Path, required=True, help="directory of bare lists")
    options = parser.parse_args(arguments)
    batches = {
        path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
        for path in options.exports.iterdir()
    }
    # `debug` is the client's public switch for http:// URLs.
    api = sevenbridges.Api(url=options.url, token=options.token, debug=True)
    with make_server("127.0.0.1", 0, NaiveExporter(api, batches), handler_class=_Quiet) as server:
        sys.stderr.write(f"Listening url=http://127.0.0.1:{server.server_port}\n")
        sys.stderr.flush()
        server.serve_forever()


if __name__ == "__main__":
    main()
