"""One gzip file out of parts that were compressed separately."""

import gzip
import struct
import zlib

from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.gzip_parts import CompressedPart

pieces = st.lists(
    st.binary(max_size=99) | st.sampled_from([b"cavatica_up 1\n" * 500, b""]), max_size=5
)


@given(pieces)
def test_concatenated_parts_are_one_gzip_member(pieces: list[bytes]) -> None:
    """Concatenated parts are one gzip member with the right length and checksum."""
    body = b"".join(CompressedPart.concat(map(CompressedPart.compress, pieces)).to_gzip())
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert reader.decompress(body) == b"".join(pieces)
    assert (reader.eof, reader.unused_data) == (True, b"")
    assert gzip.decompress(body) == b"".join(pieces)


def test_concatenated_parts_are_decompressed_one_at_a_time() -> None:
    """Decompressing yields chunks, so a body needs little memory."""
    whole = CompressedPart.concat(map(CompressedPart.compress, (b"one", b"two")))
    assert [*whole.decompress()] == [b"one", b"two"]


@given(pieces, pieces, pieces)
def test_grouping_parts_does_not_change_the_result(
    first: list[bytes], second: list[bytes], third: list[bytes]
) -> None:
    """Concatenated parts are a part, which can be concatenated again with the same result."""
    parts = [
        [CompressedPart.compress(piece) for piece in pieces] for pieces in (first, second, third)
    ]
    grouped = CompressedPart.concat(CompressedPart.concat(group) for group in parts)
    assert grouped == CompressedPart.concat(part for group in parts for part in group)


@given(st.binary(max_size=2000))
def test_a_part_is_decompressed_to_its_data(piece: bytes) -> None:
    """A part can be decompressed for clients without gzip, to the same data."""
    part = CompressedPart.compress(piece)
    assert b"".join(part.decompress()) == piece
    assert (part.length, part.crc) == (len(piece), zlib.crc32(piece))


def test_no_parts_are_an_empty_file() -> None:
    """A body without parts is a gzip file of no bytes, and empty parts add nothing to it."""
    nothing = CompressedPart.concat([])
    assert gzip.decompress(b"".join(nothing.to_gzip())) == b""
    assert CompressedPart.concat([CompressedPart.compress(b""), nothing]) == nothing


def test_equal_bodies_are_equal_files() -> None:
    """Equal bodies are equal gzip files, because the gzip header has no time."""
    assert (
        CompressedPart.compress(b"cavatica_up 1\n").to_gzip()
        == CompressedPart.compress(b"cavatica_up 1\n").to_gzip()
    )


def test_a_body_may_be_larger_than_four_gigabytes() -> None:
    """The length at the end of the file is that of the body modulo 2^32 (RFC 1952)."""
    part = CompressedPart.compress(bytes(2**20))
    *_, end = CompressedPart.concat([part] * 4097).to_gzip()
    assert struct.unpack("<L", end[-4:]) == (2**20,)
