"""The watchlist from a directory of ID files, and the effect of changes."""

import io
import os
import shutil
import time
from collections.abc import Callable
from logging import INFO
from pathlib import Path
from typing import Any

import pytest

from exporter.files import read
from exporter.watchlist.content import Rejected
from exporter.watchlist.idfile import parse
from exporter.watchlist.loader import WatchlistLoader
from exporter.watchlist.watchlist import FileStatus, Ignored, Refusals, Watchlist

EMPTY = " is empty; for none write a comment (.txt) or a header (.tsv, .csv)"
# Keys of a log record's extras.
EXTRAS = ("file", "files", "ids", "errors", "err", "at", "id", "more", "reason", "batch", "codes")


class Clock:
    """A clock that is set by hand; at first it is so late that no file changed just now."""

    def __init__(self) -> None:
        """Start a minute ahead of the real time, at which the tests write files."""
        self.now = time.time() + 60

    def __call__(self) -> float:
        """Return the Unix time."""
        return self.now


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return a set that collects the names of opened files; clear it before the checked part."""
    names: set[str] = set()

    def recording(real: Callable[..., Any]) -> Callable[..., Any]:
        def record(path: object, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 # as the original
            if isinstance(path, str | os.PathLike):
                names.add(Path(path).name)
            return real(path, *arguments, **options)

        return record

    opens: dict[str, Callable[..., Any]] = {
        "os.open": os.open,
        "io.open": io.open,
        "builtins.open": open,
    }
    for name, real in opens.items():
        monkeypatch.setattr(name, recording(real))
    return names


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return an empty directory for ID files."""
    path = tmp_path / "exports"
    path.mkdir()
    return path


@pytest.fixture
def clock() -> Clock:
    """Return the loader's clock."""
    return Clock()


@pytest.fixture
def loader(directory: Path, clock: Clock) -> WatchlistLoader:
    """Return a loader for the directory."""
    return WatchlistLoader(directory, clock)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, dict[str, object]]]:
    """Return level, message and extras of every logged line, and clear the log."""
    lines = [
        (
            record.levelname,
            record.getMessage(),
            {key: vars(record)[key] for key in EXTRAS if key in vars(record)},
        )
        for record in caplog.records
    ]
    caplog.clear()
    return lines


def errors(watchlist: Watchlist) -> dict[str, str | None]:
    """Return the error of every file, by the file's name."""
    return {file.name: file.error for file in watchlist.files}


# Watched files and IDs


def test_all_id_files_of_a_directory_are_loaded(directory: Path, loader: WatchlistLoader) -> None:
    """Files in all formats are read, each as a batch; other files but hidden ones are ignored."""
    (directory / "kids.yml").write_text("- a1\n- a2\n")
    (directory / "adults.yaml").write_text("export_ids: [b1]\nbatch: grown-ups\n")
    (directory / "answer.json").write_text('{"items": [{"resource": {"id": "c1"}}]}')
    (directory / "list.txt").write_text("d1\n")
    (directory / "table.tsv").write_text("export_id\tx\ne1\t1\n")
    (directory / "tmp").mkdir()
    (directory / "README.md").write_text("not an ID file")
    (directory / "old.yml.bak").write_text("- x1\n")
    (directory / ".hidden.yml").write_text("- x2\n")
    (directory / "UPPER.YML").write_text("- x3\n")
    (directory / "sub.yml").mkdir()
    (directory / "sub.yml" / "inner.yml").write_text("- x4\n")
    watchlist = loader.load()
    assert watchlist.batches == {
        "UPPER": ("x3",),
        "answer": ("c1",),
        "grown-ups": ("b1",),
        "kids": ("a1", "a2"),
        "list": ("d1",),
        "table": ("e1",),
    }
    assert set(errors(watchlist).values()) == {None}
    assert watchlist.ignored == (
        Ignored("README.md", "its extension is not that of an ID file"),
        Ignored("old.yml.bak", "its extension is not that of an ID file"),
        Ignored("sub.yml", "it is a directory"),
        Ignored("tmp", "it is a directory"),
    )
    assert (watchlist.duplicates, watchlist.rejected, watchlist.errors) == (0, 0, ())


def test_path_of_a_file_loads_this_file_only(directory: Path, clock: Clock) -> None:
    """The path may be that of a file with any name; files beside it are not read."""
    (directory / "ids.list").write_text("- a\n")
    (directory / "other.yml").write_text("- b\n")
    watchlist = WatchlistLoader(directory / "ids.list", clock).load()
    assert watchlist.batches == {"ids": ("a",)}


