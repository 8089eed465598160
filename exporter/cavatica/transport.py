"""One HTTP request that ends by its deadline and sends the token to one host only.

A socket's timeout applies to each operation, and the resolver has none: a server that drips bytes
never times out. So every request runs in its own thread; at the deadline its connection is aborted
and the thread is abandoned.

Every request opens a connection. Reusing one between scrapes gains little, and one that a firewall
has silently dropped would use up the whole time of a call.
"""

import functools
import json
import os
import ssl
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import (
    DecodeError,
    InvalidHeader,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from exporter import background
from exporter.cavatica.answer import Reason
from exporter.cavatica.connection import (
    Connection,
    HeadTooLargeError,
    ProxyRefusalError,
    make_connection,
)
from exporter.cavatica.dialing import Resolver
from exporter.cavatica.environment import (
    Authorities,
    AuthoritiesError,
    ProxySettingsError,
    address_of,
    find_proxy,
    named_authorities,
)
from exporter.cavatica.redaction import Redactor

_READ_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer.

    Attributes:
        status: The HTTP status.
        headers: By name in any case; only the fields in use.
        body: Decompressed.
        redactor: Removes the token that was sent with the request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    redactor: Redactor = field(compare=False, repr=False)


class TransportError(Exception):
    """No answer, or an unreadable one.

    Its text contains nothing that the API or a proxy sent, except numbers.

    Attributes:
        reason: Why it failed.
        status: The HTTP status, or None if no answer began.
    """

    def __init__(self, reason: Reason, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.status = status


class Transport:
    """Sends requests with the token; may be used by several threads at once.

    Args:
        token: Returns the token for the next request, valid in a header.
        headers: Sent with every request.
    """

    def __init__(self, token: Callable[[], str], headers: Mapping[str, str]) -> None:
        self._token = token
        self._headers = {"Accept": "*/*", "Accept-Encoding": "gzip", "Connection": "close"}
        self._headers |= headers
        self._resolver = Resolver()
        self._authorities = Authorities()

    def post(self, url: str, payload: object, timeout: float, *, max_bytes: int) -> Response:
        """Send `payload` as JSON, follow no redirect, and return within `timeout` seconds.

        Args:
            url: The URL.
            payload: The body.
            timeout: Seconds for the whole request.
            max_bytes: Maximum size of the body.

        Raises:
            TransportError: no answer within the time, or an unreadable one.
        """
        return self._send(url, json.dumps(payload).encode(), timeout, max_bytes)

    def get(self, url: str, timeout: float, *, max_bytes: int) -> Response:
        """Send a GET request, otherwise like `post`."""
        return self._send(url, None, timeout, max_bytes)

    def _send(self, url: str, body: bytes | None, timeout: float, max_bytes: int) -> Response:
        connection = Connection(timeout)
        exchange = functools.partial(self._exchange, url, body, connection, max_bytes)
        try:
            future = background.start(exchange, "api-call")
        except RuntimeError as error:
            raise TransportError("connection", "no thread can be started for the call") from error
        try:
            return future.result(max(timeout, 0))
        except futures.TimeoutError:
            connection.abort()
            raise TransportError(
                "timeout", f"timed out {connection.phase}", connection.status
            ) from None
        except TransportError:
            raise
        except Exception as error:
            raise TransportError(*_classify(error, connection.phase), connection.status) from error

    def _exchange(
        self, url: str, body: bytes | None, connection: Connection, max_bytes: int
    ) -> Response:
        scheme, host, port = address_of(url)
        connection.phase = "reading the token"
        token = self._token()
        headers = {**self._headers, "X-SBG-Auth-Token": token}
        if body is not None:
            headers["Content-Type"] = "application/json"
        tls = proxy = None
        if scheme == "https":
            connection.phase = "reading the certificate authorities"
            tls = self._authorities.context(os.environ, connection.remaining())
            # None for plain HTTP, which only goes to this machine: a proxy would see the token.
            proxy = find_proxy(host, port, os.environ)
        http = make_connection(
            connection, (scheme, host, port), resolver=self._resolver, tls=tls, proxy=proxy
        )
        try:
            http.request(
                "GET" if body is None else "POST",
                urlsplit(url)._replace(scheme="", netloc="").geturl(),
                body,
                headers,
                preload_content=False,
            )
            connection.phase = "waiting for the answer"
            response = http.getresponse()
            connection.status = response.status
            connection.phase = "reading the answer"
            with response:
                content = _body(response, max_bytes)
            return Response(response.status, response.headers, content, Redactor(token))
        finally:
            http.close()
            connection.release()


def _body(response: urllib3.HTTPResponse, max_bytes: int) -> bytes:
    chunks = []
    size = 0
    for chunk in response.stream(_READ_BYTES, decode_content=True):
        chunks.append(chunk)
        size += len(chunk)
        if size > max_bytes:
            text = f"the answer is larger than {max_bytes} bytes"
            raise TransportError("invalid_response", text, response.status)
    return b"".join(chunks)


def _refusal(error: ProxyRefusalError, _: str) -> str:
    text = f"the proxy refused the tunnel with HTTP {error.status}"
    if error.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        text += ": it requires a user and a password (HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT)"
    return text


def _distrust(error: ssl.SSLCertVerificationError, _: str) -> str:
    text = f"the certificate is not trusted: {error.verify_message}"
    if variable := named_authorities(os.environ):
        return f"{text} ({variable} sets the trusted authorities)"
    return f"{text} (set SSL_CERT_FILE to the certificates of a private authority)"


def _breakage(error: Exception, phase: str) -> str:
    # The operating system's texts contain nothing that the server sent.
    why = getattr(error, "strerror", None)
    return f"failed {phase}: {why}" if why else f"failed {phase}"


# The first match counts.
_FAILURES: Final[tuple[tuple[type[Exception], Reason, Callable[[Any, str], str]], ...]] = (
    (ProxySettingsError, "proxy", lambda error, _: str(error)),
    (ProxyRefusalError, "proxy", _refusal),
    (AuthoritiesError, "tls", lambda error, _: str(error)),
    (ssl.SSLCertVerificationError, "tls", _distrust),
    (ssl.SSLError, "tls", _breakage),
    (TimeoutError, "timeout", lambda _, phase: f"timed out {phase}"),
    (DecodeError, "invalid_response", lambda *_: "the answer's compression is broken"),
    (InvalidHeader, "invalid_response", lambda *_: "the answer's length is not a number"),
    (HeadTooLargeError, "invalid_response", lambda error, _: str(error)),
    (OSError, "connection", _breakage),
    (HTTPException, "connection", _breakage),
    (ProtocolError, "connection", _breakage),
)


def _classify(error: Exception, phase: str) -> tuple[Reason, str]:
    """Return the reason and the text of a failed request."""
    # Errors while a body is read are wrapped.
    while isinstance(error, (ProtocolError, SSLError, ReadTimeoutError)) and isinstance(
        error.__context__, Exception
    ):
        error = error.__context__
    for kind, reason, describe in _FAILURES:
        if isinstance(error, kind):
            return reason, describe(error, phase)
    # Not expected: the type shows where to look; the text may contain secrets.
    return "invalid_response", f"failed {phase}: unexpected {type(error).__name__}"
