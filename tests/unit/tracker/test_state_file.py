"""The state file: what is kept across restarts, when it is written, and unusable files."""

import errno
import json
import logging
import math
import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter import background, files
from exporter.cavatica.export import ErrorDetail, Export
from exporter.tracker import state_file
from exporter.tracker.snapshot import Batch, Block, Snapshot, WatchedExport
from exporter.tracker.state_file import INTERVAL_SECONDS, StateFile
from exporter.tracker.state_format import KEY_BYTES, StateFormatError, checksum, decode, encode
from tests.support.fakes import FakeClock, completed, failed, make_snapshot, running
from tests.support.waits import PATIENCE, wait_until

KEY = bytes(range(KEY_BYTES))
ERROR = ErrorDetail("9103", 403, "")
EXPORTS = (
    replace(completed("done"), destination=2**64 - 1),
    Export("bare", "COMPLETED", finished=1.5),
    replace(failed("fail"), error=ERROR, destination=0),
    Export("odd", "FAILED", finished=0.0, volume="ö/\N{SNOWMAN}", error=ErrorDetail("", None, "")),
)


def snapshot(*exports: Export) -> Snapshot:
    """Return a snapshot of these exports."""
    watched = tuple(WatchedExport(export.id, export.state, export) for export in exports)
    return make_snapshot(Batch.of("b", (Block.of("b", watched),)))


def content(*exports: Export) -> bytes:
    """Return the content of a state file with these exports."""
    return b"".join(encode(snapshot(*exports).batches[0].blocks, KEY))


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock."""
    return FakeClock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that does not exist."""
    return tmp_path / "state"


def load(file: StateFile) -> list[WatchedExport]:
    """Load the file as at the start, and return its exports."""
    file.load()
    return file.recall()


@pytest.fixture
def file(path: Path, clock: FakeClock) -> StateFile:
    """Return the state file of an exporter that starts for the first time."""
    file = StateFile(path, clock)
    assert load(file) == []
    return file


def restart(path: Path, clock: FakeClock) -> tuple[StateFile, list[Export | None]]:
    """Return the state file of a new process, and the exports that it loads."""
    again = StateFile(path, clock)
    return again, [watched.export for watched in load(again)]


def others(path: Path) -> list[str]:
    """Return the names of the other files in the directory."""
    return sorted(other.name for other in path.parent.iterdir() if other != path)


# Restarts


def test_finished_exports_survive_a_restart(
    path: Path, file: StateFile, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart keeps the key, and finished exports without their error messages.

    Unfinished exports are not stored, so they are asked for again.
    """
    with_message = replace(EXPORTS[2], error=ErrorDetail("9103", 403, "patient-7.bam"))
    file.save(snapshot(*EXPORTS[:2], with_message, EXPORTS[3], running("r"), Export("u", "ODD")))
    file.close(PATIENCE)
    again, remembered = restart(path, clock)
    assert remembered == list(EXPORTS)
    assert again.key == file.key
    assert b"patient-7" not in path.read_bytes()
    assert (file.status().last_write, file.status().error) == (clock.time(), False)
    assert (again.status().last_write, again.status().error) == (None, False)
    assert caplog.records == []


def test_exports_that_are_not_watched_now_survive_a_restart(
    path: Path, clock: FakeClock, file: StateFile
) -> None:
    """Exports that are not watched now are stored, because their ID file may return.

    An export keeps the time at which it left the watchlist, if it has one.
    """
    watched, left = snapshot(EXPORTS[0]), snapshot(*EXPORTS[1:3])
    [block] = left.batches[0].blocks
    gone = Block.of("", (WatchedExport("odd", "FAILED", EXPORTS[3], left=7.5),))
    file.save(watched)
    wait_until(path.exists, "the first write")
    clock.advance(INTERVAL_SECONDS)
    file.save(replace(watched, departed=(block, gone)))
    file.close(PATIENCE)
    restored = {each.id: each for each in load(StateFile(path, clock))}
    assert [restored[export.id].export for export in EXPORTS] == list(EXPORTS)
    assert [restored[export.id].left for export in EXPORTS] == [None, None, None, 7.5]


def test_file_is_written_if_no_export_is_known_any_more(path: Path, clock: FakeClock) -> None:
    """A state without exports is written, too: otherwise the last ones would stay in the file."""
    path.write_bytes(content(*EXPORTS))
    file = StateFile(path, clock)
    assert len(load(file)) == len(EXPORTS)
    file.save(make_snapshot())
    file.close(PATIENCE)
    assert restart(path, clock)[1] == []


def test_file_can_be_read_by_its_owner_only(path: Path, file: StateFile) -> None:
    """The file has mode 600, and no temporary file is left beside it."""
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert others(path) == []


def test_each_process_has_a_key_of_its_own(tmp_path: Path, clock: FakeClock) -> None:
    """Without a file that has a key, each process uses a random one."""
    first, second = (StateFile(tmp_path / name, clock) for name in "ab")
    assert first.key != second.key
    assert len(first.key) == KEY_BYTES


# Times of writes


class Writes:
    """Counts the writes of a state file; they hang while `go` is not set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.count = 0
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._held)

    def _held(self, descriptor: int) -> None:
        self.count += 1
        self.began.release()
        assert self.go.wait(PATIENCE)
        self._fsync(descriptor)


