"""One HTTP request that ends by its deadline, and takes the token nowhere else.

A timeout of requests is one of each socket operation, and none of the name resolver: a server that
drips bytes is never late. So a request runs in a thread of its own, and at the deadline it is left
to that thread and its connection is cut.
"""

import contextlib
import functools
import http.client
import os
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import requests.adapters
import requests.auth
import urllib3
import urllib3.connection

from exporter import background
from exporter.cavatica.answer import Reason

#: An answer is not read on beyond this; a hundred exports are some 150 kB.
MAX_ANSWER_BYTES: Final = 4 * 2**20

_READ_BYTES = 65536
# A timeout of 0 would mean a socket that does not block at all.
_SHORTEST_TIMEOUT = 0.001
_LATE = "no answer in time"


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP answer.

    Attributes:
        status: The HTTP status.
        headers: By name, whatever its case.
        body: Without its compression; at most `MAX_ANSWER_BYTES`.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class TransportError(Exception):
    """There is no answer, or none that can be read.

    The text never holds anything that the other side sent.

    Attributes:
        reason: Why.
        status: Of an answer that began, else None.
    """

    def __init__(self, reason: Reason, text: str, status: int | None = None) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.status = status


class Transport:
    """Sends requests with the token; may be used by several threads at once.

    Args:
        token: Gives the token to use for the next request, which can stand in a header.
        headers: To send with every request.
        use_environment: Whether the environment's proxies and CA bundle count. For plain HTTP they
            must not: the token would travel to a proxy in clear.
        connections: How many to keep open for the next request.
    """

    def __init__(
        self,
        token: Callable[[], str],
        headers: Mapping[str, str],
        *,
        use_environment: bool,
        connections: int,
    ) -> None:
        adapter = _Adapter(pool_connections=1, pool_maxsize=connections)
        self._session = _Session()
        self._session.mount("https://", adapter)
        self._session.mount("http://", adapter)
        # With an `auth` of its own the session never looks into ~/.netrc.
        self._session.auth = _TokenAuth(token)
        self._session.trust_env = use_environment
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._session.headers.update(headers)

    def post(self, url: str, payload: object, timeout: float) -> Response:
        """Send `payload` as JSON and have done within `timeout` seconds. Follows no redirect.

        Raises:
            TransportError: when there is no answer within the time, or none that can be read.
        """
        return self._send(url, payload, timeout)

    def get(self, url: str, timeout: float) -> Response:
        """Ask for `url` and have done within `timeout` seconds, as `post` does."""
        return self._send(url, None, timeout)

    def _send(self, url: str, payload: object | None, timeout: float) -> Response:
        line = _Line()
        exchange = functools.partial(self._exchange, url, payload, timeout, line)
        try:
            future = background.start(exchange, "api-call")
        except RuntimeError as error:
            raise TransportError("connection", "the system has no thread for a call") from error
        try:
            return future.result(max(timeout, 0))
        except futures.TimeoutError:
            line.cut()
            raise TransportError("timeout", _LATE, line.status) from None
        except (OSError, urllib3.exceptions.HTTPError) as error:
            raise TransportError(*_explain(error), line.status) from error

    def _exchange(
        self, url: str, payload: object | None, timeout: float, line: "_Line"
    ) -> Response:
        _LINE.set(line)
        try:
            response = self._session.request(
                "GET" if payload is None else "POST",
                url,
                json=payload,
                timeout=max(timeout, _SHORTEST_TIMEOUT),
                allow_redirects=False,
                stream=True,
            )
            with response:
                line.status = response.status_code
                return Response(response.status_code, response.headers, _body(response))
        finally:
            line.let_go()


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """No answer leads on: where one could, requests reads all of its body, however long."""


class _TokenAuth(requests.auth.AuthBase):
    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-SBG-Auth-Token"] = self._token()
        return request


