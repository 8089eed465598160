"""The command: exit statuses, output, signals and reloads."""

import contextlib
import gc
import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import requests
import trustme

from exporter import __version__, background
from exporter.cavatica.credentials import Credentials
from exporter.cli import command, revision, service
from exporter.cli.service import StartError
from exporter.server import Server
from exporter.simulator import Fault, Request, Simulator, serve
from exporter.tracker.snapshot import Batch, Totals
from exporter.watchlist.loader import WatchlistLoader
from scripts.ports import reserved_port
from tests.support.exporter_process import (
    LOOPBACK,
    MODULE,
    Page,
    environment,
    process,
    run,
    run_process,
    serving,
)
from tests.support.timing import within
from tests.support.waits import PATIENCE, wait_until

TOKEN = "t0ken-of-a-test"
OTHER = "another-t0ken"


class Cavatica:
    """A simulated CAVATICA, and what an exporter needs to watch it.

    Attributes:
        simulator: The platform, which knows five exports.
        url: Base URL of its API.
        exports: The directory with the ID files; one lists the five.
        token_file: The file with its token.
    """

    def __init__(self, simulator: Simulator, url: str, directory: Path) -> None:
        """Write the files."""
        self.simulator = simulator
        self.url = url
        self.exports = directory / "exports"
        self.exports.mkdir()
        self.write("five.yml", *simulator.start(5))
        self.token_file = directory / "token"
        self.token_file.write_text(TOKEN, encoding="utf-8")

    @property
    def flags(self) -> tuple[str, ...]:
        """All that is needed to watch it."""
        return (
            f"--exports.path={self.exports}",
            f"--api.url={self.url}",
            f"--api.token-file={self.token_file}",
        )

    @property
    def tokens(self) -> list[str]:
        """The token of each request."""
        return [request.headers["x-sbg-auth-token"] for request in self.simulator.requests]

    def write(self, name: str, *ids: str) -> None:
        """Write an ID file."""
        lines = [f"- {export_id}\n" for export_id in ids]
        (self.exports / name).write_text("".join(lines) or "[]", encoding="utf-8")


@pytest.fixture
def cavatica(tmp_path: Path) -> Iterator[Cavatica]:
    """Start a simulated CAVATICA with five exports."""
    simulator = Simulator(token=TOKEN)
    with serve(simulator) as url:
        yield Cavatica(simulator, url, tmp_path)


def noting(asked: threading.Event) -> Callable[[Request], bool]:
    """Return a fault that matches every request and records that there was one."""

    def note(_: Request) -> bool:
        asked.set()
        return True

    return note


@pytest.fixture
def profiles() -> Iterator[Path]:
    """Return the path for the official client's credentials file."""
    file = Path.home() / ".sevenbridges" / "credentials"
    file.parent.mkdir(exist_ok=True)
    yield file
    file.unlink(missing_ok=True)


# Ends that are not a start.


