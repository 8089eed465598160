"""The command: what the flags say is done, and how it ends."""

import contextlib
import errno
import platform
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from exporter import __version__
from exporter.cavatica.credentials import CredentialsError
from exporter.cli import check, logs
from exporter.cli.demo import Demo, run_demo
from exporter.cli.flags import Flags, make_command
from exporter.cli.revision import find_revision
from exporter.cli.service import SIGNALS, Exporter, StartError, find_credentials, load_web_config
from exporter.watchlist.loader import WatchlistLoader

# What a shell gives for a command that Ctrl-C ended.
_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0, 1 for a bad result, 2 for what cannot be started."""
    built_of = f"revision: {find_revision() or 'unknown'}, python {platform.python_version()}"
    command = make_command(run, f"{__version__} ({built_of})")
    try:
        sys.exit(command.main(arguments, prog_name=command.name, standalone_mode=False))
    except click.Abort:
        sys.exit(_INTERRUPTED)
    except click.ClickException as error:
        problem = error.format_message()
    except (StartError, CredentialsError) as error:
        problem = str(error)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        problem = f"cannot write: {error.strerror}"
        # Else Python would write the rest at its end, and fail again.
        with contextlib.suppress(OSError):
            sys.stdout.close()
    click.echo(f"cavatica-exporter: {' '.join(problem.split())}", err=True)
    sys.exit(2)


def run(flags: Flags) -> int:
    """Do what the flags say, and give the exit status."""
    # What is wrong is what a check prints.
    logs.configure(flags.log_level, flags.log_format, errors=not flags.config_check)
    if not (flags.config_check or flags.once):
        # Blocked before there are other threads: they are so in every one, and wait for sigwait.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    with run_demo() if flags.demo else contextlib.nullcontext() as demo:
        path = demo.exports if demo else flags.exports_path
        if path is None:
            raise StartError("--exports.path is missing: name the file or directory with the IDs")
        if flags.config_check:
            return _check(flags, demo, path)
        exporter = Exporter(flags, demo, path)
        return exporter.once() if flags.once else exporter.serve()


def _check(flags: Flags, demo: Demo | None, path: Path) -> int:
    """Print what would be watched and what it costs, or every error."""
    watchlist = WatchlistLoader(path, time.time).load()
    lines = [*check.describe(watchlist, flags.api_quota_share)]
    errors = [*watchlist.errors]
    try:
        api = find_credentials(flags, demo)
        lines.insert(0, f"API: {api.url}, token: {api.origin}")
    except CredentialsError as error:
        errors.append(str(error))
    try:
        load_web_config(flags)
    except StartError as error:
        errors.append(str(error))
    for line in errors or lines:
        click.echo(line, err=bool(errors))
    return 1 if errors else 0
