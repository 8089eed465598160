"""`cavatica-exports status` and `failed`."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from exporter.simulator import Fault, malformed_ids
from exporter.tool.command import main
from tests.support.exporter_process import preserved_logging
from tests.unit.tool.conftest import TOKEN, Account

Run = Callable[..., int]
STARTED, FINISHED = "2023-11-14T10:00:00Z", "2023-11-14T12:00:00Z"


@pytest.fixture
def run(account: Account, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command against the account and return its exit status."""
    monkeypatch.setenv("SB_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("SB_API_ENDPOINT", account.url)
    monkeypatch.setenv("CAVATICA_EXPORTER_EXPORTS_PATH", str(account.directory))

    def run(*arguments: str) -> int:
        with preserved_logging(), pytest.raises(SystemExit) as caught:
            main(arguments)
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


def put(account: Account, export_id: str, state: str, **fields: object) -> None:
    """Have an export of this ID."""
    export: dict[str, object] = {
        "id": export_id,
        "state": state,
        "started_on": STARTED,
        "overwrite": False,
        "source": {"file": f"file-{export_id}"},
        "destination": {"volume": "me/vol", "location": f"out/{export_id}\n.bam"},
        "properties": {"sse_algorithm": "AES256"},
    }
    account.simulator.put(export | fields)


def fail(account: Account, export_id: str, code: int, **fields: object) -> None:
    """Have a FAILED export."""
    error = {"status": 403, "code": code, "message": f"{export_id}.bam of a patient"}
    put(account, export_id, "FAILED", **{"error": error, "finished_on": FINISHED} | fields)


def watch(account: Account, name: str, **document: object) -> None:
    """Write an ID file."""
    (account.directory / f"{name}.json").write_text(json.dumps(document))


@pytest.fixture
def mixed(account: Account) -> Account:
    """Two batches: one with something of everything, one that is done."""
    put(account, "wait", "PENDING")
    put(account, "run", "RUNNING", destination={})
    put(account, "done", "COMPLETED", finished_on=FINISHED, result={"size": 10})
    put(account, "odd", "ABORTED")
    fail(account, "locked", 9103)
    fail(account, "away", 9100)
    fail(account, "exists", 9107)
    fail(account, "dealt-with", 9103)
    fail(account, "nameless", 9999, source={}, destination={})
    ids = ["wait", "run", "done", "odd", "locked", "away", "exists", "dealt-with", "nameless"]
    ids += ["nobody"]
    watch(account, "mixed", batch="mixed", export_ids=ids, acknowledged=["dealt-with"])
    put(account, "fine", "COMPLETED", finished_on=FINISHED, result={"size": 5})
    watch(account, "good", batch="good", export_ids=["fine"])
    return account


def test_status_as_text(mixed: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Status prints a line for each batch, then what needs attention; with failures it exits 3."""
    del mixed
    assert run("status") == 3
    lines = [line.split(maxsplit=12) for line in capsys.readouterr().out.splitlines()]
    states = ["pending", "running", "completed", "failed", "unknown", "other", "refused"]
    assert lines[:3] == [
        ["batch", *states, "dealt_with", "missing", "expected", "bytes", "last_finished"],
        ["good", "0", "0", "1", "0", "0", "0", "0", "0", "-", "-", "5", FINISHED],
        ["mixed", "1", "1", "1", "4", "1", "1", "0", "1", "-", "-", "10", FINISHED],
    ]
    attention = [" ".join(words) for words in lines[4:]]
    assert attention == [
        "batch what code count retry meaning",
        "mixed ABORTED none 1 - -",
        "mixed FAILED 9100 1 now the storage service cannot be reached",
        "mixed FAILED 9103 1 repair the volume's settings do not allow this location",
        "mixed FAILED 9107 1 never the location holds a file already",
        "mixed FAILED 9999 1 - -",
        "mixed lookup error 9008 1 never the job does not exist",
    ]


def test_status_as_json(mixed: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The status can be printed as JSON."""
    del mixed
    assert run("status", "--format", "json") == 3
    document = json.loads(capsys.readouterr().out)
    assert document["batches"][0] == {
        "batch": "good",
        "pending": 0,
        "running": 0,
        "completed": 1,
        "failed": 0,
        "unknown": 0,
        "other": 0,
        "refused": 0,
        "dealt_with": 0,
        "missing": None,
        "expected": None,
        "bytes": 5,
        "last_finished": FINISHED,
    }
    assert document["attention"][0] == {
        "batch": "mixed",
        "what": "ABORTED",
        "code": "none",
        "count": 1,
        "retry": None,
        "meaning": None,
    }


def test_status_as_tsv(mixed: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Two tables with a header each, and an empty line between them."""
    del mixed
    assert run("status", "--format", "tsv") == 3
    batches, attention = capsys.readouterr().out.split("\n\n")
    assert batches.splitlines()[1].split("\t")[0] == "good"
    assert attention.splitlines()[0] == "batch\twhat\tcode\tcount\tretry\tmeaning"


@pytest.mark.parametrize(
    ("state", "status"),
    [("COMPLETED", 0), ("RUNNING", 4), ("PENDING", 4), ("FAILED", 3), ("no state", 4)],
)
def test_exit_status(account: Account, run: Run, state: str, status: int) -> None:
    """0 all done, 3 failures, 4 unfinished."""
    put(account, "one", state)
    watch(account, "b", export_ids=["one"])
    assert run("status") == status


PENDS, FAILS, ODD = {"state": "PENDING"}, {"state": "FAILED"}, {"state": "ABORTED"}


@pytest.mark.parametrize(
    ("exports", "broken", "status"),
    [
        ([FAILS, PENDS], {}, 3),
        ([ODD, PENDS], {}, 3),
        ([PENDS], {"wrong.json": "{"}, 1),
        ([PENDS], {"wrong.txt": "not an ID"}, 1),
        ([FAILS, PENDS], {"wrong.json": "{"}, 3),
        ([FAILS, PENDS], {"wrong.txt": "not an ID"}, 3),
        ([ODD], {"wrong.json": "{"}, 3),
    ],
)
def test_exit_status_if_several_apply(
    account: Account,
    run: Run,
    exports: list[dict[str, str]],
    broken: dict[str, str],
    status: int,
) -> None:
    """3 comes before 1, and 1 before 4, as --help and the README say."""
    ids = [f"e{number}" for number in range(len(exports))]
    for export_id, export in zip(ids, exports, strict=True):
        put(account, export_id, **export)
    watch(account, "b", export_ids=ids)
    for name, text in broken.items():
        (account.directory / name).write_text(text)
    assert run("status", "--log.level", "error") == status


def test_exit_status_without_an_answer(account: Account, run: Run) -> None:
    """Nothing else is known: 1, as with an ID file in error."""
    put(account, "one", "FAILED")
    watch(account, "b", export_ids=["one"])
    (account.directory / "wrong.json").write_text("{")
    account.simulator.fault = Fault(status=500)
    assert run("status", "--log.level", "error") == 1


def test_the_order_of_exit_statuses_is_documented(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help, from which the manual page is made, and the README say the same."""
    assert run("status", "--help") == 0
    readme = (Path(__file__).parents[3] / "README.md").read_text()
    for text in (capsys.readouterr().out, readme):
        assert "If several apply, 3 comes before 1, and 1 before 4." in " ".join(text.split())


def test_refused_and_missing(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Refusals need attention; missing exports count as unfinished."""
    put(account, "one", "COMPLETED")
    refused = {"error": {"status": 403, "code": 9006}, "resource": None}
    items = [{"resource": {"id": "one"}}, refused, refused]
    watch(account, "b", items=items, expected=3)
    assert run("status") == 3
    attention = capsys.readouterr().out.split("\n\n")[1]
    assert attention.splitlines()[1].split()[:5] == ["b", "refused", "9006", "2", "never"]
    watch(account, "b", items=items, expected=3, refusals_acknowledged=True)
    assert run("status") == 0
    watch(account, "b", items=items, expected=4, refusals_acknowledged=True)
    assert run("status") == 4


@pytest.mark.parametrize(
    ("finished", "place", "made_good"),
    [
        ("2023-11-14T12:00:01Z", "out/a", True),
        (FINISHED, "out/a", False),
        ("2023-11-14T12:00:01Z", "out/b", False),
    ],
    ids=["later", "at the same time", "elsewhere"],
)
def test_a_failure_made_good_needs_nobody(
    account: Account,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    finished: str,
    place: str,
    *,
    made_good: bool,
) -> None:
    """Its file arrived at the same place by a later export; it is FAILED, but nothing is to do."""
    destination = {"volume": "me/vol", "location": "out/a"}
    fail(account, "first", 9103, destination=destination)
    repeat = {"volume": "me/vol", "location": place}
    put(account, "again", "COMPLETED", finished_on=finished, destination=repeat)
    watch(account, "b", export_ids=["first", "again"])
    assert run("status", "--format", "json") == (0 if made_good else 3)
    status = json.loads(capsys.readouterr().out)
    [batch] = status["batches"]
    assert batch["completed"] == 1
    assert (batch["failed"], batch["dealt_with"]) == ((0, 1) if made_good else (1, 0))
    assert [row["code"] for row in status["attention"]] == ([] if made_good else ["9103"])
    for output in ("json", "create"):
        assert run("failed", "--format", output) == 0
    rows, _, bodies = capsys.readouterr().out.partition("]\n")
    assert ("first" in rows) == (not made_good)
    assert bodies.count("file-first") == (not made_good)


def test_a_time_that_the_api_does_not_say(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The time of this command is not that of an export's end."""
    put(account, "done", "COMPLETED")
    put(account, "bad", "FAILED")
    put(account, "odd", "RUNNING", finished_on=FINISHED)
    watch(account, "b", export_ids=["done", "bad", "odd"])
    assert run("status", "--format", "json") == 3
    assert json.loads(capsys.readouterr().out)["batches"][0]["last_finished"] is None
    assert run("failed", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["finished_on"] is None


@pytest.mark.parametrize("command", ["status", "failed"])
def test_no_answer(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Exit 1 and why; nothing is printed that may be wrong."""
    put(account, "one", "COMPLETED")
    watch(account, "b", export_ids=["one"])
    account.simulator.fault = Fault(status=401, code=90001)
    assert run(command, "--log.level", "error") == 1
    assert capsys.readouterr() == (
        "",
        (
            f"cavatica-exports: no usable answer from {account.url}: auth: HTTP 401, platform code"
            " 90001 (Renew the token: it is missing, wrong or expired)\n"
        ),
    )


@pytest.mark.parametrize("output", ["text", "create"])
@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (Fault(status=403, code=90002), "auth: HTTP 403, platform code 90002 (Use a token of an"),
        (Fault(body=b"a-token, patient.bam"), "invalid_response: the answer is not a JSON object"),
    ],
    ids=["refused", "not an answer"],
)
def test_no_answer_to_the_second_call(
    mixed: Account,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    fault: Fault,
    problem: str,
    output: str,
) -> None:
    """The call for files and locations fails: exit 1 and why, and nothing of the answer."""
    mixed.simulator.fault = replace(fault, when=lambda _: len(mixed.simulator.requests) > 1)
    assert run("failed", "--format", output) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert f"cavatica-exports: no usable answer from {mixed.url}: {problem}" in captured.err
    assert TOKEN not in captured.err
    assert "patient" not in captured.err


def test_an_id_file_in_error(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an ID file in error, what is known is printed, and the exit status is 1."""
    put(account, "one", "COMPLETED")
    watch(account, "b", export_ids=["one"])
    (account.directory / "broken.json").write_text("{")
    assert run("status") == 1
    captured = capsys.readouterr()
    assert "broken.json" in captured.err
    assert "b " in captured.out
    assert run("failed") == 1


@pytest.mark.parametrize("command", ["status", "failed"])
def test_the_token_among_the_ids(
    account: Account,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """It is an error that does not quote it, and it is not sent as an ID."""
    token = "0123456789abcdef0123456789abcdef"
    monkeypatch.setenv("SB_AUTH_TOKEN", token)
    account.simulator.fault = Fault(status=401, code=90001)
    watch(account, "b", export_ids=[token])
    assert run(command) == 2
    captured = capsys.readouterr()
    assert "b.json:1: holds the API's token" in captured.err
    assert token not in captured.out + captured.err
    assert not account.simulator.requests


def test_an_entry_that_is_no_id(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid entry may hide an export: the exit status is 1."""
    put(account, "one", "COMPLETED")
    watch(account, "b", export_ids=["one", "two\u00a0"])
    assert [run("status"), run("failed")] == [1, 1]
    assert "Skipping invalid export ID" in capsys.readouterr().err


def test_an_id_that_the_api_refuses(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named with what to do, all else is printed; once acknowledged it is dealt with."""
    good = account.simulator.start(1)[0]
    watch(account, "b", export_ids=[good, "bad-id"])
    account.simulator.fault = malformed_ids()
    assert run("status") == 3
    captured = capsys.readouterr()
    named = "correct, remove or acknowledge them in the ID files: bad-id"
    assert named in captured.err
    assert "b lookup error 9011 1 never" in " ".join(captured.out.split())
    assert run("failed") == 1
    assert named in capsys.readouterr().err
    watch(account, "b", export_ids=[good, "bad-id"], acknowledged=["bad-id"])
    assert run("failed") == 0
    assert "bad-id" not in capsys.readouterr().err


def test_an_acknowledged_id_that_is_mistyped(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The failure is open, and standard error says why."""
    put(account, "one", "FAILED")
    watch(account, "b", export_ids=["one"], acknowledged=["ome"])
    assert run("status") == 3
    assert "acknowledged IDs that no ID file lists: ome" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["status", "failed"])
def test_own_flags_have_no_variables(
    command: str,
    account: Account,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A variable that looks like one of them changes nothing, and is told as unknown."""
    monkeypatch.setenv("CAVATICA_EXPORTER_FORMAT", "json")
    watch(account, "b", export_ids=[])
    assert run(command) == 0
    captured = capsys.readouterr()
    assert not captured.out.startswith("[")
    assert captured.err.endswith(
        'msg="Ignoring unknown environment variable" variable=CAVATICA_EXPORTER_FORMAT\n'
    )


@pytest.mark.parametrize("command", ["status", "failed"])
@pytest.mark.parametrize("is_there", [True, False])
def test_no_id_file(
    is_there: bool,  # noqa: FBT001 # a case
    command: str,
    account: Account,
    run: Run,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit 2: a directory that is not mounted looks like an empty one."""
    if not is_there:
        account.directory.rmdir()
    assert run(command) == 2
    assert "cavatica-exports: --exports.path" in capsys.readouterr().err


def test_many_exports(account: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Many exports are fetched, 100 in a call."""
    ids = account.simulator.start(250, ago=86400.0)
    watch(account, "b", export_ids=ids)
    run("status", "--format", "json")
    [batch] = json.loads(capsys.readouterr().out)["batches"]
    assert batch["completed"] + batch["failed"] == 250
    assert len(account.simulator.requests) == 3


def test_failed_as_tsv(mixed: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Failures that are neither acknowledged nor superseded, with file and location if known."""
    del mixed
    assert run("failed", "--format", "tsv") == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [
        "export_id",
        "file_id",
        "volume",
        "location",
        "code",
        "meaning",
        "retry",
        "finished_on",
    ]
    assert lines[1:] == [
        [
            "locked",
            "file-locked",
            "me/vol",
            "out/locked\\n.bam",
            "9103",
            "the volume's settings do not allow this location",
            "repair",
            FINISHED,
        ],
        [
            "away",
            "file-away",
            "me/vol",
            "out/away\\n.bam",
            "9100",
            "the storage service cannot be reached",
            "now",
            FINISHED,
        ],
        [
            "exists",
            "file-exists",
            "me/vol",
            "out/exists\\n.bam",
            "9107",
            "the location holds a file already",
            "never",
            FINISHED,
        ],
        ["nameless", "-", "-", "-", "9999", "-", "-", FINISHED],
    ]


@pytest.mark.parametrize(
    ("retry", "ids"), [("now", ["away"]), ("repair", ["locked"]), ("never", ["exists"])]
)
def test_failed_of_a_class(
    mixed: Account, run: Run, capsys: pytest.CaptureFixture[str], retry: str, ids: list[str]
) -> None:
    """Failures can be selected by retry class."""
    del mixed
    assert run("failed", "--format", "json", "--retry", retry) == 0
    assert [row["export_id"] for row in json.loads(capsys.readouterr().out)] == ids


def test_failed_as_requests(mixed: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """An export without a known request is reported, with exit status 1."""
    del mixed
    assert run("failed", "--format", "create") == 1
    captured = capsys.readouterr()
    assert "for 1 export; no request is written for them" in captured.err
    [body] = map(json.loads, captured.out.splitlines())
    assert body["items"][0] == {
        "source": {"file": "file-locked"},
        "destination": {"volume": "me/vol", "location": "out/locked\n.bam"},
        "overwrite": False,
        "properties": {"sse_algorithm": "AES256"},
    }
    assert [item["source"]["file"] for item in body["items"]] == ["file-locked", "file-away"]
    assert "1 export left out, because the same request would fail again" in captured.err


def test_requests_that_would_fail_again(
    mixed: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are printed when asked for, and nothing is said to be left out."""
    del mixed
    assert run("failed", "--format", "create", "--retry", "never") == 0
    captured = capsys.readouterr()
    [body] = map(json.loads, captured.out.splitlines())
    assert [item["source"]["file"] for item in body["items"]] == ["file-exists"]
    assert captured.err == ""


def test_the_requests_start_the_exports_again(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """The request bodies have up to 100 items each, and start the exports again."""
    ids = [f"e{number}" for number in range(130)]
    for export_id in ids:
        fail(account, export_id, 9100)
    watch(account, "b", export_ids=ids)
    assert run("failed", "--format", "create", "--retry", "now") == 0
    started: list[dict[str, Any]] = []
    for line in capsys.readouterr().out.splitlines():
        answer = requests.post(
            f"{account.url}/bulk/storage/exports/create",
            data=line,
            headers={"X-SBG-Auth-Token": TOKEN},
            timeout=5,
        ).json()
        started += [item["resource"] for item in answer["items"]]
    assert [export["source"]["file"] for export in started] == [f"file-{one}" for one in ids]


def test_a_repeat_that_failed_is_requested_once(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both are printed, but one request; another file for the same place is another request."""
    place = {"volume": "me/vol", "location": "out/x.bam"}
    for export_id, file in (("first", "x"), ("repeat", "x"), ("third", "y")):
        fail(account, export_id, 9103, source={"file": file}, destination=place)
    watch(account, "b", export_ids=["first", "repeat", "third"])
    assert run("failed", "--format", "tsv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert run("failed", "--format", "create") == 0
    [body] = map(json.loads, capsys.readouterr().out.splitlines())
    assert [item["source"]["file"] for item in body["items"]] == ["x", "y"]


NOON, ONE, TWO = "2023-11-14T12:00:00Z", "2023-11-14T13:00:00Z", "2023-11-14T14:00:00Z"


@pytest.mark.parametrize(
    ("first", "repeat", "expected"),
    [
        ((9100, NOON), (9107, ONE), None),
        ((9100, ONE), (9107, NOON), "first"),
        ((9107, NOON), (9100, ONE), "repeat"),
        ((9107, ONE), (9100, NOON), None),
        ((9100, NOON), (9103, ONE), "repeat"),
        # Those that failed at the same time: the last in the ID files.
        ((9100, NOON), (9107, NOON), None),
        ((9107, NOON), (9100, NOON), "repeat"),
        # Without an end, the start counts.
        ((9100, NOON), (9107, None, ONE), None),
        ((9100, ONE), (9107, None, NOON), "first"),
        ((9107, None, NOON), (9100, None, ONE), "repeat"),
        ((9100, NOON), (9107, None, None), "first"),
        # Both ended at once: the start counts.
        ((9100, TWO, ONE), (9107, TWO, NOON), "first"),
    ],
)
def test_the_latest_failure_decides(
    account: Account,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    first: tuple[int, str | None, str | None] | tuple[int, str | None],
    repeat: tuple[int, str | None, str | None] | tuple[int, str | None],
    expected: str | None,
) -> None:
    """Of failures with the same file and location the latest says whether to request it again."""
    for export_id, (code, finished, *started) in (("first", first), ("repeat", repeat)):
        times = {"finished_on": finished, "started_on": (*started, STARTED)[0]}
        same = {"source": {"file": "x"}, "destination": {"volume": "me/vol", "location": "out/x"}}
        # So that it is known whose request it is.
        fail(account, export_id, code, **same, **times, properties={"of": export_id})
    watch(account, "b", export_ids=["first", "repeat"])
    assert run("failed", "--format", "create") == 0
    captured = capsys.readouterr()
    requested = [
        item["properties"]["of"]
        for body in map(json.loads, captured.out.splitlines())
        for item in body["items"]
    ]
    assert requested == ([] if expected is None else [expected])
    left_out = "2 exports left out, because the same request would fail again: --retry never"
    assert (left_out in captured.err) == (expected is None)
    # The lists are of all failures, and judge them by the same class.
    assert run("failed", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["export_id"] for row in rows] == ["first", "repeat"]
    [retry] = {row["retry"] for row in rows}
    assert (retry == "never") == (expected is None)
    for other in ("now", "repair", "never"):
        assert run("failed", "--format", "json", "--retry", other) == 0
        assert json.loads(capsys.readouterr().out) == (rows if other == retry else [])
        assert run("failed", "--format", "create", "--retry", other) == 0
        assert capsys.readouterr().out.count('"file"') == (other == retry)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "ABORTING"])
@pytest.mark.parametrize("retry", [None, "now"])
def test_what_is_under_way_is_not_requested(
    account: Account, run: Run, capsys: pytest.CaptureFixture[str], state: str, retry: str | None
) -> None:
    """No request for what may run or arrived; while it runs the failure is in the list."""
    arguments = [] if retry is None else ["--retry", retry]
    destination = {"volume": "me/vol", "location": "out/x"}
    fail(account, "first", 9100, destination=destination)
    put(account, "repeat", state, destination=destination)
    fail(account, "other", 9100)
    put(account, "elsewhere", state, destination={})
    watch(account, "b", export_ids=["repeat", "first", "other", "elsewhere"])
    assert run("failed", "--format", "create", *arguments) == 0
    captured = capsys.readouterr()
    assert "file-first" not in captured.out
    assert "file-other" in captured.out
    assert captured.err == (
        "cavatica-exports: 1 export left out, because an export to the same destination has not"
        " ended\n"
    )
    assert run("failed", "--format", "tsv", *arguments) == 0
    assert "file-first" in capsys.readouterr().out
    put(account, "repeat", "COMPLETED", destination=destination, finished_on=ONE)
    assert run("failed", "--format", "create", *arguments) == 0
    captured = capsys.readouterr()
    assert "file-first" not in captured.out
    assert captured.err == ""
    fail(account, "repeat", 9100, destination=destination, source={"file": "file-first"})
    assert run("failed", "--format", "create", *arguments) == 0
    assert capsys.readouterr().out.count("file-first") == 1


@pytest.mark.parametrize(
    ("acknowledged", "is_requested"),
    [("repeat", False), ("first", True), ("elsewhere", True)],
)
def test_a_later_failure_that_is_acknowledged(
    account: Account,
    run: Run,
    capsys: pytest.CaptureFixture[str],
    acknowledged: str,
    *,
    is_requested: bool,
) -> None:
    """Its request is not printed, as somebody dealt with it; the earlier failure is still open."""
    same = {"source": {"file": "x"}, "destination": {"volume": "me/vol", "location": "out/x"}}
    fail(account, "first", 9100, **same)
    fail(account, "repeat", 9100, **same | {"finished_on": ONE})
    fail(account, "elsewhere", 9100)
    watch(account, "b", export_ids=["first", "repeat", "elsewhere"], acknowledged=[acknowledged])
    assert run("failed", "--format", "create") == 0
    captured = capsys.readouterr()
    assert captured.out.count('{"file": "x"}') == is_requested
    asked = json.loads(account.simulator.requests[-1].body)["export_ids"]
    assert ("elsewhere" in asked) == (acknowledged != "elsewhere")
    left_out = "1 export left out, because a later failure of the same request is acknowledged"
    assert (left_out in captured.err) == (not is_requested)
    assert run("failed", "--format", "json") == 0
    rows = [row["export_id"] for row in json.loads(capsys.readouterr().out)]
    assert rows == [each for each in ("first", "repeat", "elsewhere") if each != acknowledged]


def test_output(mixed: Account, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Into a file that only its owner may read, as file names can be identifiers."""
    path = mixed.directory.parent / "again.tsv"
    path.write_text("old")
    path.chmod(0o644)
    assert run("failed", "--format", "tsv", "--output", str(path)) == 0
    assert capsys.readouterr().out == ""
    assert path.read_text().startswith("export_id\t")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_output_that_cannot_be_written(
    mixed: Account, run: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Exit 2 and why."""
    del mixed
    assert run("failed", "--output", str(tmp_path / "away" / "x")) == 2
    assert "x: cannot be written: No such file or directory" in capsys.readouterr().err
