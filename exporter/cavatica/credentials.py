"""The API's URL and token.

The environment variables and the credentials file have the names that the official client,
`sevenbridges-python`, uses. Its second file, with proxies, is not read.
"""

import configparser
import ipaddress
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from exporter.cavatica.token import CredentialsError, Token, TokenFile
from exporter.files import read

CAVATICA_URL: Final = "https://cavatica-api.sbgenomics.com/v2"
TOKEN_VARIABLE: Final = "SB_AUTH_TOKEN"  # noqa: S105 # its name
URL_VARIABLE: Final = "SB_API_ENDPOINT"
CREDENTIALS_FILE: Final = Path(".sevenbridges", "credentials")
DEFAULT_PROFILE: Final = "default"

_MAX_FILE_BYTES = 65536
# Without the characters that URL parsers disagree about.
_URL = re.compile(r"[!-\[\]-~]+")
# Python parses `[::1]example` as the host ::1, and so as loopback.
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]*)?")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Api:
    """The API's URL and token.

    Attributes:
        url: Base URL without a trailing slash.
        token: Returns the token.
        origin: The source of the token, for messages.
    """

    url: str
    token: Token | TokenFile
    origin: str


class Credentials:
    """The API's URL and token, which may change while the exporter runs.

    Args:
        find: Returns the API that flags, environment and files name at the time.

    Raises:
        CredentialsError: there is no usable token or URL at the start.
    """

    def __init__(self, find: Callable[[], Api]) -> None:
        self._find = find
        self.api = find()

    def token(self) -> str:
        """Return the token for the next request."""
        return self.api.token()

    def reload(self) -> None:
        """Search for the token again; without one, the last one stays in use."""
        try:
            found = self._find()
        except CredentialsError as error:
            _log.warning("Token not reloaded; the last one stays in use", extra={"err": str(error)})
            return
        if found.url != self.api.url:
            # A token must not go to another API.
            _log.warning("API URL changed; restart to apply", extra={"url": found.url})
            return
        self.api = found
        _log.info("Token reloaded", extra={"token": found.origin})


def find_api(
    *,
    url: str | None,
    token_file: Path | None,
    profile: str | None,
    environ: Mapping[str, str],
    home: Path,
) -> Api:
    """Find URL and token as the official client does, flags first.

    Raises:
        CredentialsError: there is no token, or it must not be sent to the URL.
    """
    profiles = _Profiles(home / CREDENTIALS_FILE)
    named = profiles.get(profile) if profile is not None else {}
    fallback: Mapping[str, str | None] = {}
    token: Token | TokenFile
    if token_file is not None:
        token, origin = TokenFile(token_file), "--api.token-file"
    elif profile is not None:
        origin = f"profile {profile}"
        token = Token(
            named.get("auth_token") or "", f"{profiles.path}, section [{profile}], auth_token"
        )
    elif text := environ.get(TOKEN_VARIABLE, "").strip():
        token, origin = Token(text, TOKEN_VARIABLE), TOKEN_VARIABLE
    else:
        fallback = profiles.find(DEFAULT_PROFILE)
        if "auth_token" not in fallback:
            raise CredentialsError(
                "there is no token: write it to a file and pass --api.token-file FILE, or set"
                f" {TOKEN_VARIABLE}, or write it into {profiles.path}; or try"
                " cavatica-exporter --demo, which needs none"
            )
        origin = f"profile {DEFAULT_PROFILE}"
        token = Token(fallback["auth_token"] or "", f"{profiles.path}, section [{DEFAULT_PROFILE}]")
    places = (
        (url, "--api.url"),
        (named.get("api_endpoint"), f"{profiles.path}, section [{profile}], api_endpoint"),
        (environ.get(URL_VARIABLE), URL_VARIABLE),
        (
            fallback.get("api_endpoint"),
            f"{profiles.path}, section [{DEFAULT_PROFILE}], api_endpoint",
        ),
    )
    given = ((text.strip(), place) for text, place in places if text)
    found = next((_checked(text, place) for text, place in given if text), CAVATICA_URL)
    return Api(found, token, origin)


def _checked(url: str, origin: str) -> str:
    """Return `url` without a trailing slash.

    Raises:
        CredentialsError: it is neither https nor http to a loopback address.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        if not _HOST_AND_PORT.fullmatch(parts.netloc.rpartition("@")[2]):
            host = None
    except ValueError:
        host = None
    if host is None or parts.scheme not in {"http", "https"} or _URL.fullmatch(url) is None:
        raise CredentialsError(f"{origin}: must be a URL like {CAVATICA_URL}")
    if parts.username is not None or "?" in url or "#" in url:
        raise CredentialsError(f"{origin}: must have no user, no ? and no #")
    if parts.scheme == "http" and not _is_loopback(host):
        raise CredentialsError(
            f"{origin}: must begin with https://: http:// would show the token to everybody between"
            f" here and {host}"
        )
    return parts.geturl().rstrip("/")


class _Profiles:
    """The sections of the official client's credentials file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> Mapping[str, str | None]:
        section = self.find(name)
        if not section:
            raise CredentialsError(
                f"{self.path} has no section [{name}], which --api.profile names"
            )
        return section

    def find(self, name: str) -> Mapping[str, str | None]:
        """Return the section; empty if the section or the file is missing."""
        parser = configparser.ConfigParser(interpolation=None, allow_no_value=True)
        try:
            data, _ = read(self.path, _MAX_FILE_BYTES)
            parser.read_string(data.decode("utf-8-sig", "replace"))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CredentialsError(f"{self.path} cannot be read: {error.strerror}") from None
        except (configparser.Error, AttributeError):
            # The error's text would quote lines of the file. Before Python 3.13, a continued line
            # after a key without a value raises AttributeError.
            raise CredentialsError(
                f"{self.path} is not an INI file, or has a section or a key twice"
            ) from None
        return dict(parser[name]) if name in parser else {}


def _is_loopback(host: str) -> bool:
    # No other name: `x.localhost` may be public.
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
