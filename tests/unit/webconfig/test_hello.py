"""The first message of a TLS client, which is peeked at before Python's TLS reads it."""

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
    """Yield the client's and the server's end of a TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=5)
        server, _ = listener.accept()
    server.settimeout(5)
    with client, server:
        yield client, server


def hello(curve: str | None = None) -> bytes:
    """Return the first message of a client that supports only `curve`, or all curves."""
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
def test_groups_of_a_client_are_parsed(curve: str, group: int) -> None:
    """The groups that a client supports are returned as their TLS numbers."""
    assert parse_groups(hello(curve)) == [group]
    assert group in parse_groups(hello())


def test_peeked_bytes_stay_unread(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The peeked bytes can still be read, so that the handshake works."""
    client, server = pair
    data = hello()
    client.sendall(data)
    assert peek_groups(server) == parse_groups(data)
    assert server.recv(65536) == data


def test_message_in_several_packets_is_parsed(pair: tuple[socket.socket, socket.socket]) -> None:
    """The rest of a message that arrives in several packets is waited for."""
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


def test_incomplete_message_times_out(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The rest of a message is waited for until the timeout, without processor time."""
    client, server = pair
    server.settimeout(0.2)
    client.sendall(hello()[:50])
    used = time.process_time()
    with pytest.raises(TimeoutError):
        peek_groups(server)
    assert time.process_time() - used < 0.1


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x16"])
def test_other_data_has_no_groups(pair: tuple[socket.socket, socket.socket], data: bytes) -> None:
    """Data that is not a first message of TLS has no groups; OpenSSL reports what is wrong."""
    client, server = pair
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    assert peek_groups(server) == []


@given(data=st.binary(max_size=300), cut=st.integers(0, 300), flip=st.integers(0, 300))
def test_any_bytes_are_parsed(data: bytes, cut: int, flip: int) -> None:
    """No bytes, and no truncated or damaged message, make the parser raise."""
    parse_groups(data)
    record = bytearray(hello("secp384r1"))
    parse_groups(bytes(record[:cut]))
    record[flip % len(record)] ^= 0xFF
    parse_groups(bytes(record))