@pytest.fixture
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Writes]:
    """Yield a counter of writes; those that hang are released at the end of the test."""
    held = Writes(monkeypatch)
    yield held
    held.go.set()


def test_file_is_written_at_most_once_a_minute_and_at_the_end(
    path: Path, file: StateFile, clock: FakeClock, writes: Writes
) -> None:
    """Scrapes write the file at most once a minute, and the exporter's end writes it again."""
    file.save(snapshot(EXPORTS[0]))
    assert writes.began.acquire(timeout=PATIENCE)
    for seconds in (1.0, INTERVAL_SECONDS - 2):
        clock.advance(seconds)
        file.save(snapshot(EXPORTS[0], EXPORTS[1]))
    assert writes.count == 1
    wait_until(lambda: file.status().last_write is not None, "it is written")
    clock.advance(1)
    file.save(snapshot(*EXPORTS[:3]))
    assert writes.began.acquire(timeout=PATIENCE)
    clock.advance(1)
    file.save(snapshot(*EXPORTS))
    assert writes.count == 2
    file.close(PATIENCE)
    assert restart(path, clock)[1] == list(EXPORTS)


@pytest.mark.parametrize("jump", [-7200, 7200])
def test_jump_of_the_wall_clock_does_not_move_the_next_write(
    path: Path, file: StateFile, clock: FakeClock, writes: Writes, jump: float
) -> None:
    """The minute is measured on the monotonic clock; the last write is shown in Unix time."""
    file.save(snapshot(EXPORTS[0]))
    wait_until(lambda: file.status().last_write == clock.time(), "it is written")
    clock.unix += jump
    clock.advance(INTERVAL_SECONDS - 1)
    file.save(snapshot(*EXPORTS))
    assert writes.count == 1
    clock.advance(1)
    file.save(snapshot(*EXPORTS))
    wait_until(lambda: file.status().last_write == clock.time(), "it is written")
    clock.unix += jump
    assert file.status().last_write == clock.time(), "it follows the clock"
    assert restart(path, clock)[1] == list(EXPORTS)


def test_unchanged_exports_are_not_written_again(
    file: StateFile, clock: FakeClock, writes: Writes
) -> None:
    """The same exports in a new snapshot are not written again, not even at the end."""
    same = snapshot(*EXPORTS)
    file.save(same)
    wait_until(lambda: file.status().last_write is not None, "it is written")
    for _ in range(3):
        clock.advance(INTERVAL_SECONDS)
        file.save(replace(same, duration=1.0))
    file.close(PATIENCE)
    assert writes.count == 1


def test_nothing_is_written_without_a_scrape(path: Path, file: StateFile) -> None:
    """An exporter that ends before its first scrape leaves the file as it is."""
    file.close(PATIENCE)
    assert not path.exists()


def test_hanging_write_delays_neither_a_scrape_nor_the_end(
    file: StateFile, clock: FakeClock, writes: Writes
) -> None:
    """While a write hangs, scrapes and the exporter's end neither wait for it nor start another."""
    writes.go.clear()
    file.save(snapshot(EXPORTS[0]))
    assert writes.began.acquire(timeout=PATIENCE)
    clock.advance(INTERVAL_SECONDS)
    file.save(snapshot(EXPORTS[1]))
    file.close(0.01)
    assert writes.count == 1


