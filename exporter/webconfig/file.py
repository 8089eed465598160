"""The web configuration file, reloaded when it, a certificate or a key changes."""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from operator import lt
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import background, files
from exporter.document import line_of, read_yaml
from exporter.text import TextError, decode
from exporter.webconfig.basicauth import BasicAuth, Users, parse_users
from exporter.webconfig.headers import HEADER_KEYS, Headers, parse_headers
from exporter.webconfig.ratelimit import RATE_KEYS, Rate, RateLimited, TokenBucket
from exporter.webconfig.section import Section, WebConfigError
from exporter.webconfig.tls import TLS_KEYS, parse_tls
from exporter.webconfig.tls_settings import ClientAuth, TlsSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

KEYS: Final = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
HTTP_KEYS: Final = ("http2", "headers")
#: Four times the size of a system's bundle of authorities.
_MAX_FILE_BYTES: Final = 2**20
#: Errors can have causes that no file change reveals, such as too many open files.
_RETRY_SECONDS: Final = 10.0
#: Maximum wait of a connection for a file server; it then uses the configuration in effect.
_WAIT_SECONDS: Final = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Config:
    """The parsed configuration.

    Attributes:
        tls: None: no TLS.
        users: Empty: no authentication.
        headers: Set in every answer.
        rate: None: no limit.
    """

    tls: TlsSettings | None
    users: Users
    headers: Headers
    rate: Rate | None

    def protection(self) -> tuple[int, ...]:
        """Return how well the file protects; greater numbers protect better."""
        tls = self.tls.protection() if self.tls else ()
        return (
            self.tls is not None,
            bool(self.users),
            len(self.headers),
            self.rate is not None,
            *tls,
        )


@dataclass(frozen=True, slots=True)
class _Active:
    """The configuration in effect.

    Attributes:
        config: The parsed configuration.
        context: Shared by all connections; None if each needs its own, and for plain HTTP.
        bucket: The token bucket of the rate limit; None: no limit.
    """

    config: _Config
    context: ssl.SSLContext | None
    bucket: TokenBucket | None


class WebConfigFile:
    """A web configuration file whose last valid content is in effect.

    Args:
        path: The file; relative paths in it start from its directory.
        monotonic: The clock.

    Raises:
        WebConfigError: It is not valid.
    """

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._reloading = threading.Lock()
        # When the last reload failed, if it did, and why.
        self._failure: tuple[float, str] | None = None
        # What was logged about files that are not checked.
        self._problem: str | None = None
        reading = _Reading(path)
        try:
            self._active = self._activate(reading.config(), None)
        except OSError as error:
            raise WebConfigError.at(str(path), None, str(error)) from error
        self._signatures = reading.signatures

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
        return _have_changed(self._signatures)

    def _read(self, *, force: bool) -> None:
        reading = _Reading(self._path)
        active = self._active
        try:
            config = reading.config()
            self._check(config, active.config, force=force)
            self._active = self._activate(config, active)
        except (WebConfigError, OSError) as error:
            # If files are being replaced right now, the next reload reports what is wrong. A forced
            # one always does: somebody waits for its result.
            is_final = not _have_changed(reading.signatures)
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
        self._signatures = reading.signatures

    def _check(self, config: _Config, before: _Config, *, force: bool) -> None:
        """Raise WebConfigError if `config` must not replace `before` without a restart or SIGHUP.

        A file looks empty while an editor rewrites it, so not even SIGHUP puts that into effect.
        """
        now, was = config.protection(), before.protection()
        if any(was) and not any(now):
            problem = "empty or without any setting; if intended, restart"
        elif not force and any(map(lt, now, was)):
            problem = "protects less than before; if intended, send SIGHUP or restart"
        else:
            return
        raise WebConfigError.at(str(self._path), None, problem)

    def _activate(self, config: _Config, before: _Active | None) -> _Active:
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


class _Reading:
    """One reading of the file and of the files that it names.

    Attributes:
        signatures: Signatures of those files, each taken before the file was read.
    """

    def __init__(self, path: Path) -> None:
        self.signatures: dict[Path, tuple[int, ...] | None] = {}
        self._path = path

    def config(self) -> _Config:
        """Return the parsed configuration.

        Raises:
            WebConfigError: It is not valid.
        """
        file = Section(self._content(), "the file", str(self._path), KEYS)
        http = file.section("http_server_config", HTTP_KEYS)
        tls = file.section("tls_server_config", TLS_KEYS)
        return _Config(
            tls=parse_tls(tls, self._read, http2=http.flag("http2")),
            users=parse_users(file.mapping("basic_auth_users"), str(self._path)),
            headers=parse_headers(http.section("headers", HEADER_KEYS)),
            rate=Rate.parse(file.section("rate_limit", RATE_KEYS)),
        )

    def _content(self) -> Mapping[str, object]:
        try:
            content = read_yaml(decode(self._read(self._path.name)))
        except OSError as error:
            raise WebConfigError.at(str(self._path), None, str(error.strerror)) from None
        except TextError as error:
            raise WebConfigError.at(str(self._path), error.line, str(error)) from None
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise WebConfigError.at(
                str(self._path), line_of(content), f"must be a mapping of {', '.join(KEYS)}"
            )
        return content

    def _read(self, name: str) -> bytes:
        path = self._path.parent / name
        self.signatures[path] = files.signature_at(path)
        data, _ = files.read(path, _MAX_FILE_BYTES)
        return data


def _have_changed(signatures: Mapping[Path, tuple[int, ...] | None]) -> bool:
    return any(files.signature_at(path) != was for path, was in signatures.items())
