"""The command `discover`."""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from exporter.cli.duration import parse_duration
from exporter.cli.options import (
    DURATION,
    PATH,
    ApiFlags,
    PathType,
    api_flags,
    click_type,
    log_flags,
)
from exporter.cli.signals import Signals, end_at_once
from exporter.clock import SystemClock
from exporter.text import counted
from exporter.tool.discover import BATCH_BY, BatchBy, Round, discover
from exporter.tool.ledger import Selection
from exporter.tool.loop import Loop, ProgressBar
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

_VOLUME = re.compile(r"[^/\s]+/[^/\s]+")

_ACCOUNT = "is it the token of the account that starts them?"
_RESELECTED = (
    "--volume, --since or --keep are not those of the last round, so the whole list was read; if"
    " nobody changed them, another discover writes into the same directory"
)

_log = logging.getLogger(__name__)


def discover_command() -> click.Command:
    """Return the command."""

    @click.command("discover", context_settings=SETTINGS)
    @own_flag(
        "--to",
        type=PathType(_directory, "dir"),
        metavar="DIR",
        required=True,
        help="Directory for the ID files. Only its files discovered-*.json are written or removed.",
    )
    @own_flag(
        "--every",
        type=click_type(_interval),
        metavar="DURATION",
        help="Repeat at this interval until stopped.",
    )
    @own_flag(
        "--volume",
        type=click_type(_volume),
        metavar="OWNER/NAME",
        multiple=True,
        help="Only exports to this volume; repeatable.",
    )
    @own_flag(
        "--since",
        type=DURATION,
        metavar="DURATION",
        default="30d",
        help="Leave out exports that ended longer ago; 0s: no limit.",
    )
    @own_flag(
        "--keep",
        type=DURATION,
        metavar="DURATION",
        default="30d",
        help="Drop an export from its file this long after it COMPLETED.",
    )
    @own_flag(
        "--batch-by",
        type=click.Choice(BATCH_BY),
        default="volume-day",
        help="How exports are grouped: by volume and start day, by volume, or into one batch.",
    )
    @own_flag(
        "--metrics-file",
        type=PATH,
        metavar="FILE",
        help="Write metrics of the last round to this file, for the textfile collector.",
    )
    @api_flags(scraped=False)
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
        """Write ID files with the exports of the token's account.

        Exit status: 0 when every export was found, 1 when not, 2 for a wrong flag or no token.
        """
        start_log(values.pop("log_level"), values.pop("log_format"))
        stop = threading.Event()
        clock = SystemClock()
        flags = ApiFlags(**values)
        credentials = load_credentials(flags)
        api = pace(connect(flags, credentials), flags, clock, pause_until(stop))
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
            one_round,
            credentials.api.url,
            lambda: api.calls,
            metrics_file,
            clock=clock,
            report=report,
            stop=stop,
        )
        if every is not None:
            with contextlib.closing(Signals()) as signals:
                return loop.every(every, signals, credentials.reload)
        end_at_once()
        if (problem := loop.once()) is not None:
            click.echo(f"{NAME}: {problem}", err=True)
            return 1
        return 0

    return command


def _interval(text: str) -> float:
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError(f"not a valid interval: {text!r} (use more than 0s, such as 5m)")
    return seconds


def _volume(text: str) -> str:
    if _VOLUME.fullmatch(text) is None:
        raise ValueError(f"not a valid volume: {text!r} (use OWNER/NAME, as in rfranklin/exports)")
    return text


def _directory(text: str) -> Path:
    path = Path(text)
    if not text or not path.exists():
        raise ValueError(f"there is no directory {text!r} (create it first)")
    if not path.is_dir():
        raise ValueError(f"not a directory: {text!r}")
    return path


def _print_round(done: Round) -> None:
    for _, text in _warnings(done):
        click.echo(f"{NAME}: {text}", err=True)
    parts = [f"{done.added} new", f"{done.dropped} dropped"]
    left_out = {"that ended too long ago": done.older, "to other volumes": done.elsewhere}
    parts += [f"{count} {why} left out" for why, count in left_out.items() if count]
    click.echo(
        f"{done.exports} of {counted(done.total, 'export')} in {counted(done.files, 'file')}:"
        f" {', '.join(parts)};"
        f" {counted(done.changed, 'file')} changed, {counted(done.calls, 'call')}"
    )


def _log_round(done: Round) -> None:
    for event, text in _warnings(done):
        _log.warning(event, extra={"err": text})
    news = done.changed or done.older or done.elsewhere or done.first
    level = logging.INFO if news else logging.DEBUG
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


def _warnings(done: Round) -> Iterator[tuple[str, str]]:
    """Yield the event and the text of each problem of a round that did not fail it."""
    if done.warning:
        yield "State file ignored", done.warning
    if done.reselected:
        yield "Flags changed", _RESELECTED
    if done.without_details:
        count = counted(done.without_details, "export")
        yield "Details refused", f"API refused details of {count}; their IDs are written"
    if done.without_id:
        count = counted(done.without_id, "export")
        yield "Exports without ID", f"listed without a usable ID, so nobody watches them: {count}"
    if done.gone:
        count = counted(done.gone, "export")
        yield "Exports not listed", f"no longer listed, but kept: {count}; {_ACCOUNT}"
    if done.first and not done.total:
        # Said once, because an account may also be new.
        yield "No exports", f"this account started no exports; {_ACCOUNT}"
