"""One gzip member put together from parts that were compressed once.

Several gzip members one behind the other are a valid body, too, but curl and browsers stop after
the first. So every part is raw deflate that ends at a byte and refers to nothing before it, and
the checksum of the whole is reckoned from the parts' own, as zlib's crc32_combine does: the CRC is
a polynomial modulo P over GF(2), and what a part of n bytes behind it does to it is to multiply
it by x^(8n).
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

# The polynomials' bits are reflected, as the CRC's are: the highest bit is that of x^0.
_ONE: Final = 1 << 31
_X: Final = 1 << 30
_ALL: Final = 0xFFFFFFFF
# Level 1 takes a fifth of the time of level 6, and labels that repeat leave little to win.
_LEVEL: Final = 1
_HEADER: Final = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255))
# A last block with nothing in it.
_END: Final = b"\x03\x00"
# The lowest bit of each byte, and as many bytes of text that say 0.
_LOWEST: Final = int.from_bytes(b"\x01" * 64, "big")
_ZEROS: Final = int.from_bytes(b"0" * 64, "big")


@dataclass(frozen=True, slots=True)
class Part:
    """A compressed piece of a body.

    Attributes:
        chunks: Raw deflate, without an end.
        crc: CRC-32 of the piece.
        shift: x^(8 * length) modulo P, spread.
        length: Of the piece, in bytes.
    """

    chunks: tuple[bytes, ...]
    crc: int
    shift: int
    length: int

    @classmethod
    def of(cls, piece: bytes) -> "Part":
        """Compress `piece`."""
        compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        data = compressor.compress(piece) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return cls((data,), zlib.crc32(piece), _spread(_power_of_x(8 * len(piece))), len(piece))

    @classmethod
    def join(cls, parts: Iterable["Part"]) -> "Part":
        """Put `parts` one behind the other; they share what is compressed."""
        chunks: list[bytes] = []
        crc = length = 0
        for part in parts:
            if part.length:
                chunks += part.chunks
                crc = _product(part.shift, crc) ^ part.crc
                length += part.length
        return cls(tuple(chunks), crc, _spread(_power_of_x(8 * length)), length)

    def plain(self) -> Iterator[bytes]:
        """Give back what was compressed, a chunk at a time."""
        decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        for chunk in self.chunks:
            yield decompressor.decompress(chunk)

    def gzip(self) -> tuple[bytes, ...]:
        """Give the gzip file of the piece, in chunks that all who ask share."""
        trailer = struct.pack("<LL", self.crc, self.length & _ALL)
        return (_HEADER, *self.chunks, _END + trailer)


def _spread(a: int) -> int:
    """Give each bit of a polynomial a byte of its own.

    The product of two such numbers is that of the polynomials: no sum of 32 bits leaves its byte,
    and its lowest bit is the sum in GF(2). One multiplication is ten times as fast as a loop.
    """
    return int.from_bytes(f"{a:032b}".encode(), "big") & _LOWEST


def _product(spread: int, b: int) -> int:
    """Multiply two polynomials modulo P, the first of them spread."""
    product = spread * _spread(b) & _LOWEST
    bits = int((product | _ZEROS).to_bytes(64, "big"), 2) << 1
    # The lower half are the factors of x^32 and above; what those are modulo P, a CRC that begins
    # and ends without its inversions says.
    high = (bits & _ALL).to_bytes(4, "little")
    return bits >> 32 ^ zlib.crc32(high, _ALL) ^ _ALL


def _power_of_x(exponent: int) -> int:
    """Give x^exponent modulo P."""
    power = _ONE
    for bit in range(exponent.bit_length()):
        if exponent >> bit & 1:
            power = _product(_spread(_square(bit)), power)
    return power


@cache
def _square(times: int) -> int:
    """Give x, squared so many times, modulo P."""
    if times == 0:
        return _X
    root = _square(times - 1)
    return _product(_spread(root), root)
