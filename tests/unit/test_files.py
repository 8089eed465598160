"""Small files: reading, refusals, and signatures."""

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from exporter.files import read, replace_file, replaces, signature, signature_at


def test_a_file_is_read_up_to_the_limit(tmp_path: Path) -> None:
    """A file as large as the limit is read; a file that is one byte larger is an error."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    assert read(file, 3)[0] == b"abc"
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read(file, 2)


def test_a_file_with_a_reported_size_of_0_is_read_whole() -> None:
    """Some file systems report a size of 0; a token that is mounted from one is read whole."""
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


def test_a_file_with_a_reported_size_of_0_is_read_up_to_the_limit() -> None:
    """A file in /proc reports a size of 0; beyond the limit it is an error all the same."""
    with pytest.raises(OSError, match="larger than 2 bytes"):
        read(Path("/proc/self/status"), 2)


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["named pipe", "device"]
)
def test_a_file_that_is_not_regular_is_refused(
    make: Callable[[Path], None], tmp_path: Path
) -> None:
    """Reading a pipe would wait for its writer, and reading a device would never end."""
    make(tmp_path / "file")
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / "file", 3)


def test_a_directory_is_an_error(tmp_path: Path) -> None:
    """Reading a directory raises the system's error."""
    with pytest.raises(IsADirectoryError, match="Is a directory"):
        read(tmp_path, 100)


def test_a_file_that_changes_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a file changes while it is read, a part of the content may be old and the rest new."""
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
    """The signature is the same from a read and from the path alone, until the file changes."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    _, status = read(file, 3)
    assert signature_at(file) == signature(status)
    os.utime(file, (1, 1))
    assert signature_at(file) != signature(status)


@pytest.mark.parametrize("name", ["gone", "a\0b"])
def test_a_missing_file_has_no_signature(name: str, tmp_path: Path) -> None:
    """A missing file and an impossible path have no signature."""
    assert signature_at(tmp_path / name) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may open it")
def test_a_file_that_would_block_is_an_error() -> None:
    """The kernel's log is a regular file whose reader waits for messages: it is refused."""
    with pytest.raises(OSError, match=r"temporarily unavailable|not permitted"):
        read(Path("/proc/kmsg"), 2**26)


def test_a_new_ctime_alone_changes_the_signature(tmp_path: Path) -> None:
    """A change is noticed by the ctime alone, which programs cannot set."""
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    before = signature_at(file)
    deadline = time.monotonic() + 5
    # The clock of the file system ticks every few milliseconds.
    while signature_at(file) == before and time.monotonic() < deadline:
        file.chmod(0o600)
    assert signature_at(file) != before


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """A file is replaced with the given mode, for any umask, and no temporary file is left."""
    file = tmp_path / "f"
    file.write_bytes(b"old")
    replace_file(file, [b"n", b"ew"], mode=0o644)
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o644
    assert [*tmp_path.iterdir()] == [file]


def test_a_file_is_replaced_with_a_time_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new file has its time from the start; one that cannot be set fails no write."""
    file = tmp_path / "f"
    replace_file(file, [b"a"], mode=0o644, modified=1000.0)
    assert file.stat().st_mtime == 1000

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "utime", refuse)
    replace_file(file, [b"b"], mode=0o644, modified=1000.0)
    assert file.read_bytes() == b"b"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    """A failed write, such as on a full disk, keeps the old file and leaves no temporary file."""
    file = tmp_path / "f"
    file.write_bytes(b"old")

    def chunks() -> Iterator[bytes]:
        yield b"n"
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        replace_file(file, chunks(), mode=0o600)
    assert file.read_bytes() == b"old"
    assert [*tmp_path.iterdir()] == [file]


def test_an_interrupt_after_the_replacement_stays_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C may come when the temporary file has its new name already: it must end the program."""
    file = tmp_path / "f"
    replace = Path.replace

    def replace_and_interrupt(source: Path, target: Path) -> None:
        replace(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        replace_file(file, [b"new"], mode=0o600)
    assert file.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        (".state.ab_01xyz.tmp", "state"),
        (".a.b.ab_01xyz.tmp", "a.b"),
        (".state.20240101", None),
        ("state.ab_01xyz.tmp", None),
    ],
)
def test_a_temporary_file_is_known_by_its_name(name: str, replaced: str | None) -> None:
    """Only temporary files of this program may be removed after a crash."""
    assert replaces(name) == replaced


def test_a_temporary_file_names_the_file_that_it_replaces(tmp_path: Path) -> None:
    """While a file is written, its temporary file has a name that `replaces` knows."""
    names: list[str | None] = []

    def chunks() -> Iterator[bytes]:
        names.extend(replaces(path.name) for path in tmp_path.iterdir())
        yield b""

    replace_file(tmp_path / "f", chunks(), mode=0o600)
    assert names == ["f"]
