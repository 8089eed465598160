"""Settings from the environment for the way to the API: proxies and certificate authorities.

The variables are those of curl, OpenSSL and requests. White space around their values, common in
Secrets and files of variables, is ignored.
"""

import base64
import ipaddress
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

import certifi

from exporter.files import signature_at

#: Each names a file, or a directory made by `openssl rehash`, that replaces all other authorities.
_BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Names a file with additional authorities.
_FILE_VARIABLES = ("SSL_CERT_FILE",)
_PROXY_VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
_NO_PROXY_VARIABLES = ("no_proxy", "NO_PROXY")
# The names that `openssl rehash` makes: OpenSSL finds no other file of a directory.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class ProxySettingsError(ValueError):
    """A variable with an invalid proxy; the text names the variable and holds no password."""


class AuthoritiesError(ValueError):
    """A variable with unusable certificates; the text names the variable."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy.

    Attributes:
        scheme: The protocol of the proxy itself: ``http`` or ``https``.
        host: Its name or address.
        port: Its port.
        variable: The variable that configures it.
        headers: Headers of CONNECT requests; they may hold a password.
    """

    scheme: str
    host: str
    port: int
    variable: str
    headers: Mapping[str, str] = field(repr=False)


def find_proxy(host: str, port: int, environ: Mapping[str, str]) -> Proxy | None:
    """Return the proxy for connections to `host`, or None for a direct connection.

    Raises:
        ProxySettingsError: the proxy's URL is not valid.
    """
    variable, text = _first(_PROXY_VARIABLES, environ)
    if not text or _is_exempt(host, port, _first(_NO_PROXY_VARIABLES, environ)[1]):
        return None
    problem = f"{variable}: not a valid proxy URL (use http://HOST:PORT or https://HOST:PORT)"
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        name, number = parts.hostname, parts.port
    except ValueError:
        raise ProxySettingsError(problem) from None
    if parts.scheme not in {"http", "https"} or not name or not re.fullmatch(r"[!-~]+", name):
        raise ProxySettingsError(problem)
    headers = {}
    if parts.username is not None:
        # RFC 7617 leaves the encoding open: the bytes of the variable are sent unchanged.
        user, password = (
            unquote_to_bytes(text.encode(errors="surrogateescape"))
            for text in (parts.username, parts.password or "")
        )
        login = base64.b64encode(user + b":" + password).decode()
        headers["Proxy-Authorization"] = f"Basic {login}"
    usual = 443 if parts.scheme == "https" else 80
    return Proxy(parts.scheme, name, usual if number is None else number, variable, headers)


class Authorities:
    """The trusted certificate authorities; may be used by several threads at once.

    If ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE`` is set, only its authorities are trusted.
    Otherwise, those of the system, of the package `certifi` (some systems have none) and of
    ``SSL_CERT_FILE`` are. Reading them takes tenths of a second, so they are cached until one of
    the files changes.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._signature: object = None
        self._context: ssl.SSLContext | None = None

    def context(self, environ: Mapping[str, str], timeout: float) -> ssl.SSLContext:
        """Return a client's TLS context that trusts them.

        Raises:
            AuthoritiesError: a variable names an unusable file.
            TimeoutError: another thread is still reading the files.
        """
        if not self._lock.acquire(timeout=timeout):
            raise TimeoutError
        try:
            bundle = _first(_BUNDLE_VARIABLES, environ)
            file = _first(_FILE_VARIABLES, environ)
            # They include those of SSL_CERT_DIR.
            system = ssl.get_default_verify_paths()
            paths = filter(None, (bundle[1], file[1], system.cafile, system.capath))
            signature = bundle, file, [(path, signature_at(Path(path))) for path in paths]
            if self._context is None or signature != self._signature:
                self._context = _client_context(bundle, file)
                self._signature = signature
            return self._context
        finally:
            self._lock.release()


def address_of(url: str) -> tuple[str, str, int]:
    """Return scheme, host and port of a URL with a host."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname or "", port


def find_errors(url: str, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the errors that calls to `url` would meet in the variables, in the same words."""
    scheme, host, port = address_of(url)
    # Plain HTTP uses none of them.
    if scheme == "https":
        try:
            find_proxy(host, port, environ)
        except ProxySettingsError as error:
            yield str(error)
        try:
            Authorities().context(environ, 0)
        except AuthoritiesError as error:
            yield str(error)


def named_authorities(environ: Mapping[str, str]) -> str:
    """Return the variable that adds to the system's authorities, or an empty string."""
    return _first(_BUNDLE_VARIABLES + _FILE_VARIABLES, environ)[0]


def _client_context(bundle: tuple[str, str], file: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if bundle[0]:
        _load(context, *bundle)
        return context
    context.load_default_certs()
    context.load_verify_locations(certifi.where())
    if file[0]:
        _load(context, *file)
    return context


def _load(context: ssl.SSLContext, variable: str, path: str) -> None:
    try:
        if not Path(path).is_dir():
            context.load_verify_locations(cafile=path)
            return
        # OpenSSL itself reads it when a certificate is checked, and reports no error.
        if any(_HASHED.fullmatch(each.name) for each in Path(path).iterdir()):
            context.load_verify_locations(capath=path)
            return
        problem = "holds no certificates under the names that openssl rehash makes"
    except ssl.SSLError:
        problem = "holds no certificates (PEM)"
    except OSError as error:
        problem = f"cannot be read: {error.strerror}"
    raise AuthoritiesError(f"{variable}: {path} {problem}")


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, str]:
    """Return name and value of the first variable that is set and not empty."""
    values = ((name, environ.get(name, "").strip()) for name in names)
    return next((found for found in values if found[1]), ("", ""))


def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether NO_PROXY covers the host: itself, its domain, its network, or everything."""
    host = host.lower().rstrip(".")
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        name, _, number = entry.rpartition(":")
        if name and number.isdecimal() and (":" not in name or name.endswith("]")):
            if int(number) != port:
                continue
        else:
            name = entry
        name = name.strip("[]")
        if name == "*" or _contains(name, host):
            return True
        domain = name.removeprefix("*").lstrip(".").rstrip(".")
        if domain and (host == domain or host.endswith(f".{domain}")):
            return True
    return False


def _contains(network: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