class _Line:
    """The connection that a request goes over, to be cut from another thread.

    Attributes:
        status: Of the answer, once it has begun.
    """

    def __init__(self) -> None:
        self.status: int | None = None
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def follow(self, sock: socket.socket) -> None:
        # A descriptor of our own: that of `sock` changes hands before the TLS handshake, and may be
        # somebody else's once it is closed.
        duplicate = socket.socket(fileno=os.dup(sock.fileno()))
        with self._lock:
            self._close()
            self._socket = duplicate
            if self._is_cut:
                self._shut_down()

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            self._shut_down()

    def let_go(self) -> None:
        with self._lock:
            self._close()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


# Of the request that runs in this thread.
_LINE: Final[ContextVar[_Line]] = ContextVar("_LINE")


class _Response(http.client.HTTPResponse):
    """Reads no chunk of less than nothing: urllib3 would read on to the end, however far."""

    def _safe_read(self, amt: int) -> bytes:
        if amt < 0:
            raise http.client.IncompleteRead(b"")
        data: bytes = super()._safe_read(amt)  # type: ignore[misc] # urllib3 calls it, typeshed hides it
        return data


class _Followed(urllib3.connection.HTTPConnection):
    """Tells the line of its request which socket it goes over."""

    response_class = _Response

    def _new_conn(self) -> socket.socket:
        # Not `connect`: that returns after the TLS handshake, which can be dripped too.
        sock = super()._new_conn()
        _LINE.get().follow(sock)
        return sock

    def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 # as the base class
        # Kept open since an earlier request.
        if self.sock is not None:
            _LINE.get().follow(self.sock)
        super().request(*args, **kwargs)


class _Adapter(requests.adapters.HTTPAdapter):
    """Follows every connection, whatever its kind: plain, TLS, over an HTTP or a SOCKS proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 # as the base class
        super().init_poolmanager(*args, **kwargs)
        _follow(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> urllib3.ProxyManager:  # noqa: ANN401 # as the base class
        is_new = proxy not in self.proxy_manager
        manager: urllib3.ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            _follow(manager)
        return manager


def _follow(manager: urllib3.PoolManager) -> None:
    # Not in place: urllib3 gives the same mapping to every manager.
    manager.pool_classes_by_scheme = {
        scheme: _followed(pool) for scheme, pool in manager.pool_classes_by_scheme.items()
    }


def _followed(pool: Any) -> Any:  # noqa: ANN401 # urllib3's types do not cover pools' classes
    connection = type("Connection", (_Followed, pool.ConnectionCls), {})
    return type("Pool", (pool,), {"ConnectionCls": connection})


def _body(response: requests.Response) -> bytes:
    chunks = []
    size = 0
    for chunk in response.iter_content(_READ_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            text = f"the answer is larger than {MAX_ANSWER_BYTES} bytes"
            raise TransportError("invalid_response", text, response.status_code)
    return b"".join(chunks)


def _explain(error: Exception) -> tuple[Reason, str]:
    broken = requests.exceptions
    if isinstance(error, broken.ContentDecodingError):
        return "invalid_response", "the answer's compression is broken"
    if isinstance(error, broken.InvalidHeader):
        return "invalid_response", "the answer's length is no number"
    if isinstance(error, broken.SSLError):
        return "tls", "the TLS connection failed" + _cause(error)
    # A read that times out after the headers arrives in a wrapping.
    if isinstance(error, broken.Timeout) or (
        error.args and isinstance(error.args[0], urllib3.exceptions.ReadTimeoutError)
    ):
        return "timeout", _LATE
    if isinstance(error, OSError) and not isinstance(error, broken.RequestException):
        # Of all that requests opens and reads, only the CA bundle's errors come as they are.
        return "tls", str(error)
    return "connection", "no connection, or it broke" + _cause(error)


def _cause(error: BaseException) -> str:
    """Give what the operating system or the TLS library said; the other side has no word in it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return f": {cause.strerror}"
        cause = cause.__cause__ or cause.__context__
    return ""
