"""One gzip member assembled from parts that were compressed once.

Browsers and curl stop after the first of several gzip members. So every part is raw deflate that
ends at a byte boundary and refers to nothing before it; the checksum of the whole is combined from
the checksums of the parts.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from isal import isal_zlib

# The fastest level that compresses repeated labels well; higher ones gain little.
_LEVEL: Final = 1
_LENGTH_MASK: Final = 0xFFFFFFFF
# RFC 1952: no name, no time, fastest compression, unknown system.
_HEADER: Final = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 4, 255))
# The final block, which is empty.
_END: Final = b"\x03\x00"


@dataclass(frozen=True, slots=True)
class CompressedPart:
    """A compressed piece of a body.

    Attributes:
        chunks: Raw deflate without a final block.
        crc: CRC-32 of the data.
        length: Length of the data in bytes.
    """

    chunks: tuple[bytes, ...]
    crc: int
    length: int

    @classmethod
    def compress(cls, data: bytes) -> "CompressedPart":
        """Return `data` as a part."""
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, -zlib.MAX_WBITS)
        deflated = compressor.compress(data) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)
        return cls((deflated,), isal_zlib.crc32(data), len(data))

    @classmethod
    def concat(cls, parts: Iterable["CompressedPart"]) -> "CompressedPart":
        """Return the concatenation of `parts`, which shares their compressed chunks."""
        chunks: list[bytes] = []
        crc = length = 0
        for part in parts:
            if part.length:
                chunks += part.chunks
                crc = isal_zlib.crc32_combine(crc, part.crc, part.length)
                length += part.length
        return cls(tuple(chunks), crc, length)

    def decompress(self) -> Iterator[bytes]:
        """Yield the data, one chunk at a time."""
        decompressor = zlib.decompressobj(-zlib.MAX_WBITS)
        for chunk in self.chunks:
            yield decompressor.decompress(chunk)

    def to_gzip(self) -> tuple[bytes, ...]:
        """Return a whole gzip file with the data, as chunks that all callers share."""
        trailer = struct.pack("<LL", self.crc, self.length & _LENGTH_MASK)
        return (_HEADER, *self.chunks, _END + trailer)
