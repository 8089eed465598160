"""The web configuration file, reloaded when it, a certificate or a key changes."""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from operator import lt
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import background
from exporter.webconfig.basicauth import BasicAuth, Users
from exporter.webconfig.headers import Headers
from exporter.webconfig.ratelimit import RateLimited, TokenBucket
from exporter.webconfig.reading import Config, Reading
from exporter.webconfig.section import WebConfigError
from exporter.webconfig.tls_settings import ClientAuth

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

#: Errors can have causes that no file change reveals, such as too many open files.
_RETRY_SECONDS: Final = 10.0
# A file that did not change for so long is not being written.
_SETTLE_SECONDS: Final = 2.0
#: Maximum wait of a connection for a file server; it then uses the configuration in effect.
_WAIT_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Active:
    """The configuration in effect.

    Attributes:
        config: The parsed configuration.
        context: Shared by all connections; None if each needs its own, and for plain HTTP.
        bucket: The token bucket of the rate limit; None: no limit.
    """

    config: Config
    context: ssl.SSLContext | None
    bucket: TokenBucket | None


class WebConfigFile:
    """A web configuration file whose last valid content is in effect.

    Args:
        path: The file; relative paths in it start from its directory.
        monotonic: The clock.
        pause: Waits for some seconds.

    Raises:
        WebConfigError: It is not valid.
    """

    def __init__(
        self,
        path: Path,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._path = path
        self._monotonic = monotonic
        self._pause = pause
        self._reloading = threading.Lock()
        # When the last reload failed, if it did, and why.
        self._failure: tuple[float, str] | None = None
        # What was logged about files that are not checked.
        self._problem: str | None = None
        reading = Reading(path)
        try:
            self._active = self._activate(reading.config(), None)
        except OSError as error:
            raise WebConfigError.at(str(path), None, str(error)) from error
        self._reading = reading

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the context for the next connection; None for plain HTTP.

        Raises:
            OSError: A temporary file cannot be created.
        """
        self.reload()
        active = self._active
        if active.context or not active.config.tls:
            return active.context
        return active.config.tls.context()

    def users(self) -> Users:
        """Return the users who may send the next request; empty for everybody."""
        self.reload()
        return self._active.config.users

    def headers(self) -> Headers:
        """Return the headers to set in the next answer."""
        return self._active.config.headers

    def wrap(self, app: "WSGIApplication") -> "WSGIApplication":
        """Return the application behind the rate limit and the authentication of the file."""
        return RateLimited(BasicAuth(app, self.users), self._bucket)

    def reload(self, *, force: bool = False) -> None:
        """Reload the file if anything changed, and log errors, each once.

        Args:
            force: Reload even if nothing changed, accept weaker protection, but not none, and
                always log the result.
        """
        # Another thread may be reloading, slowly on a remote file system: do not wait for it.
        if not self._reloading.acquire(blocking=force):
            return
        if force:
            self._reload(force=True)
            return
        try:
            reading = background.start(self._reload, "web configuration")
        except RuntimeError:
            self._report("Web configuration not checked, as no thread can be started")
            self._reloading.release()
            return
        if not futures.wait([reading], _WAIT_SECONDS).done:
            self._report("Web configuration not checked in time")
            return
        self._report(None)
        reading.result()

    def _reload(self, *, force: bool = False) -> None:
        try:
            if force or self._is_due():
                self._read(force=force)
        finally:
            self._reloading.release()

    def _report(self, problem: str | None) -> None:
        """Log why the files are not checked, once, and the end of that."""
        is_new, self._problem = problem != self._problem, problem
        file = {"file": str(self._path)}
        if is_new and problem is None:
            _log.info("Web configuration checked in time again", extra=file)
        elif is_new:
            _log.warning(f"{problem}; the previous one stays in effect", extra=file)

    def _bucket(self) -> TokenBucket | None:
        self.reload()
        return self._active.bucket

    def _is_due(self) -> bool:
        if self._failure and self._monotonic() - self._failure[0] >= _RETRY_SECONDS:
            return True
        return self._reading.is_outdated()

    def _read(self, *, force: bool) -> None:
        reading = Reading(self._path)
        active = self._active
        try:
            config = reading.config()
            self._check(config, reading, force=force)
            self._active = self._activate(config, active)
        except (WebConfigError, OSError) as error:
            # If files are being replaced right now, the next reload reports what is wrong. A forced
            # one always does: somebody waits for its result.
            is_final = not reading.is_outdated()
            is_new = not self._failure or self._failure[1] != str(error)
            if force or (is_final and is_new):
                _log.error(  # a traceback would not help
                    "Web configuration is not valid; the previous one stays in effect",
                    extra={"err": str(error)},
                )
            self._failure = self._monotonic(), str(error) if is_final else ""
        else:
            self._failure = None
            _log.info("Web configuration reloaded", extra={"file": str(self._path)})
        self._reading = reading

    def _check(self, config: Config, reading: Reading, *, force: bool) -> None:
        """Raise WebConfigError if `config` must not take effect without a restart or SIGHUP.

        A file looks empty while an editor rewrites it, so not even SIGHUP puts that into effect.
        """
        now, was = config.protection(), self._active.config.protection()
        if any(was) and not any(now):
            problem = "empty or without any setting; if intended, restart"
        elif not any(map(lt, now, was)):
            return
        elif not force:
            problem = "protects less than before; if intended, send SIGHUP or restart"
        else:
            # SIGHUP may be sent while only a part of the file is written.
            self._pause(_SETTLE_SECONDS)
            if not reading.is_outdated():
                return
            problem = "protects less than before, and changed again; if intended, send SIGHUP again"
        raise WebConfigError.at(str(self._path), None, problem)

    def _activate(self, config: Config, before: _Active | None) -> _Active:
        tls, rate = config.tls, config.rate
        # A context that accepts any certificate serves one connection only.
        is_shared = tls is not None and tls.client_auth is not ClientAuth.ANY
        context = tls.context() if tls and is_shared else None
        bucket = before.bucket if before else None
        if bucket is None or bucket.rate != rate:
            bucket = TokenBucket(rate, self._monotonic) if rate else None
        if tls and tls.trusts_system_authorities:
            _log.warning(
                "Clients with a certificate from any of the system's authorities may connect"
            )
        if not any(config.protection()):
            # An emptied file is in effect after a restart.
            _log.warning(
                "Web configuration sets nothing: no TLS, no users", extra={"file": str(self._path)}
            )
        if rate and not rate.burst:
            _log.warning("Every request is refused: rate_limit has no burst")
        return _Active(config, context, bucket)
