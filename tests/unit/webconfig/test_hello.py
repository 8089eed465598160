"""The first message of a TLS client, as it is looked at before Python reads it."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.webconfig.hello import parse_groups, peek_groups
from tests.support.curves import needs_curve


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return the client's and the server's end of a connection over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=5)
        server, _ = listener.accept()
    server.settimeout(5)
    with client, server:
        yield client, server


def hello(curve: str | None = None) -> bytes:
    """Return the first message of a client, with only that curve or all that there are."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if curve:
        context.set_ecdh_curve(curve)
    sent = ssl.MemoryBIO()
    connection = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return sent.read()


@pytest.mark.parametrize(
    ("curve", "group"),
    [
        ("prime256v1", 23),
        ("secp384r1", 24),
        ("secp521r1", 25),
        pytest.param("X25519", 29, marks=needs_curve("X25519")),
    ],
)
def test_a_client_names_its_groups(curve: str, group: int) -> None:
    """A client's groups are returned as TLS numbers."""
    assert parse_groups(hello(curve)) == [group]
    assert group in parse_groups(hello())


def test_what_was_looked_at_is_still_to_be_read(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The peeked bytes stay unread, so the handshake works."""
    client, server = pair
    data = hello()
    client.sendall(data)
    assert peek_groups(server) == parse_groups(data)
    assert server.recv(65536) == data


def test_a_message_in_pieces_is_waited_for(pair: tuple[socket.socket, socket.socket]) -> None:
    """A message in several packets is waited for."""
    client, server = pair
    data = hello("secp384r1")

    def send() -> None:
        for piece in (data[:3], data[3:60], data[60:]):
            client.sendall(piece)
            time.sleep(0.03)

    thread = threading.Thread(target=send)
    thread.start()
    assert peek_groups(server) == [24]
    thread.join()


def test_a_client_that_hesitates_is_waited_for_no_longer_than_the_timeout(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """Waiting costs no processor time."""
    client, server = pair
    server.settimeout(0.2)
    client.sendall(hello()[:50])
    used = time.process_time()
    with pytest.raises(TimeoutError):
        peek_groups(server)
    assert time.process_time() - used < 0.1


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x16"])
def test_what_is_no_hello_names_no_groups(
    pair: tuple[socket.socket, socket.socket], data: bytes
) -> None:
    """OpenSSL finds the words for it."""
    client, server = pair
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert peek_groups(server) == []


@given(data=st.binary(max_size=300), cut=st.integers(0, 300), flip=st.integers(0, 300))
def test_any_bytes_are_parsed(data: bytes, cut: int, flip: int) -> None:
    """No record makes the parser fail."""
    parse_groups(data)
    record = bytearray(hello("secp384r1"))
    parse_groups(bytes(record[:cut]))
    record[flip % len(record)] ^= 0xFF
    parse_groups(bytes(record))
