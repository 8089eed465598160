"""Parts that the commands of `cavatica-exports` share."""

import functools
import threading
from collections.abc import Callable
from typing import Final

from exporter.cavatica.client import Client
from exporter.cavatica.credentials import Credentials
from exporter.cli import logs
from exporter.cli.api import find_credentials, make_client
from exporter.cli.flags import warn_of_unknown_variables
from exporter.cli.options import ENVIRONMENT_PREFIX, ApiFlags, flag
from exporter.clock import Clock
from exporter.tool.api import PacedApi

NAME: Final = "cavatica-exports"

SETTINGS: Final = {
    "auto_envvar_prefix": ENVIRONMENT_PREFIX,
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "show_default": True,
}

#: Declares a flag of this program only: the exporter's environment variables do not set it.
own_flag = functools.partial(flag, allow_from_autoenv=False)


class StoppedError(Exception):
    """A signal stopped the work."""


def start_log(level: str, style: logs.Format) -> None:
    """Send the log to standard error, beginning with environment variables of no flag."""
    logs.configure(level, style)
    warn_of_unknown_variables()


def load_credentials(flags: ApiFlags) -> Credentials:
    """Return the URL and the token that the flags name.

    Raises:
        CredentialsError: there is no usable token or URL.
    """
    return Credentials(lambda: find_credentials(flags, None))


def connect(flags: ApiFlags, credentials: Credentials) -> Client:
    """Return a client for the API."""
    return make_client(flags, credentials.api.url, credentials.token)


def pace(client: Client, flags: ApiFlags, clock: Clock, pause: Callable[[float], None]) -> PacedApi:
    """Return the API, limited as the flags say."""
    return PacedApi(
        client,
        quota_share=flags.api_quota_share,
        timeout=flags.api_timeout,
        clock=clock,
        pause=pause,
    )


def pause_until(stop: threading.Event) -> Callable[[float], None]:
    """Return a function that waits some seconds, and raises `StoppedError` once `stop` is set."""

    def pause(seconds: float) -> None:
        if stop.wait(seconds):
            raise StoppedError

    return pause
