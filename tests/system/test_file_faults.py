"""Faults of ID files: each with its error message, and the IDs that stay watched.

In every case a directory holds `good.yml` and another file, the victim, which is valid at first. A
fault of the victim does not affect `good.yml`, and ends when the victim is repaired.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from exporter.watchlist.loader import MAX_FILE_BYTES, WatchlistLoader

KEPT = ("old1", "old2")

# Messages of the parsers of JSON and YAML follow; they are not checked.
NOT_JSON = ":1: not JSON: "
TOO_LARGE = ": cannot be read: larger than 8388608 bytes"
NO_FILE = ": cannot be read: not a regular file"
A_DIRECTORY = ": cannot be read: Is a directory"
TOO_DEEP = "nested more than 50 levels deep"


@dataclass(frozen=True)
class Fault:
    """One fault of an ID file, and its result.

    Attributes:
        name: What goes wrong.
        do: Damages the victim.
        error: Begin of the error after the file's name; None if the file is still valid.
        watched: IDs of the victim that are watched with the fault.
        victim: Name of the file.
    """

    name: str
    do: Callable[[Path], None]
    error: str | None
    watched: tuple[str, ...] = KEPT
    victim: str = "victim.yml"


def written(content: bytes | str) -> Callable[[Path], None]:
    """Return a function that overwrites the victim in place, not atomically."""

    def do(path: Path) -> None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return do


def replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    """Return a function that removes the victim and calls `make` with its path."""

    def do(path: Path) -> None:
        path.unlink()
        make(path)

    return do


def bind_socket(path: Path) -> None:
    """Create a socket; its address is a short path, as the system limits the length."""
    with socket.socket(socket.AF_UNIX) as endpoint:
        directory = os.open(path.parent, os.O_RDONLY)
        endpoint.bind(f"/proc/self/fd/{directory}/{path.name}")
        os.close(directory)


def grown(size: int) -> Callable[[Path], None]:
    """Return a function that makes the victim a sparse file of this size."""

    def do(path: Path) -> None:
        path.write_bytes(b"\xff")
        os.truncate(path, size)

    return do


def keep_size_and_time(path: Path) -> None:
    """Change the content, but neither size nor modification time."""
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"old", b"new"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


# libyaml would need 20 s to parse them.
DIRECTIVES = "".join(f"%TAG !{number}! t:\n" for number in range(90_000)) + "---\n- new\n"

Y = partial(Fault, victim="victim.yml")
J = partial(Fault, victim="victim.json")

FAULTS = [
    # Files that are half written. A half that is valid cannot be told from a whole file.
    Y("truncated, to be written next", written(""), ": holds no export IDs"),
    Y("only its comment is written so far", written("# batch of"), ": holds no export IDs"),
    Y("written as far as a key", written("export_i"), ":1: holds no export IDs"),
    Y("written as far as a quote", written("- new\n- 'ne"), ":2: not YAML: "),
    Y("written as far as a bracket", written("[new,"), ":2: not YAML: "),
    Y("written as far as half of a character", written(b"batch: \xc3"), ":1: not UTF-8 text"),
    Y("zero bytes after a crash", written(b"\0" * 4096), ":1: holds NUL bytes"),
    J("truncated, to be written next", written(""), NOT_JSON),
    J("written as far as a comma", written('["new",'), NOT_JSON),
    J("written as far as a quote", written('["ne'), NOT_JSON),
    # A change that does not change size and time
    Y("changed, of the same size and time", keep_size_and_time, None, ("new1", "new2")),
    # Files that cannot be read
    Y("gone", Path.unlink, None, ()),
    Y("a named pipe", replaced(os.mkfifo), NO_FILE),
    Y("a device", replaced(lambda path: path.symlink_to("/dev/zero")), NO_FILE),
    Y("a socket", replaced(bind_socket), ": cannot be read: No such device or address"),
    Y("a directory", replaced(Path.mkdir), A_DIRECTORY),
    Y("a link to a directory", replaced(lambda path: path.symlink_to(".")), A_DIRECTORY),
    Y(
        "a link to itself",
        replaced(lambda path: path.symlink_to(path.name)),
        ": cannot be read: Too many levels of symbolic links",
    ),
    Y(
        "a link that leads nowhere",
        replaced(lambda path: path.symlink_to("gone.yml")),
        ": cannot be read: No such file or directory",
    ),
    # Size
    Y("50 MB", grown(50 * 10**6), TOO_LARGE),
    Y("a byte too large", grown(MAX_FILE_BYTES + 1), TOO_LARGE),
    Y("as large as can be", grown(MAX_FILE_BYTES), ":1: not UTF-8 text"),
    Y("a text of 1 MB", written("- " + "x" * 10**6), None, ()),
    Y("a key of 1 MB", written("? " + "x" * 10**6 + "\n: 1"), ":1: unknown key:"),
    J("a text of 1 MB", written(json.dumps(["x" * 10**6])), None, ()),
    J("a key of 1 MB", written(json.dumps({"x" * 10**6: 1})), ":1: unknown key:"),
    J("5,000 rejected IDs", written(json.dumps(["x y"] * 5_000, indent=0)), None, ()),
    # YAML
    Y("an alias", written("- &a new\n- *a"), ":2: aliases are not supported"),
    Y(
        "aliases of aliases",
        written("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"),
        ":2: aliases are not supported",
    ),
    Y("an alias within itself", written("&a [*a]"), ":1: aliases are not supported"),
    Y("a tag that makes Python objects", written("- !!python/name:os.system new"), None, ("new",)),
    Y("nested brackets", written("[" * 100 + "]" * 100), ":1: " + TOO_DEEP),
    Y("nested dashes", written("- " * 100), ":1: " + TOO_DEEP),
    Y("nested mappings", written("{a: " * 100), ":1: " + TOO_DEEP),
    Y("tabs that indent", written("export_ids:\n\t- new"), ":2: not YAML: "),
    Y("tabs elsewhere", written("- new\t\n- new2\t# why"), None, ("new", "new2")),
    Y("a repeated key", written("export_ids: [a]\nexport_ids: [b]"), ":2: a key is repeated"),
    Y("a directive", written("%YAML 1.1\n---\n- new"), ":1: directives are not supported"),
    Y("90,000 directives", written(DIRECTIVES), ":1: directives are not supported"),
    Y("two documents", written("- new\n---\n- new"), ":3: more than one document"),
    Y("a merge conflict", written("- a\n<<<<<<< HEAD\n- b\n=======\n- c\n"), ":3: not YAML: "),
    Y("JSON under YAML's name", written('{"export_ids": ["new"]}'), None, ("new",)),
    # JSON
    J("not a number", written("[NaN, Infinity]"), None, ("NaN", "Infinity")),
    J("a huge number", written("[1e999999, 7]"), None, ("1e999999", "7")),
    J("a number of 5,000 digits", written("[" + "9" * 5000 + "]"), None, ()),
    J("nested brackets", written("[" * 100 + "]" * 100), ":1: " + TOO_DEEP),
    J("a repeated key", written('{"items": [],\n"items": []}'), ":2: a key is repeated"),
    J("a lone surrogate as an ID", written(r'["\ud800", "new"]'), None, ("new",)),
    J("a lone surrogate as a key", written(r'{"\ud800": 1}'), ":1: unknown key:"),
    J("a lone surrogate as a name", written(r'{"batch": "\ud800", "items": []}'), ":1: batch must"),
    J("YAML under JSON's name", written("- new"), NOT_JSON),
    J("a comment", written('["new"] // why'), NOT_JSON),
    # Encodings
    Y("an image", written(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), ":1: not UTF-8 text"),
    Y("compressed", written(b"\x1f\x8b\x08\0\0\0\0\0"), ":1: not UTF-8 text"),
    Y("an ESC", written("- new\n- \x1b[31m"), ":2: not YAML: the character U+001B is not allowed"),
    Y("UTF-16 with a BOM", written("- new".encode("utf-16")), ":1: not UTF-8 text"),
    Y("UTF-16 without a BOM", written("- new".encode("utf-16-le")), ":1: holds NUL bytes"),
    J("UTF-16 with a BOM", written('["new"]'.encode("utf-16")), ":1: not UTF-8 text"),
    J("UTF-16 without a BOM", written('["new"]'.encode("utf-16-le")), ":1: holds NUL bytes"),
    Y("Latin-1", written("# Größe\n- new".encode("latin-1")), ":1: not UTF-8 text"),
    Y("UTF-8 with a BOM", written("- new".encode("utf-8-sig")), None, ("new",)),
    J("UTF-8 with a BOM", written('["new"]'.encode("utf-8-sig")), None, ("new",)),
    Y("Windows' line ends", written("- new\r\n- new2\r\n"), None, ("new", "new2")),
    J("Windows' line ends", written('[\r\n"new"\r\n]\r\n'), None, ("new",)),
    Y("old Macs' line ends", written("- new\r- new2\r"), None, ("new", "new2")),
    Y("invisible characters", written("- new\u200b\n- new2\u00a0\n- new3"), None, ("new3",)),
]  # fmt: skip

# What replaces the directory, and the error after its path.
DIRECTORY_FAULTS: list[tuple[str, Callable[[Path], object], str]] = [
    ("gone", str, "No such file or directory"),
    ("a file", Path.touch, "Not a directory"),
    ("a named pipe", os.mkfifo, "Not a directory"),
    ("a link to itself", lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    ("a link that leads nowhere", lambda path: path.symlink_to("x"), "No such file or directory"),
]

# If these were composed or dumped, the C stack would overflow and end the process, and pytest with
# it: so each is parsed in a process of its own.
DEEP = [
    ("victim.yml", "[", 1 * 10**5),
    ("victim.yml", "[", 3 * 10**6),
    ("victim.yml", "- ", 10**6),
    ("victim.yml", "{a: ", 10**6),
    ("victim.json", "[", 2 * 10**5),
    ("victim.json", '{"a":', 2 * 10**5),
]

by_name = pytest.mark.parametrize(
    "fault", FAULTS, ids=[f"{fault.victim.partition('.')[2]}: {fault.name}" for fault in FAULTS]
)


def clock_at(path: Path) -> Callable[[], float]:
    """Return a clock set to the file's modification time, as if the file had just changed."""
    at = path.stat().st_mtime
    return lambda: at


