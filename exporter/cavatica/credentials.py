"""The API's URL and token.

The environment variables and the credentials file have the names that the official client,
`sevenbridges-python`, uses. Its second file, with proxies, is not read.
"""

import configparser
import ipaddress
import logging
import re
import stat
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from exporter import background
from exporter.files import read, signature, signature_at

CAVATICA_URL: Final = "https://cavatica-api.sbgenomics.com/v2"
TOKEN_VARIABLE: Final = "SB_AUTH_TOKEN"  # noqa: S105 # its name
URL_VARIABLE: Final = "SB_API_ENDPOINT"
CREDENTIALS_FILE: Final = Path(".sevenbridges", "credentials")
DEFAULT_PROFILE: Final = "default"

_MAX_FILE_BYTES = 65536
#: How long a call waits for the token file before it uses the last token.
_WAIT_SECONDS = 1.0
# The characters allowed in a header.
_TOKEN = re.compile(r"[!-~]{1,4096}")
# Without the characters that URL parsers disagree about.
_URL = re.compile(r"[!-\[\]-~]+")
# Python parses `[::1]example` as the host ::1, and so as loopback.
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(:[0-9]*)?")

_log = logging.getLogger(__name__)


class CredentialsError(ValueError):
    """No usable token or URL; the text says what to do and holds no secret."""


class Token:
    """A token that `repr` and `str` do not reveal."""

    def __init__(self, text: str, origin: str) -> None:
        if _TOKEN.fullmatch(text) is None:
            what = "has other characters" if text else "is empty"
            raise CredentialsError(f"{origin}: must be the token and nothing else, but {what}")
        self._text = text

    def __call__(self) -> str:
        """Return the token."""
        return self._text


class TokenFile:
    """The token in a file, reloaded when the file changes; may be called by several threads.

    While the file server does not answer, the last token stays in use: if it is no longer valid,
    the API says so.

    Raises:
        CredentialsError: the file has no valid token at the start; later the last good one stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._check_in_flight: futures.Future[None] | None = None
        # The last check that was late: no call waits for it any more.
        self._late: futures.Future[None] | None = None
        self._signature: tuple[int, ...] | None = None
        self._token = self._read()

    def __call__(self) -> str:
        """Return the file's current token, or the last one if the file is not read in time."""
        end = time.monotonic() + _WAIT_SECONDS
        is_new = False
        while not is_new:
            # A check that began before this call may have missed the latest change.
            check, is_new = self._begin()
            if check is self._late:
                return self._token()
            if not futures.wait([check], max(end - time.monotonic(), 0)).done:
                self._report_late(check)
                return self._token()
        check.result()
        return self._token()

    def _begin(self) -> "tuple[futures.Future[None], bool]":
        """Return the check in flight, or a new one, and whether it is new."""
        with self._lock:
            if self._check_in_flight is not None and not self._check_in_flight.done():
                return self._check_in_flight, False
            self._check_in_flight = background.start_or_run(self._check, "token file")
            return self._check_in_flight, True

    def _check(self) -> None:
        try:
            if signature_at(self._path) != self._signature:
                self._token = self._read()
                _log.info("Token reloaded", extra={"file": self._path})
        except CredentialsError as error:
            if self._signature is not None:
                _log.warning(
                    "Token not reloaded; the last one stays in use", extra={"err": str(error)}
                )
            self._signature = None

    def _report_late(self, check: "futures.Future[None]") -> None:
        message = "Token file not read in time; the last token stays in use"
        with self._lock:
            if check is not self._late:
                _log.warning(message, extra={"file": self._path})
            self._late = check

    def _read(self) -> Token:
        origin = f"--api.token-file {self._path}"
        try:
            data, status = read(self._path, _MAX_FILE_BYTES)
        except OSError as error:
            raise CredentialsError(f"{origin} cannot be read: {error.strerror}") from None
        token = Token(_text(data).strip(), origin)
        self._signature = signature(status)
        if status.st_mode & stat.S_IROTH:
            problem = "every user of this machine can read it; chmod 600 helps"
            _log.warning("Token file is not private", extra={"file": self._path, "err": problem})
        return token


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
                f" {TOKEN_VARIABLE}, or write it into {profiles.path}; or try --demo, which needs"
                " none"
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
            parser.read_string(_text(data))
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


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig", "replace")
