"""The command: runs what the flags request, and turns every error into one line and a status."""

import contextlib
import errno
import gc
import os
import platform
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import click

from exporter import __version__
from exporter.cavatica.answer import ApiError
from exporter.cavatica.credentials import Api
from exporter.cavatica.environment import find_errors
from exporter.cavatica.token import CredentialsError
from exporter.cli import check, logs
from exporter.cli.api import find_credentials, make_client
from exporter.cli.demo import Demo, run_demo
from exporter.cli.flags import Flags, describe, make_command, warn_of_unknown_variables
from exporter.cli.revision import find_revision
from exporter.cli.service import Exporter, StartError, load_web_config
from exporter.cli.signals import Signals, end_at_once
from exporter.clock import SystemClock
from exporter.tracker.state_file import StateFile
from exporter.watchlist.loader import WatchlistLoader

# Exit status after Ctrl-C, as in shells.
_INTERRUPTED = 130
# The text of Python's RuntimeError, which has no type of its own.
_PYTHONS_NO_THREAD = "can't start new thread"
_NO_THREAD = "no thread can be started (see ulimit -u, and the container's limit of processes)"


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit: 0, 1 for a bad result, 2 if it cannot start."""
    invoke(make_command(run, version()), arguments)


def version() -> str:
    """Return the version, the revision and Python's version."""
    revision = find_revision() or "unknown"
    return f"{__version__} (revision: {revision}, python {platform.python_version()})"


def invoke(command: click.Command, arguments: Sequence[str] | None) -> NoReturn:
    """Run `command` and exit with its result, or with 2 and a line that says why."""
    try:
        sys.exit(_status(command, arguments))
    finally:
        try:
            if sys.stderr:
                sys.stderr.flush()
        except OSError:
            # Otherwise Python would flush the rest of the log at exit, and exit with 120.
            with contextlib.suppress(OSError):
                sys.stderr.close()


def _status(command: click.Command, arguments: Sequence[str] | None) -> int:
    problem = None
    status = 2
    try:
        status = command.main(arguments, prog_name=command.name, standalone_mode=False)
    except click.Abort:
        status = _INTERRUPTED
    except click.ClickException as error:
        problem = describe(error)
    except (StartError, CredentialsError) as error:
        problem = str(error)
    except OSError as error:
        problem = error.strerror or str(error)
        if error.filename:
            problem = f"{error.filename}: {problem}"
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            problem = f"cannot write: {problem}"
            # Otherwise Python would flush the rest at exit, and fail again.
            with contextlib.suppress(OSError):
                sys.stdout.close()
    except Exception as error:  # noqa: BLE001 # a start never ends with a traceback
        problem = _NO_THREAD if str(error) == _PYTHONS_NO_THREAD else logs.unexpected(error)
    if problem is not None:
        with contextlib.suppress(OSError):
            click.echo(f"{command.name}: {' '.join(problem.split())}", err=True)
    return status


def run(flags: Flags) -> int:
    """Run what the flags request, and return the exit status."""
    checks = flags.config_check or flags.config_check_api
    # A check prints what these find.
    silent = {WatchlistLoader.__module__, StateFile.__module__} if checks else set()
    logs.configure(flags.log_level, flags.log_format, silent=silent)
    warn_of_unknown_variables()
    if flags.once_output is not None and not flags.once:
        raise StartError("--once.output requires --once")
    with contextlib.ExitStack() as stack:
        serves = not (checks or flags.once)
        if serves:
            signals = stack.enter_context(contextlib.closing(Signals()))
        elif threading.current_thread() is threading.main_thread():
            end_at_once()
        demo = stack.enter_context(run_demo()) if flags.demo else None
        path = demo.exports if demo else flags.exports_path
        if path is None:
            raise StartError("--exports.path is missing: name the file or directory with the IDs")
        if checks:
            return _check(flags, demo, path)
        # A state file makes many exports and next to no garbage: collections would visit them many
        # times. So they are off meanwhile, and later skip what is there by then.
        gc.disable()
        try:
            exporter = Exporter(flags, demo, path)
            gc.freeze()
        finally:
            gc.enable()
        return exporter.serve(signals) if serves else exporter.once()


def _check(flags: Flags, demo: Demo | None, path: Path) -> int:
    """Print what would be watched and how many calls it takes, and every error."""
    api, problems = None, []
    try:
        api = find_credentials(flags, demo)
    except CredentialsError as error:
        problems.append(str(error))
    watchlist = WatchlistLoader(path, time.time, api.token if api else str).load()
    lines = [*check.describe(watchlist, flags.api_quota_share), *check.warnings(watchlist)]
    errors = [*watchlist.errors, *check.rejected_ids(watchlist), *problems]
    if api:
        about, problems = _check_api(flags, api)
        lines[:0] = about
        errors += problems
    try:
        load_web_config(flags)
    except StartError as error:
        errors.append(str(error))
    if flags.exports_state_file is not None:
        state_file = StateFile(flags.exports_state_file, SystemClock())
        state_file.load()
        state_file.check_directory()
        if state_file.problem is not None:
            errors.append(f"--exports.state-file {flags.exports_state_file}: {state_file.problem}")
    for line in lines:
        click.echo(line)
    for line in errors:
        click.echo(line, err=True)
    return 1 if errors else 0


def _check_api(flags: Flags, api: Api) -> tuple[list[str], list[str]]:
    """Return lines about the API and its token, and errors."""
    lines = [f"API: {api.url}, token: {api.origin}"]
    errors = [*find_errors(api.url, os.environ)]
    # With these the call would fail for the same reason.
    if flags.config_check_api and not errors:
        deadline = SystemClock().monotonic() + flags.api_timeout
        try:
            name = make_client(flags, api.url, api.token).user(deadline).name
            lines.append(f"token accepted: it belongs to {name or 'a user without a name'}")
        except ApiError as error:
            errors.append(f"{api.url}: {error.problem}")
    if warning := check.url_warning(api.url):
        lines.append(warning)
    return lines, errors
