"""The first message of a TLS client, peeked at before Python's TLS reads it."""

import socket
from typing import Final

_HANDSHAKE: Final = 22
_CLIENT_HELLO: Final = 1
_SUPPORTED_GROUPS: Final = 10
_RECORD_HEAD_BYTES: Final = 5
_MAX_RECORD_BYTES: Final = 2**14
#: Head of the record, head of the message, version and random.
_FIXED_BYTES: Final = _RECORD_HEAD_BYTES + 4 + 2 + 32


def peek_groups(connection: socket.socket) -> list[int]:
    """Return the TLS group numbers that a client supports; empty if it lists none.

    The peeked bytes stay unread. Waits for the message within the socket's timeout.

    Raises:
        OSError: The connection broke, or the message did not come in time.
    """
    head = _peek(connection, _RECORD_HEAD_BYTES)
    length = int.from_bytes(head[3:], "big")
    if head[:1] != bytes([_HANDSHAKE]) or length > _MAX_RECORD_BYTES:
        return []
    return parse_groups(_peek(connection, _RECORD_HEAD_BYTES + length))


def parse_groups(record: bytes) -> list[int]:
    """Return the groups listed in a record with a ClientHello (RFC 8446, 4.1.2 and 4.2.7)."""
    if record[:1] != bytes([_HANDSHAKE]) or record[5:6] != bytes([_CLIENT_HELLO]):
        return []
    rest = record[_FIXED_BYTES:]
    # Skip session, cipher suites and compression methods; only the extensions follow.
    for size in (1, 2, 1):
        _, rest = _split(rest, size)
    extensions, _ = _split(rest, 2)
    while extensions:
        kind = int.from_bytes(extensions[:2], "big")
        content, extensions = _split(extensions[2:], 2)
        if kind == _SUPPORTED_GROUPS:
            groups, _ = _split(content, 2)
            return [int.from_bytes(groups[at : at + 2], "big") for at in range(0, len(groups), 2)]
    return []


def _split(data: bytes, size: int) -> tuple[bytes, bytes]:
    """Return the content that follows a length of `size` bytes, and the rest."""
    end = size + int.from_bytes(data[:size], "big")
    return data[size:end], data[end:]


def _peek(connection: socket.socket, count: int) -> bytes:
    """Return the next `count` bytes, or fewer if the client has ended its side."""
    # Otherwise every packet would wake the thread.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
    try:
        return connection.recv(count, socket.MSG_PEEK)
    finally:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
