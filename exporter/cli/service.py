"""The wiring: constructs the objects and connects them as the flags say."""

import contextlib
import gc
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent import futures
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from exporter import __version__, background
from exporter.cavatica.credentials import Credentials
from exporter.cli.api import find_credentials, make_client
from exporter.cli.demo import Demo
from exporter.cli.flags import Flags
from exporter.cli.reloads import Reloads
from exporter.cli.revision import find_revision
from exporter.cli.signals import Signals
from exporter.clock import SystemClock
from exporter.files import remove_stale, replace_file
from exporter.metrics.export_families import export_families
from exporter.metrics.exposition import RENDER_SECONDS, TEXT, Exposition
from exporter.metrics.self_metrics import SelfMetrics
from exporter.server import Address, Server
from exporter.tracker.snapshot import Snapshot, WatchedExport
from exporter.tracker.state_file import StateFile
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.background_loader import BackgroundLoader
from exporter.watchlist.loader import WatchlistLoader
from exporter.web.application import Application
from exporter.web.page import StatusPage
from exporter.web.report import StatusReport
from exporter.webconfig import WebConfigError, WebConfigFile

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

# Graceful shutdown: seconds for a running scrape's API calls, and for sending its answer.
_SCRAPE_SECONDS = 3.0
_ANSWER_SECONDS = 3.7
# Minimum seconds left after that for writing the state file.
_WRITE_SECONDS = 0.3
# After so many seconds the log says what a start waits for.
_LATE_SECONDS = 5.0

_DEMO = """
A simulated CAVATICA runs in this process; its exports begin, finish and fail within minutes.
Open    {url}/
        {url}{path}
or let a Prometheus scrape it. Ctrl-C ends it.
"""

_Result = TypeVar("_Result")

_log = logging.getLogger(__name__)


class StartError(Exception):
    """The exporter cannot start; the text says what to do."""