def start(directory: Path, fault: Fault) -> tuple[WatchlistLoader, Path]:
    """Write `good.yml` and the victim; return a loader of the directory, and the victim."""
    victim = directory / fault.victim
    (directory / "good.yml").write_text("- good\n")
    victim.write_text('["old1", "old2"]\n')
    return WatchlistLoader(directory, clock_at(victim)), victim


@by_name
def test_fault_is_an_error_and_keeps_the_last_good_ids(tmp_path: Path, fault: Fault) -> None:
    """The victim's last good IDs stay watched, other files load, and a repair takes effect."""
    loader, victim = start(tmp_path, fault)
    assert loader.load().errors == ()

    fault.do(victim)
    watchlist = loader.load()
    assert watchlist.batches.get("victim", ()) == fault.watched
    assert watchlist.batches["good"] == ("good",)
    if fault.error is None:
        assert watchlist.errors == ()
    else:
        (error,) = watchlist.errors
        assert error.startswith(fault.victim + fault.error)
        assert error.isprintable()
        assert len(error) < 300

    if victim.is_dir() and not victim.is_symlink():
        victim.rmdir()
    victim.unlink(missing_ok=True)
    victim.write_text('["mended"]\n')
    watchlist = loader.load()
    assert watchlist.errors == ()
    assert watchlist.batches == {"good": ("good",), "victim": ("mended",)}


