"""The state of discovery, for more exports than one file holds."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from exporter import files
from exporter.simulator import Lifetimes
from exporter.tool import state
from exporter.tool.ledger import LedgerError
from exporter.tool.state import STATE_NAME, State, digest_of
from exporter.watchlist.loader import WatchlistLoader
from tests.unit.tool.conftest import DAY, Account

COMPLETED = Lifetimes(pending=(0, 1), running=(1, 2), failed_share=0)
HOUR = 3600.0
SECOND, THIRD = "discovered-state-2.json", "discovered-state-3.json"


@pytest.fixture
def full(account: Account, monkeypatch: pytest.MonkeyPatch) -> Account:
    """Return an account whose finished exports fill two and a half state files."""
    monkeypatch.setattr(state, "MAX_EXPORTS_PER_FILE", 40)
    account.simulator.start(60, volume="me/old", ago=60 * DAY, lifetimes=COMPLETED)
    account.simulator.start(40, volume="me/a", ago=2 * DAY, lifetimes=COMPLETED)
    done = account.discover()
    assert (done.whole, done.older, done.added, done.changed) == (True, 60, 40, 1)
    assert {*account.signatures()} >= {STATE_NAME, SECOND, THIRD}
    return account


def test_round_that_ends_between_two_files_is_made_up_for(
    full: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the pass is written last: the next round makes one, and drops what is left."""
    written: list[str] = []
    replace_file = files.replace_file

    def break_off(path: Path, *arguments: Any, **keywords: Any) -> None:  # noqa: ANN401 # passed on
        written.append(path.name)
        if len(written) == 2:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        replace_file(path, *arguments, **keywords)

    full.clock.advance(60 * DAY)
    with monkeypatch.context() as patch:
        patch.setattr(files, "replace_file", break_off)
        with pytest.raises(LedgerError, match="Input/output error"):
            full.discover()
    assert written == [THIRD, SECOND]
    full.discover()
    assert full.ids() == []


def test_what_one_file_does_not_hold_is_in_others(full: Account) -> None:
    """All is remembered, an export stays in its file, and the exporter reads the files."""
    before = full.signatures()
    quiet = full.discover()
    assert (quiet.whole, quiet.calls, quiet.changed) == (True, 1, 0)
    assert full.signatures() == before
    full.simulator.start(3, ago=60, lifetimes=COMPLETED)
    assert full.discover().added == 3
    changed = {name for name, each in full.signatures().items() if before.get(name) != each}
    assert changed & {STATE_NAME, SECOND, THIRD} == {THIRD}
    watchlist = WatchlistLoader(full.directory, full.clock.time).load()
    assert watchlist.errors == ()
    assert sum(map(len, watchlist.batches.values())) == 43


def test_exports_are_dropped_whatever_file_has_them(full: Account) -> None:
    """What completed too long ago moves to the exports that were left out, and does not return."""
    full.clock.advance(29 * DAY)
    assert full.discover().dropped == 40
    quiet = full.discover()
    assert (full.ids(), quiet.whole, quiet.calls) == ([], True, 1)


@pytest.mark.parametrize("name", [STATE_NAME, SECOND, THIRD])
@pytest.mark.parametrize("content", ["{", None])
def test_a_file_that_is_damaged_or_gone(full: Account, name: str, content: str | None) -> None:
    """The list is read again, nothing is lost, and all is remembered once more."""
    ids = full.ids()
    path = full.directory / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    full.clock.advance(60)
    done = full.discover()
    warning = f"{name}: not a valid state: reading the whole list again"
    assert (done.whole, done.added, done.warning) == (True, 0, content and warning)
    assert full.ids() == ids
    if content is not None:
        first = json.loads((full.directory / STATE_NAME).read_text())
        assert first["discover"]["verified"] == full.clock.unix
    assert full.discover().calls == 1


def test_a_copy_changes_nothing(full: Account) -> None:
    """What is in two files is in one of them after the next round."""
    before = full.signatures()
    for name in ("discovered-state-7.json", "discovered-state-8.json"):
        (full.directory / name).write_bytes(before[SECOND][1])
    done = full.discover()
    assert (done.whole, done.calls) == (True, 1)
    assert full.signatures() == before
    full.clock.advance(29 * DAY)
    assert full.discover().dropped == 40


def test_files_of_another_selection_are_replaced(full: Account) -> None:
    """What was left out may match the flags now; files that are not needed any more go."""
    assert full.discover(since=0, keep=90 * DAY).added == 60
    assert full.discover(since=0, keep=90 * DAY).calls == 1
    assert len(full.ids()) == 100
    full.discover(since=0, keep=0, volumes=("none/such",))
    assert full.ids() == []
    assert full.discover(since=0, keep=0, volumes=("none/such",)).calls == 1


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("discovered-state.json", 1),
        ("discovered-state-2.json", 2),
        ("discovered-state-10.json", 10),
        ("discovered-state-1.json", None),
        ("discovered-state-01.json", None),
        ("discovered-state-12345678.json", None),
        ("discovered-state-12345678-2.json", None),
        ("discovered-tcga-2.json", None),
    ],
)
def test_names_of_state_files(name: str, number: int | None) -> None:
    """No file of a batch has such a name, whatever the batch is called."""
    assert state.state_number(name) == number


@pytest.mark.slow
def test_a_full_file_is_within_the_exporters_limits(tmp_path: Path) -> None:
    """The exporter reads one whose exports completed in as many different hours as possible."""
    everything = State({"volumes": ["me/volume"] * 100, "since": 0.0, "keep": 1e9})
    for number in range(state.MAX_EXPORTS_PER_FILE):
        everything.complete(digest_of(f"export {number}"), number * HOUR, 0.0)
    everything.verified = 1_700_000_000.0
    [(name, data)] = everything.render("a batch").items()
    (tmp_path / name).write_bytes(data)
    assert WatchlistLoader(tmp_path, time.time).load().errors == ()
    again = State({"volumes": ["me/volume"] * 100, "since": 0.0, "keep": 1e9})
    again.load(1, data)
    assert again.render("a batch") == {name: data}
    assert len(json.loads(data)["discover"]["completed"]) == state.MAX_EXPORTS_PER_FILE
