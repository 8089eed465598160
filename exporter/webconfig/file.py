"""The web configuration file, read again when it, a certificate or a key changed."""

import logging
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from operator import lt
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter import files
from exporter.document import line_of, read_yaml
from exporter.text import TextError, decode
from exporter.webconfig.basicauth import BasicAuth, is_hash
from exporter.webconfig.section import Section, WebConfigError
from exporter.webconfig.tls import TLS_KEYS, TLS_REFUSED, make_context

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

logger = logging.getLogger(__name__)

_KEYS: Final = ("tls_server_config", "http_server_config", "basic_auth_users")
_REFUSED: Final = {"rate_limit": "leave it out"}
_HTTP_KEYS: Final = ("http2",)
_HTTP_REFUSED: Final = {"headers": "leave it out"}

_MAX_FILE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class _State:
    """What the file asks for.

    Attributes:
        context: For new connections; None: no TLS.
        users: Name to bcrypt hash; empty: no authentication.
    """

    context: ssl.SSLContext | None
    users: Mapping[bytes, bytes]

    def protection(self) -> tuple[int, ...]:
        """TLS, client certificates, passwords: the higher each number, the better it protects."""
        verify_mode = self.context.verify_mode if self.context else ssl.CERT_NONE
        return self.context is not None, verify_mode, bool(self.users)


class WebConfigFile:
    """A web configuration file whose last good state is in force.

    Args:
        path: Of the file; paths in it are relative to its directory.

    Raises:
        WebConfigError: It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reloading = threading.Lock()
        reading = _Reading(path)
        self._state = reading.state()
        self._files = reading.files

    def ssl_context(self) -> ssl.SSLContext | None:
        """What the next connection is to be wrapped with; None for plain HTTP."""
        self.reload()
        return self._state.context

    def users(self) -> Mapping[bytes, bytes]:
        """Name to bcrypt hash of those who may send the next request; empty for everybody."""
        self.reload()
        return self._state.users

    def wrap(self, app: "WSGIApplication") -> "WSGIApplication":
        """The application behind the authentication that the file asks for."""
        return BasicAuth(app, self.users)

    def reload(self, *, force: bool = False) -> None:
        """Reads everything again if something changed. What is wrong is logged, once.

        Args:
            force: Also if nothing changed, and even if the file now protects less than before.
        """
        with self._reloading:
            if not force and all(
                files.signature_at(path) == was for path, was in self._files.items()
            ):
                return
            reading = _Reading(self._path)
            try:
                self._state = reading.state(self._state if not force else None)
                logger.info("the web configuration was read again: %s", self._path)
            except WebConfigError as error:
                # A traceback would tell its reader nothing.
                logger.error("%s; what was in force stays in force", error)  # noqa: TRY400
            self._files = reading.files


class _Reading:
    """One reading of the file, and of those that it names.

    Attributes:
        files: Those that were looked at, each with how it looked before it was read.
    """

    def __init__(self, path: Path) -> None:
        self.files: dict[Path, tuple[int, ...] | None] = {}
        self._path = path

    def state(self, before: _State | None = None) -> _State:
        """What the file asks for.

        Args:
            before: It must protect as well as this.

        Raises:
            WebConfigError: It cannot be used.
        """
        file = Section(self._content(), "the file", str(self._path), keys=_KEYS, refused=_REFUSED)
        http = file.section("http_server_config", keys=_HTTP_KEYS, refused=_HTTP_REFUSED)
        http.choice("http2", ("true", "false"))
        section = file.section("tls_server_config", keys=TLS_KEYS, refused=TLS_REFUSED)
        state = _State(make_context(section, self._find), self._users(file))
        if before and any(map(lt, state.protection(), before.protection())):
            raise WebConfigError.at(
                str(self._path),
                None,
                "protects less than before; if that is meant, send SIGHUP or restart",
            )
        return state

    def _content(self) -> Mapping[str, object]:
        self._find(self._path.name)
        try:
            data, _ = files.read(self._path, _MAX_FILE_BYTES)
            content = read_yaml(decode(data))
        except OSError as error:
            raise WebConfigError.at(str(self._path), None, str(error.strerror)) from None
        except TextError as error:
            raise WebConfigError.at(str(self._path), error.line, str(error)) from None
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise WebConfigError.at(
                str(self._path), line_of(content), f"must be a mapping of {', '.join(_KEYS)}"
            )
        return content

    def _users(self, file: Section) -> Mapping[bytes, bytes]:
        names = file.mapping("basic_auth_users")
        users = Section(names, "basic_auth_users", str(self._path), keys=names, refused={})
        for name in names:
            # `{alice:password}` is a name to YAML; it cannot be one, and must not be shown.
            if ":" in name:
                raise WebConfigError.at(
                    str(self._path),
                    line_of(name),
                    "a name in basic_auth_users must hold no colon; the one before a hash is"
                    " followed by a space",
                )
            if not is_hash(users.text(name)):
                raise users.error(name, "must be a bcrypt hash, as `htpasswd -nBC 10 ''` makes it")
        return {name.encode(): users.text(name).encode() for name in names}

    def _find(self, name: str) -> Path:
        path = self._path.parent / name
        self.files[path] = files.signature_at(path)
        return path