@by_name
def test_fault_at_the_first_load_does_not_affect_other_files(tmp_path: Path, fault: Fault) -> None:
    """A victim that was never valid is an error, and none of its IDs are watched; others are."""
    loader, victim = start(tmp_path, fault)
    fault.do(victim)
    watchlist = loader.load()
    expected = () if fault.error else fault.watched
    assert watchlist.batches.get("victim", ()) == expected
    assert watchlist.batches["good"] == ("good",)
    # A directory that exists at the first load is ignored, which is not an error.
    assert len(watchlist.errors) + len(watchlist.ignored) == (fault.error is not None)


@pytest.mark.parametrize(
    ("become", "problem"),
    [fault[1:] for fault in DIRECTORY_FAULTS],
    ids=[fault[0] for fault in DIRECTORY_FAULTS],
)
def test_unavailable_directory_keeps_the_watchlist(
    tmp_path: Path, become: Callable[[Path], object], problem: str
) -> None:
    """If the directory is unavailable, the last watchlist stays; afterwards, changes load again."""
    directory = tmp_path / "exports"
    directory.mkdir()
    loader, victim = start(directory, FAULTS[0])
    before = loader.load()
    directory.rename(tmp_path / "away")
    become(directory)
    watchlist = loader.load()
    assert watchlist.batches == before.batches
    assert watchlist.files == before.files
    assert watchlist.errors == (f"{directory}: cannot be read: {problem}",)
    assert loader.load() is watchlist

    directory.unlink(missing_ok=True)
    (tmp_path / "away").rename(directory)
    assert loader.load().errors == ()
    victim.write_text("- new\n")
    assert loader.load().batches == {"good": ("good",), "victim": ("new",)}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.name == "gone"])