class Exporter:
    """All objects of a running exporter.

    Raises:
        StartError: the exporter cannot start.
        CredentialsError: there is no usable token or URL.
    """

    def __init__(self, flags: Flags, demo: Demo | None, path: Path) -> None:
        self._flags = flags
        self._credentials = _wait_for(
            "the token", lambda: Credentials(lambda: find_credentials(flags, demo))
        )
        self._clock = SystemClock()
        self._loader = BackgroundLoader(
            WatchlistLoader(path, self._clock.time, self._credentials.token)
        )
        self._timeout = flags.api_timeout
        # Node exporter has `process_*` of its own, and reports an error if a file has them, too.
        process_metrics = not flags.web_disable_exporter_metrics and flags.once_output is None
        self_metrics = SelfMetrics(
            version=__version__,
            revision=find_revision(),
            python=platform.python_version(),
            exporter_metrics=process_metrics,
        )
        states = ExportStates(flags.exports_max_age, flags.exports_completed_retention)
        self._state_file: StateFile | None = None
        destination_key = None
        recall: Callable[[], Sequence[WatchedExport]] = tuple
        if flags.exports_state_file is not None:
            self._state_file = StateFile(flags.exports_state_file, self._clock)
            self._state_file.load()
            recall = self._state_file.recall
            destination_key = self._state_file.key
            self_metrics.show_state_file(self._state_file.status)
        client = make_client(
            flags,
            self._credentials.api.url,
            self._credentials.token,
            observe=self_metrics.observe,
            destination_key=destination_key,
        )
        self._tracker = Tracker(
            self._loader.load,
            client.bulk_get,
            states,
            recall=recall,
            quota_share=flags.api_quota_share,
            render_seconds=RENDER_SECONDS,
            clock=self._clock,
        )
        self._exposition = Exposition(
            self_metrics, export_families(expose_error_messages=flags.exports_expose_error_messages)
        )

    def once(self) -> int:
        """Print one scrape, or write it to a file; return the exit status.

        Raises:
            StartError: no ID file can be read, or the output file cannot be written.
        """
        self._load_first()
        snapshot = self._tracker.scrape(self._clock.monotonic() + self._timeout)
        # A printed scrape changes nothing: another exporter, or user, may have the file.
        if self._flags.once_output is not None and self._state_file:
            # Before the page, which shows whether it was written.
            self._state_file.save(snapshot)
            self._state_file.close(_ANSWER_SECONDS)
        chunks = self._exposition.render(snapshot, TEXT, compress=False).chunks
        if self._flags.once_output is None:
            for chunk in chunks:
                click.echo(chunk, nl=False)
        else:
            _write_output(self._flags.once_output, chunks, self._clock.time())
        return 0 if snapshot.up else 1

    def serve(self, signals: Signals) -> int:
        """Answer HTTP requests until a signal ends it; return the exit status."""
        web_config = load_web_config(self._flags)
        if self._state_file:
            self._state_file.check_directory()
        application = Application(
            self._scrape,
            self._exposition,
            report=StatusReport(self._flags.exports_max_age),
            page=StatusPage(
                version=__version__,
                base_url=self._flags.web_external_url or "./",
                telemetry_path=self._flags.web_telemetry_path,
            ),
            telemetry_path=self._flags.web_telemetry_path,
            timeout=self._timeout,
            timeout_offset=self._flags.web_timeout_offset,
            clock=self._clock,
        )
        app = web_config.wrap(application) if web_config else application
        with contextlib.ExitStack() as stack:
            servers = []
            for address in self._flags.web_listen_address:
                servers.append(server := _listen(app, address, web_config))
                stack.callback(server.close)
                server.start()
                _log.info("Listening", extra={"url": server.url})
            self._load_first()
            # Rendering now keeps the first scrape of many exports short.
            self._exposition.render(self._tracker.preview(), TEXT, compress=False)
            # Most of what the start created stays: from now on collections skip it.
            gc.collect()
            gc.freeze()
            application.ready.set()
            api = self._credentials.api
            _log.info("Ready", extra={"version": __version__, "api": api.url, "token": api.origin})
            if self._flags.demo:
                click.echo(_DEMO.format(url=servers[0].url, path=self._flags.web_telemetry_path))
            received = self._reloads(web_config).serve(signals)
            _log.info("Shutting down", extra={"signal": received.name})
            self._end(servers)
        return 0

    def _scrape(self, deadline: float) -> Snapshot:
        snapshot = self._tracker.scrape(deadline)
        if self._state_file:
            self._state_file.save(snapshot)
        return snapshot

    def _reloads(self, web_config: WebConfigFile | None) -> Reloads:
        works: dict[str, Callable[[], object]] = {"token": self._credentials.reload}
        if web_config:
            works = {"web configuration": partial(web_config.reload, force=True), **works}
        return Reloads(works, self._loader.reload)

    def _end(self, servers: Sequence[Server]) -> None:
        """Shut down gracefully: requests in flight are answered, early if necessary."""
        end = time.monotonic() + _ANSWER_SECONDS
        hurry = threading.Timer(_SCRAPE_SECONDS, self._tracker.end)
        hurry.daemon = True
        try:
            hurry.start()
        except RuntimeError:
            # The system has no thread left.
            self._tracker.end()
        for server in servers:
            server.close(max(end - time.monotonic(), 0.0))
        if self._state_file:
            self._state_file.close(max(end - time.monotonic(), _WRITE_SECONDS))

    def _load_first(self) -> None:
        """Load the ID files.

        Raises:
            StartError: no ID file can be read, or no thread can be started.
        """
        try:
            load = self._loader.reload()
        except RuntimeError:
            raise StartError("--exports.path: not read, as no thread can be started") from None
        _finish("--exports.path", load)
        watchlist = self._loader.watchlist
        unreadable = watchlist.files and all(file.mtime is None for file in watchlist.files)
        if watchlist.error is not None or unreadable:
            raise StartError(
                "--exports.path: no ID file can be read: " + "; ".join(watchlist.errors)
            )


def _wait_for(what: str, read: Callable[[], _Result]) -> _Result:
    return _finish(what, background.start_or_run(read, what))


def _finish(what: str, reading: "futures.Future[_Result]") -> _Result:
    """Return the result, and log what the start waits for if that takes long."""
    if not futures.wait([reading], _LATE_SECONDS).done:
        _log.warning("Start not finished yet", extra={"waiting_for": what})
    return reading.result()


def _write_output(path: Path, chunks: Iterable[bytes], now: float) -> None:
    remove_stale(path, now)
    try:
        # Node exporter's textfile collector runs as another user.
        replace_file(path, chunks, mode=0o644)
    except OSError as error:
        raise StartError(f"--once.output {path}: cannot be written: {error.strerror}") from error


def _listen(app: "WSGIApplication", address: Address, web_config: WebConfigFile | None) -> Server:
    try:
        if web_config is None:
            return Server(app, address)
        return Server(app, address, tls=web_config.ssl_context, extra_headers=web_config.headers)
    except OSError as error:
        raise StartError(f"--web.listen-address: {error.strerror}") from error


def load_web_config(flags: Flags) -> WebConfigFile | None:
    """Return the web configuration that the flags name, or None.

    Raises:
        StartError: it is not valid.
    """
    if (path := flags.web_config_file) is None:
        return None
    try:
        return _wait_for("--web.config.file", lambda: WebConfigFile(path))
    except WebConfigError as error:
        raise StartError(f"--web.config.file: {error}") from error
