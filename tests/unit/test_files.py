"""Small files: what is read, what is refused, and what tells that one changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.files import look, look_of, read


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    """A byte more is an error, whatever the byte is."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    assert read(file, 3)[0] == b"abc"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read(file, 2)


def test_a_file_whose_size_the_system_does_not_tell_is_read_whole() -> None:
    """Some file systems say 0; a token that is mounted from such a one is no shorter for it."""
    path = Path("/proc/version")
    assert path.stat().st_size == 0
    assert read(path, 65536)[0] == path.read_bytes()


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    """A pipe would wait for its writer, and a device has no end."""
    make(tmp_path / "file")
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / "file", 3)


def test_the_look_of_a_file_changes_with_it(tmp_path: Path) -> None:
    """As it is told when the file is read, and when it is only looked at."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    _, status = read(file, 3)
    assert look(file) == look_of(status)
    os.utime(file, (1, 1))
    assert look(file) != look_of(status)


@pytest.mark.parametrize("name", ["gone", "a\0b"])
def test_what_is_not_there_has_no_look(name: str, tmp_path: Path) -> None:
    """Nor has what cannot be there."""
    assert look(tmp_path / name) is None
