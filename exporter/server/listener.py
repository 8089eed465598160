"""The listening socket: who comes in, how many at once, and how it ends."""

import ipaddress
import logging
import os
import re
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from exporter.server.connection import Connection, Service

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

logger = logging.getLogger(__name__)

Address = tuple[str, int]
"""Host and port. The host is a name, an IP address without brackets, or empty for all of them."""

#: Connections beyond the limit that are told so; those beyond these are closed without a word.
_MAX_REFUSALS: Final = 64
_SECONDS_BETWEEN_WARNINGS: Final = 60.0
_EVERY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 -- the user's choice
_MAX_PORT: Final = 65535
_PORT: Final = re.compile(r"[0-9]{1,5}")
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")


def parse_listen_address(text: str) -> Address:
    """The address in `HOST:PORT`; `:10036` is port 10036 of all addresses, IPv4 and IPv6.

    Raises:
        ValueError: It is of another form; the text says which is right.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = _is_ipv6(host)
    else:
        good = not host or bool(_HOST.fullmatch(host))
    if ":" in text and good and _PORT.fullmatch(port) and int(port) <= _MAX_PORT:
        return host, int(port)
    raise ValueError(
        f"{text!r} is no listen address: HOST:PORT is needed, as in :10036, 127.0.0.1:10036 or"
        f" [::1]:10036, with a port from 0 to {_MAX_PORT}"
    )


class Server:
    """A server that listens from the moment it is made, and answers once it is started.

    Args:
        app: Called side by side from many threads.
        address: Port 0 picks a free one.
        tls: Asked for each connection, so that renewed certificates take effect; None: no TLS.
        max_connections: Served at once; whoever comes beyond them is answered 503.
        head_seconds: A client may take so long for the TLS handshake and the request together.
        send_seconds: A client may take so long to take the answer.

    Attributes:
        port: The bound one.

    Raises:
        OSError: The address cannot be listened on; the text names it.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        address: Address,
        *,
        tls: Callable[[], ssl.SSLContext | None] = lambda: None,
        max_connections: int = 512,
        head_seconds: float = 10.0,
        send_seconds: float = 60.0,
    ) -> None:
        self._service = Service(app, tls, head_seconds, send_seconds)
        self._max_connections = max_connections
        self._host = address[0]
        self._listener = _listen(address)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=self._accept_all, name=f"server-{self.port}", daemon=True
        )
        self._closing = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        self._connections: set[Connection] = set()
        self._ended = threading.Condition()  # guards the set; notified when one has left it
        self._warned = -_SECONDS_BETWEEN_WARNINGS

    @property
    def url(self) -> str:
        """Where the server is reached from this machine, without a slash at the end."""
        host = "localhost" if self._host in _EVERY_ADDRESS else self._host
        scheme = "https" if self._service.tls() else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def start(self) -> None:
        """Answers from now on, in threads of its own."""
        self._thread.start()

    def close(self, grace: float = 0.0) -> None:
        """Takes no more connections, waits for the answers under way, and cuts off what is left.

        Args:
            grace: Seconds to wait. Connections without a whole request are not waited for.
        """
        self._closing.set()
        self._wake.close()
        if self._thread.ident:
            self._thread.join()
        self._selector.close()
        self._woken.close()
        self._listener.close()
        with self._ended:
            self._ended.wait_for(lambda: not any(c.answering for c in self._connections), grace)
            for connection in self._connections:
                connection.cut()

    def _accept_all(self) -> None:
        while self._selector.select() and not self._closing.is_set():
            self._accept()

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError as error:
            self._warn("cannot accept a connection: %s", error)
            # Without file descriptors the next try would fail at once, and for ever.
            self._closing.wait(0.1)
            return
        with self._ended:
            count = len(self._connections)
            if refused := count >= self._max_connections:
                self._warn("%d connections are open: no more are served", count)
            if count >= self._max_connections + _MAX_REFUSALS:
                client.close()
                return
            connection = Connection(client, self._service, refused=refused)
            self._connections.add(connection)
        try:
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()
        except RuntimeError as error:
            self._warn("cannot serve a connection: %s", error)
            client.close()
            self._forget(connection)

    def _run(self, connection: Connection) -> None:
        connection.run()
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        with self._ended:
            self._connections.remove(connection)
            self._ended.notify_all()

    def _warn(self, text: str, value: object) -> None:
        """Logs once a minute at most: what others do must not fill the log."""
        if time.monotonic() - self._warned >= _SECONDS_BETWEEN_WARNINGS:
            self._warned = time.monotonic()
            logger.warning(text, value)


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


def _listen(address: Address) -> socket.socket:
    host, port = address
    try:
        if host in {"", "::"} and socket.has_dualstack_ipv6():
            listener = socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=512, dualstack_ipv6=True
            )
        else:
            # IPv4 first: that is what those who write `localhost` expect, Go's exporters included.
            family, *_, found = min(
                socket.getaddrinfo(
                    host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
                ),
                key=lambda each: each[0] != socket.AF_INET,
            )
            listener = socket.create_server(found, family=family, backlog=512)
    except OSError as error:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        # `create_server` adds words of its own; an unknown name's number is none of the system's.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise OSError(number, f"cannot listen on {shown}: {reason}") from error
    listener.settimeout(0)
    return listener
