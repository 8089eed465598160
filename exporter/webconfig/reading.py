"""One reading of the web configuration file and of the files that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporter import files
from exporter.document import line_of, read_yaml
from exporter.text import TextError, decode
from exporter.webconfig.basicauth import Users, parse_users
from exporter.webconfig.headers import HEADER_KEYS, Headers, parse_headers
from exporter.webconfig.ratelimit import RATE_KEYS, Rate
from exporter.webconfig.section import Section, WebConfigError
from exporter.webconfig.tls import TLS_KEYS, parse_tls
from exporter.webconfig.tls_settings import TlsSettings

KEYS: Final = ("tls_server_config", "http_server_config", "basic_auth_users", "rate_limit")
HTTP_KEYS: Final = ("http2", "headers")
# Four times the size of a system's bundle of authorities.
_MAX_FILE_BYTES: Final = 2**20


@dataclass(frozen=True, slots=True)
class Config:
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


class Reading:
    """One reading of the file and of the files that it names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Signatures of those files, each taken before the file was read.
        self._signatures: dict[Path, tuple[int, ...] | None] = {}

    def is_outdated(self) -> bool:
        """Return whether any of the files changed since it was read."""
        return any(files.signature_at(path) != was for path, was in self._signatures.items())

    def config(self) -> Config:
        """Return the parsed configuration.

        Raises:
            WebConfigError: It is not valid.
        """
        file = Section(self._content(), "the file", str(self._path), KEYS)
        http = file.section("http_server_config", HTTP_KEYS)
        tls = file.section("tls_server_config", TLS_KEYS)
        return Config(
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
        self._signatures[path] = files.signature_at(path)
        data, _ = files.read(path, _MAX_FILE_BYTES)
        return data
