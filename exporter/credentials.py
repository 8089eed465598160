"""Where the API is and which token it wants.

The names of the environment variables and of the credentials file are those of the official
client, `sevenbridges-python`.
"""

import configparser
import ipaddress
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

CAVATICA_URL: Final = "https://cavatica-api.sbgenomics.com/v2"
TOKEN_VARIABLE: Final = "SB_AUTH_TOKEN"  # noqa: S105 # its name
URL_VARIABLE: Final = "SB_API_ENDPOINT"
CREDENTIALS_FILE: Final = Path(".sevenbridges", "credentials")
DEFAULT_PROFILE: Final = "default"

_MAX_FILE_BYTES = 65536
# What may stand in a header.
_TOKEN = re.compile(r"[!-~]{1,4096}")

_log = logging.getLogger(__name__)


class CredentialsError(ValueError):
    """There is no token or no URL to use; the text says what to do, and holds no secret."""


class Token:
    """A token that shows itself only when it is called."""

    def __init__(self, text: str, origin: str) -> None:
        if _TOKEN.fullmatch(text) is None:
            what = "holds no token" if not text else "holds more than a token"
            raise CredentialsError(f"{origin} {what}")
        self._text = text

    def __call__(self) -> str:
        """Give the token."""
        return self._text


class TokenFile:
    """The token in a file, read again when the file changes.

    Raises:
        CredentialsError: if it holds no token now. Later the last good one stays in force.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._look: tuple[int, ...] | None = None
        self._token = self._read()

    def __call__(self) -> str:
        """Give the token that the file holds now."""
        try:
            look = _look(self._path)
            if look != self._look:
                self._token = self._read()
                _log.info("the token was read again")
        except (OSError, CredentialsError):
            if self._look is not None:
                _log.warning("the token file holds no token now, the last one stays in use")
            self._look = None
        return self._token()

    def _read(self) -> Token:
        try:
            look = _look(self._path)
            text = _text_of(self._path)
        except OSError as error:
            raise CredentialsError(
                f"--api.token-file {self._path} cannot be read: {error.strerror}"
            ) from None
        token = Token(text.strip(), f"--api.token-file {self._path}")
        self._look = look
        return token


@dataclass(frozen=True, slots=True)
class Api:
    """Where the API is, and the token for it.

    Attributes:
        url: Base URL without a slash at the end.
        token: Gives the token.
        origin: Where the token comes from, for people.
    """

    url: str
    token: Token | TokenFile
    origin: str


def find_api(
    *,
    url: str | None,
    token_file: Path | None,
    profile: str | None,
    environ: Mapping[str, str],
    home: Path,
) -> Api:
    """Find URL and token as the official client would, flags first.

    Raises:
        CredentialsError: when there is no token, or the URL is none to send it to.
    """
    profiles = _Profiles(home / CREDENTIALS_FILE)
    named = profiles.get(profile) if profile is not None else {}
    fallback: Mapping[str, str] = {}
    token: Token | TokenFile
    if token_file is not None:
        token, origin = TokenFile(token_file), "--api.token-file"
    elif profile is not None:
        origin = f"profile {profile}"
        token = Token(
            named.get("auth_token", ""), f"{profiles.path}, section [{profile}], auth_token"
        )
    elif text := environ.get(TOKEN_VARIABLE, "").strip():
        token, origin = Token(text, TOKEN_VARIABLE), TOKEN_VARIABLE
    else:
        fallback = profiles.find(DEFAULT_PROFILE)
        if "auth_token" not in fallback:
            raise CredentialsError(
                "there is no token: put it into a file and name that with --api.token-file, or set"
                f" {TOKEN_VARIABLE}, or write it into {profiles.path}; or try --demo, which needs"
                " none"
            )
        origin = f"profile {DEFAULT_PROFILE}"
        token = Token(fallback["auth_token"], f"{profiles.path}, section [{DEFAULT_PROFILE}]")
    found = (
        url
        or named.get("api_endpoint")
        or environ.get(URL_VARIABLE)
        or fallback.get("api_endpoint")
        or CAVATICA_URL
    )
    return Api(check_url(found), token, origin)


def check_url(url: str) -> str:
    """Give `url` without a slash at the end.

    Raises:
        CredentialsError: unless it is https, or http to a loopback address.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"} or not url.isprintable() or " " in url:
        raise CredentialsError(f"the API's URL must be like {CAVATICA_URL}")
    if parts.username is not None or parts.query or parts.fragment:
        raise CredentialsError("the API's URL must have no user, no ? and no #")
    if parts.scheme == "http" and not _is_loopback(host):
        raise CredentialsError(
            f"the API's URL must begin with https://: http:// would show the token to all between"
            f" here and {host}"
        )
    return url.rstrip("/")


class _Profiles:
    """The sections of the official client's credentials file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, name: str) -> Mapping[str, str]:
        section = self.find(name)
        if not section:
            raise CredentialsError(
                f"{self.path} has no section [{name}], which --api.profile names"
            )
        return section

    def find(self, name: str) -> Mapping[str, str]:
        """Give the section, or nothing if there is no such section or no such file."""
        parser = configparser.ConfigParser(interpolation=None, default_section="")
        try:
            parser.read_string(_text_of(self.path))
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise CredentialsError(f"{self.path} cannot be read: {error.strerror}") from None
        except configparser.Error:
            # Its text would quote lines of the file.
            raise CredentialsError(f"{self.path} is no INI file") from None
        return {k: v.strip() for k, v in parser[name].items()} if name in parser else {}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _text_of(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MAX_FILE_BYTES).decode("utf-8-sig", "replace")


def _look(path: Path) -> tuple[int, ...]:
    status = path.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
