"""A relay of TCP connections that can go silent: it passes nothing on, and closes nothing."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

_BYTES = 65536


@dataclass(slots=True, eq=False)
class _Link:
    """A client's connection, and the connection to the server for it."""

    client: socket.socket
    server: socket.socket
    silent: bool

    def pump(self, source: socket.socket, sink: socket.socket) -> None:
        """Forward data from `source` to `sink`; when `source` ends, close both connections."""
        with suppress(OSError):
            while data := source.recv(_BYTES):
                if not self.silent:
                    sink.sendall(data)
        # On a silent connection the client does not see that the server closed its end.
        if not self.silent or source is self.client:
            self.end()

    def end(self) -> None:
        """Close both connections."""
        for each in (self.client, self.server):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class Relay:
    """Relays from a bound socket to a port of 127.0.0.1.

    Args:
        address: The address on which it listens; the caller keeps the port reserved.
        target: The port to which it connects.
    """

    def __init__(self, address: tuple[str, int], target: int) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._discards = False
        self._listener = socket.create_server(address, backlog=128)
        self._thread = threading.Thread(target=self._accept, name="relay", daemon=True)
        self._thread.start()

    def silence(self) -> None:
        """Discard all data on the existing connections from now on."""
        with self._lock:
            for link in self._links:
                link.silent = True

    @contextmanager
    def discarding(self) -> Iterator[None]:
        """Discard all data on connections that are opened during the block, until they end."""
        self._discards = True
        try:
            yield
        finally:
            self._discards = False

    def close(self) -> None:
        """Cut all connections and refuse new ones."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        with self._lock:
            for link in self._links:
                link.end()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(client, server, self._discards)
            with self._lock:
                self._links.add(link)
            threading.Thread(target=self._relay, args=(link,), name="link", daemon=True).start()

    def _relay(self, link: _Link) -> None:
        back = threading.Thread(target=link.pump, args=(link.server, link.client), daemon=True)
        back.start()
        link.pump(link.client, link.server)
        link.end()
        back.join()
        with self._lock:
            self._links.discard(link)
        link.client.close()
        link.server.close()
