"""Requests as they stand in the bytes that a client sent: pure, and safe on any bytes.

`http.server` is not used because it reads line by line from a file: it cannot end a client that
drips, takes what is no header, and answers with its own name and Python's version.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

MAX_LINE_BYTES: Final = 8 * 1024
"""Of the request line."""
MAX_HEAD_BYTES: Final = 32 * 1024
"""Of the request line and all headers."""

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"  # RFC 9110, 5.6.2
_METHOD_BEGIN: Final = re.compile(_TOKEN)
_REQUEST_LINE: Final = re.compile(rb"(%b{1,32}) ([!-~]+) HTTP/([0-9]\.[0-9])" % _TOKEN)
_ABSOLUTE: Final = re.compile(r"https?://[^/?]*", re.IGNORECASE)
_NAME: Final = re.compile(rb"%b+" % _TOKEN)
_VALUE: Final = re.compile(rb"[\t -~\x80-\xff]*")
_LINE_END: Final = re.compile(rb"\r?\n")
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")


class RequestError(Exception):
    """A request that is answered here and now.

    Attributes:
        status: Status line of the answer without the version, as in `400 Bad Request`.
    """

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head. A body is never read: no path takes one.

    Attributes:
        method: As sent: any token.
        path: Still percent-encoded, visible ASCII, without the query.
        query: What follows the first `?`, or empty.
        version: `1.0` or `1.1`; a later 1.x is possible.
        headers: Names as sent, values without the white space around them (Latin-1), in order.
    """

    method: str
    path: str
    query: str
    version: str
    headers: Sequence[tuple[str, str]]

    def environ(self) -> dict[str, str]:
        """The part of a WSGI environment (PEP 3333) that comes from the client.

        A header sent twice is one value, joined by commas. A name with `_` is left out, because it
        would look the same as the one with `-`; so is what tells of a body.
        """
        environ = {
            "REQUEST_METHOD": self.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(self.path).decode("latin-1"),
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
        }
        for name, value in self.headers:
            key = "HTTP_" + name.upper().replace("-", "_")
            if "_" in name or key in {"HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"}:
                continue
            environ[key] = f"{environ[key]},{value}" if key in environ else value
        return environ


def find_end(head: bytes | bytearray, start: int = 0) -> int:
    """Where the head in these first bytes of a connection ends; 0 if more is needed.

    What can be no request is refused as soon as it can be seen, so that somebody who speaks TLS to
    a plain port does not wait for nothing.

    Args:
        head: All bytes so far, from the first that is no empty line.
        start: How many of them an earlier call has seen.

    Raises:
        RequestError: It is no request, or it is too long.
    """
    if head and not _METHOD_BEGIN.match(head):
        raise RequestError("400 Bad Request", "This is no HTTP request.")
    if head.find(b"\n", 0, MAX_LINE_BYTES) < 0 and len(head) >= MAX_LINE_BYTES:
        raise RequestError("414 URI Too Long", f"The request line is over {MAX_LINE_BYTES} bytes.")
    end = _HEAD_END.search(head, max(0, start - 3))
    if len(head) > MAX_HEAD_BYTES and (not end or end.end() > MAX_HEAD_BYTES):
        raise RequestError(
            "431 Request Header Fields Too Large", f"The headers are over {MAX_HEAD_BYTES} bytes."
        )
    return end.end() if end else 0


def parse(head: bytes | bytearray) -> Request:
    """The request in a whole head.

    Raises:
        RequestError: It is no request, or of an HTTP that is not spoken here.
    """
    line, *fields = _LINE_END.split(bytes(head).rstrip(b"\r\n"))
    if not (found := _REQUEST_LINE.fullmatch(line)):
        raise RequestError("400 Bad Request", "The request line is malformed.")
    method, target, version = (part.decode("ascii") for part in found.groups())
    if not version.startswith("1."):
        raise RequestError("505 HTTP Version Not Supported", "This server speaks HTTP/1.1.")
    path, _, query = target.partition("?")
    if absolute := _ABSOLUTE.match(target):  # as to a proxy; servers must take it too
        path, _, query = target[absolute.end() :].partition("?")
        path = path or "/"
    if not path.startswith("/") and path != "*":
        raise RequestError("400 Bad Request", "The request's target is no path.")
    return Request(method, path, query, version, tuple(map(_header, fields)))


def _header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.partition(b":")
    value = value.strip(b" \t")
    if not (colon and _NAME.fullmatch(name) and _VALUE.fullmatch(value)):
        raise RequestError("400 Bad Request", "A header is malformed.")
    return name.decode("ascii"), value.decode("latin-1")
