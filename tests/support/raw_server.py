"""A server on loopback that sends exactly the bytes that a test gives it."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.waits import PATIENCE


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        """Use a socket that the server accepted."""
        self.sock = sock

    def receive(self) -> bytes:
        """Return one raw request: its head, and a body of the length that the head declares."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._read()
        head, _, body = data.partition(b"\r\n\r\n")
        lengths = [
            int(line[15:])
            for line in head.lower().split(b"\r\n")
            if line[:15] == b"content-length:"
        ]
        while len(body) < sum(lengths):
            body += self._read()
        return head + b"\r\n\r\n" + body

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.sock.sendall(data)

    def drip(self, data: bytes) -> None:
        """Send a byte every 20 ms, until the client closes the connection."""
        for byte in data:
            self.sock.sendall(bytes((byte,)))
            time.sleep(0.02)

    def hang(self) -> None:
        """Send nothing until the client closes the connection."""
        while True:
            self._read()

    def splice(self, other: socket.socket) -> None:
        """Relay bytes in both directions, until one side closes its connection."""
        self.sock.settimeout(0.05)
        other.settimeout(0.05)
        while True:
            for source, sink in ((self.sock, other), (other, self.sock)):
                with suppress(TimeoutError):
                    data = source.recv(65536)
                    if not data:
                        return
                    sink.sendall(data)

    def reset(self) -> None:
        """Reset the connection (RST), as a crash of the server does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _read(self) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionResetError
        return data


@contextmanager
def listen(talk: Callable[[Peer], object], *, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Run `talk` for every connection, each in its own thread; yield the port.

    At the end of the block every connection is closed and every thread has ended. Connection errors
    (`OSError`) in `talk` are ignored; any other exception fails the test, because pytest reports
    exceptions of threads.
    """
    is_over = threading.Event()
    threads: list[threading.Thread] = []
    peers: list[Peer] = []

    def serve(sock: socket.socket) -> None:
        sock.settimeout(PATIENCE)
        with suppress(OSError), tls.wrap_socket(sock, server_side=True) if tls else sock as mine:
            peers.append(Peer(mine))
            talk(peers[-1])
        sock.close()

    def accept() -> None:
        while not is_over.is_set():
            with suppress(TimeoutError):
                sock, _ = listener.accept()
                threads.append(threading.Thread(target=serve, args=(sock,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        # How often `accept` checks whether the block has ended.
        listener.settimeout(0.01)
        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield listener.getsockname()[1]
        finally:
            is_over.set()
            acceptor.join()
            for peer in peers:
                with suppress(OSError):
                    peer.sock.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def open_descriptors() -> int:
    """Return the number of open files and sockets of this process."""
    return sum(1 for _ in Path("/dev/fd").iterdir())