def test_last_write_that_takes_too_long_is_an_error(
    file: StateFile, writes: Writes, caplog: pytest.LogCaptureFixture
) -> None:
    """A last write that takes too long is logged, and is an error in the output of `--once`."""
    writes.go.clear()
    file.save(snapshot(EXPORTS[0]))
    file.close(0.01)
    assert file.status().error
    assert [vars(each)["err"] for each in caplog.records] == ["the last write takes too long"]


def test_hanging_write_is_an_error_until_it_ends(
    file: StateFile, clock: FakeClock, writes: Writes, caplog: pytest.LogCaptureFixture
) -> None:
    """A write that lasts until the next one is due is an error; it and its end are logged once."""
    writes.go.clear()
    file.save(snapshot(EXPORTS[0]))
    assert writes.began.acquire(timeout=PATIENCE)
    clock.advance(INTERVAL_SECONDS - 1)
    file.save(snapshot(EXPORTS[1]))
    assert not file.status().error
    for _ in range(2):
        clock.advance(1)
        file.save(snapshot(EXPORTS[1]))
        assert file.status().error
    assert [(r.getMessage(), vars(r)["err"]) for r in caplog.records] == [
        ("State file not written", "the last write takes too long")
    ]
    caplog.set_level(logging.INFO)
    writes.go.set()
    file.close(PATIENCE)
    assert not file.status().error
    assert caplog.records[-1].getMessage() == "State file written again"


