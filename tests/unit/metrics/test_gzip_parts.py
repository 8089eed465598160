"""One gzip file out of parts that were compressed apart."""

import gzip
import struct
import zlib

from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.gzip_parts import Part

pieces = st.lists(
    st.binary(max_size=99) | st.sampled_from([b"cavatica_up 1\n" * 500, b""]), max_size=5
)


@given(pieces)
def test_joined_parts_are_one_gzip_member(pieces: list[bytes]) -> None:
    """Whoever stops after the first member has everything, checked by length and checksum."""
    body = b"".join(Part.join(map(Part.of, pieces)).gzip())
    reader = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert reader.decompress(body) == b"".join(pieces)
    assert (reader.eof, reader.unused_data) == (True, b"")
    assert gzip.decompress(body) == b"".join(pieces)


def test_joined_parts_give_their_pieces_one_at_a_time() -> None:
    """Nobody needs the memory of a whole body to read it."""
    whole = Part.join(map(Part.of, (b"one", b"two")))
    assert [*whole.plain()] == [b"one", b"two"]


@given(pieces, pieces, pieces)
def test_it_does_not_matter_how_parts_are_grouped(
    first: list[bytes], second: list[bytes], third: list[bytes]
) -> None:
    """Joined parts are parts: what was joined once can be joined again."""
    parts = [[Part.of(piece) for piece in pieces] for pieces in (first, second, third)]
    grouped = Part.join(Part.join(group) for group in parts)
    assert grouped == Part.join(part for group in parts for part in group)


@given(st.binary(max_size=2000))
def test_a_part_gives_its_piece_back(piece: bytes) -> None:
    """What is compressed can be read again, for clients that want it plain."""
    part = Part.of(piece)
    assert b"".join(part.plain()) == piece
    assert (part.length, part.crc) == (len(piece), zlib.crc32(piece))


def test_nothing_is_an_empty_file() -> None:
    """A body without parts is a gzip file of no bytes, and empty parts add nothing to it."""
    nothing = Part.join([])
    assert gzip.decompress(b"".join(nothing.gzip())) == b""
    assert Part.join([Part.of(b""), nothing]) == nothing


def test_equal_bodies_are_equal_files() -> None:
    """The file holds no time of its making."""
    assert Part.of(b"cavatica_up 1\n").gzip() == Part.of(b"cavatica_up 1\n").gzip()


def test_a_body_may_be_larger_than_four_gigabytes() -> None:
    """The length in the file is that of the body modulo 2^32, as the format says."""
    part = Part.of(bytes(2**20))
    *_, end = Part.join([part] * 4097).gzip()
    assert struct.unpack("<L", end[-4:]) == (2**20,)
