"""The wiring: flags, logging, signals, and the objects that do the work."""

import contextlib
import logging
import os
import platform
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from exporter import __version__
from exporter.cavatica.client import Client
from exporter.cavatica.credentials import Api, Credentials, Token, find_api
from exporter.cli.demo import Demo
from exporter.cli.flags import Flags
from exporter.cli.revision import find_revision
from exporter.clock import SystemClock
from exporter.metrics.exposition import RENDER_SECONDS, TEXT, Exposition
from exporter.metrics.families import export_families
from exporter.metrics.self_metrics import SelfMetrics
from exporter.server import Address, Server
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.loader import WatchlistLoader
from exporter.web.application import Application
from exporter.web.page import StatusPage
from exporter.web.report import StatusReport
from exporter.webconfig import WebConfigError, WebConfigFile

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# A scrape under way at the end waits so long for the API, and its scraper so long for the answer.
_SCRAPE_SECONDS = 3.5
_ANSWER_SECONDS = 4.5

_DEMO = """
A simulated CAVATICA runs in this process; its exports begin, finish and fail within minutes.
Open    {url}/
        {url}{path}
or let a Prometheus scrape it. Ctrl-C ends it.
"""

_log = logging.getLogger(__name__)


class StartError(Exception):
    """The exporter cannot start; the text says what to do."""


class Exporter:
    """Everything that runs, put together as the flags say.

    Raises:
        StartError: It cannot start.
        CredentialsError: There is no token or no URL to use.
    """

    def __init__(self, flags: Flags, demo: Demo | None, path: Path) -> None:
        self._flags = flags
        self._credentials = Credentials(lambda: find_credentials(flags, demo))
        self._clock = SystemClock()
        self._loader = WatchlistLoader(path, self._clock.time)
        self._timeout = flags.api_timeout
        self_metrics = SelfMetrics(
            version=__version__,
            revision=find_revision(),
            python=platform.python_version(),
            exporter_metrics=not flags.web_disable_exporter_metrics,
        )
        client = Client(
            self._credentials.api.url,
            self._credentials.token,
            user_agent=f"cavatica-export-exporter/{__version__}",
            advance_access=flags.api_advance_access,
            observe=self_metrics.observe,
            monotonic=self._clock.monotonic,
        )
        self._tracker = Tracker(
            self._loader.load,
            client.bulk_get,
            ExportStates(flags.exports_max_age, flags.exports_completed_retention),
            quota_share=flags.api_quota_share,
            render_seconds=RENDER_SECONDS,
            clock=self._clock,
        )
        self._exposition = Exposition(
            self_metrics, export_families(expose_error_messages=flags.exports_expose_error_messages)
        )

    def once(self) -> int:
        """Print one scrape."""
        self._load_first()
        snapshot = self._tracker.scrape(self._clock.monotonic() + self._timeout)
        for chunk in self._exposition.render(snapshot, TEXT, compress=False).chunks:
            click.echo(chunk, nl=False)
        return 0 if snapshot.up else 1

    def serve(self) -> int:
        """Answer HTTP requests until a signal ends it; all signals are blocked."""
        web_config = load_web_config(self._flags)
        application = Application(
            self._tracker.scrape,
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
                _log.info("listening", extra={"url": server.url})
            self._load_first()
            # What is rendered now does not delay the first scrape of many exports.
            self._exposition.render(self._tracker.preview(), TEXT, compress=False)
            application.ready.set()
            api = self._credentials.api
            _log.info("ready", extra={"version": __version__, "api": api.url, "token": api.origin})
            if self._flags.demo:
                click.echo(_DEMO.format(url=servers[0].url, path=self._flags.web_telemetry_path))
            while (received := signal.sigwait(SIGNALS)) == signal.SIGHUP:
                self._reload()
                if web_config:
                    web_config.reload(force=True)
            _log.info("ending", extra={"signal": signal.Signals(received).name})
            self._end(servers)
        return 0

    def _reload(self) -> None:
        _log.info("reading everything again")
        self._loader.load(afresh=True)
        self._credentials.reload()

    def _end(self, servers: Sequence[Server]) -> None:
        """End all servers; what is being answered gets its answer, if need be an early one."""
        end = time.monotonic() + _ANSWER_SECONDS
        hurry = threading.Timer(_SCRAPE_SECONDS, self._tracker.end)
        hurry.daemon = True
        hurry.start()
        for server in servers:
            server.close(max(end - time.monotonic(), 0.0))

    def _load_first(self) -> None:
        """Load the ID files; nothing to watch because of errors is no start."""
        watchlist = self._loader.load()
        unreadable = watchlist.files and all(file.mtime is None for file in watchlist.files)
        if watchlist.error is not None or unreadable:
            raise StartError(
                "--exports.path: no ID file can be read: " + "; ".join(watchlist.errors)
            )


def _listen(app: "WSGIApplication", address: Address, web_config: WebConfigFile | None) -> Server:
    try:
        if web_config is None:
            return Server(app, address)
        return Server(app, address, tls=web_config.ssl_context, extra_headers=web_config.headers)
    except OSError as error:
        raise StartError(f"--web.listen-address: {error.strerror}") from error


def find_credentials(flags: Flags, demo: Demo | None) -> Api:
    """Return the API that the flags and the environment name.

    Raises:
        CredentialsError: there is no token or no URL to use.
    """
    if demo:
        return Api(demo.url, Token(demo.token, "the demo"), "the demo")
    return find_api(
        url=flags.api_url,
        token_file=flags.api_token_file,
        profile=flags.api_profile,
        environ=os.environ,
        home=Path(os.path.expanduser("~")),  # noqa: PTH111 # Path.home() raises where there is none
    )


def load_web_config(flags: Flags) -> WebConfigFile | None:
    """Return the web configuration that the flags name, or None.

    Raises:
        StartError: it is not valid.
    """
    if flags.web_config_file is None:
        return None
    try:
        return WebConfigFile(flags.web_config_file)
    except WebConfigError as error:
        raise StartError(f"--web.config.file: {error}") from error
