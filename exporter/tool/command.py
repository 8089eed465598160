"""The command line of `cavatica-exports`."""

import contextlib
import functools
import logging
import re
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import click

from exporter.cavatica.credentials import Credentials
from exporter.cli import logs
from exporter.cli.command import invoke, version
from exporter.cli.options import (
    DURATION,
    ENVIRONMENT_PREFIX,
    PATH,
    ApiFlags,
    PathType,
    api_flags,
    click_type,
    flag,
    log_flags,
)
from exporter.cli.service import find_credentials, make_client
from exporter.cli.signals import Signals, end_at_once_by_sigterm
from exporter.clock import SystemClock
from exporter.tool.api import PacedApi
from exporter.tool.discover import BATCH_BY, BatchBy, Round, discover
from exporter.tool.ledger import Selection
from exporter.tool.loop import Loop, ProgressBar, StoppedError

NAME: Final = "cavatica-exports"

_SETTINGS: Final = {
    "auto_envvar_prefix": ENVIRONMENT_PREFIX,
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "show_default": True,
}
_VOLUME = re.compile(r"[^/\s]+/[^/\s]+")

_log = logging.getLogger(__name__)

# Only the flags that it shares with the exporter have variables.
_own_flag = functools.partial(flag, allow_from_autoenv=False)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0, 1 without an answer, 2 for what cannot be started."""
    invoke(make_group(), arguments)


def make_group() -> click.Group:
    """Make the command with its subcommands."""

    @click.group(
        NAME,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog="The flags for the API and the ID files, and their environment variables, are those"
        " of cavatica-exporter.",
    )
    @click.version_option(version(), message="%(prog)s %(version)s")
    def group() -> None:
        """Find CAVATICA's bulk export jobs, and say what became of them."""

    group.add_command(_discover_command())
    return group


def _volume(text: str) -> str:
    if _VOLUME.fullmatch(text) is None:
        raise ValueError(f"not a valid volume: {text!r} (use OWNER/NAME, as in rfranklin/exports)")
    return text


def _directory(text: str) -> Path:
    path = Path(text)
    if not text or not path.is_dir():
        raise ValueError(f"not a directory: {text!r} (create it first)")
    return path


def _discover_command() -> click.Command:
    @click.command("discover", context_settings=_SETTINGS)
    @_own_flag(
        "--to",
        type=PathType(_directory, "dir"),
        metavar="DIR",
        required=True,
        help="Directory for the ID files. Only its files discovered-*.json are written or removed.",
    )
    @_own_flag(
        "--every", type=DURATION, metavar="DURATION", help="Run a round this often, for ever."
    )
    @_own_flag(
        "--volume",
        type=click_type(_volume),
        metavar="OWNER/NAME",
        multiple=True,
        help="Only exports to this volume; repeatable.",
    )
    @_own_flag(
        "--since",
        type=DURATION,
        metavar="DURATION",
        default="30d",
        help="Leave out exports that ended longer ago; 0s: none.",
    )
    @_own_flag(
        "--keep",
        type=DURATION,
        metavar="DURATION",
        default="30d",
        help="Drop an export from its file this long after it COMPLETED.",
    )
    @_own_flag(
        "--batch-by",
        type=click.Choice(BATCH_BY),
        default="volume-day",
        help="What makes a batch: volume and day of the start, the volume, or nothing.",
    )
    @_own_flag(
        "--metrics-file",
        type=PATH,
        metavar="FILE",
        help="Write metrics of the last round here, for node_exporter's textfile collector.",
    )
    @api_flags
    @log_flags
    def command(
        to: Path,
        every: float | None,
        volume: tuple[str, ...],
        since: float,
        keep: float,
        batch_by: BatchBy,
        metrics_file: Path | None,
        **values: Any,  # noqa: ANN401 # click has parsed them
    ) -> int:
        """Write ID files from the API's list of exports: all that the token's account started.

        Exit status: 0 when every export was found, 1 when not, 2 for a wrong flag or no token.
        """
        logs.configure(values.pop("log_level"), values.pop("log_format"))
        stop = threading.Event()
        clock = SystemClock()
        api = connect(ApiFlags(**values), clock, stop)
        progress = ProgressBar()
        selection = Selection(tuple(sorted(set(volume))), since, keep)

        def one_round() -> Round:
            try:
                return discover(
                    api, to, selection, batch_by=batch_by, clock=clock, progress=progress.show
                )
            finally:
                progress.clear()

        report = _print_round if every is None else _log_round
        loop = Loop(
            one_round, lambda: api.calls, metrics_file, clock=clock, report=report, stop=stop
        )
        if every is not None:
            with contextlib.closing(Signals()) as signals:
                return loop.every(every, signals)
        end_at_once_by_sigterm()
        if (problem := loop.once()) is not None:
            click.echo(f"{NAME}: {problem}", err=True)
            return 1
        return 0

    return command


def connect(flags: ApiFlags, clock: SystemClock, stop: threading.Event) -> PacedApi:
    """Return the API that the flags name.

    Raises:
        CredentialsError: there is no token or no URL to use.
    """
    credentials = Credentials(lambda: find_credentials(flags, None))
    client = make_client(flags, credentials.api.url, credentials.token)
    return PacedApi(
        client,
        quota_share=flags.api_quota_share,
        timeout=flags.api_timeout,
        clock=clock,
        pause=_pause_until(stop),
    )


def _pause_until(stop: threading.Event) -> Callable[[float], None]:
    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    return pause


def _print_round(done: Round) -> None:
    if done.warning:
        click.echo(f"{NAME}: {done.warning}", err=True)
    if done.without_details:
        click.echo(
            f"{NAME}: the API refuses details of {done.without_details} exports; they are written",
            err=True,
        )
    parts = [f"{done.added} new", f"{done.dropped} dropped"]
    left_out = {"that ended too long ago": done.older, "to other volumes": done.elsewhere}
    parts += [f"{count} {why} left out" for why, count in left_out.items() if count]
    click.echo(
        f"{done.exports} of {done.total} exports in {done.files} files: {', '.join(parts)};"
        f" {done.changed} files changed, {done.calls} calls"
    )


def _log_round(done: Round) -> None:
    if done.warning:
        _log.warning("State file ignored", extra={"err": done.warning})
    if done.without_details:
        _log.warning("API refuses details of exports", extra={"exports": done.without_details})
    level = logging.INFO if done.changed else logging.DEBUG
    _log.log(
        level,
        "Exports discovered",
        extra={
            "exports": done.exports,
            "total": done.total,
            "new": done.added,
            "dropped": done.dropped,
            "older": done.older,
            "elsewhere": done.elsewhere,
            "files": done.files,
            "changed": done.changed,
            "calls": done.calls,
        },
    )
