"""The API's token, which may be in a file that changes."""

import errno
import logging
import re
import stat
import threading
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
# What people write instead of the file's name, the token, has neither.
_IS_PATH: Final = re.compile(r"[./]")
_NO_SUCH_FILE: Final = (errno.ENOENT, errno.ENAMETOOLONG)

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

    While the file server does not answer, or no thread can be started, the last token stays in use:
    if it is no longer valid, the API says so.

    Raises:
        CredentialsError: the file has no valid token at the start; later the last good one stays.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._checks = background.Repeated(self._check, "token file")
        # The number of checks that ended, and that number when a check turned out to hang.
        self._ended = 0
        self._hanging: int | None = None
        # What was logged about calls that did without their check.
        self._problem: str | None = None
        self._signature: tuple[int, ...] | None = None
        self._token = self._read()

    def __call__(self) -> str:
        """Return the file's current token, or the last one if the file is not read in time."""
        ended = self._ended
        try:
            check = self._checks.begin()
        except RuntimeError:
            self._report("Token file not read, as no thread can be started")
            return self._token()
        # For a check that hangs, one call waits, and no other.
        seconds = 0.0 if ended == self._hanging else _WAIT_SECONDS
        if not futures.wait([check], seconds).done:
            if ended == self._ended:
                self._hanging = ended
            self._report("Token file not read in time")
            return self._token()
        self._report(None)
        check.result()
        return self._token()

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
        finally:
            self._ended += 1

    def _report(self, problem: str | None) -> None:
        """Log why a call does without its check, once, and the end of that."""
        with self._lock:
            is_new, self._problem = problem != self._problem, problem
        if is_new and problem is None:
            _log.info("Token file checked in time again", extra={"file": self._path})
        elif is_new:
            _log.warning(f"{problem}; the last token stays in use", extra={"file": self._path})

    def _read(self) -> Token:
        origin = f"--api.token-file {self._path}"
        try:
            data, status = read(self._path, _MAX_FILE_BYTES)
        except OSError as error:
            if error.errno in _NO_SUCH_FILE and not _IS_PATH.search(str(self._path)):
                raise CredentialsError(
                    "--api.token-file must name a file, and no file of this name is in the"
                    " current directory; the name is not shown, as it may be the token itself"
                ) from None
            raise CredentialsError(f"{origin} cannot be read: {error.strerror}") from None
        token = Token(data.decode("utf-8-sig", "replace").strip(), origin)
        self._signature = signature(status)
        if status.st_mode & stat.S_IROTH:
            problem = "every user of this machine can read it; chmod 600 helps"
            _log.warning("Token file is not private", extra={"file": self._path, "err": problem})
        return token
