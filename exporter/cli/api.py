"""The API as the flags say: its URL, the token, and the client that sends it."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from exporter import __version__
from exporter.cavatica.answer import RequestOutcome
from exporter.cavatica.client import Client
from exporter.cavatica.credentials import Api, find_api
from exporter.cavatica.token import Token
from exporter.cli.demo import Demo
from exporter.cli.options import ApiFlags
from exporter.clock import SystemClock
from exporter.tracker.state_format import KEY_BYTES


def find_credentials(flags: ApiFlags, demo: Demo | None) -> Api:
    """Return the API that the flags and the environment name.

    Raises:
        CredentialsError: there is no usable token or URL.
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


def make_client(
    flags: ApiFlags,
    url: str,
    token: Callable[[], str],
    *,
    observe: Callable[[RequestOutcome], None] = lambda _: None,
    destination_key: bytes | None = None,
) -> Client:
    """Return the client of the API at `url`.

    Args:
        flags: The API's flags.
        url: The API's base URL.
        token: Returns the token.
        observe: Called after each HTTP request.
        destination_key: The key of a state file; by default a random one.
    """
    return Client(
        url,
        token,
        user_agent=f"cavatica-export-exporter/{__version__}",
        advance_access=flags.api_advance_access,
        observe=observe,
        destination_key=destination_key or secrets.token_bytes(KEY_BYTES),
        monotonic=SystemClock().monotonic,
    )
