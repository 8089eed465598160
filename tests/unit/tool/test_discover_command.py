"""`cavatica-exports discover` as a command: output, metrics, signals, exit status."""

import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.simulator import Fault, Listing, Simulator, serve
from exporter.tool.command import main
from tests.support.exporter_process import RunningExporter, preserved_logging, process
from tests.support.timing import within
from tests.support.waits import wait_until
from tests.unit.tool.conftest import TOKEN, Account

Run = Callable[..., int]
PROGRAM = [sys.executable, "-m", "exporter.tool"]


@pytest.fixture
def run(account: Account, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command against the account and return its exit status."""
    monkeypatch.setenv("SB_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("SB_API_ENDPOINT", account.url)

    def run(*arguments: str) -> int:
        with preserved_logging(), pytest.raises(SystemExit) as caught:
            main(["discover", "--to", str(account.directory), *arguments])
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


@contextmanager
def discovering(
    account: Account, log: Path, *flags: str, ready: str = "Exports discovered", **variables: str
) -> Iterator[RunningExporter]:
    """Run the command as a process: `ready` is in its log inside the block; stopped after it."""
    arguments = ("discover", "--to", str(account.directory), *flags)
    variables = {"SB_AUTH_TOKEN": TOKEN, "SB_API_ENDPOINT": account.url} | variables
    with process(log, *arguments, ready=ready, command=PROGRAM, **variables) as running:
        yield running


def test_it_says_what_it_found(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """How many exports there are, how many are new, what is left out, and what it cost."""
    account.simulator.start(3, volume="me/a")
    account.simulator.start(2, volume="me/b")
    assert run("--volume", "me/a") == 0
    assert run("--volume", "me/a") == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == (
        "3 of 5 exports in 1 file: 3 new, 0 dropped, 2 to other volumes left out;"
        " 1 file changed, 2 calls"
    )
    assert second == "3 of 5 exports in 1 file: 0 new, 0 dropped; 0 files changed, 1 call"


def test_an_account_without_exports(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be the wrong account: that is said once, so that cron does not mail it every time."""
    assert [run(), run()] == [0, 0]
    captured = capsys.readouterr()
    line = "0 of 0 exports in 0 files: 0 new, 0 dropped; 0 files changed, 1 call"
    assert captured.out.splitlines() == [line, line]
    assert captured.err == (
        "cavatica-exports: this account started no exports; is it the token of the account that"
        " starts them?\n"
    )
    assert account.ids() == []


def test_the_token_of_another_account(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its list lacks what is known: that is told, and nothing is dropped."""
    ids = account.simulator.start(3)
    assert run() == 0
    with serve(Simulator(token=TOKEN, clock=account.clock.time, seed=9)) as url:
        assert run("--api.url", url) == 0
    told = (
        "cavatica-exports: no longer listed, but kept: 3 exports; is it the token of the account"
        " that starts them?\n"
    )
    assert capsys.readouterr().err == told
    assert run() == 0
    # It is told once, whenever exports leave the list.
    assert capsys.readouterr().err == ""
    assert account.ids() == sorted(ids)


def test_other_flags_than_in_the_last_round(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told: somebody changed them, or two discover with different flags use one directory."""
    account.simulator.start(3)
    assert [run(), run("--keep", "60d"), run("--keep", "60d")] == [0, 0, 0]
    assert capsys.readouterr().err == (
        "cavatica-exports: --volume, --since or --keep are not those of the last round, so the"
        " whole list was read; if nobody changed them, another discover writes into the same"
        " directory\n"
    )


def test_without_an_answer(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit 1, a line that says why, and metrics that keep the last success."""
    account.simulator.start(3)
    metrics = tmp_path / "discover.prom"
    assert run("--metrics-file", str(metrics)) == 0
    good = metrics.read_text()
    account.simulator.fault = Fault(status=401, code=90001)
    assert run("--metrics-file", str(metrics)) == 1
    assert capsys.readouterr().err == (
        f"cavatica-exports: no usable answer from {account.url}: auth: HTTP 401, platform code"
        " 90001 (Renew the token: it is missing, wrong or expired); nothing is written\n"
    )
    bad = metrics.read_text()
    changed = {
        "cavatica_discover_calls 2": "cavatica_discover_calls 1",
        "cavatica_discover_up 1": "cavatica_discover_up 0",
    }
    for before, after in changed.items():
        good = good.replace(before, after)
    assert bad == good
    assert "cavatica_discover_exports 3\n" in bad
    assert re.search(
        r"^cavatica_discover_last_success_timestamp_seconds \d{10}\.", bad, re.MULTILINE
    )


def test_metrics_before_the_first_success(account: Account, run: Run, tmp_path: Path) -> None:
    """Before the first success, the metrics have no time of one."""
    account.simulator.fault = Fault(status=500)
    metrics = tmp_path / "discover.prom"
    metrics.write_bytes(b"\xff")
    assert run("--metrics-file", str(metrics)) == 1
    assert "last_success" not in metrics.read_text()
    assert "cavatica_discover_exports 0\n" in metrics.read_text()


def test_a_metrics_file_that_cannot_be_written(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit 1 and its name; the exports are found all the same."""
    account.simulator.start(1)
    metrics = tmp_path / "away" / "discover.prom"
    assert run("--metrics-file", str(metrics)) == 1
    problem = f"{metrics}: cannot be written: No such file or directory\n"
    assert capsys.readouterr().err == f"cavatica-exports: {problem}"
    # It does not take the place of what else went wrong.
    account.simulator.fault = Fault(status=401)
    assert run("--metrics-file", str(metrics)) == 1
    told = capsys.readouterr().err
    assert "HTTP 401" in told
    assert told.endswith(f"; {problem}")


def test_a_list_that_never_shows_all(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and how many are missing."""
    account.simulator.start(3)
    account.simulator.fault = Fault(headers={"X-Total-Matching-Query": "5"})
    assert run() == 1
    assert "the list never showed 2 of 5 exports" in capsys.readouterr().err


def test_metrics_of_a_list_that_never_shows_all(account: Account, run: Run, tmp_path: Path) -> None:
    """An incomplete list counts the written exports, but not as a success."""
    account.simulator.start(3)
    account.simulator.fault = Fault(headers={"X-Total-Matching-Query": "5"})
    metrics = tmp_path / "discover.prom"
    assert run("--metrics-file", str(metrics)) == 1
    text = metrics.read_text()
    assert "cavatica_discover_exports 3\n" in text
    assert "cavatica_discover_up 0\n" in text
    assert "last_success" not in text


def test_details_that_a_later_answer_may_have(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1, and how many exports are not written for that."""
    account.simulator.start(3)
    account.simulator.listing = Listing(honors_fields=False)
    failure = {"error": {"status": 503, "code": 9000, "message": ""}}
    account.simulator.fault = Fault(
        items=lambda items: [failure, *items[1:]], when=lambda request: request.method == "POST"
    )
    assert run() == 1
    captured = capsys.readouterr()
    assert captured.out.startswith("2 of 3 exports")
    assert captured.err == (
        "cavatica-exports: the API returned no details yet for 1 of 3 exports; the others"
        " are written\n"
    )


def refuse_details(account: Account) -> None:
    """Have two exports of which the API returns only the state."""
    account.simulator.start(2)
    account.simulator.listing = Listing(honors_fields=False)
    refusal = {"error": {"status": 404, "code": 9008, "message": ""}}
    account.simulator.fault = Fault(
        items=lambda items: [refusal] * len(items), when=lambda request: request.method == "POST"
    )


def test_what_else_is_told(account: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Unusable state and missing details are printed."""
    (account.directory / "discovered-state.json").write_text("{")
    refuse_details(account)
    assert run() == 0
    first, second = capsys.readouterr().err.splitlines()
    assert "discovered-state.json: not a valid state" in first
    assert second == ("cavatica-exports: API refused details of 2 exports; their IDs are written")
    assert len(account.ids()) == 2


def test_exports_without_an_id_are_told(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else tells of an export that no file can name."""
    account.simulator.start(2)
    account.simulator.fault = Fault(items=lambda items: [{"state": "RUNNING"} for _ in items])
    assert run() == 0
    assert capsys.readouterr().err == (
        "cavatica-exports: listed without a usable ID, so nobody watches them: 2 exports\n"
    )


def test_what_else_is_logged(account: Account, tmp_path: Path) -> None:
    """Repeated rounds log unusable state and missing details once."""
    (account.directory / "discovered-state.json").write_text("{")
    refuse_details(account)
    with discovering(account, tmp_path / "log", "--every=1h") as running:
        assert running.stop() == 0
    ignored, refused, discovered = running.log.splitlines()
    assert 'msg="State file ignored"' in ignored
    assert 'msg="Details refused" err="API refused details of 2 exports' in refused
    assert 'msg="Exports discovered"' in discovered


def test_a_directory_that_cannot_be_written(
    account: Account,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 1 before the first call: a first round may take an hour."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run() == 1
    assert capsys.readouterr().err == (
        f"cavatica-exports: {account.directory}: cannot be written: no permission, or a read-only"
        " file system\n"
    )
    assert not account.simulator.requests


def test_a_wait_for_the_rate_limit(
    account: Account, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may take minutes: how many seconds is logged."""
    monkeypatch.setattr(logging.getLogger("exporter"), "propagate", True)
    account.simulator.start(250)
    account.simulator.spend(499)
    with caplog.at_level(logging.INFO):
        account.discover()
    [record] = caplog.records
    assert record.getMessage() == "Waiting for the rate limit"
    assert (vars(record)["calls"], vars(record)["seconds"]) == (1, 300)


def test_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and which there are."""
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err == (
        "cavatica-exports: no command: use one of discover, status, failed, or --help\n"
    )


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--volume", "a"], "not a valid volume: 'a' (use OWNER/NAME, as in rfranklin/exports)"),
        (["--to", "/nowhere"], "there is no directory '/nowhere' (create it first)"),
        (["--to", "/dev/null"], "not a directory: '/dev/null'"),
        (["--every", "0s"], "not a valid interval: '0s' (use more than 0s, such as 5m)"),
        (["--since", "soon"], "soon"),
        (["--batch-by", "month"], "month"),
    ],
)
def test_wrong_flags(
    run: Run, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and how it must be."""
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("cavatica-exports: ")
    assert problem in error


@pytest.mark.parametrize("command", ["discover", "status", "failed"])
def test_help_is_not_about_scrapers(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No scraper asks these commands, so none can send them a timeout."""
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    help_text = " ".join(capsys.readouterr().out.split())
    assert "Time limit of the API calls. " in help_text
    assert "scraper" not in help_text


def test_no_token(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2, and where to put one."""
    monkeypatch.delenv("SB_AUTH_TOKEN")
    assert run() == 2
    assert "--api.token-file" in capsys.readouterr().err


def test_the_variables_are_those_of_the_exporter(
    account: Account, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The exporter's environment variables apply, as in a sidecar."""
    monkeypatch.delenv("SB_AUTH_TOKEN")
    monkeypatch.delenv("SB_API_ENDPOINT")
    token = tmp_path / "token"
    token.write_text(TOKEN)
    monkeypatch.setenv("CAVATICA_EXPORTER_API_TOKEN_FILE", str(token))
    monkeypatch.setenv("CAVATICA_EXPORTER_API_URL", account.url)
    account.simulator.start(1)
    assert run() == 0
    assert (
        account.simulator.requests[0].headers["user-agent"].startswith("cavatica-export-exporter/")
    )


def test_own_flags_have_no_variables(
    account: Account,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A variable that looks like one of them changes nothing, and is told as unknown."""
    for name in ("DISCOVER_EVERY", "EVERY"):
        monkeypatch.setenv(f"CAVATICA_EXPORTER_{name}", "5m")
    # Of the exporter, which often has the same variables.
    monkeypatch.setenv("CAVATICA_EXPORTER_WEB_LISTEN_ADDRESS", ":10036")
    account.discover()
    assert run() == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("level=")[2] for line in lines] == [
        f'warn msg="Ignoring unknown environment variable" variable=CAVATICA_EXPORTER_{name}'
        for name in ("DISCOVER_EVERY", "EVERY")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("hangs", [False, True])
def test_again_and_again_until_a_signal(
    account: Account, tmp_path: Path, number: signal.Signals, *, hangs: bool
) -> None:
    """With `--every` rounds repeat until a signal ends them in time, even if a call hangs."""
    account.simulator.start(1)
    # The simulator's clock is not that of the process.
    flags = ("--every=100ms", "--since=0s", "--keep=10y", "--log.level=debug")
    with discovering(account, tmp_path / "log", *flags, ready="level=debug") as running:
        account.simulator.start(1)
        wait_until(lambda: len(account.ids()) == 2, "it is found")
        if hangs:
            account.simulator.fault = Fault(delay=8.0)
            time.sleep(0.5)
        with within(5):
            assert running.stop(number) == 0
    first, second, *_ = running.log.splitlines()
    assert "level=info" in first
    assert "Exports discovered" in first
    assert "level=debug" in second


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -15), (signal.SIGHUP, -1), (signal.SIGINT, 130)]
)
def test_a_signal_ends_a_single_round(
    account: Account, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """It ends at once, without a traceback and without a file, even if a call hangs."""
    account.simulator.start(1)
    account.simulator.fault = Fault(delay=30.0)
    with discovering(account, tmp_path / "log", ready="") as running:
        wait_until(lambda: account.simulator.requests, "it asks")
        with within(2.0):
            assert running.stop(number) == status
    assert running.log.strip() == ""
    assert [*account.directory.iterdir()] == []


@pytest.mark.slow
def test_sighup_reads_profiles_again(account: Account, tmp_path: Path) -> None:
    """A new token in a profile is used from the next round on, as in the exporter."""
    profiles = tmp_path / ".sevenbridges" / "credentials"
    profiles.parent.mkdir()
    profiles.write_text("[default]\nauth_token = old\n")
    variables = {"SB_AUTH_TOKEN": "", "HOME": str(tmp_path)}
    with discovering(
        account, tmp_path / "log", "--every=100ms", ready="HTTP 401", **variables
    ) as running:
        profiles.write_text(f"[default]\nauth_token = {TOKEN}\n")
        running.send(signal.SIGHUP)
        wait_until(lambda: "Exports discovered" in running.log, "the new token is used")
        assert running.stop() == 0
    assert 'msg="Token reloaded"' in running.log


@pytest.mark.slow
def test_a_failed_round_is_not_the_last_one(account: Account, tmp_path: Path) -> None:
    """With `--every` a failed round is logged, and the next one follows."""
    account.simulator.fault = Fault(status=503, times=1)
    with discovering(account, tmp_path / "log", "--every=100ms") as running:
        assert running.stop() == 0
    failed, empty, discovered = running.log.splitlines()
    assert "level=error" in failed
    assert "Discovery failed" in failed
    # The account has no exports, which is said once.
    assert "level=warn" in empty
    assert "this account started no exports" in empty
    assert "Exports discovered" in discovered
