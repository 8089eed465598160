"""The API's token, which may be in a file that changes."""

import logging
import re
import stat
import threading
import time
from concurrent import futures
from pathlib import Path
from typing import Final

from exporter import background
from exporter.files import read, signature, signature_at

_MAX_FILE_BYTES: Final = 65536
#: How long a call waits for the token file before it uses the last token.
_WAIT_SECONDS = 1.0
# The characters allowed in a header.
_TOKEN: Final = re.compile(r"[!-~]{1,4096}")

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
        token = Token(data.decode("utf-8-sig", "replace").strip(), origin)
        self._signature = signature(status)
        if status.st_mode & stat.S_IROTH:
            problem = "every user of this machine can read it; chmod 600 helps"
            _log.warning("Token file is not private", extra={"file": self._path, "err": problem})
        return token