def test_removed_single_file_stays_watched(tmp_path: Path, fault: Fault) -> None:
    """A missing `--exports.path` file is an error; its last IDs stay watched until it is back."""
    _, victim = start(tmp_path, fault)
    loader = WatchlistLoader(victim, clock_at(victim))
    loader.load()
    fault.do(victim)
    watchlist = loader.load()
    assert watchlist.errors == ("victim.yml: cannot be read: No such file or directory",)
    assert watchlist.batches == {"victim": KEPT}
    victim.mkdir()
    assert loader.load().errors == ("victim.yml: cannot be read: Is a directory",)
    victim.rmdir()
    victim.write_text("- new\n")
    watchlist = loader.load()
    assert (watchlist.errors, watchlist.batches) == ((), {"victim": ("new",)})


@pytest.mark.parametrize(("name", "text", "times"), DEEP)
def test_deep_nesting_does_not_crash_the_process(name: str, text: str, times: int) -> None:
    """A file nested so deeply that it would overflow the C stack is an error, found quickly."""
    script = (
        "from exporter.watchlist.idfile import IdFileError, parse\n"
        f"try: parse({text!r}.encode() * {times}, {name!r})\n"
        "except IdFileError as error: print(error)\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.endswith(f" {TOO_DEEP}\n")


def test_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """What was read may be half old and half new, so it is an error until the writer has ended."""
    loader, victim = start(tmp_path, FAULTS[0])
    loader.load()
    victim.write_text("- new\n" + "#" * 4 * 2**20)
    stop = threading.Event()

    def disturb() -> None:
        for at in count():
            if stop.is_set():
                return
            os.utime(victim, (at, at))

    writer = threading.Thread(target=disturb)
    writer.start()
    try:
        errors = next(filter(None, (loader.load().errors for _ in range(1000))))
    finally:
        stop.set()
        writer.join()
    assert errors == ("victim.yml: cannot be read: changed while it was read",)
    watchlist = loader.load()
    assert (watchlist.errors, watchlist.batches["victim"]) == ((), ("new",))


def test_file_that_is_replaced_by_rename_is_never_half_read(tmp_path: Path) -> None:
    """A file that is written elsewhere and then renamed is read whole, old or new."""
    loader, victim = start(tmp_path, FAULTS[0])
    stop = threading.Event()

    def replace() -> None:
        for number in count():
            if stop.is_set():
                return
            (tmp_path / ".new").write_text(f"- a{number}\n- b{number}\n" + "#" * 2**16)
            (tmp_path / ".new").replace(victim)

    loader.load()
    writer = threading.Thread(target=replace)
    writer.start()
    try:
        seen = [loader.load() for _ in range(200)]
    finally:
        stop.set()
        writer.join()
    assert {watchlist.errors for watchlist in seen} == {()}
    for watchlist in seen:
        first, second = watchlist.batches["victim"]
        assert (first, second) == KEPT or first[1:] == second[1:]


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if str(fault.error)[:2] == ": "])
def test_file_that_cannot_be_read_is_closed(tmp_path: Path, fault: Fault) -> None:
    """Every failed read closes its file descriptor, also that of a directory."""
    loader, victim = start(tmp_path, fault)
    single = WatchlistLoader(victim, clock_at(victim))
    single.load()
    loader.load()
    fault.do(victim)
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are wanted
    for _ in range(3):
        assert loader.load().errors
        assert single.load().errors
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208 - names are wanted


def test_100_000_ids_are_watched(tmp_path: Path) -> None:
    """A file of 100,000 IDs, as large projects reach in years, is loaded."""
    ids = [f"{number:032d}" for number in range(100_000)]
    (tmp_path / "large.json").write_text(json.dumps(ids))
    assert WatchlistLoader(tmp_path, time.time).load().batches == {"large": tuple(ids)}


def test_2000_files_are_watched(tmp_path: Path) -> None:
    """Each of 2,000 files is a batch, and all can be removed at once."""
    directory = tmp_path / "exports"
    directory.mkdir()
    (directory / "0.yml").write_text("- new\n")
    for number in range(1, 2000):
        (directory / f"{number}.yml").hardlink_to(directory / "0.yml")
    loader = WatchlistLoader(directory, lambda: time.time() + 60)
    watchlist = loader.load()
    assert (len(watchlist.batches), watchlist.duplicates) == (2000, 1999)
    assert loader.load() is watchlist
    shutil.rmtree(directory)
    directory.mkdir()
    assert loader.load(afresh=True).batches == {}
