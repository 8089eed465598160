"""Small files: reading, refusals, and signatures."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.files import read, replace_file, signature, signature_at


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    """One byte beyond the limit is an error."""
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


def test_a_file_that_is_too_large_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is too large is refused by its size, without reading it."""
    path = tmp_path / "file"
    path.write_bytes(b"abc")

    def refuse(*_: int) -> bytes:
        pytest.fail("it is read")

    monkeypatch.setattr(os, "read", refuse)
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read(path, 2)


def test_a_file_that_does_not_tell_its_size_is_read_up_to_the_limit() -> None:
    """Files in /proc report no size, and are read up to the limit."""
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read(Path("/proc/self/status"), 2)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_regular_file_is_refused_at_once(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    """A pipe would wait for its writer, and a device has no end."""
    make(tmp_path / "file")
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / "file", 3)


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    """A directory is an error."""
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        read(tmp_path, 100)


def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it may be old, and half of it new."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    real = os.read

    def read_and_append(descriptor: int, most: int) -> bytes:
        chunk = real(descriptor, most)
        if not chunk:
            file.write_bytes(b"abcdef")
        return chunk

    monkeypatch.setattr(os, "read", read_and_append)
    with pytest.raises(OSError, match="changed while it was read"):
        read(file, 100)


def test_the_signature_of_a_file_changes_with_it(tmp_path: Path) -> None:
    """It is the same whether the file is read or only its status is asked for."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    _, status = read(file, 3)
    assert signature_at(file) == signature(status)
    os.utime(file, (1, 1))
    assert signature_at(file) != signature(status)


@pytest.mark.parametrize("name", ["gone", "a\0b"])
def test_what_is_not_there_has_no_signature_at(name: str, tmp_path: Path) -> None:
    """A missing file and an impossible path have no signature."""
    assert signature_at(tmp_path / name) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open it")
def test_a_file_with_nothing_to_read_yet_is_an_error() -> None:
    """The kernel's log is a regular file that makes its reader wait: here it is refused."""
    with pytest.raises(OSError, match=r"temporarily unavailable|not permitted"):
        read(Path("/proc/kmsg"), 2**26)


def test_a_change_that_only_the_ctime_tells_is_a_change(tmp_path: Path) -> None:
    """A change is noticed by the ctime, which programs cannot set."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    before = signature_at(file)
    deadline = time.monotonic() + 5
    # The clock of the file system ticks every few milliseconds.
    while signature_at(file) == before and time.monotonic() < deadline:
        file.chmod(0o600)
    assert signature_at(file) != before


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A file is replaced with the given mode, for any umask."""
    file = tmp_path / "f"
    file.write_bytes(b"old")
    replace_file(file, [b"n", b"ew"], mode=0o600)
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [*tmp_path.iterdir()] == [file]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A failed write, such as on a full disk, keeps the old file and leaves no other."""
    file = tmp_path / "f"
    file.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"n"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_file(file, chunks(), mode=0o600)
    assert file.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [file]