def test_the_version_has_the_revision_and_python(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` says all that a report of an error needs, and exits 0."""
    assert run("--version") == 0
    python = sys.version.split()[0]
    assert re.fullmatch(
        rf"cavatica-exporter {__version__} \(revision: \w+, python {python}\)\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize(
    ("direct_url", "commit"),
    [
        ('{"url": "x", "vcs_info": {"vcs": "git", "commit_id": "0123abc"}}', "0123abc"),
        ('{"url": "file:///x", "dir_info": {"editable": true}}', "unknown"),
        (None, "unknown"),
    ],
)
def test_the_revision_is_what_pip_noted(
    direct_url: str | None,
    commit: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A package that was installed from a commit says which (PEP 610)."""
    info = tmp_path / "cavatica_export_exporter-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: cavatica-export-exporter\n", encoding="utf-8")
    if direct_url:
        (info / "direct_url.json").write_text(direct_url, encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert run("--version") == 0
    assert f"(revision: {commit}, " in capsys.readouterr().out


def test_the_revision_is_what_the_build_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a record of pip, the revision is the one of the build."""
    file = tmp_path / "_revision"
    file.write_text("0123abc\n", encoding="utf-8")
    monkeypatch.setattr(revision, "_FILE", file)
    assert run("--version") == 0
    assert "(revision: 0123abc, " in capsys.readouterr().out


def test_a_package_that_is_not_installed_has_no_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m exporter` works in an unpacked archive, too."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert run("--version") == 0
    assert "(revision: unknown, " in capsys.readouterr().out


def test_help_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    """Help is printed to standard output, with status 0."""
    assert run("--help") == 0
    assert capsys.readouterr().out.startswith("Usage: cavatica-exporter [OPTIONS]")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (
            ["--exports.path=x"],
            "there is no token: write it to a file and pass",
        ),
        ([], "--exports.path is missing: name the file or directory with the IDs"),
        (["--exports.path="], "'--exports.path': must not be empty (use a path)"),
        (["--api.timeout=5"], "'--api.timeout': not a valid duration: '5' (use 500ms, 30s"),
        (["--once=1"], "'--once' does not take a value"),
        (["--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["--exports.path=x", "--api.token-file=/no/such"], "--api.token-file /no/such cannot be"),
        (["--exports.path=x", "--api.profile=p"], "has no section [p], which --api.profile names"),
        (
            ["--exports.path=x", "--api.url=http://api.example/v2"],
            "--api.url: must begin with",
        ),
    ],
)
def test_what_cannot_be_started_is_one_line_and_status_2(
    flags: list[str],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A failed start prints one line with cause, place and remedy, and exits 2."""
    if "there is no token" not in problem:
        monkeypatch.setenv("SB_AUTH_TOKEN", TOKEN)
    assert run(*flags) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err.startswith("cavatica-exporter: ")
    assert problem in written.err
    assert written.err.count("\n") == 1
    assert TOKEN not in written.err


@pytest.mark.parametrize("mode", [["--once"], [LOOPBACK]])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "exports: cannot be read: No such file or directory"),
        ("batch: {}\nexport_ids: []", "bad.yml:1: batch must be a name"),
    ],
)
def test_nothing_to_watch_because_of_errors_is_no_start(
    mode: list[str],
    content: str | None,
    problem: str,
    cavatica: Cavatica,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A missing path, or files of which none can be read, are status 2."""
    (cavatica.exports / "five.yml").unlink()
    if content is None:
        cavatica.exports.rmdir()
    else:
        (cavatica.exports / "bad.yml").write_text(content, encoding="utf-8")
    assert run(*cavatica.flags, *mode) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("cavatica-exporter: --exports.path: no ID file can be read: ")
    assert last.endswith(problem)


@pytest.mark.parametrize("flag", ["--config.check", "--once"])
def test_the_token_among_the_ids_is_an_error(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    """It is neither watched nor quoted; the error says where it is."""
    (cavatica.exports / "token.txt").write_text(f"{TOKEN}\n", encoding="utf-8")
    assert run(*cavatica.flags, flag) == (1 if flag == "--config.check" else 0)
    written = capsys.readouterr()
    assert "token.txt:1: holds the API's token" in written.err
    assert TOKEN not in written.out + written.err


def test_an_empty_directory_is_fine(cavatica: Cavatica, capsys: pytest.CaptureFixture[str]) -> None:
    """An empty directory is valid: nothing is watched, and no call is made."""
    (cavatica.exports / "five.yml").unlink()
    assert run(*cavatica.flags, "--once") == 0
    assert "\ncavatica_up 1.0\n" in capsys.readouterr().out
    assert not cavatica.simulator.requests


def test_one_broken_file_of_several_is_no_reason_not_to_start(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """One broken file does not prevent the start; the log names it."""
    (cavatica.exports / "bad.yml").write_text("batch: {}\nexport_ids: []", encoding="utf-8")
    assert run(*cavatica.flags, "--once") == 0
    written = capsys.readouterr()
    assert 'cavatica_exporter_watchlist_file_error{file="bad.yml"} 1.0' in written.out
    assert "bad.yml:1: batch must be a name" in written.err


@pytest.mark.parametrize("busy", [0, 1])
def test_a_port_in_use_is_one_line_and_status_2(
    busy: int, cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port in use is an error with status 2, also for the second address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        flags = [LOOPBACK, f"--web.listen-address=127.0.0.1:{taken.getsockname()[1]}"]
        assert run(*cavatica.flags, *flags[1 - busy :]) == 2
    *log, last = capsys.readouterr().err.splitlines()
    assert len(log) == busy
    for line in log:
        port = int(line.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert re.fullmatch(
        r"cavatica-exporter: --web\.listen-address: cannot listen on 127\.0\.0\.1:\d+: Address"
        r" already in use",
        last,
    )


def test_a_web_configuration_that_cannot_be_used_is_status_2(
    cavatica: Cavatica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A start with an invalid web configuration fails instead of serving without protection."""
    (tmp_path / "web.yml").write_text("tls_server_confg: {}", encoding="utf-8")
    assert run(*cavatica.flags, f"--web.config.file={tmp_path}/web.yml", LOOPBACK) == 2
    assert "did you mean tls_server_config" in capsys.readouterr().err


# --config.check


def test_a_check_says_what_would_be_watched(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check prints what would be watched, exits 0, and makes no API call."""
    (cavatica.exports / "odd.csv").write_text("export_id\nfine\nNA", encoding="utf-8")
    assert run(*cavatica.flags, "--config.check", "--log.level=warn") == 0
    written = capsys.readouterr()
    lines = written.out.splitlines()
    assert lines[0] == f"API: {cavatica.url}, token: --api.token-file"
    assert lines[1] == "2 ID files, 6 export IDs in 2 batches"
    assert "  odd: 1, refused: 1 (by code: none: 1)" in lines
    # Once: what the log would say of the files is printed.
    assert written.err == ""
    assert not cavatica.simulator.requests


def test_a_check_warns_of_what_has_no_effect(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """An acknowledged ID that no file lists may be mistyped: a warning, and no error."""
    (cavatica.exports / "done.yml").write_text("acknowledged: [mistyped]\n", encoding="utf-8")
    assert run(*cavatica.flags, "--config.check") == 0
    written = capsys.readouterr()
    assert written.out.splitlines()[-1] == (
        "warning: done.yml: acknowledged IDs that no ID file lists: mistyped"
    )
    assert written.err == ""


@pytest.mark.parametrize("content", [b"", bytes(64)], ids=["empty", "NUL"])
def test_a_check_and_a_start_fail_for_a_file_that_lost_its_content(
    cavatica: Cavatica, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise a restart would end the error, and watch nothing."""
    for path in cavatica.exports.iterdir():
        path.unlink()
    (cavatica.exports / "a.txt").write_bytes(content)
    assert run(*cavatica.flags, "--config.check", "--log.level=warn") == 1
    assert "a.txt:" in capsys.readouterr().err
    assert run(*cavatica.flags, LOOPBACK) == 2
    assert "--exports.path: no ID file can be read: a.txt:" in capsys.readouterr().err


def test_a_check_fails_for_ids_that_are_not_valid(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each invalid ID is an error of the check, printed once with file and line."""
    (cavatica.exports / "odd.yml").write_text("- fine\n- b\u00a0\n", encoding="utf-8")
    (cavatica.exports / "notes.md").touch()
    assert run(*cavatica.flags, "--config.check") == 1
    written = capsys.readouterr()
    assert written.err == 'odd.yml:2: not a valid export ID: "b\\xa0"\n'
    # The rest is printed, too.
    assert "ignored files: 1" in written.out.splitlines()


def test_a_check_lists_every_error(
    cavatica: Cavatica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A check prints every error of files, token and web configuration once, and exits 1."""
    (cavatica.exports / "bad-1.yml").write_text("batch: {}\nexport_ids: []", encoding="utf-8")
    (cavatica.exports / "bad-2.json").write_text("[", encoding="utf-8")
    cavatica.token_file.unlink()
    web = tmp_path / "web.yml"
    web.write_text("tls: {}", encoding="utf-8")
    assert run(*cavatica.flags, "--config.check", f"--web.config.file={web}") == 1
    written = capsys.readouterr()
    assert written.out.startswith("3 ID files, 5 export IDs in 1 batch\n")
    begins = ["bad-1.yml:1: ", "bad-2.json:1: ", "--api.token-file ", "--web.config.file: "]
    for begin, line in zip(begins, written.err.splitlines(), strict=True):
        assert line.startswith(begin)


def test_an_error_of_the_system_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine without a directory for temporary files cannot run the demo."""
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert run("--demo", "--config.check") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("cavatica-exporter: /nowhere/cavatica-demo-")
    assert line.endswith(": No such file or directory")


def test_start_without_threads_is_one_line_and_status_2(cavatica: Cavatica) -> None:
    """A limit of processes is no unexpected error."""
    program = "import threading; threading.stack_size(1 << 46); from exporter.cli.command import *"
    command = (sys.executable, "-c", f"{program}; main()")
    ended = run_process([*cavatica.flags, LOOPBACK], command=command)
    problem = "no thread can be started (see ulimit -u, and the container's limit of processes)"
    assert (ended.returncode, ended.stderr) == (2, f"cavatica-exporter: {problem}\n")


def test_output_of_a_scrape_requires_a_single_scrape(
    cavatica: Cavatica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --once the file would never be written."""
    assert run(*cavatica.flags, f"--once.output={tmp_path}/page", LOOPBACK) == 2
    assert capsys.readouterr().err == "cavatica-exporter: --once.output requires --once\n"


def test_state_file_that_cannot_be_written_is_logged_at_the_start(
    cavatica: Cavatica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first write would show it only after the first scrape."""
    with serving(*cavatica.flags, LOOPBACK, f"--exports.state-file={tmp_path}/no/file"):
        assert 'msg="State file cannot be written"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("place", "name", "waiting_for"),
    [
        (service, "find_credentials", '"the token"'),
        (service, "WebConfigFile", "--web.config.file"),
        (WatchlistLoader, "load", "--exports.path"),
    ],
)
def test_start_that_waits_for_a_file_is_logged(
    cavatica: Cavatica,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: object,
    name: str,
    waiting_for: str,
) -> None:
    """A start on a file server that does not answer is not silent."""
    monkeypatch.setattr(service, "_LATE_SECONDS", 0.05)
    read = getattr(place, name)
    late = f'msg="Start not finished yet" waiting_for={waiting_for}\n'
    log = ""

    def logged() -> bool:
        nonlocal log
        log += capsys.readouterr().err
        return late in log

    def read_late(*arguments: object, **keywords: object) -> object:
        wait_until(logged, "it is logged")
        return read(*arguments, **keywords)

    monkeypatch.setattr(place, name, read_late)
    (tmp_path / "web.yml").write_text("rate_limit: {interval: 1s, burst: 9}", encoding="utf-8")
    with serving(*cavatica.flags, LOOPBACK, f"--web.config.file={tmp_path}/web.yml"):
        assert log.count(late) == 1


@pytest.mark.parametrize("level", ["info", "debug"])
def test_what_nobody_thought_of_is_one_line_and_status_2(
    level: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its text can hold anything, so only its type is shown; the traceback is for debugging."""
    monkeypatch.setattr(tempfile, "tempdir", 7)
    assert run("--demo", "--config.check", f"--log.level={level}") == 2
    err = capsys.readouterr().err
    assert err.endswith(
        "cavatica-exporter: unexpected error: TypeError (for details use --log.level=debug)\n"
    )
    assert ("Traceback" in err) == (level == "debug")


def test_a_check_can_ask_whose_token_it_is(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """One call, for jobs belong to the account that started them."""
    assert run(*cavatica.flags, "--config.check.api") == 0
    assert capsys.readouterr().out.splitlines()[1] == "token accepted: it belongs to rfranklin"
    assert [request.path for request in cavatica.simulator.requests] == ["/v2/user"]


def test_a_check_says_that_the_token_is_refused(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """A refused token is printed with the reason of the metrics."""
    cavatica.token_file.write_text("another", encoding="utf-8")
    assert run(*cavatica.flags, "--config.check.api") == 1
    assert f"{cavatica.url}: auth: HTTP 401" in capsys.readouterr().err


def test_a_check_warns_of_a_url_that_is_not_the_apis(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """The check warns of a URL that does not end in /v2."""
    url = cavatica.url.removesuffix("/v2")
    assert run(*cavatica.flags, f"--api.url={url}", "--config.check") == 0
    assert f"warning: {url} does not end in /v2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "Is a directory; it will not be overwritten until it can be read"),
        ("token", "not a state file of this exporter; it will not be overwritten"),
        ("no/file", "the directory is missing, or does not allow this user to write"),
        ("new", None),
    ],
)
def test_check_covers_the_state_file(
    cavatica: Cavatica,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    problem: str | None,
) -> None:
    """An unusable state file is an error, printed once; nothing is written."""
    path = tmp_path / name
    files = sorted(tmp_path.iterdir())
    status = run(*cavatica.flags, "--config.check", f"--exports.state-file={path}")
    assert status == (0 if problem is None else 1)
    assert capsys.readouterr().err == (
        "" if problem is None else f"--exports.state-file {path}: {problem}\n"
    )
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.parametrize("flag", ["--config.check", "--config.check.api"])
def test_a_check_finds_variables_that_no_call_can_use(
    cavatica: Cavatica,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    flag: str,
) -> None:
    """Each is printed once: no call is made that would fail for the same reason."""
    (tmp_path / "empty.pem").touch()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{tmp_path}/empty.pem")
    monkeypatch.setenv("https_proxy", "socks5://me:a-secret@localhost:1")
    assert run(*cavatica.flags, "--api.url=https://localhost:1/v2", flag) == 1
    assert capsys.readouterr().err.splitlines() == [
        "https_proxy: not a valid proxy URL (use http://HOST:PORT or https://HOST:PORT)",
        f"REQUESTS_CA_BUNDLE: {tmp_path}/empty.pem holds no certificates (PEM)",
    ]


def test_an_unknown_variable_is_warned_of(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown variable is ignored, with a warning."""
    monkeypatch.setenv("CAVATICA_EXPORTER_API_TIMOUT", "5s")
    assert run(*cavatica.flags, "--config.check") == 0
    assert (
        'msg="Ignoring unknown environment variable" variable=CAVATICA_EXPORTER_API_TIMOUT'
        in capsys.readouterr().err
    )


def test_a_check_needs_its_path(capsys: pytest.CaptureFixture[str]) -> None:
    """A missing flag is a missing flag, and a missing path an error."""
    assert run("--config.check") == 2
    assert "--exports.path is missing" in capsys.readouterr().err
    assert run("--config.check", "--exports.path=/no/such/path") == 1
    assert "/no/such/path: cannot be read" in capsys.readouterr().err


# --once


def test_once_prints_one_scrape(cavatica: Cavatica, capsys: pytest.CaptureFixture[str]) -> None:
    """To standard output, in the text format; the log goes to standard error."""
    assert run(*cavatica.flags, "--once") == 0
    written = capsys.readouterr()
    assert "\ncavatica_up 1.0\n" in written.out
    assert 'cavatica_exports{batch="five",state="PENDING"} 5.0\n' in written.out
    assert "process_start_time_seconds" in written.out
    assert all(line.startswith("ts=") for line in written.err.splitlines())
    assert len(cavatica.simulator.requests) == 1


def test_once_exits_1_when_the_api_does_not_answer(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--once` prints the scrape and exits 1 if the API does not answer."""
    cavatica.simulator.fault = Fault(status=500)
    assert run(*cavatica.flags, "--once", "--log.format=json") == 1
    written = capsys.readouterr()
    assert "\ncavatica_up 0.0\n" in written.out
    assert 'cavatica_exports{batch="five",state="UNKNOWN"} 5.0\n' in written.out
    assert json.loads(written.err.splitlines()[-1])["err"].startswith("server_error: HTTP 500")


def test_once_ends_by_its_timeout(cavatica: Cavatica, capsys: pytest.CaptureFixture[str]) -> None:
    """`--once` has no scraper, so `--api.timeout` limits its scrape."""
    cavatica.simulator.fault = Fault(delay=30)
    assert run(*cavatica.flags, "--once", "--api.timeout=1s") == 1
    page = Page.of(capsys.readouterr().out)
    assert page("cavatica_up") == 0
    assert 0 < (page("cavatica_scrape_duration_seconds") or 0) < 8  # the default is 10 s


def test_once_can_write_to_a_file(
    cavatica: Cavatica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is there as a whole, and node_exporter may read it; nothing is printed."""
    file = tmp_path / "exports.prom"
    # Left by a process that was killed.
    stale = tmp_path / ".exports.prom.old_0001.tmp"
    stale.touch()
    os.utime(stale, (time.time() - 3700,) * 2)
    assert run(*cavatica.flags, "--once", f"--once.output={file}") == 0
    assert capsys.readouterr().out == ""
    assert Page.of(file.read_text(encoding="utf-8"))("cavatica_up") == 1
    assert file.stat().st_mode & 0o777 == 0o644
    assert [*tmp_path.glob(".exports*")] == []


def test_a_file_that_cannot_be_written_is_one_line_and_status_2(
    cavatica: Cavatica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An output file in a missing directory is an error with status 2."""
    file = tmp_path / "none" / "exports.prom"
    flags = ("--once", f"--once.output={file}")
    assert run(*cavatica.flags, *flags, "--log.level=error") == 2
    problem = f"--once.output {file}: cannot be written: No such file or directory"
    assert capsys.readouterr().err == f"cavatica-exporter: {problem}\n"


def test_a_file_has_no_process_metrics(
    cavatica: Cavatica, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Node exporter's are not repeated in the file of its textfile collector; a print has them."""
    file = tmp_path / "exports.prom"
    assert run(*cavatica.flags, "--once", f"--once.output={file}") == 0
    names = {line.split("_")[0] for line in file.read_text().splitlines() if line[0] != "#"}
    assert names == {"cavatica"}
    assert run(*cavatica.flags, "--once") == 0
    assert "\nprocess_cpu_seconds_total " in capsys.readouterr().out


def test_process_metrics_can_be_left_out(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """Process metrics can be disabled."""
    assert run(*cavatica.flags, "--once", "--web.disable-exporter-metrics") == 0
    text = capsys.readouterr().out
    assert "cavatica_exporter_build_info" in text
    assert "process_" not in text
    assert "python_" not in text


def test_error_messages_are_shown_only_on_request(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """Error messages, which can hold file names, are shown only with the flag."""
    error = {"status": 403, "code": 9103, "message": "No access to patient-7.cram"}
    cavatica.simulator.put({"id": "failed", "state": "FAILED", "error": error})
    cavatica.write("five.yml", "failed")
    assert run(*cavatica.flags, "--once") == 0
    assert "patient-7" not in capsys.readouterr().out
    assert run(*cavatica.flags, "--once", "--exports.expose-error-messages") == 0
    assert 'message="No access to patient-7.cram"' in capsys.readouterr().out


def test_advance_access_is_asked_for_only_on_request(cavatica: Cavatica) -> None:
    """Advance access is requested only with the flag."""
    assert run(*cavatica.flags, "--once") == 0
    assert run(*cavatica.flags, "--once", "--api.advance-access") == 0
    sent = [r.headers.get("x-sbg-advance-access") for r in cavatica.simulator.requests]
    assert sent == [None, "advance"]


def test_variables_do_what_flags_do(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Environment variables can replace all flags."""
    monkeypatch.setenv("CAVATICA_EXPORTER_EXPORTS_PATH", str(cavatica.exports))
    monkeypatch.setenv("CAVATICA_EXPORTER_ONCE", "true")
    monkeypatch.setenv("SB_API_ENDPOINT", cavatica.url)
    monkeypatch.setenv("SB_AUTH_TOKEN", TOKEN)
    assert run() == 0
    assert "\ncavatica_up 1.0\n" in capsys.readouterr().out


def test_without_a_home_there_are_no_profiles(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's user may have none; with a token file that is no error."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 3)
    assert run(*cavatica.flags, "--once") == 0


# Serving.


def test_it_serves_until_a_signal_ends_it(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGTERM and SIGINT end it with status 0; the log says where it listened."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with serving(*cavatica.flags, LOOPBACK) as exporter:
            assert exporter.scrape()("cavatica_up") == 1
            assert exporter.stop(number) == 0
        log = capsys.readouterr().err
        assert f"msg=Listening url={exporter.urls[0]}\n" in log
        assert f'msg="Shutting down" signal={number.name}\n' in log
        with pytest.raises(requests.ConnectionError):
            exporter.get("/")


class Cycle:
    """An object that only the garbage collector can free."""

    def __init__(self) -> None:
        self.itself = self


def is_collected(*kinds: type) -> bool:
    """Return whether collections visit an object of one of these types."""
    return any(type(each) in kinds for each in gc.get_objects())


def test_collections_skip_what_the_start_creates(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most of it stays; what requests left behind meanwhile is collected before."""
    garbage: list[weakref.ref[Cycle]] = []

    class Littering(Server):
        def start(self) -> None:
            garbage.append(weakref.ref(Cycle()))
            super().start()

    monkeypatch.setattr(service, "Server", Littering)
    batch = Batch("b", (), Totals())
    assert is_collected(Batch)
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        assert not is_collected(Batch)
        assert [each() for each in garbage] == [None]
        exporter.scrape()
        assert is_collected(Batch)
    del batch


def test_garbage_is_not_collected_while_the_state_file_is_read(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start with many exports is faster; what follows may wait for a file server."""
    is_on = []
    is_skipped = []

    class Unwired:
        def __init__(self, *_: object) -> None:
            is_on.append(gc.isenabled())
            self.made = Cycle()
            is_skipped.append(not is_collected(Cycle))

        def serve(self, _: object) -> int:
            is_on.append(gc.isenabled())
            is_skipped.append(not is_collected(Cycle))
            return 0

    def fail(*_: object) -> None:
        raise StartError

    monkeypatch.setattr(command, "Exporter", Unwired)
    assert run(*cavatica.flags, LOOPBACK) == 0
    assert is_on == [False, True]
    assert is_skipped == [False, True]
    monkeypatch.setattr(command, "Exporter", fail)
    assert run(*cavatica.flags, LOOPBACK) == 2
    assert gc.isenabled()


def test_it_listens_on_several_addresses(cavatica: Cavatica) -> None:
    """All listen addresses answer the same."""
    flags = ("--web.listen-address=127.0.0.1:0", "--web.listen-address=[::1]:0")
    with serving(*cavatica.flags, *flags) as exporter:
        assert [url.rpartition(":")[0] for url in exporter.urls] == [
            "http://127.0.0.1",
            "http://[::1]",
        ]
        for url in exporter.urls:
            assert "cavatica_up 1.0" in requests.get(f"{url}/metrics", timeout=PATIENCE).text


def test_an_address_without_a_host_is_ipv4_and_ipv6(cavatica: Cavatica) -> None:
    """`:0` listens on a free port of all addresses."""
    with serving(*cavatica.flags, "--web.listen-address=:0") as exporter:
        port = exporter.urls[0].rpartition(":")[2]
        assert exporter.urls == [f"http://localhost:{port}"]
        for host in ("127.0.0.1", "[::1]"):
            assert requests.get(f"http://{host}:{port}/-/ready", timeout=PATIENCE).ok


def test_http_over_the_wire(cavatica: Cavatica) -> None:
    """HEAD has no body, 405 says what is allowed, 404 is 404, and gzip is on request."""
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        address = exporter.urls[0].removeprefix("http://")

        def ask(
            method: str, path: str, **headers: str
        ) -> tuple[int, http.client.HTTPMessage, bytes]:
            connection = http.client.HTTPConnection(address, timeout=PATIENCE)
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            try:
                return response.status, response.headers, response.read()
            finally:
                connection.close()

        status, headers, body = ask("HEAD", "/metrics")
        assert (status, body) == (200, b"")
        assert int(headers["Content-Length"]) > 1000
        status, headers, _ = ask("POST", "/metrics")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert ask("GET", "/nothing")[0] == 404
        _, headers, body = ask("GET", "/metrics")
        assert headers["Content-Encoding"] is None
        assert b"\ncavatica_up 1.0\n" in body
        _, headers, body = ask("GET", "/metrics", **{"Accept-Encoding": "gzip"})
        assert headers["Content-Encoding"] == "gzip"
        assert body[:2] == b"\x1f\x8b"


def test_the_probes_never_ask_the_api(cavatica: Cavatica) -> None:
    """The probes make no API call and succeed without the API."""
    cavatica.simulator.fault = Fault(status=503)
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        assert exporter.get("/-/healthy").ok
        assert exporter.get("/-/ready").ok
        assert exporter.get("/").ok
    assert not cavatica.simulator.requests


def test_the_answer_is_200_whatever_the_api_does(cavatica: Cavatica) -> None:
    """The answer is 200 also without the API; `cavatica_up` is 0."""
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        for status in (401, 500, 503):
            cavatica.simulator.fault = Fault(status=status)
            assert exporter.scrape()("cavatica_up") == 0


def test_a_scrape_ends_before_its_scraper_gives_up(cavatica: Cavatica) -> None:
    """A scrape answers before its scraper times out; an invalid timeout is ignored."""
    timeout = {"X-Prometheus-Scrape-Timeout-Seconds": "0.2"}
    nonsense = {"X-Prometheus-Scrape-Timeout-Seconds": "soon"}
    with serving(*cavatica.flags, LOOPBACK, "--api.timeout=100ms") as exporter:
        cavatica.simulator.fault = Fault(delay=5)
        for headers in (timeout, nonsense, {}):
            page = exporter.scrape(**headers)
            assert page("cavatica_up") == 0
            assert 0.05 < (page("cavatica_scrape_duration_seconds") or 0) < 2


def test_the_offset_is_taken_off_the_scrapers_timeout(cavatica: Cavatica) -> None:
    """With an offset of 0 s a scrape may take all the time that its scraper waits."""
    cavatica.simulator.fault = Fault(delay=5)
    with serving(*cavatica.flags, LOOPBACK, "--web.timeout-offset=0s") as exporter:
        page = exporter.scrape(**{"X-Prometheus-Scrape-Timeout-Seconds": "0.3"})
    assert (page("cavatica_scrape_duration_seconds") or 0) > 0.25


def test_the_quota_share_bounds_the_calls_of_a_scrape(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calls beyond the first are made only as far as the account's rate limit allows."""
    cavatica.write("many.yml", *cavatica.simulator.start(200))
    assert run(*cavatica.flags, "--once", "--api.quota-share=0.001") == 0
    assert "\ncavatica_scrape_api_calls 1.0\n" in capsys.readouterr().out
    assert run(*cavatica.flags, "--once") == 0
    assert "\ncavatica_scrape_api_calls 3.0\n" in capsys.readouterr().out


def test_two_scrapers_at_once_make_no_call_twice(cavatica: Cavatica) -> None:
    """Share the running scrape's result with a second scraper."""
    cavatica.simulator.fault = Fault(delay=2)
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        ups: list[float | None] = []
        scrapers = [
            threading.Thread(target=lambda: ups.append(exporter.scrape()("cavatica_up")))
            for _ in range(4)
        ]
        for scraper in scrapers:
            scraper.start()
        for scraper in scrapers:
            scraper.join()
    assert ups == [1, 1, 1, 1]
    assert len(cavatica.simulator.requests) == 1


def test_metrics_can_be_at_another_path(cavatica: Cavatica) -> None:
    """The metrics can have another path, to which the status page links."""
    with serving(*cavatica.flags, LOOPBACK, "--web.telemetry-path=/exports") as exporter:
        assert "cavatica_up" in exporter.get("/exports").text
        assert 'href="./exports"' in exporter.get("/").text
        assert exporter.get("/metrics").status_code == 404


def test_a_new_token_holds_from_the_next_scrape(cavatica: Cavatica) -> None:
    """A new token is used from the next scrape on, without a reload."""
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        assert exporter.scrape()("cavatica_up") == 1
        cavatica.token_file.write_text(OTHER, encoding="utf-8")
        assert exporter.scrape()("cavatica_up") == 0
        cavatica.token_file.write_text(TOKEN + "\n", encoding="utf-8")
        assert exporter.scrape()("cavatica_up") == 1
    assert cavatica.tokens == [TOKEN, OTHER, TOKEN]


def test_sighup_reads_profiles_again(cavatica: Cavatica, profiles: Path) -> None:
    """SIGHUP reads profiles again, which scrapes do not."""
    text = "[default]\napi_endpoint = {}\nauth_token = {}\n"
    profiles.write_text(text.format(cavatica.url, OTHER), encoding="utf-8")
    with serving(cavatica.flags[0], LOOPBACK) as exporter:
        assert exporter.scrape()("cavatica_up") == 0
        profiles.write_text(text.format(cavatica.url, TOKEN), encoding="utf-8")
        assert exporter.scrape()("cavatica_up") == 0
        exporter.send(signal.SIGHUP)
        wait_until(lambda: exporter.scrape()("cavatica_up") == 1, "the new token is used")


def test_sighup_without_a_token_changes_nothing(
    cavatica: Cavatica, profiles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a token, SIGHUP keeps the last one, and logs that."""
    profiles.write_text(f"[p]\napi_endpoint={cavatica.url}\nauth_token={TOKEN}", encoding="utf-8")
    with serving(cavatica.flags[0], "--api.profile=p", LOOPBACK) as exporter:
        logging.getLogger("exporter").addHandler(caplog.handler)
        try:
            profiles.unlink()
            exporter.send(signal.SIGHUP)
            wait_until(
                lambda: "Token not reloaded; the last one stays in use" in caplog.messages,
                "it is logged",
            )
        finally:
            logging.getLogger("exporter").removeHandler(caplog.handler)
        assert exporter.scrape()("cavatica_up") == 1


def test_sighup_does_not_take_a_token_to_another_url(
    cavatica: Cavatica, profiles: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A reload does not change URL or token to those of another API."""
    profiles.write_text(f"[p]\napi_endpoint={cavatica.url}\nauth_token={TOKEN}", encoding="utf-8")
    with serving(cavatica.flags[0], "--api.profile=p", LOOPBACK) as exporter:
        logging.getLogger("exporter").addHandler(caplog.handler)
        try:
            profiles.write_text(
                f"[p]\napi_endpoint=https://other.example/v2\nauth_token={OTHER}", encoding="utf-8"
            )
            exporter.send(signal.SIGHUP)
            wait_until(
                lambda: "API URL changed; restart to apply" in caplog.messages, "it is logged"
            )
        finally:
            logging.getLogger("exporter").removeHandler(caplog.handler)
        assert exporter.scrape()("cavatica_up") == 1
    assert cavatica.tokens == [TOKEN]


def test_a_reload_that_fails_unexpectedly_changes_nothing(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reload with an unexpected error changes nothing; the log names the error's type."""

    def fail(_: Credentials) -> None:
        raise TypeError("a secret")

    monkeypatch.setattr(Credentials, "reload", fail)
    log = ""

    def failed() -> bool:
        nonlocal log
        log += capsys.readouterr().err
        return 'err="unexpected error: TypeError (for details' in log

    with serving(*cavatica.flags, LOOPBACK) as exporter:
        exporter.send(signal.SIGHUP)
        wait_until(failed, "the reload fails")
        assert exporter.scrape()("cavatica_up") == 1
    assert "a secret" not in log


def test_sighup_reads_id_files_again(cavatica: Cavatica) -> None:
    """SIGHUP reads all ID files again, even unchanged ones."""
    name = "cavatica_exporter_watchlist_last_reload_success_timestamp_seconds"
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        before = exporter.scrape()(name)
        assert before
        assert exporter.scrape()(name) == before
        exporter.send(signal.SIGHUP)
        wait_until(lambda: (exporter.scrape()(name) or 0) > before, "they are read again")


def test_sighup_reads_the_web_configuration_again(cavatica: Cavatica, tmp_path: Path) -> None:
    """One that protects less than before takes a signal."""
    web = tmp_path / "web.yml"
    hashed = "$2y$04$5Cm1LbZVBXIk7d8BEu0vyOgAiJGuPAUnkEoCWXsBQOZkjOG9Bxz3S"
    web.write_text(f"basic_auth_users:\n  me: {hashed}\n", encoding="utf-8")
    with serving(*cavatica.flags, LOOPBACK, f"--web.config.file={web}") as exporter:
        assert exporter.get("/metrics").status_code == 401
        web.write_text("rate_limit: {interval: 1s, burst: 1000}\n", encoding="utf-8")
        assert exporter.get("/metrics").status_code == 401
        exporter.send(signal.SIGHUP)
        wait_until(lambda: exporter.get("/metrics").status_code == 200, "it is read again")


def test_a_reload_that_hangs_holds_up_no_other(
    cavatica: Cavatica,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The web configuration is read while the token hangs; later signals are remembered as one."""
    reloads: list[str] = []
    answers = threading.Event()

    def hang(_: Credentials) -> None:
        reloads.append(threading.current_thread().name)
        assert answers.wait(PATIENCE)

    monkeypatch.setattr(Credentials, "reload", hang)
    web = tmp_path / "web.yml"
    log = ""

    def logged(text: str, count: int) -> bool:
        nonlocal log
        log += capsys.readouterr().err
        return log.count(text) == count

    web.write_text("rate_limit: {interval: 1s, burst: 1000}\n", encoding="utf-8")
    with serving(*cavatica.flags, LOOPBACK, f"--web.config.file={web}") as exporter:
        for number in range(1, 4):
            if number == 3:
                # Earlier, it might be told after each signal.
                monkeypatch.setattr("exporter.cli.reloads._LATE_SECONDS", 0.05)
            exporter.send(signal.SIGHUP)
            wait_until(partial(logged, "Web configuration reloaded", number), "it is read again")
            wait_until(partial(logged, 'msg="ID files loaded"', 1 + number), "they are read again")
            wait_until(lambda: bool(reloads), "the token is looked for")
            threads = [thread.name for thread in threading.enumerate()]
            assert threads.count("reload token") == 1
        late = 'msg="Earlier reload not finished; another follows it" of=token'
        wait_until(partial(logged, late, 2), "it is told that they are remembered")
        wait_until(partial(logged, 'msg="Reload not finished yet', 1), "it is told that it hangs")
        assert reloads == ["reload token"]
        answers.set()
        wait_until(lambda: len(reloads) == 2, "the last signals are made up for")
        wait_until(
            lambda: "reload token" not in {thread.name for thread in threading.enumerate()},
            "the thread ends",
        )
    assert len(reloads) == 2


def test_hanging_reload_is_logged_although_no_other_thread_can_be_started(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reload that was begun hangs; the log says so, and no other reload is reported."""
    monkeypatch.setattr("exporter.cli.reloads._LATE_SECONDS", 1.0)
    answers = threading.Event()
    monkeypatch.setattr(Credentials, "reload", lambda _: answers.wait(PATIENCE))
    start = threading.Thread.start

    def start_some(thread: threading.Thread) -> None:
        if thread.name not in {"reload token", "ID files"}:
            raise RuntimeError("can't start new thread")
        start(thread)

    log = ""

    def logged(text: str) -> bool:
        nonlocal log
        log += capsys.readouterr().err
        return text in log

    with serving(*cavatica.flags, LOOPBACK) as exporter:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start_some)
            exporter.send(signal.SIGHUP)
            late = 'msg="Reload not finished yet; the last good content stays in effect" of=token'
            wait_until(partial(logged, late), "the hanging reload is logged")
        answers.set()
    assert log.count("Reload not finished yet") == 1


def test_a_reload_without_a_thread_is_told(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It never runs in the thread that waits for SIGTERM; a start without a thread fails."""

    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    log = ""

    def told() -> bool:
        nonlocal log
        log += capsys.readouterr().err
        return log.count('err="no thread can be started"') == len(("ID files", "token"))

    with serving(*cavatica.flags, LOOPBACK) as exporter:
        with monkeypatch.context() as patch:
            patch.setattr(background, "start", refuse)
            exporter.send(signal.SIGHUP)
            wait_until(told, "both reloads are told")
        assert exporter.scrape()("cavatica_up") == 1
    monkeypatch.setattr(background, "start", refuse)
    assert run(*cavatica.flags, LOOPBACK) == 2
    assert "--exports.path: not read, as no thread can be started" in capsys.readouterr().err


def test_it_serves_over_tls(cavatica: Cavatica, tmp_path: Path) -> None:
    """With the certificate that the web configuration names; the log says https."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    web = tmp_path / "web.yml"
    web.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}", encoding="utf-8")
    with serving(*cavatica.flags, LOOPBACK, f"--web.config.file={web}") as exporter:
        assert exporter.urls[0].startswith("https://127.0.0.1:")
        answer = requests.get(
            f"{exporter.urls[0]}/metrics", verify=str(tmp_path / "ca.pem"), timeout=PATIENCE
        )
        assert "cavatica_up 1.0" in answer.text


def test_a_scrape_under_way_is_answered_at_the_end(cavatica: Cavatica) -> None:
    """SIGTERM waits for it."""
    asked = threading.Event()
    cavatica.simulator.fault = Fault(delay=0.3, when=noting(asked))
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        pages: list[float | None] = []
        scraper = threading.Thread(target=lambda: pages.append(exporter.scrape()("cavatica_up")))
        scraper.start()
        assert asked.wait(PATIENCE)
        assert exporter.stop() == 0
        scraper.join()
    assert pages == [1]


def test_it_ends_well_where_the_system_has_no_thread(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that would hurry a scrape under way is not needed."""

    def refuse(_: threading.Timer) -> None:
        raise RuntimeError("can't start new thread")

    asked = threading.Event()
    cavatica.simulator.fault = Fault(delay=PATIENCE, when=noting(asked))
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        pages: list[float | None] = []
        scraper = threading.Thread(target=lambda: pages.append(exporter.scrape()("cavatica_up")))
        scraper.start()
        assert asked.wait(PATIENCE)
        monkeypatch.setattr(threading.Timer, "start", refuse)
        assert exporter.stop() == 0
        scraper.join()
    assert pages == [0]


def test_the_demo_says_what_to_open(capsys: pytest.CaptureFixture[str]) -> None:
    """The demo needs no flags, prints its links, and works."""
    with serving("--demo", LOOPBACK) as exporter:
        wait_until(lambda: exporter.get("/").ok, "it serves")
        page = exporter.scrape()
        assert exporter.stop() == 0
    assert page("cavatica_up") == 1
    assert page("cavatica_watched_exports", batch="lung-cohort") == 60
    assert page.all("cavatica_export_error_info")
    text = capsys.readouterr().out
    assert f"Open    {exporter.urls[0]}/\n" in text
    assert f"{exporter.urls[0]}/metrics\n" in text


@pytest.mark.slow
def test_the_token_is_in_nothing_that_is_written_or_served(
    cavatica: Cavatica, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in logs of any level and form, not in pages, whatever the API answers."""
    faults = [None, Fault(status=401), Fault(status=302, headers={"Location": "http://x/"})]
    faults += [Fault(body=TOKEN.encode()), Fault(headers={"Content-Length": TOKEN}), Fault(delay=9)]
    error = {"status": 404, "code": TOKEN, "message": "gone"}
    faults += [Fault(items=lambda items: [{"error": error} for _ in items])]
    served = []
    for style in ("logfmt", "json"):
        flags = (*cavatica.flags, LOOPBACK, "--log.level=debug", f"--log.format={style}")
        with serving(*flags, "--api.timeout=200ms") as exporter:
            for fault in faults:
                cavatica.simulator.fault = fault
                served.append(exporter.get("/metrics").text)
            cavatica.token_file.write_text(f"{TOKEN} and more", encoding="utf-8")
            exporter.send(signal.SIGHUP)
            served += [exporter.get(path).text for path in ("/metrics", "/", "/-/ready", "/x")]
            cavatica.token_file.write_text(TOKEN, encoding="utf-8")
    run(*cavatica.flags, "--config.check")
    run(*cavatica.flags, "--once")
    written = capsys.readouterr()
    assert "level=debug" in written.err
    assert TOKEN not in "".join((*served, written.out, written.err))


# As a process of its own.


@pytest.mark.slow
def test_the_command_is_installed() -> None:
    """As `cavatica-exporter`, beside the Python that it runs with."""
    command = Path(sys.executable).with_name("cavatica-exporter")
    ended = run_process(["--version"], command=[command])
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith(f"cavatica-exporter {__version__} (revision: ")


@pytest.mark.slow
def test_a_reader_that_goes_away_is_no_error(cavatica: Cavatica) -> None:
    """`--once | head` ends without a traceback."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        ended = run_process([*cavatica.flags, "--once"], stdout=stdout.fileno())
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    assert "Exception" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--once", "--config.check", "--version"])
def test_a_full_disk_is_one_line_and_status_2(cavatica: Cavatica, flag: str) -> None:
    """A page that could not be written, or not to its end, is not taken for one."""
    with Path("/dev/full").open("wb") as stdout:
        ended = run_process([*cavatica.flags, "--log.level=error", flag], stdout=stdout.fileno())
    expected = "cavatica-exporter: cannot write: No space left on device\n"
    assert (ended.returncode, ended.stderr) == (2, expected)


@pytest.mark.parametrize("stderr", [">/dev/full", ">&-"])
def test_log_that_cannot_be_written_changes_no_status(cavatica: Cavatica, stderr: str) -> None:
    """A full disk below the log is no failure; nor is a process without standard error."""
    command = ("sh", "-c", f'exec "$@" 2{stderr}', "sh", *MODULE)
    assert run_process(["--demo", "--once.output=x"], command=command).returncode == 2
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        flags = (*cavatica.flags, f"--web.listen-address=127.0.0.1:{port}")
        exporter = stack.enter_context(
            subprocess.Popen([*command, *flags], env=environment(PYTHONUNBUFFERED=""))
        )
        try:
            wait_until(lambda: is_ready(port), "it is ready")
        finally:
            exporter.terminate()
        assert exporter.wait(PATIENCE) == 0


def is_ready(port: int) -> bool:
    """Return whether an exporter on this port has loaded its ID files."""
    with contextlib.suppress(OSError):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == 200
    return False


@pytest.mark.slow
def test_ctrl_c_ends_a_single_scrape(cavatica: Cavatica, tmp_path: Path) -> None:
    """At once and without a traceback, with the status that shells know."""
    asked = threading.Event()
    cavatica.simulator.fault = Fault(delay=30, when=noting(asked))
    with process(tmp_path / "log", *cavatica.flags, "--once", ready="ID file loaded") as exporter:
        assert asked.wait(PATIENCE)
        assert exporter.stop(signal.SIGINT) == 130
        assert "Traceback" not in exporter.log


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_is_gone_within_5_s(
    number: signal.Signals, cavatica: Cavatica, tmp_path: Path
) -> None:
    """A scrape that waits for the API is answered early, with what is known; the status is 0."""
    asked = threading.Event()
    cavatica.simulator.fault = Fault(delay=30, when=noting(asked))
    timeout = {"X-Prometheus-Scrape-Timeout-Seconds": "20"}
    with process(tmp_path / "log", *cavatica.flags, LOOPBACK) as exporter:
        ups: list[float | None] = []
        scraper = threading.Thread(
            target=lambda: ups.append(exporter.scrape(**timeout)("cavatica_up"))
        )
        scraper.start()
        assert asked.wait(PATIENCE)
        with within(5):
            assert exporter.stop(number) == 0
        scraper.join()
    assert ups == [0]


@pytest.mark.slow
def test_a_scrape_is_in_time_while_the_file_server_hangs(
    cavatica: Cavatica, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known is asked for and shown; the files are blamed, not the API."""
    answers = threading.Event()
    answers.set()
    scandir = os.scandir

    def wait_and_scan(path: str) -> "contextlib.AbstractContextManager[object]":
        answers.wait()
        return scandir(path)

    timeout = {"X-Prometheus-Scrape-Timeout-Seconds": "3"}
    reloaded = "cavatica_exporter_watchlist_last_reload_successful"
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        monkeypatch.setattr(os, "scandir", wait_and_scan)
        assert exporter.scrape(**timeout)(reloaded) == 1
        try:
            answers.clear()
            for _ in range(2):
                with within(3):
                    page = exporter.scrape(**timeout)
                assert page("cavatica_up") == 1
                assert page("cavatica_watched_exports", batch="five") == 5
                assert page(reloaded) == 0
        finally:
            answers.set()
        cavatica.write("more.yml", *cavatica.simulator.start(2))
        page = exporter.scrape()
    assert page(reloaded) == 1
    assert page("cavatica_watched_exports", batch="more") == 2


@pytest.mark.parametrize("refused", [0, 2, 3])
def test_what_the_api_refused_is_shown(cavatica: Cavatica, refused: int) -> None:
    """A saved answer can have no refusals, some, or only refusals; then they are acknowledged."""
    error = {"status": 403, "code": 9006, "message": "an alias", "more_info": ""}
    items: list[dict[str, object]] = [{"resource": None, "error": error}] * refused
    items += [{"resource": {"id": i}} for i in cavatica.simulator.start(3 - refused)]
    answer = cavatica.exports / "answer.json"
    answer.write_text(json.dumps({"items": items}), encoding="utf-8")
    (cavatica.exports / "target.yml").write_text("batch: answer\nexpected: 3\n", encoding="utf-8")
    labels = {"batch": "answer"}
    with serving(*cavatica.flags, LOOPBACK) as exporter:
        page = exporter.scrape()
        done = "batch: answer\nrefusals_acknowledged: true\n"
        (cavatica.exports / "done.yml").write_text(done, encoding="utf-8")
        after = exporter.scrape()
    assert page("cavatica_up") == 1
    assert page("cavatica_watched_exports", **labels) == 3 - refused
    assert page("cavatica_expected_exports", **labels) == 3
    count = refused or None
    assert page("cavatica_refused_exports", **labels, code="9006") == count
    assert page("cavatica_acknowledged_refusals", **labels) == (0 if refused else None)
    assert page("cavatica_refused_exports_timestamp_seconds", **labels) == (
        answer.stat().st_mtime if refused else None
    )
    assert after("cavatica_acknowledged_refusals", **labels) == count


HANG = """
import os, sys, time
from functools import partial
from pathlib import Path
from exporter.cli.command import main

def scandir(path, real=os.scandir):
    while os.fspath(path) == {directory!r} and os.path.exists({file!r}):
        time.sleep(0.05)
    return real(path)

def open(path, *arguments, real=os.open):
    while os.path.exists({file!r} + "-" + os.path.basename(path)):
        time.sleep(0.05)
    return real(path, *arguments)

def replace(source, target, real=Path.replace):
    while os.path.exists({file!r} + "-replace"):
        time.sleep(0.05)
    return real(source, target)

os.scandir, os.open, Path.replace = scandir, open, replace
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at the start", "at a reload"])
def test_a_file_server_that_hangs_does_not_keep_the_process(
    when: str, cavatica: Cavatica, tmp_path: Path
) -> None:
    """SIGTERM ends it within 5 s, also while it starts or reloads."""
    hanging = tmp_path / "hanging"
    program = HANG.format(file=str(hanging), directory=str(cavatica.exports))
    if when == "at the start":
        hanging.touch()
    ready = "msg=Listening" if when == "at the start" else "msg=Ready"
    with process(
        tmp_path / "log",
        *cavatica.flags,
        LOOPBACK,
        ready=ready,
        command=(sys.executable, "-c", program),
    ) as exporter:
        hanging.touch()
        if when == "at a reload":
            exporter.send(signal.SIGHUP)
            wait_until(lambda: "msg=Reloading" in exporter.log, "it reloads")
        with within(5):
            assert exporter.stop() == 0


@pytest.mark.slow
def test_a_reload_that_hangs_does_not_keep_the_state_file_from_being_written(
    cavatica: Cavatica, tmp_path: Path
) -> None:
    """SIGTERM comes while the token cannot be read: the end is as graceful as any."""
    program = HANG.format(directory="", file=str(tmp_path / "hanging"))
    state = tmp_path / "state"
    with process(
        tmp_path / "log",
        *cavatica.flags,
        LOOPBACK,
        f"--exports.state-file={state}",
        command=(sys.executable, "-c", program),
    ) as exporter:
        exporter.scrape()
        wait_until(state.exists, "the first write")
        state.unlink()
        cavatica.write("more.yml", *cavatica.simulator.start(1, ago=1e6))
        exporter.scrape()
        (tmp_path / "hanging-token").touch()
        exporter.send(signal.SIGHUP)
        wait_until(lambda: "msg=Reloading" in exporter.log, "it reloads")
        assert exporter.stop() == 0
    assert state.exists()


@pytest.mark.slow
@pytest.mark.parametrize("when", ["at the start", "while it runs"])
def test_a_state_file_on_a_file_server_that_hangs_keeps_nobody_waiting(
    when: str, cavatica: Cavatica, tmp_path: Path
) -> None:
    """Scrapes go on, SIGTERM ends the process within 5 s, and the file stays what it was."""
    state = tmp_path / "state"
    hanging = tmp_path / "hanging"
    flags = (*cavatica.flags, LOOPBACK, f"--exports.state-file={state}")
    with process(tmp_path / "log", *flags) as exporter:
        exporter.scrape()
        assert exporter.stop() == 0
    content = state.read_bytes()
    program = HANG.format(directory="", file=str(hanging))
    (tmp_path / f"hanging-{'state' if when == 'at the start' else 'replace'}").touch()
    with process(tmp_path / "log", *flags, command=(sys.executable, "-c", program)) as exporter:
        cavatica.write("more.yml", *cavatica.simulator.start(1, ago=1e6))
        with within(5):
            pages = [exporter.scrape(), exporter.scrape()]
        assert all(page("cavatica_up") == 1 for page in pages)
        assert pages[0]("cavatica_exporter_state_file_error") == (when == "at the start")
        with within(5):
            assert exporter.stop() == 0
    assert state.read_bytes() == content


@pytest.mark.slow
def test_a_full_log_pipe_does_not_keep_the_process(cavatica: Cavatica) -> None:
    """A full log pipe does not keep SIGTERM from ending the process within 5 s."""
    reading, writing = os.pipe()
    with subprocess.Popen(
        [*MODULE, *cavatica.flags, LOOPBACK], stderr=writing, env=environment()
    ) as popen:
        try:
            read = b""
            while b"msg=Ready" not in read:
                read += os.read(reading, 4096)
            os.set_blocking(writing, False)
            with contextlib.suppress(BlockingIOError):
                while os.write(writing, b"x" * 4096):
                    pass
            os.set_blocking(writing, True)
            with within(5):
                popen.terminate()
                assert popen.wait(PATIENCE) == 0
        finally:
            popen.kill()
            os.close(reading)
            os.close(writing)


@pytest.mark.slow
def test_two_exporters_on_one_port_are_an_error(cavatica: Cavatica, tmp_path: Path) -> None:
    """The second one says so and ends with status 2; the first one goes on."""
    with process(tmp_path / "log", *cavatica.flags, LOOPBACK) as exporter:
        address = exporter.urls[0].removeprefix("http://")
        ended = run_process([*cavatica.flags, f"--web.listen-address={address}"])
        assert ended.returncode == 2
        assert ended.stderr == (
            f"cavatica-exporter: --web.listen-address: cannot listen on {address}: Address already"
            " in use\n"
        )
        assert exporter.scrape()("cavatica_up") == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_demo_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    """The demo removes its files when any signal ends it."""
    files = tmp_path / "tmp"
    files.mkdir()
    with process(tmp_path / "log", "--demo", LOOPBACK, TMPDIR=str(files)) as exporter:
        assert [*files.iterdir()]
        assert exporter.stop(number) == 0
    assert [*files.iterdir()] == []
