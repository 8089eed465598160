"""One HTTP request that ends by its deadline, and takes the token nowhere else.

A timeout of requests is one of each socket operation, and none of the name resolver: a server that
drips bytes is never late. So a request runs in a thread of its own, and at the deadline it is left
to that thread and its connection is cut.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent import futures
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Final

import requests
import requests.adapters
import requests.auth
import urllib3
import urllib3.connection

#: An answer is not read on beyond this; a hundred exports are some 150 kB.
MAX_ANSWER_BYTES: Final = 8 * 2**20

_READ_BYTES = 65536
# A timeout of 0 would mean a socket that does not block at all.
_SHORTEST_TIMEOUT = 0.001


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer.

    Attributes:
        status: The HTTP status.
        headers: By name, whatever its case.
        body: Without its compression; at most `MAX_ANSWER_BYTES`.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class AnswerTooLargeError(requests.RequestException):
    """The answer has more than `MAX_ANSWER_BYTES`."""


class Transport:
    """Sends requests with the token; may be used by several threads at once.

    Args:
        token: Gives the token to use for the next request.
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
        self._adapter = _Adapter(pool_connections=1, pool_maxsize=connections)
        self._session = requests.Session()
        self._session.mount("https://", self._adapter)
        self._session.mount("http://", self._adapter)
        # With an `auth` of its own the session never looks into ~/.netrc.
        self._session.auth = _TokenAuth(token)
        self._session.trust_env = use_environment
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        self._session.headers.update(headers)

    def post(self, url: str, payload: object, timeout: float) -> Reply:
        """Send `payload` as JSON and have done within `timeout` seconds. Follows no redirect.

        Raises:
            requests.RequestException: `requests.Timeout` when the time is over, and requests' own
                errors of connections, TLS and broken answers.
            AnswerTooLargeError: as it says.
        """
        line = _Line()
        future: futures.Future[Reply] = futures.Future()

        def run() -> None:
            try:
                future.set_result(self._exchange(url, payload, timeout, line))
            except BaseException as error:  # noqa: BLE001 # result() raises it again
                future.set_exception(error)

        threading.Thread(target=run, name="api-call", daemon=True).start()
        try:
            return future.result(timeout)
        except futures.TimeoutError:
            line.cut()
            raise requests.Timeout from None

    def _exchange(self, url: str, payload: object, timeout: float, line: "_Line") -> Reply:
        self._adapter.thread.line = line
        response = self._session.post(
            url,
            json=payload,
            timeout=max(timeout, _SHORTEST_TIMEOUT),
            allow_redirects=False,
            stream=True,
        )
        with response:
            return Reply(response.status_code, response.headers, _body(response))


class _TokenAuth(requests.auth.AuthBase):
    def __init__(self, token: Callable[[], str]) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-SBG-Auth-Token"] = self._token()
        return request


class _Line:
    """The socket that a request goes over, to be cut from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    def connect(self, sock: socket.socket) -> None:
        with self._lock:
            self._socket = sock
            if self._is_cut:
                self._shut_down()

    def cut(self) -> None:
        with self._lock:
            self._is_cut = True
            self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            # The plain socket's method: that of a TLS socket changes what its reader uses.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


class _Adapter(requests.adapters.HTTPAdapter):
    """Tells the line of the thread that sends a request which socket it goes over."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401 # as the base class takes them
        self.thread = threading.local()
        super().__init__(**kwargs)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 # as above
        super().init_poolmanager(*args, **kwargs)
        self._follow(self.poolmanager)

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> urllib3.ProxyManager:  # noqa: ANN401 # as above
        manager: urllib3.ProxyManager = super().proxy_manager_for(*args, **kwargs)
        self._follow(manager)
        return manager

    def _follow(self, manager: urllib3.PoolManager) -> None:
        thread = self.thread

        class HTTPConnection(urllib3.connection.HTTPConnection):
            def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 # as there
                super().request(*args, **kwargs)
                thread.line.connect(self.sock)

        class HTTPSConnection(urllib3.connection.HTTPSConnection):
            def request(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 # as there
                super().request(*args, **kwargs)
                thread.line.connect(self.sock)

        class HTTPPool(urllib3.HTTPConnectionPool):
            ConnectionCls = HTTPConnection

        class HTTPSPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = HTTPSConnection

        manager.pool_classes_by_scheme = {"http": HTTPPool, "https": HTTPSPool}


def _body(response: requests.Response) -> bytes:
    chunks = []
    size = 0
    for chunk in response.iter_content(_READ_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise AnswerTooLargeError
    return b"".join(chunks)
