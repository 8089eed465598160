"""The commands `status` and `failed`: the results of the exports in the ID files."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click

from exporter import files
from exporter.cavatica.answer import MAX_IDS, ApiError
from exporter.cavatica.codes import RETRIES, Retry
from exporter.cavatica.order import Order
from exporter.cli import logs
from exporter.cli.options import PATH, ApiFlags, api_flags, flag
from exporter.cli.service import StartError
from exporter.cli.signals import end_at_once
from exporter.clock import SystemClock
from exporter.text import counted
from exporter.tool.failed import FAILED_FORMATS, FailedFormat, Failures, Requests, find_attempts
from exporter.tool.program import (
    NAME,
    SETTINGS,
    connect,
    load_credentials,
    own_flag,
    pace,
    pause_until,
    start_log,
)
from exporter.tool.status import FAILURES, make_status
from exporter.tool.table import FORMATS, Format
from exporter.tool.watched import NoAnswerError, ask_all, refused_ids
from exporter.tracker.snapshot import Snapshot
from exporter.tracker.states import ExportStates
from exporter.tracker.tracker import Tracker
from exporter.watchlist.loader import WatchlistLoader

_NO_ANSWER: Final = 1
# No answer becomes outdated while the command runs.
_MAX_AGE_SECONDS = 86400.0

_path_flag = flag(
    "--exports.path",
    type=PATH,
    metavar="PATH",
    required=True,
    help="File or directory with the export IDs.",
)
# A command that ends at once need not log which files were loaded.
_log_flag = flag(
    "--log.level", type=click.Choice(logs.LEVELS), default="warn", help="Minimum log level."
)


def status_command() -> click.Command:
    """Return the command `status`."""

    @click.command("status", context_settings=SETTINGS)
    @_path_flag
    @own_flag("--format", type=click.Choice(FORMATS), default="text", help="Output format.")
    @api_flags(scraped=False)
    @_log_flag
    def command(
        exports_path: Path,
        format: Format,  # noqa: A002 # the flag's name
        **values: Any,  # noqa: ANN401 # click has parsed them
    ) -> int:
        """Print a line for each batch, then what needs attention.

        Every watched export and every refused file is counted once: dealt_with has those that are
        acknowledged or superseded, the other columns are without these. What needs attention is
        grouped by code and meaning.

        Exit status: 0 all done, 1 no answer, an ID file in error or an entry that is not a valid
        ID, 2 for a wrong flag, no token or no ID file, 3 failures, undocumented states, refusals or
        lookup errors that nobody has dealt with, 4 not finished. If several apply, 3 comes before
        1, and 1 before 4.
        """
        watched = _Watched(exports_path, values)
        try:
            snapshot = watched.ask()
        except NoAnswerError as error:
            return _no_answer(watched.url, error)
        status = make_status(snapshot)
        click.echo(status.render(format), nl=False)
        if _is_part(snapshot) and status.exit_status != FAILURES:
            return _NO_ANSWER
        return status.exit_status

    return command


def failed_command() -> click.Command:
    """Return the command `failed`."""

    @click.command("failed", context_settings=SETTINGS)
    @_path_flag
    @own_flag(
        "--format",
        type=click.Choice(FAILED_FORMATS),
        default="text",
        help="Output format; create: request bodies of the bulk create, one a line, with up to 100"
        " exports each.",
    )
    @own_flag(
        "--retry",
        type=click.Choice(RETRIES),
        help="Only failures whose request may succeed now, after a repair, or never. Without"
        " it, --format create leaves out those of never.",
    )
    @own_flag("--output", type=PATH, metavar="FILE", help="Write to this file, for its owner only.")
    @api_flags(scraped=False)
    @_log_flag
    def command(
        exports_path: Path,
        format: FailedFormat,  # noqa: A002 # the flag's name
        retry: Retry | None,
        output: Path | None,
        **values: Any,  # noqa: ANN401 # click has parsed them
    ) -> int:
        """Print the exports to repeat.

        These are FAILED, and neither acknowledged nor superseded. The output contains file names.
        No export is started.

        With --format create, a file that failed several times on its way to one location is
        requested once, as its latest failure says. Left out, and counted on standard error, are
        those whose request would fail again (--retry never prints them), those to whose destination
        another export has not ended, and those of which a later failure is acknowledged.

        Exit status: 0 all is printed, 1 no answer for some, an ID file in error or an entry that is
        not a valid ID or that the API refuses, 2 for a wrong flag, no token or no ID file.
        """
        watched = _Watched(exports_path, values)
        try:
            snapshot = watched.ask()
            attempts = find_attempts(snapshot)
            orders = watched.orders([each.id for each in attempts.failed])
        except NoAnswerError as error:
            return _no_answer(watched.url, error)
        failures = Failures(attempts, orders, retry)
        is_part = _is_part(snapshot)
        if format == "create":
            requests = failures.requests()
            _tell_left_out(requests)
            is_part |= bool(requests.without_order)
            text = requests.render()
        else:
            text = failures.render(format)
        if output is None:
            click.echo(text, nl=False)
        else:
            try:
                files.replace_file(output, [text.encode()], mode=0o600)
            except OSError as error:
                raise StartError(
                    f"--output {output}: cannot be written: {error.strerror}"
                ) from error
        return _NO_ANSWER if is_part else 0

    return command


class _Watched:
    """The exports in the ID files, and the client of the API.

    Attributes:
        url: The API's URL.

    Raises:
        StartError: no ID file can be read.
        CredentialsError: there is no usable token or URL.
    """

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        start_log(values.pop("log_level"), "logfmt")
        end_at_once()
        flags = ApiFlags(**values)
        clock = SystemClock()
        credentials = load_credentials(flags)
        loader = WatchlistLoader(path, clock.time, credentials.token)
        watchlist = loader.load()
        if watchlist.errors and not watchlist.batches:
            raise StartError(
                "--exports.path: no ID file can be read: " + "; ".join(watchlist.errors)
            )
        if not watchlist.files:
            # Nothing to do and a directory that is not mounted look the same.
            raise StartError(f"--exports.path {loader.name}: no ID file")
        client = connect(flags, credentials)
        self.url = credentials.api.url
        self._pause = pause_until(threading.Event())
        self._api = pace(client, flags, clock, self._pause)
        self._clock = clock
        self._timeout = flags.api_timeout
        self._tracker = Tracker(
            lambda *_: loader.load(),
            client.bulk_get,
            ExportStates(_MAX_AGE_SECONDS, 0),
            quota_share=flags.api_quota_share,
            clock=clock,
        )

    def ask(self) -> Snapshot:
        """Return the state of every export; name those that the API refuses on standard error.

        Raises:
            NoAnswerError: the API did not answer for every ID.
        """
        snapshot = ask_all(
            self._tracker, timeout=self._timeout, clock=self._clock, pause=self._pause
        )
        if (refused := refused_ids(snapshot)) is not None:
            click.echo(f"{NAME}: {refused}", err=True)
        return snapshot

    def orders(self, ids: Sequence[str]) -> dict[str, Order]:
        """Return the orders of the exports, as far as the API returns them.

        Raises:
            NoAnswerError: there is no usable answer.
        """
        orders: dict[str, Order] = {}
        try:
            for begin in range(0, len(ids), MAX_IDS):
                orders |= self._api.get_orders(ids[begin : begin + MAX_IDS]).orders
        except ApiError as error:
            raise NoAnswerError(error.problem) from error
        return orders


def _tell_left_out(requests: Requests) -> None:
    for reason, count in requests.left_out.items():
        click.echo(f"{NAME}: {counted(count, 'export')} left out, because {reason}", err=True)
    if requests.without_order:
        click.echo(
            f"{NAME}: API returned no file and location for"
            f" {counted(requests.without_order, 'export')}; no request is written for them",
            err=True,
        )


def _is_part(snapshot: Snapshot) -> bool:
    """Return whether the ID files may name exports that are not in the output."""
    watchlist = snapshot.watchlist
    return bool(watchlist.errors or watchlist.rejected or refused_ids(snapshot))


def _no_answer(url: str, error: NoAnswerError) -> int:
    click.echo(f"{NAME}: no usable answer from {url}: {error}", err=True)
    return _NO_ANSWER