def test_empty_directory_is_not_an_error(
    loader: WatchlistLoader, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Files may follow later, so only a warning at the start says that nothing is watched."""
    assert loader.load() == Watchlist(reloaded=clock.now)
    assert loader.load() == Watchlist(reloaded=clock.now)
    assert caplog.messages == ["No ID file, so nothing is watched"]


def test_directory_that_appears_empty_has_the_same_warning(
    directory: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that was missing at the start, and then has no file, is as if it began so."""
    loader = WatchlistLoader(directory / "later", clock)
    loader.load()
    (directory / "later").mkdir()
    loader.load()
    assert caplog.messages == [
        "ID files cannot be read; nothing is watched",
        "No ID file, so nothing is watched",
    ]


def test_new_modification_time_of_the_same_content_is_shown(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """The time of discovery's state is that of its last round; nothing is loaded because of it."""
    (directory / "a.yml").write_text("- a\n")
    loader.load()
    caplog.set_level(INFO)
    os.utime(directory / "a.yml", (1000, 1000))
    watchlist = loader.load()
    assert watchlist.files[0].mtime == 1000
    assert watchlist.batches == {"a": ("a",)}
    assert caplog.messages == []


def test_files_that_name_the_same_batch_are_one_batch(
    directory: Path, loader: WatchlistLoader
) -> None:
    """The IDs of a batch are in the order of the files' names, and within a file as listed."""
    (directory / "2.yml").write_text("batch: kids\nexport_ids: [c, b]\n")
    (directory / "1.yml").write_text("batch: kids\nexport_ids: [z]\n")
    (directory / "kids.json").write_text('["a"]')
    assert loader.load().batches == {"kids": ("z", "c", "b", "a")}


def test_repeated_id_belongs_to_the_first_file_by_name(
    directory: Path, loader: WatchlistLoader
) -> None:
    """An ID listed again, in one file or several, is watched once; repetitions are counted."""
    (directory / "b.yml").write_text("- x\n- y\n- y\n- z\n")
    (directory / "a.yml").write_text("- y\n")
    (directory / "c.yml").write_text("- z\n- x\n")
    watchlist = loader.load()
    assert watchlist.batches == {"a": ("y",), "b": ("x", "z"), "c": ()}
    assert watchlist.duplicates == 4


def test_id_moves_to_the_next_file_when_its_first_is_removed(
    directory: Path, loader: WatchlistLoader
) -> None:
    """After the first file is removed, an ID is watched in the next file that lists it."""
    (directory / "a.yml").write_text("- x\n")
    (directory / "b.yml").write_text("- x\n")
    assert loader.load().batches == {"a": ("x",), "b": ()}
    (directory / "a.yml").unlink()
    watchlist = loader.load()
    assert (watchlist.batches, watchlist.duplicates) == ({"b": ("x",)}, 0)


def test_an_id_acknowledged_in_any_file_is_acknowledged(
    directory: Path, loader: WatchlistLoader
) -> None:
    """`acknowledged` applies to the IDs of all files.

    A file with nothing but acknowledged IDs is valid, and makes no batch.
    """
    (directory / "a.yml").write_text("export_ids: [x, y]\nacknowledged: [x]\n")
    (directory / "done.yml").write_text("acknowledged: [y, unknown]\n")
    watchlist = loader.load()
    assert watchlist.acknowledged == {"x", "y", "unknown"}
    assert watchlist.batches == {"a": ("x", "y")}
    assert errors(watchlist) == {"a.yml": None, "done.yml": None}


def test_rejected_ids_are_logged_with_file_and_line(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """Rejected IDs are skipped, counted over all files, and logged once, not at every scrape."""
    (directory / "a.yml").write_text("- good\n- not good\n")
    (directory / "b.json").write_text('{"items": [{}]}')
    assert loader.load().rejected == 2
    assert [line for line in logged(caplog) if line[0] == "WARNING"] == [
        ("WARNING", "Skipping invalid export ID", {"at": "a.yml:2"}),
        ("WARNING", "Skipping invalid export ID", {"at": "b.json:1"}),
    ]
    loader.load()
    assert logged(caplog) == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "{},gOM3zcx6CG411ac0SbNkaUE0SNRK4H0S\n"),
        ("a.tsv", "export_id\t{0}\n{0}\tx\n"),
        ("a.txt", "{}\n"),
        ("a.txt", "x\n{},x\n"),
        ("a.yml", "{}: gOM3zcx6CG411ac0SbNkaUE0SNRK4H0S\n"),
        ("a.yml", "export_ids: [x]\n{0}: x\n{0}: x\n"),
        ("a.yml", "export_ids of {}: [x]\n"),
        ("a.yml", "- {}\n"),
        ("a.yml", "- *{}\n"),
        ("a.yml", "- !{} x\n"),
        ("a.yml", "export_ids: {}\n"),
        ("a.yml", "export_ids: [x]\nexpected: {}\n"),
        ("a.json", '{{"{}": []}}'),
        ("a.json", '{{"items": [], "{}": 1}}'),
        ("a.json", '{{"items": [], "acknowledged {}": 1}}'),
        ("a.json", '{{"items": [{{"id": "{}"}}]}}'),
        ("a.json", '["x" "{}"]'),
    ],
)
def test_names_of_patients_stay_in_the_file(
    directory: Path,
    loader: WatchlistLoader,
    caplog: pytest.LogCaptureFixture,
    name: str,
    content: str,
) -> None:
    """An ID file with file names instead of IDs has them in no error, remark or log line."""
    patient = "PT Smith-1950 tumor.bam"
    (directory / name).write_text(content.format(patient), encoding="utf-8")
    [status] = loader.load().files
    assert status.error or status.rejected or status.remarks
    for told in (status.error, status.remarks, *map(vars, caplog.records)):
        assert "Smith" not in str(told)