def test_finished_write_whose_thread_still_runs_is_not_late(
    file: StateFile,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A write has ended when the file is replaced, even if its thread ends a minute later.

    If it counted as late, the error would last: only a write clears it, and nothing is left to be
    written.
    """
    written, go, start = threading.Event(), threading.Event(), background.start

    def lasting(write: Callable[[], None], name: str) -> object:
        def work() -> None:
            write()
            written.set()
            assert go.wait(PATIENCE)

        return start(work, name)

    monkeypatch.setattr(background, "start", lasting)
    file.save(snapshot(*EXPORTS))
    assert written.wait(PATIENCE)
    clock.advance(INTERVAL_SECONDS)
    file.save(snapshot(*EXPORTS))
    go.set()
    file.close(PATIENCE)
    assert not file.status().error
    assert caplog.records == []


def test_end_writes_the_latest_state_after_a_write_in_flight(
    path: Path, file: StateFile, clock: FakeClock, writes: Writes
) -> None:
    """The exporter's end waits for a write in flight, then writes the latest state."""
    writes.go.clear()
    file.save(snapshot(EXPORTS[0]))
    assert writes.began.acquire(timeout=PATIENCE)
    file.save(snapshot(*EXPORTS))
    end = background.start(lambda: file.close(PATIENCE), "end")
    writes.go.set()
    end.result(PATIENCE)
    assert restart(path, clock)[1] == list(EXPORTS)


def test_file_is_written_later_if_no_thread_can_be_started(
    path: Path,
    file: StateFile,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If no thread can be started, the scrape succeeds, and the error is logged once."""
    caplog.set_level(logging.INFO)
    with monkeypatch.context() as patch:
        patch.setattr(background, "start", _no_thread)
        for _ in range(2):
            file.save(snapshot(*EXPORTS))
            assert file.status().error
            clock.advance(INTERVAL_SECONDS)
    assert not path.exists()
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert path.exists()
    assert not file.status().error
    assert [(each.getMessage(), vars(each).get("err")) for each in caplog.records] == [
        ("State file not written", "no thread can be started"),
        ("State file written again", None),
    ]


def test_last_write_without_a_thread_is_logged(
    file: StateFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No attempt follows the last one, so the log says that the last state is not in the file."""
    file.save(snapshot(*EXPORTS))
    wait_until(lambda: file.status().last_write is not None, "it is written")
    file.save(snapshot(EXPORTS[0]))
    monkeypatch.setattr(background, "start", _no_thread)
    file.close(PATIENCE)
    assert caplog.messages == ["State file not written"]
    assert file.status().error


def _no_thread(*_: object) -> None:
    raise RuntimeError("can't start new thread")


# Unusable files


def test_truncated_file_is_ignored(path: Path, clock: FakeClock) -> None:
    """A file that is truncated at any byte is ignored, and replaced by a valid one."""
    whole = content(*EXPORTS)
    for length in range(len(whole)):
        with pytest.raises(StateFormatError, match="damaged") as caught:
            decode(whole[:length])
        assert not caught.value.is_foreign
    path.write_bytes(whole[:-1])
    file = StateFile(path, clock)
    assert load(file) == []
    assert file.status().error
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert not file.status().error
    assert restart(path, clock)[1] == list(EXPORTS)


def test_file_with_a_wrong_byte_is_refused() -> None:
    """A file with one wrong byte, at any position, is refused."""
    data = content(*EXPORTS)
    for position in range(len(data)):
        for difference in range(1, 256):
            damaged = bytearray(data)
            damaged[position] ^= difference
            with pytest.raises(StateFormatError):
                decode(bytes(damaged))


@given(st.binary() | st.binary().map(lambda data: content()[:36] + data))
def test_any_other_content_raises_state_format_error(data: bytes) -> None:
    """Content that is not a state file raises `StateFormatError`, and no other exception."""
    with pytest.raises(StateFormatError):
        decode(data)


def signed(body: object, **header: object) -> bytes:
    """Return a file with this body and a valid checksum, unless `header` has another one."""
    text = json.dumps(body).encode() + b"\n"
    fields = {"version": 1, "key": KEY.hex(), "checksum": checksum([text], KEY)} | header
    rest = json.dumps(fields, separators=(",", ":")).encode()[1:]
    return b'{"format":"cavatica-exporter-state",' + rest + b"\n" + text


def test_time_of_the_first_finished_answer_is_restored_as_such() -> None:
    """The time at which the exporter saw an export finished is not restored as the API's end."""
    seen = WatchedExport("x", "FAILED", Export("x", "FAILED", 1.0), seen_finished=2.5)
    left = replace(seen, left=3.0)
    assert decode(b"".join(encode([Block.of("b", (seen, left))], KEY))) == (KEY, [seen, left])


GOOD = ["x", "FAILED", 1.0, 2.0, 3, "o/v", 4, ["9103", 403]]


def test_unmodified_record_is_read() -> None:
    """The record that the next test modifies is valid."""
    export = Export("x", "FAILED", 1.0, 2.0, 3, "o/v", ErrorDetail("9103", 403, ""), 4)
    assert decode(signed([GOOD])) == (KEY, [WatchedExport("x", "FAILED", export)])


@pytest.mark.parametrize(
    "record",
    [
        None,
        "xFAILED",
        GOOD[:-1],
        [*GOOD, 1],
        *([left, GOOD] for left in (None, "1", True, -1, math.nan, 10**400, GOOD)),
        [1.0, [1.0, GOOD]],
        [1.0, None],
        *(
            [*GOOD[:place], value, *GOOD[place + 1 :]]
            for place, values in enumerate(
                [
                    (None, 7, "a b", ""),
                    (None, "RUNNING", ["FAILED"], "failed"),
                    ("1", True, -1, math.inf, math.nan, []),
                    (None, "1", -1, math.nan, 10**400, [], [None], [True], [-1], [[1]], [1, 2]),
                    (1.5, -1, "1", True, 10**400),
                    (None, 7, "\0", "a\n", "v" * 201),
                    (1.5, "1", -1),
                    ("9103", ["9103"], [9103, 403], ["x", 403], ["9" * 17, 1], ["9103", "403"]),
                ]
            )
            for value in values
        ),
    ],
)
def test_invalid_record_is_refused(record: object) -> None:
    """IDs, labels and numbers of a record are checked even if the checksum is right."""
    with pytest.raises(StateFormatError, match="damaged"):
        decode(signed([record]))


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ({"version": 2}, "another version"),
        ({"version": None}, "another version"),
        ({"checksum": "00"}, "checksum"),
        ({"key": ""}, "checksum"),
        ({"key": "00" * 99}, "damaged"),
        ({"key": 7}, "damaged"),
    ],
)
def test_file_with_another_version_or_an_invalid_header_is_ignored(
    path: Path,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    header: dict[str, object],
    problem: str,
) -> None:
    """A file that cannot be used because of its header is ignored with a warning, and replaced."""
    path.write_bytes(signed([GOOD], **header))
    file = StateFile(path, clock)
    assert load(file) == []
    [record] = caplog.records
    assert (record.levelno, record.getMessage()) == (logging.WARNING, "State file ignored")
    assert problem in record.__dict__["err"]
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert restart(path, clock)[1] == list(EXPORTS)