def test_log_has_at_most_twenty_rejected_ids_of_a_file(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty rejected IDs are logged one by one, the rest as a number."""
    (directory / "a.yml").write_text("- not good\n" * 20)
    assert loader.load().rejected == 20
    assert len(logged(caplog)) == 20
    (directory / "a.yml").write_text("- not good\n" * 50)
    assert loader.load().rejected == 50
    lines = logged(caplog)
    assert len(lines) == 21
    assert lines[-1] == (
        "WARNING",
        "Skipping more invalid export IDs",
        {"file": "a.yml", "more": 30},
    )


def test_file_names_are_escaped_in_batches_and_log_lines(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """Control characters and invalid encoding are escaped, and different names stay different."""
    caplog.set_level(INFO)
    names = [b"a\nb.yml", b"a\\nb.yml", b"a\x1b[31m.yml", b"\xff.yml", b"\xfe.yml", b"\\udcff.yml"]
    for number, name in enumerate(names):
        Path(os.fsdecode(bytes(directory) + b"/" + name)).write_text(f"- id{number}\n- '!'\n")
    watchlist = loader.load()
    expected = {r"a\nb", r"a\\nb", r"a\x1b[31m", r"\udcff", r"\udcfe", r"\\udcff"}
    assert set(watchlist.batches) == expected
    assert {file.name for file in watchlist.files} == {f"{name}.yml" for name in expected}
    for path in directory.iterdir():
        path.unlink()
    loader.load(afresh=True)
    extras = [str(value) for _, _, extra in logged(caplog) for value in extra.values()]
    assert len(extras) == 4 * len(names) + len(("files", "ids", "errors"))
    assert all(text.isprintable() for text in extras)


# Refused and expected exports


def test_refused_exports_are_counted_by_batch_and_code(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused files count even if an ID file lists no other; they are logged once."""
    error = '{"error": {"status": 403, "code": 9006}}'
    (directory / "a.json").write_text(f'{{"items": [{error}, {error}, {{"error": {{}}}}]}}')
    (directory / "b.json").write_text(f'{{"batch": "a", "items": [{error}, {{"id": "x"}}]}}')
    (directory / "c.tsv").write_text("export_id\tfile\ny\t1\n\t2\n")
    for seconds, name in enumerate(["b.json", "a.json", "c.tsv"], 1000):
        os.utime(directory / name, (seconds, seconds))
    watchlist = loader.load()
    assert watchlist.batches == {"a": ("x",), "c": ("y",)}
    assert watchlist.refused == {
        "a": Refusals({"": 1, "9006": 3}, 1001.0, acknowledged=False),
        "c": Refusals({"": 1}, 1002.0, acknowledged=False),
    }
    assert watchlist.refused["a"].count == 4
    message = "API refused to export files"
    assert [extras for _, text, extras in logged(caplog) if text == message] == [
        {"file": "a.json", "batch": "a", "codes": "none: 1, 9006: 2"},
        {"file": "b.json", "batch": "a", "codes": "9006: 1"},
        {"file": "c.tsv", "batch": "c", "codes": "none: 1"},
    ]
    loader.load()
    assert logged(caplog) == []


def test_refusals_are_acknowledged_by_any_file_of_the_batch(
    directory: Path, loader: WatchlistLoader
) -> None:
    """`refusals_acknowledged` in any file of a batch applies to this batch and to no other."""
    for name in ["a", "b"]:
        (directory / f"{name}.json").write_text('{"items": [{"error": {}}]}')
    (directory / "done.yml").write_text("batch: b\nrefusals_acknowledged: true\n")
    refused = loader.load().refused
    assert {name: refusals.acknowledged for name, refusals in refused.items()} == {
        "a": False,
        "b": True,
    }


def test_expected_exports_are_added_up(directory: Path, loader: WatchlistLoader) -> None:
    """If several files of a batch have `expected`, the batch should have the sum."""
    (directory / "a.yml").write_text("export_ids: [x]\nexpected: 3\n")
    (directory / "b.yml").write_text("batch: a\nexport_ids: [y]\nexpected: 4\n")
    (directory / "c.yml").write_text("- z\n")
    assert loader.load().expected == {"a": 7}


# Parts of ID files that have no effect


def test_acknowledged_id_that_no_file_lists_is_logged_once(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """An acknowledged ID that no file lists may be misspelt, or old: it is logged, and no error."""
    (directory / "a.yml").write_text("export_ids: [x, y]\nacknowledged: [x, xx]\n")
    (directory / "done.yml").write_text("acknowledged: [y, zz, yy]\n")
    watchlist = loader.load()
    own = "a.yml: acknowledged IDs that no ID file lists: xx"
    others = "done.yml: acknowledged IDs that no ID file lists: yy, zz"
    assert [file.remarks for file in watchlist.files] == [(own,), (others,)]
    assert errors(watchlist) == {"a.yml": None, "done.yml": None}
    event = "Part of an ID file has no effect"

    def reasons_logged() -> list[object]:
        return [extras["reason"] for _, message, extras in logged(caplog) if message == event]

    assert reasons_logged() == [own, others]
    (directory / "b.yml").write_text("[xx, yy]")
    assert [file.remarks for file in loader.load().files] == [
        (),
        (),
        ("done.yml: acknowledged IDs that no ID file lists: zz",),
    ]
    assert reasons_logged() == ["done.yml: acknowledged IDs that no ID file lists: zz"]
    (directory / "c.yml").write_text("[zzz]")
    loader.load()
    assert reasons_logged() == []
    loader.load(afresh=True)
    assert reasons_logged() == ["done.yml: acknowledged IDs that no ID file lists: zz"]


def test_file_that_cannot_be_read_may_list_the_acknowledged_ids(
    directory: Path, loader: WatchlistLoader
) -> None:
    """As long as a file was never read, it may list any acknowledged ID, so none is reported."""
    (directory / "a.yml").write_text("{")
    (directory / "done.yml").write_text("acknowledged: [y]\n")
    assert [file.remarks for file in loader.load().files] == [(), ()]
    (directory / "a.yml").write_text("[x]")
    assert loader.load().files[1].remarks
    (directory / "a.yml").write_text("{")
    assert loader.load().files[1].remarks


def test_unknown_key_of_an_answer_is_logged(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """A saved answer with an unknown key is valid, because the API may have new keys."""
    (directory / "a.json").write_text('{"items": [{"id": "x"}],\n"acknowleged": ["x"]}')
    watchlist = loader.load()
    assert watchlist.batches == {"a": ("x",)}
    remark = "a.json:2: unknown key; did you mean acknowledged?"
    assert watchlist.files[0].remarks == (remark,)
    assert ("WARNING", "Part of an ID file has no effect", {"reason": remark}) in logged(caplog)


def test_log_has_at_most_twenty_parts_without_effect(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty remarks are logged, the rest as a number; one remark names twenty IDs likewise."""
    for number in range(23):
        (directory / f"{number:02}.json").write_text('{"items": [], "extra": 1}')
    (directory / "all.yml").write_text(f"acknowledged: {[f'e{n:02}' for n in range(23)]}")
    files = loader.load().files
    assert files[-1].remarks[0].endswith("e18, e19 and 3 more")
    lines = logged(caplog)
    assert sum(message == "Part of an ID file has no effect" for _, message, _ in lines) == 20
    assert lines[-1] == ("WARNING", "More parts of ID files have no effect", {"more": 4})


# Ignored files


def test_ignored_file_is_logged_once(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """An ignored file is logged, as its extension may be misspelt; a hidden one is not."""
    loader.load()
    logged(caplog)
    (directory / "ids.ylm").write_text("- x\n")
    (directory / ".ids.yml.swp").write_text("")
    watchlist = loader.load()
    reason = "its extension is not that of an ID file"
    assert watchlist.ignored == (Ignored("ids.ylm", reason),)
    assert logged(caplog) == [("WARNING", "Ignoring file", {"file": "ids.ylm", "reason": reason})]
    assert loader.load() is watchlist
    (directory / "sub").mkdir()
    assert len(loader.load().ignored) == 2
    assert [extras["file"] for *_, extras in logged(caplog)] == ["sub"]


def test_log_has_at_most_twenty_ignored_files(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty ignored files are logged by name, the rest as a number."""
    loader.load()
    logged(caplog)
    for number in range(23):
        (directory / f"{number}.md").touch()
    assert len(loader.load().ignored) == 23
    lines = logged(caplog)
    assert len(lines) == 21
    assert lines[-1] == ("WARNING", "Ignoring more files", {"more": 3})


# Directories without ID files


@pytest.mark.parametrize("content", ["- x\n", "acknowledged: [x]", '{"items": [{"error": {}}]}'])
def test_emptied_directory_keeps_the_last_watchlist(
    directory: Path, loader: WatchlistLoader, content: str
) -> None:
    """If no ID file is left, the last watchlist stays in effect, with an error.

    A lost mount or an emptied ConfigMap must not end the watch. The next ID file ends the error.
    """
    (directory / "a.yml").write_text(content)
    before = loader.load()
    (directory / "a.yml").rename(directory / "a.old")
    watchlist = loader.load()
    assert watchlist.batches == before.batches
    assert watchlist.acknowledged == before.acknowledged
    assert watchlist.refused == before.refused
    assert watchlist.error == (
        f"{directory}: no ID file is left; the last ones stay in effect;"
        " to end the watch, write [] into a file"
    )
    assert loader.load() is watchlist
    (directory / "b.yml").write_text("[]")
    watchlist = loader.load()
    assert (watchlist.batches, watchlist.errors) == ({"b": ()}, ())


def test_loading_afresh_accepts_an_emptied_directory(
    directory: Path, loader: WatchlistLoader
) -> None:
    """On SIGHUP, the watchlist becomes empty if no ID file is left, without an error."""
    (directory / "a.yml").write_text("- x\n")
    loader.load()
    (directory / "a.yml").unlink()
    assert loader.load().error is not None
    watchlist = loader.load(afresh=True)
    assert (watchlist.batches, watchlist.errors) == ({}, ())
    assert loader.load() is watchlist


def test_removing_files_without_ids_is_not_an_error(
    directory: Path, loader: WatchlistLoader
) -> None:
    """If no file lists an ID, a refusal or an acknowledgement, all may be removed."""
    (directory / "a.yml").write_text("[]")
    (directory / "b.yml").write_text("- [")
    loader.load()
    (directory / "a.yml").unlink()
    (directory / "b.yml").unlink()
    assert loader.load().errors == ()


# Unexpected errors


def test_an_unexpected_exception_is_an_error_of_its_file(
    directory: Path, loader: WatchlistLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception becomes the file's error, without its text, and the last good content stays."""
    (directory / "a.yml").write_text("- x\n")
    (directory / "b.yml").write_text("- y\n")
    loader.load()

    def fail(data: bytes, name: str) -> object:
        if name == "a.yml":
            raise TypeError("a secret")
        return parse(data, name)

    monkeypatch.setattr("exporter.watchlist.loader.parse", fail)
    (directory / "a.yml").write_text("- new\n")
    (directory / "b.yml").write_text("- new2\n")
    watchlist = loader.load()
    assert watchlist.errors == ("a.yml: cannot be read: TypeError",)
    assert watchlist.batches == {"a": ("x",), "b": ("new2",)}


def test_a_path_that_cannot_exist_is_an_error(clock: Clock) -> None:
    """A path with a NUL character, which cannot exist, is an error of the watchlist."""
    assert WatchlistLoader(Path("a\0b"), clock).load().errors == (
        "a\\x00b: cannot be read: ValueError",
    )


# At start


def test_a_missing_path_is_an_error(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is the path's, not a file's; the path may become a directory later."""
    path = tmp_path / "exports"
    loader = WatchlistLoader(path, clock)
    problem = f"{path}: cannot be read: No such file or directory"
    assert loader.load() == Watchlist(error=problem)
    assert loader.load().errors == (problem,)
    assert logged(caplog) == [
        ("ERROR", "ID files cannot be read; nothing is watched", {"err": problem})
    ]
    path.mkdir()
    (path / "a.yml").write_text("- x\n")
    assert loader.load().batches == {"a": ("x",)}
    assert loader.load().errors == ()


def test_file_that_was_never_valid_has_no_modification_time(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that was never valid is listed with its error and no modification time."""
    (directory / "a.yml").write_text("- [\n")
    watchlist = loader.load()
    problem = "a.yml:2: not YAML: did not find expected node content"
    assert watchlist.files == (FileStatus("a.yml", None, problem),)
    assert (watchlist.errors, watchlist.batches, watchlist.reloaded) == ((problem,), {}, None)
    assert logged(caplog) == [
        ("ERROR", "ID file is not valid; none of its IDs is watched", {"err": problem})
    ]


# Changes


def test_unchanged_files_are_not_opened_again(
    directory: Path, loader: WatchlistLoader, opened: set[str]
) -> None:
    """If no file changed, valid, invalid or empty, the result is the same object."""
    (directory / "good.yml").write_text("- x\n")
    (directory / "bad.yml").write_text("- [\n")
    (directory / "empty.yml").write_text("[]\n")
    watchlist = loader.load()
    assert opened >= {"good.yml", "bad.yml", "empty.yml"}
    opened.clear()
    assert loader.load() is watchlist
    assert opened == set()


def test_only_changed_files_are_opened(
    directory: Path, loader: WatchlistLoader, opened: set[str]
) -> None:
    """A scrape reads only the files that changed, so the content of others costs it nothing."""
    for number in range(200):
        (directory / f"{number}.yml").write_text(f"- id{number}\n")
    loader.load()
    (directory / "77.yml").write_text("- new\n")
    opened.clear()
    assert loader.load().batches["77"] == ("new",)
    assert opened == {"77.yml"}


def test_a_touched_file_is_not_parsed_again(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """A file with a new time and the same content has this time, and nothing is logged."""
    file = directory / "a.yml"
    file.write_text("- x\n- not good\n")
    os.utime(file, (1000, 1000))
    before = loader.load()
    assert before.files == (FileStatus("a.yml", 1000.0, None, (Rejected("not good", 2),)),)
    caplog.clear()
    caplog.set_level(INFO)
    os.utime(file, (2000, 2000))
    after = loader.load()
    assert after.files == (FileStatus("a.yml", 2000.0, None, before.files[0].rejected),)
    assert after.batches == before.batches
    assert logged(caplog) == []


def test_editing_breaking_and_repairing_a_file(
    directory: Path, loader: WatchlistLoader, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """While a file is in error, its last good content and its time stay in effect."""
    caplog.set_level(INFO)
    file = directory / "a.yml"
    loaded = ("INFO", "ID file loaded", {"file": "a.yml", "ids": 1})

    file.write_text("- x\n")
    os.utime(file, (1000, 1000))
    first = loader.load()
    assert (first.batches, first.reloaded) == ({"a": ("x",)}, clock.now)
    assert logged(caplog) == [loaded]

    file.write_text("- y\n")
    os.utime(file, (2000, 2000))
    clock.now += 10
    edited = loader.load()
    assert (edited.batches, edited.reloaded) == ({"a": ("y",)}, clock.now)
    assert logged(caplog) == [loaded]

    file.write_text("- {\n")
    os.utime(file, (3000, 3000))
    reloaded = clock.now
    clock.now += 10
    broken = loader.load()
    problem = "a.yml:2: not YAML: did not find expected node content"
    assert broken.batches == {"a": ("y",)}
    assert broken.files == (FileStatus("a.yml", 2000.0, problem),)
    assert (broken.errors, broken.reloaded) == ((problem,), reloaded)
    assert logged(caplog) == [
        ("ERROR", "ID file is not valid; its last good content stays in effect", {"err": problem})
    ]

    os.utime(file, (4000, 4000))
    assert loader.load() is broken
    assert logged(caplog) == []

    file.write_text("- y\n")
    os.utime(file, (5000, 5000))
    clock.now += 10
    repaired = loader.load()
    assert repaired.files == (FileStatus("a.yml", 5000.0, None),)
    assert (repaired.batches, repaired.reloaded) == ({"a": ("y",)}, clock.now)
    assert logged(caplog) == [loaded]


def test_broken_file_does_not_affect_the_others(directory: Path, loader: WatchlistLoader) -> None:
    """While one file is in error, others can be added, changed and removed."""
    (directory / "bad.yml").write_text("- x\n")
    (directory / "good.yml").write_text("- y\n")
    loader.load()
    (directory / "bad.yml").write_text("")
    # Of another size: a system's clock for files may stand still for 10 ms.
    (directory / "good.yml").write_text("- zz\n")
    (directory / "new.yml").write_text("- w\n")
    watchlist = loader.load()
    assert watchlist.batches == {"bad": ("x",), "good": ("zz",), "new": ("w",)}
    assert [name for name, error in errors(watchlist).items() if error] == ["bad.yml"]


@pytest.mark.parametrize("afresh", [False, True])
@pytest.mark.parametrize(
    ("empty", "problem"),
    [
        *((empty, EMPTY) for empty in (b"", b"  \n", b"\xef\xbb\xbf\r\n")),
        (bytes(33), "1: holds NUL bytes, as after a crash or in UTF-16: save it as UTF-8"),
    ],
)
@pytest.mark.parametrize(
    ("name", "valid"), [("a.txt", "# none\n"), ("a.tsv", "export_id\n"), ("A.CSV", "export_id\n")]
)
def test_emptied_text_file_keeps_its_ids(
    directory: Path,
    clock: Clock,
    name: str,
    valid: str,
    empty: bytes,
    problem: str,
    *,
    afresh: bool,
) -> None:
    """A text file without content is an error, and its last IDs stay in effect.

    It is being rewritten in place, or was damaged by a crash. The error does not end with a
    restart, but with content or with the `valid` form of a file without IDs.
    """
    path = directory / name
    loader = WatchlistLoader(directory, clock)
    problem = f"{name}:{problem}"
    path.write_bytes(empty)
    watchlist = loader.load(afresh=afresh)
    assert (watchlist.batches, watchlist.errors, watchlist.reloaded) == ({}, (problem,), None)
    path.write_text("x\n")
    before = loader.load()
    path.write_bytes(empty)
    watchlist = loader.load(afresh=afresh)
    assert watchlist.batches == before.batches == {name[0]: ("x",)}
    assert watchlist.errors == (problem,)
    path.write_text("x\n")
    assert (loader.load().batches, loader.load().errors) == (before.batches, ())
    path.write_text(valid)
    assert (loader.load().batches, loader.load().errors) == ({name[0]: ()}, ())


def test_an_error_is_logged_once(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """An error that lasts is logged once, even if other files change meanwhile."""
    (directory / "bad.yml").write_text("")
    loader.load()
    assert len(logged(caplog)) == 1
    (directory / "new.yml").write_text("- w\n")
    loader.load()
    loader.load()
    assert logged(caplog) == []


def test_loading_afresh_always_logs_its_result(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """On SIGHUP, the result and all errors are logged, even if nothing changed."""
    caplog.set_level(INFO)
    (directory / "a.yml").write_text("- x\n- y\n")
    loader.load(afresh=True)
    loaded = ("INFO", "ID files loaded", {"files": 1, "ids": 2, "errors": 0})
    first = ("INFO", "ID file loaded", {"file": "a.yml", "ids": 2})
    assert logged(caplog) == [first, loaded]
    loader.load(afresh=True)
    assert logged(caplog) == [loaded]
    (directory / "bad.yml").write_text("- [\n")
    loader.load()
    error = logged(caplog)
    assert [line[0] for line in error] == ["ERROR"]
    loader.load(afresh=True)
    assert logged(caplog) == [
        *error, ("INFO", "ID files loaded", {"files": 2, "ids": 2, "errors": 1})
    ]  # fmt: skip
    shutil.rmtree(directory)
    loader.load()
    error = logged(caplog)
    assert [line[0] for line in error] == ["ERROR"]
    loader.load(afresh=True)
    assert logged(caplog)[:1] == error


def test_adding_and_removing_files(
    directory: Path, loader: WatchlistLoader, caplog: pytest.LogCaptureFixture
) -> None:
    """A new file is watched; a removed one, valid or not, is no longer, and that is logged."""
    loader.load()
    caplog.set_level(INFO)
    (directory / "a.yml").write_text("- x\n")
    (directory / "b.yml").write_text("- [\n")
    (directory / "c.yml").write_text("[]\n")
    assert loader.load().batches == {"a": ("x",), "c": ()}
    caplog.clear()
    (directory / "a.yml").unlink()
    (directory / "b.yml").unlink()
    watchlist = loader.load()
    assert (watchlist.batches, watchlist.errors) == ({"c": ()}, ())
    message = "ID file removed; its IDs are no longer watched"
    assert sorted(str(line[2]["file"]) for line in logged(caplog) if line[1] == message) == [
        "a.yml",
        "b.yml",
    ]  # fmt: skip


def test_file_that_returns_has_no_earlier_content(directory: Path, loader: WatchlistLoader) -> None:
    """A file that was removed, and is broken when it returns, has no IDs."""
    (directory / "a.yml").write_text("- x\n")
    (directory / "b.yml").write_text("- y\n")
    loader.load()
    (directory / "a.yml").unlink()
    loader.load()
    (directory / "a.yml").write_text("- [\n")
    assert loader.load().batches == {"b": ("y",)}


def test_loading_afresh_opens_every_file(
    directory: Path, loader: WatchlistLoader, clock: Clock, opened: set[str]
) -> None:
    """On SIGHUP, every file is opened, and the time of the last reload is updated."""
    (directory / "a.yml").write_text("- x\n")
    before = loader.load()
    opened.clear()
    clock.now += 10
    after = loader.load(afresh=True)
    assert "a.yml" in opened
    assert after.batches == before.batches
    assert after.reloaded == clock.now


@pytest.mark.parametrize("seconds", [-1.9, 0.0, 1.9])
def test_recently_changed_file_is_opened_again(
    directory: Path, loader: WatchlistLoader, clock: Clock, opened: set[str], seconds: float
) -> None:
    """Within a tick of the file system's clock, a file can change without a new signature."""
    file = directory / "a.yml"
    file.write_text("- x\n")
    clock.now = file.stat().st_mtime + seconds
    before = loader.load()
    opened.clear()
    assert loader.load() is before
    assert opened == {"a.yml"}
    clock.now += 4
    loader.load()
    opened.clear()
    assert loader.load() is before
    assert opened == set()


def test_recent_modification_time_alone_is_enough_to_open_a_file_again(
    directory: Path, loader: WatchlistLoader, clock: Clock, opened: set[str]
) -> None:
    """A recent modification time counts even if the change time is not recent by the clock."""
    file = directory / "a.yml"
    file.write_text("- x\n")
    os.utime(file, (clock.now, clock.now))
    loader.load()
    opened.clear()
    loader.load()
    assert opened == {"a.yml"}


def test_recent_change_time_alone_is_enough_to_open_a_file_again(
    directory: Path, loader: WatchlistLoader, clock: Clock, opened: set[str]
) -> None:
    """Tools that preserve times when they copy write files with old modification times."""
    file = directory / "a.yml"
    file.write_text("- x\n")
    os.utime(file, (1000, 1000))
    clock.now = file.stat().st_ctime
    loader.load()
    opened.clear()
    loader.load()
    assert opened == {"a.yml"}
    file.write_text("- y\n")
    os.utime(file, (1000, 1000))
    assert loader.load().batches == {"a": ("y",)}


# Symbolic links and ConfigMaps


def test_mounted_config_map_is_followed(tmp_path: Path, loader: WatchlistLoader) -> None:
    """A change is found though Kubernetes swaps only the link `..data`, not the file's own."""
    directory = tmp_path / "exports"
    for number, content in enumerate(["- x\n", "- y\n"], 1):
        (directory / f"..{number}").mkdir()
        (directory / f"..{number}" / "a.yml").write_text(content)
        os.utime(directory / f"..{number}" / "a.yml", (1000, 1000))
    (directory / "..data").symlink_to("..1")
    (directory / "a.yml").symlink_to("..data/a.yml")
    assert loader.load().batches == {"a": ("x",)}
    (directory / "..data_tmp").symlink_to("..2")
    (directory / "..data_tmp").rename(directory / "..data")
    shutil.rmtree(directory / "..1")
    watchlist = loader.load()
    assert (watchlist.batches, watchlist.errors) == ({"a": ("y",)}, ())


class ConfigMap:
    """A directory as Kubernetes mounts a ConfigMap: every file is a link into `..data`."""

    def __init__(self, path: Path) -> None:
        """Start without files."""
        self.path = path
        self.number = 0

    def replace(self, **files: str) -> None:
        """Write a new tree, and swap `..data`; the links of the files do not change yet."""
        self.number += 1
        old = self.path / "..data"
        gone = old.resolve() if old.is_symlink() else None
        tree = self.path / f"..{self.number}"
        tree.mkdir()
        for name, content in files.items():
            (tree / f"{name}.yml").write_text(content)
        (self.path / "..data_tmp").symlink_to(tree.name)
        (self.path / "..data_tmp").rename(old)
        if gone is not None:
            shutil.rmtree(gone)

    def link(self, *names: str) -> None:
        """Replace the links of all files by those of these."""
        for path in self.path.glob("*.yml"):
            path.unlink()
        for name in names:
            (self.path / f"{name}.yml").symlink_to(f"..data/{name}.yml")


def test_config_map_is_read_from_one_tree(directory: Path, loader: WatchlistLoader) -> None:
    """An ID that moves to a new file is watched even before this file has its link."""
    config_map = ConfigMap(directory)
    config_map.replace(a="- x\n- y\n")
    config_map.link("a")
    assert loader.load().batches == {"a": ("x", "y")}
    config_map.replace(a="- x\n", b="- y\n")
    for links in [("a",), ("a", "b")]:
        config_map.link(*links)
        watchlist = loader.load()
        assert (watchlist.batches, watchlist.errors) == ({"a": ("x",), "b": ("y",)}, ())
    config_map.replace(b="- y\n")
    watchlist = loader.load()
    assert (watchlist.batches, watchlist.errors) == ({"b": ("y",)}, ())


def test_config_map_swapped_while_it_is_read_is_read_again(
    directory: Path, loader: WatchlistLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All files come from the same tree, never some from the old one and some from the new."""
    config_map = ConfigMap(directory)
    config_map.replace(a="- x\n", b="- y\n")
    config_map.link("a", "b")
    loader.load()
    swaps = iter([{"a": "- y\n", "b": "- x\n"}])

    def read_and_swap(path: "Path | os.DirEntry[str]", most: int) -> object:
        result = read(path, most)
        for files in swaps:
            config_map.replace(**files)
            break
        return result

    monkeypatch.setattr("exporter.watchlist.loader.read", read_and_swap)
    watchlist = loader.load(afresh=True)
    assert (watchlist.batches, watchlist.errors) == ({"a": ("y",), "b": ("x",)}, ())


def test_config_map_that_keeps_changing_is_read_at_most_three_times(
    directory: Path, loader: WatchlistLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the ConfigMap is swapped during each reading, the third one counts, with its errors."""
    config_map = ConfigMap(directory)
    config_map.replace(a="- x\n", b="- y\n")
    config_map.link("a", "b")
    loader.load()

    def read_and_swap(path: "Path | os.DirEntry[str]", most: int) -> object:
        result = read(path, most)
        config_map.replace(a="- x\n", b="- y\n")
        return result

    monkeypatch.setattr("exporter.watchlist.loader.read", read_and_swap)
    watchlist = loader.load(afresh=True)
    assert watchlist.errors == ("b.yml: cannot be read: No such file or directory",)
    assert watchlist.batches == {"a": ("x",), "b": ("y",)}


def test_link_removed_while_the_directory_is_read_is_not_an_error(
    directory: Path, loader: WatchlistLoader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes removes the links of a ConfigMap one after the other, at any time."""
    config_map = ConfigMap(directory)
    config_map.replace(a="- x\n")
    config_map.link("a")
    readlink = Path.readlink

    def remove_and_read(path: Path) -> Path:
        if path.name == "a.yml":
            path.unlink()
        return readlink(path)

    monkeypatch.setattr(Path, "readlink", remove_and_read)
    watchlist = loader.load()
    assert (watchlist.batches, watchlist.errors) == ({"a": ("x",)}, ())


def test_file_that_returns_unchanged_has_no_error(
    tmp_path: Path, directory: Path, loader: WatchlistLoader
) -> None:
    """If the target of a link returns with the same signature, the error of its absence ends."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "a.yml").write_text("- x\n")
    (directory / "a.yml").symlink_to("../volume/a.yml")
    assert loader.load().errors == ()
    (tmp_path / "volume").rename(tmp_path / "away")
    watchlist = loader.load()
    assert watchlist.errors == ("a.yml: cannot be read: No such file or directory",)
    assert watchlist.batches == {"a": ("x",)}
    (tmp_path / "away").rename(tmp_path / "volume")
    assert loader.load().errors == ()


def test_the_directory_may_be_a_link(tmp_path: Path, directory: Path, clock: Clock) -> None:
    """The directory may be a symbolic link, which is followed on every load."""
    (directory / "a.yml").write_text("- x\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.yml").write_text("- y\n")
    link = tmp_path / "link"
    link.symlink_to("exports")
    loader = WatchlistLoader(link, clock)
    assert loader.load().batches == {"a": ("x",)}
    link.unlink()
    link.symlink_to("other")
    assert loader.load().batches == {"b": ("y",)}


def test_a_link_to_a_directory_is_ignored(directory: Path, loader: WatchlistLoader) -> None:
    """A directory is not read, nor a link to one, even if its name is that of an ID file."""
    (directory / "sub").mkdir()
    (directory / "a.yml").symlink_to("sub")
    assert loader.load().files == ()


def test_circular_link_is_not_a_directory(directory: Path, loader: WatchlistLoader) -> None:
    """A link to itself without an ID file's name is ignored because of its extension."""
    (directory / "loop.md").symlink_to("loop.md")
    assert loader.load().ignored == (Ignored("loop.md", "its extension is not that of an ID file"),)


# The API's token

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("token.txt", f"{TOKEN}\n", 1),
        ("token.txt", f"one\n{TOKEN.upper()}\n", 2),
        ("token.txt", f"one\n{TOKEN} /\n", 2),
        ("a.csv", f"export_id\n{TOKEN}\n", 2),
        ("a.yml", f"batch: b\nexport_ids:\n- {TOKEN}\n", 3),
        ("a.yml", f"export_ids: [one]\nacknowledged: [{TOKEN}]\n", 2),
        ("a.yml", f"batch: {TOKEN}\nexport_ids: [one]\n", 1),
        ("a.json", f'{{"{TOKEN}": 1}}', 1),
    ],
)
def test_a_file_with_the_token(
    directory: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    name: str,
    text: str,
    line: int,
) -> None:
    """It is an error that does not quote the token, wherever it stands; other files are used."""
    (directory / name).write_text(text)
    (directory / "other.txt").write_text("two\n")
    watchlist = WatchlistLoader(directory, clock, lambda: TOKEN).load()
    assert watchlist.batches == {"other": ("two",)}
    assert watchlist.errors == (
        (
            f"{name}:{line}: holds the API's token: remove it, and renew the token if others could"
            " read this file"
        ),
    )
    assert TOKEN not in f"{watchlist} {caplog.text}".lower()


def test_a_token_in_a_file_that_was_good(directory: Path, clock: Clock) -> None:
    """The last good content stays; the token of the time is the one that counts."""
    tokens = ["another-token"]
    loader = WatchlistLoader(directory, clock, lambda: tokens[-1])
    file = directory / "a.txt"
    file.write_text("one\n")
    assert loader.load().batches == {"a": ("one",)}
    tokens.append(TOKEN)
    file.write_text(f"one\ntwo\n{TOKEN}\n")
    watchlist = loader.load()
    assert watchlist.batches == {"a": ("one",)}
    assert "holds the API's token" in watchlist.errors[0]
    # A newer token alone makes no ID of the old one.
    tokens.append("another-token")
    os.utime(file, (1, 1))
    assert loader.load().errors == watchlist.errors
    file.write_text("one\ntwo\n")
    watchlist = loader.load()
    assert (watchlist.batches, watchlist.errors) == ({"a": ("one", "two")}, ())


def test_an_id_that_was_taken_for_the_token(directory: Path, clock: Clock) -> None:
    """Once the token's file is mended, SIGHUP ends the error, as a restart does."""
    tokens = [TOKEN]
    loader = WatchlistLoader(directory, clock, lambda: tokens[-1])
    (directory / "a.txt").write_text(f"{TOKEN}\n")
    assert "holds the API's token" in loader.load().errors[0]
    assert "holds the API's token" in loader.load(afresh=True).errors[0]
    tokens.append("another-token")
    watchlist = loader.load(afresh=True)
    assert (watchlist.batches, watchlist.errors) == ({"a": (TOKEN,)}, ())


def test_the_token_is_not_read_for_each_file(directory: Path, clock: Clock) -> None:
    """Its file server may be slow: it is asked before and after all new files, else not at all."""
    asked = []

    def token() -> str:
        asked.append(TOKEN)
        return TOKEN

    loader = WatchlistLoader(directory, clock, token)
    for number in range(9):
        (directory / f"{number}.txt").write_text(f"id-{number}\n")
    assert len(loader.load().batches) == 9
    assert len(asked) == 2
    loader.load()
    loader.load(afresh=True)
    assert len(asked) == 2


@pytest.mark.parametrize("number", [0, 1])
def test_a_token_that_is_renewed_during_a_load(directory: Path, clock: Clock, number: int) -> None:
    """Neither the old one nor the new one becomes an ID, in whatever order files are read."""
    tokens = ["another-token", TOKEN]
    asked = iter(tokens)
    (directory / "a.txt").write_text(f"{tokens[number]}\n")
    (directory / "b.txt").write_text("one\n")
    loader = WatchlistLoader(directory, clock, lambda: next(asked, TOKEN))
    watchlist = loader.load()
    assert watchlist.batches == {"b": ("one",)}
    assert "a.txt:1: holds the API's token" in watchlist.errors[0]


def test_a_word_is_no_token(directory: Path, clock: Clock) -> None:
    """A token that is no secret, because it is too short, may be part of an ID."""
    (directory / "a.txt").write_text("batch-token-1\n")
    assert WatchlistLoader(directory, clock, lambda: "token").load().batches == {
        "a": ("batch-token-1",)
    }