@pytest.mark.parametrize("text", ["- an-id-file\n", '{"format":"another"}', "\0" * 99])
def test_file_of_another_kind_is_never_overwritten(
    path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    """A file that is not a state file is an error, and is never overwritten."""
    path.write_text(text)
    file = StateFile(path, clock)
    assert load(file) == []
    assert "will not be overwritten" in caplog.records[0].__dict__["err"]
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert path.read_text() == text
    assert file.status().error


def a_directory(path: Path) -> None:
    """Create a directory at `path`."""
    path.mkdir()


def a_pipe(path: Path) -> None:
    """Create a named pipe without a writer at `path`."""
    os.mkfifo(path)


def too_large(path: Path) -> None:
    """Create a sparse file of a gigabyte at `path`."""
    with path.open("wb") as file:
        file.truncate(2**30)


@pytest.mark.parametrize("make", [a_directory, a_pipe, too_large])
def test_unreadable_file_is_never_overwritten(
    path: Path, clock: FakeClock, make: Callable[[Path], None]
) -> None:
    """A directory, a pipe or a file that is too large is an error, and is never overwritten."""
    make(path)
    before = path.lstat()
    file = StateFile(path, clock)
    assert load(file) == []
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert path.lstat().st_mode == before.st_mode
    assert path.lstat().st_size == before.st_size
    assert file.status().error


def test_hanging_file_server_does_not_delay_the_start(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that is not read within a time limit is ignored with a warning."""
    go = threading.Event()
    monkeypatch.setattr(state_file, "_LOAD_SECONDS", 0.01)
    monkeypatch.setattr(files, "read", lambda *_: go.wait(PATIENCE))
    file = StateFile(path, clock)
    assert load(file) == []
    assert "not read in time" in caplog.records[0].__dict__["err"]
    go.set()


def test_file_that_is_unreadable_at_the_start_is_read_before_it_is_written(
    path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Until the file can be read, each write is refused, and the error is logged once."""
    caplog.set_level(logging.INFO)
    whole = content(*EXPORTS[:2])
    path.write_bytes(whole)
    file = StateFile(path, clock)
    with monkeypatch.context() as patch:
        patch.setattr(files, "read", _fail)
        assert load(file) == []
        for known in (EXPORTS[2:3], EXPORTS[2:]):
            save(file, snapshot(*known))
            assert file.status().error
            clock.advance(INTERVAL_SECONDS)
    # A snapshot that does not have the exports of the file yet must not replace it.
    for _ in range(2):
        save(file, snapshot(*EXPORTS[2:]))
        assert (file.status().last_write, file.status().error) == (None, False)
        assert path.read_bytes() == whole
        clock.advance(INTERVAL_SECONDS)
        save(file, snapshot(*EXPORTS[2:]))
        assert [watched.export for watched in file.recall()] == list(EXPORTS[:2])
        assert file.recall() == []
    save(file, replace(snapshot(*EXPORTS), has_stored=True))
    assert (file.status().last_write, file.status().error) == (clock.time(), False)
    assert restart(path, clock)[1] == list(EXPORTS)
    problem = f"{os.strerror(errno.EIO)}; it will not be overwritten until it can be read"
    assert [each.getMessage() for each in caplog.records] == [
        "State file ignored",
        "State file read",
        "State file read",
    ]
    assert [vars(each).get("err") for each in caplog.records] == [problem, None, None]
    assert [vars(each).get("exports") for each in caplog.records] == [None, 2, 2]
    clock.advance(INTERVAL_SECONDS)
    save(file, snapshot())
    assert restart(path, clock)[1] == [], "its content is known now"


def test_file_that_is_missing_at_the_start_is_read_before_it_is_written(
    path: Path, file: StateFile, clock: FakeClock
) -> None:
    """A file that appears later, as when its directory is mounted, must not be lost."""
    path.write_bytes(content(EXPORTS[0]))
    save(file, snapshot(*EXPORTS))
    assert [watched.export for watched in file.recall()] == [EXPORTS[0]]
    assert restart(path, clock)[1] == [EXPORTS[0]]


def test_file_that_becomes_readable_at_the_end_is_left_alone(
    path: Path, file: StateFile, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The content is kept for the next start, which asks again for all that it lacks."""
    path.write_bytes(content(EXPORTS[0]))
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert file.status().error
    assert [(each.getMessage(), vars(each)["err"]) for each in caplog.records] == [
        (
            "State file not written",
            "it could not be read in time; its content stays for the next start",
        )
    ]
    assert restart(path, clock)[1] == [EXPORTS[0]]


@pytest.mark.parametrize(
    ("late", "messages"),
    [
        (content(*EXPORTS)[:-1], ["State file ignored", "State file written again"]),
        (content(), []),
    ],
    ids=["damaged", "empty"],
)
def test_file_without_usable_content_that_appears_late_is_replaced(
    path: Path,
    file: StateFile,
    clock: FakeClock,
    caplog: pytest.LogCaptureFixture,
    late: bytes,
    messages: list[str],
) -> None:
    """A damaged file is logged and replaced, as at the start, and an empty one is replaced."""
    caplog.set_level(logging.INFO)
    path.write_bytes(late)
    save(file, snapshot(*EXPORTS))
    assert not file.status().error
    assert file.recall() == []
    assert restart(path, clock)[1] == list(EXPORTS)
    assert caplog.messages == messages


def save(file: StateFile, saved: Snapshot) -> None:
    """Save a snapshot, and wait until the writing thread has ended."""
    file.save(saved)
    wait_until(lambda: not is_writing(), "the write ends")


@pytest.mark.parametrize("known", [EXPORTS, ()])
def test_file_is_written_after_a_file_of_another_kind_is_removed(
    path: Path, clock: FakeClock, known: Sequence[Export]
) -> None:
    """The removal takes effect without a restart, even if no export is known."""
    path.write_text("- an-id-file")
    file = StateFile(path, clock)
    assert load(file) == []
    path.unlink()
    file.save(snapshot(*known) if known else make_snapshot())
    file.close(PATIENCE)
    assert not file.status().error
    assert restart(path, clock)[1] == list(known)


def _fail(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def is_writing() -> bool:
    """Return whether a write is in flight."""
    return any(t.name == "state file" for t in threading.enumerate())


# Failed writes


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ETIMEDOUT])
def test_failed_write_keeps_the_last_file(
    path: Path,
    file: StateFile,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """A failed write is logged once, and tried again a minute later; the last file stays."""
    caplog.set_level(logging.INFO)

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    file.save(snapshot(EXPORTS[0]))
    wait_until(lambda: file.status().last_write is not None, "it is written")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        for known in (EXPORTS[:2], EXPORTS[:3]):
            clock.advance(INTERVAL_SECONDS)
            file.save(snapshot(*known))
            file.close(PATIENCE)
            assert file.status().error
    assert restart(path, clock)[1] == [EXPORTS[0]]
    assert others(path) == []
    clock.advance(INTERVAL_SECONDS)
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert not file.status().error
    assert restart(path, clock)[1] == list(EXPORTS)
    assert [(each.levelname, each.__dict__.get("err")) for each in caplog.records] == [
        ("WARNING", os.strerror(number)),
        ("INFO", None),
    ]


def test_file_too_large_to_be_read_is_not_written(
    path: Path,
    file: StateFile,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Content that is too large to be read after a restart does not replace the last file."""
    file.save(snapshot(EXPORTS[0]))
    file.close(PATIENCE)
    size = path.stat().st_size
    monkeypatch.setattr(state_file, "_MAX_BYTES", size)
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert file.status().error
    assert [vars(each)["err"] for each in caplog.records] == [f"larger than {size} bytes"]
    assert restart(path, clock)[1] == [EXPORTS[0]]


def test_replaced_file_keeps_its_owner(
    path: Path, clock: FakeClock, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After root ran the exporter once, the exporter of another user can still read the file."""
    owners: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fchown", lambda _, *owner: owners.append(owner))
    file.save(snapshot(EXPORTS[0]))
    file.close(PATIENCE)
    assert owners == []
    clock.advance(INTERVAL_SECONDS)
    status = path.stat()
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert owners == [(status.st_uid, status.st_gid)]


def test_file_is_replaced_by_a_user_who_cannot_keep_its_owner(
    path: Path, clock: FakeClock, file: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who may write to the directory, but not set owners, becomes the file's owner."""

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchown", refuse)
    file.save(snapshot(EXPORTS[0]))
    wait_until(lambda: file.status().last_write is not None, "it is written")
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert restart(path, clock)[1] == list(EXPORTS)


def test_unexpected_error_of_a_write_is_logged(
    file: StateFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception in the writing thread is logged by its type, and is an error."""

    def fail(*_: object) -> bytes:
        raise MemoryError

    monkeypatch.setattr(state_file, "encode", fail)
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert file.status().error
    assert [each.__dict__.get("err") for each in caplog.records] == ["MemoryError"]


def test_missing_directory_is_logged(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A path in a missing directory, or one that cannot exist, is an error and logged once."""
    for path in (tmp_path / "missing" / "state", tmp_path / "a\0b"):
        caplog.clear()
        file = StateFile(path, clock)
        assert load(file) == []
        file.save(snapshot(*EXPORTS))
        file.close(PATIENCE)
        assert file.status().error
        assert len(caplog.records) == 1


@pytest.mark.parametrize("place", ["missing/state", "link"])
def test_missing_directory_is_logged_at_the_start(
    tmp_path: Path, clock: FakeClock, caplog: pytest.LogCaptureFixture, place: str
) -> None:
    """It is an error until the first write, and is not logged beside another error."""
    caplog.set_level(logging.INFO)
    (tmp_path / "link").symlink_to(tmp_path / "missing" / "state")
    file = StateFile(tmp_path / place, clock)
    assert load(file) == []
    file.check_directory()
    assert file.status().error
    assert file.problem == "the directory is missing, or does not allow this user to write"
    file.check_directory()
    (tmp_path / "missing").mkdir()
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert not file.status().error
    assert caplog.messages == ["State file cannot be written", "State file written again"]
    file.check_directory()
    assert len(caplog.messages) == 2


def test_file_without_a_thread_is_logged_at_the_start(
    path: Path,
    clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log says the same as at a write."""
    monkeypatch.setattr(background, "start", _no_thread)
    assert load(StateFile(path, clock)) == []
    problem = "no thread can be started; it will not be overwritten until it can be read"
    assert [vars(each)["err"] for each in caplog.records] == [problem]


def test_two_exporters_on_one_file_write_whole_files(path: Path, clock: FakeClock) -> None:
    """If two exporters share a file, it always has the key and the exports of one of them."""
    files = [StateFile(path, clock) for _ in range(2)]
    known: list[Sequence[Export]] = [EXPORTS[:2], EXPORTS[2:]]
    for _ in range(20):
        clock.advance(INTERVAL_SECONDS)
        for file, exports in zip(files, known, strict=True):
            file.save(replace(snapshot(*exports), has_stored=True))
        for file in files:
            wait_until(lambda: file.status().last_write == clock.time(), "it is written")  # noqa: B023 # at once
        again, remembered = restart(path, clock)
        owner = known.index(tuple(export for export in remembered if export))
        assert again.key == files[owner].key
    assert others(path) == []


def test_link_stays_a_link(path: Path, tmp_path: Path, clock: FakeClock) -> None:
    """If the path is a symbolic link, its target is replaced, not the link."""
    target = tmp_path / "elsewhere"
    path.symlink_to(target)
    file = StateFile(path, clock)
    assert load(file) == []
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert path.is_symlink()
    assert restart(target, clock)[1] == list(EXPORTS)


def test_stale_temporary_files_are_removed(path: Path, clock: FakeClock) -> None:
    """The first write removes temporary files that a killed exporter left behind.

    They must be an hour old: a younger one may belong to another exporter that is writing.
    """
    for name, age in (("old_0001.tmp", 3601), ("young_01.tmp", 3599), ("20240101", 9999)):
        left = path.with_name(f".state.{name}")
        left.write_bytes(b"")
        os.utime(left, (clock.time() - age,) * 2)
    file = StateFile(path, clock)
    file.load()
    assert len(others(path)) == 3, "to read it changes nothing"
    file.save(snapshot(*EXPORTS))
    file.close(PATIENCE)
    assert others(path) == [".state.20240101", ".state.young_01.tmp"]
