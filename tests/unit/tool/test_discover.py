"""Discovery: every export of the account ends up in an ID file, for lists of any kind."""

import errno
import fcntl
import json
import os
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from exporter.cavatica.answer import ApiError
from exporter.simulator import Fault, Lifetimes, Listing, Request, Simulator, serve
from exporter.tool.batch_file import file_name
from exporter.tool.ledger import MAX_IDS_PER_FILE, Ledger, LedgerError, Selection
from exporter.tool.state import STATE_NAME
from exporter.watchlist.loader import WatchlistLoader
from tests.support.fakes import FakeClock
from tests.unit.tool.conftest import DAY, TOKEN, Account

Order = Literal["oldest", "newest", "id", "random"]
ORDERS: tuple[Order, ...] = ("oldest", "newest", "id", "random")
FINISHED = Lifetimes(pending=(0, 1), running=(1, 2), failed_share=0.2)
COMPLETED = Lifetimes(pending=(0, 1), running=(1, 2), failed_share=0)
FAILED = Lifetimes(pending=(0, 1), running=(1, 2), failed_share=1)


def forget(ids: list[str]) -> Callable[[bytes], bytes]:
    """Return what takes these exports out of an answer."""

    def rewrite(body: bytes) -> bytes:
        page = json.loads(body)
        page["items"] = [item for item in page["items"] if item["id"] not in ids]
        return json.dumps(page).encode()

    return rewrite


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("honors", [(), ("fields",), ("states",), ("fields", "states")])
def test_every_export_is_found_whatever_the_list_is_like(
    account: Account, order: Order, honors: tuple[str, ...]
) -> None:
    """In any order, with slim items, and where repeated states are ignored."""
    account.simulator.listing = Listing(
        order=order, honors_fields="fields" in honors, honors_states="states" in honors
    )
    ids = []
    for volume in ("me/a", "me/b"):
        ids += account.simulator.start(140, volume=volume, ago=2 * DAY, lifetimes=FINISHED)
    first = account.discover()
    assert (first.whole, first.total, first.added) == (True, 280, 280)
    assert account.ids() == sorted(ids)

    before = account.signatures()
    second = account.discover()
    assert (second.whole, second.calls, second.changed) == (True, 1, 0)
    assert account.signatures() == before

    # Some of them are over before the next round.
    ids += account.simulator.start(3, volume="me/a")
    ids += account.simulator.start(2, volume="me/b", ago=60, lifetimes=FINISHED)
    third = account.discover()
    assert (third.whole, third.added) == (True, 5)
    assert account.ids() == sorted(ids)


@pytest.mark.slow
@pytest.mark.parametrize("order", ["oldest", "newest"])
def test_what_it_costs(account: Account, order: Order) -> None:
    """A first round reads the list, a quiet one makes one call, others make two or three."""
    account.simulator.listing = Listing(order=order)
    for volume in ("me/a", "me/b", "me/c"):
        account.simulator.start(833, volume=volume, ago=DAY, lifetimes=FINISHED)
    account.simulator.start(1)
    calls = [account.discover().calls, account.discover().calls]
    account.simulator.start(20)
    calls.append(account.discover().calls)
    assert calls == [26, 1, 2 if order == "newest" else 3]
    assert account.progress[24] == (2500, 2500)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_export_that_appears_while_the_list_is_paged(
    account: Account, order: Order, at: int
) -> None:
    """It is found in this round or in the next one, and nothing else is lost."""
    ids = account.simulator.start(250, ago=DAY)
    pages = 0

    def arrive(_: Request) -> None:
        nonlocal pages
        pages += 1
        if pages == at:
            ids.extend(account.simulator.start(1))

    account.simulator.listing = Listing(order=order, after_page=arrive)
    rounds = [account.discover(), account.discover()]
    assert all(one.whole for one in rounds)
    assert account.ids() == sorted(ids)


def test_batches_by_volume_and_day(account: Account) -> None:
    """The day is that of the start; an export in the queue has that of its discovery."""
    account.clock.unix = 1_700_000_000.0  # 14 November 2023
    yesterday = account.simulator.start(2, volume="me/a", ago=DAY, lifetimes=FINISHED)
    queued = account.simulator.start(1, volume="me/a")
    account.simulator.put({"id": "odd", "state": "ABORTED"})
    account.discover()
    assert account.batches() == {
        "me/a 2023-11-13": yesterday,
        "me/a 2023-11-14": queued,
        "no volume 2023-11-14": ["odd"],
    }
    # Days later it still belongs to the same batch.
    account.clock.advance(3 * DAY)
    account.simulator.start(1, volume="me/b")
    account.discover()
    assert account.batches()["me/a 2023-11-14"] == queued


@pytest.mark.parametrize(
    ("batch_by", "names"),
    [("volume", ["me/a", "me/b"]), ("none", ["discovered"])],
)
def test_other_batches(
    account: Account, batch_by: Literal["volume", "none"], names: list[str]
) -> None:
    """One for each volume, or one for all."""
    account.simulator.start(2, volume="me/a", ago=3 * DAY)
    account.simulator.start(2, volume="me/b")
    account.discover(batch_by=batch_by)
    assert [*account.batches()] == names


def test_only_the_volumes_asked_for(account: Account) -> None:
    """Exports to others are left out and counted; asking for another volume adds its exports."""
    first = account.simulator.start(3, volume="me/a")
    second = account.simulator.start(2, volume="me/b")
    done = account.discover(volumes=("me/a",))
    assert (done.added, done.elsewhere, account.ids()) == (3, 2, sorted(first))
    assert account.discover(volumes=("me/a",)).calls == 1
    done = account.discover(volumes=("me/a", "me/b"))
    assert (done.added, done.elsewhere, account.ids()) == (2, 0, sorted(first + second))


def test_what_ended_long_ago_is_left_out(account: Account) -> None:
    """By the end where it is known; what has not ended is never too old."""
    old = account.simulator.start(4, ago=40 * DAY, lifetimes=FAILED)
    account.simulator.put(
        {"id": "started", "state": "FAILED", "started_on": "2020-01-01T00:00:00Z"}
    )
    account.simulator.put({"id": "timeless", "state": "FAILED"})
    for_ever = Lifetimes(pending=(0, 1), running=(1000 * DAY,) * 2)
    running = account.simulator.start(1, ago=40 * DAY, lifetimes=for_ever)
    done = account.discover()
    assert (done.older, account.ids()) == (5, sorted([*running, "timeless"]))
    assert account.discover().calls == 1
    done = account.discover(since=0)
    assert account.ids() == sorted([*old, *running, "started", "timeless"])


def test_a_completed_export_is_dropped_after_its_time(account: Account) -> None:
    """An export is dropped after `--keep`, unless it failed; an empty file is removed."""
    failed = account.simulator.start(1, volume="me/a", lifetimes=FAILED)
    account.simulator.start(2, volume="me/b", lifetimes=COMPLETED)
    assert account.discover().exports == 3
    dropped = []
    for _ in range(12):
        account.clock.advance(DAY)
        dropped.append(account.discover(keep=10 * DAY, since=10 * DAY).dropped)
    assert dropped[:9] == [0] * 9
    assert sum(dropped) == 2
    assert account.ids() == failed
    assert len(account.files()) == 1
    # It does not come back.
    account.simulator.start(1, volume="me/b", lifetimes=FAILED)
    assert account.discover(keep=10 * DAY, since=10 * DAY).added == 1


@pytest.mark.parametrize("slim", [False, True])
@pytest.mark.parametrize("since", [30 * DAY, 0.0])
def test_a_failure_is_dropped_with_the_export_that_superseded_it(
    account: Account, since: float, *, slim: bool
) -> None:
    """Alone it would count as open, and somebody would export the file again."""
    account.simulator.listing = Listing(honors_fields=not slim)
    failed, open_, later = account.simulator.start(3, volume="me/a", lifetimes=FAILED)
    account.clock.advance(DAY)
    arrived, early = account.simulator.start(2, volume="me/b", lifetimes=COMPLETED)
    account.clock.advance(DAY)
    for export_id, other in ((arrived, failed), (early, later)):
        place = {"destination": account.simulator.export(other)["destination"]}
        account.simulator.put(account.simulator.export(export_id) | place)
    # It failed again after the other had arrived.
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(account.clock.time()))
    account.simulator.put(account.simulator.export(later) | {"finished_on": now})
    if since:
        assert account.discover().exports == 5
        account.clock.advance(29 * DAY)
        assert account.discover().dropped == 0
    account.clock.advance(40 * DAY)
    done = account.discover(since=since)
    assert account.ids() == sorted([open_, later])
    assert (done.added, done.dropped, done.older) == ((0, 3, 0) if since else (2, 0, 3))
    assert account.discover(since=since).calls == 1


def test_expected_goes_with_the_first_export_that_is_dropped(account: Account) -> None:
    """Otherwise exports would be missing for ever."""
    account.simulator.start(2, lifetimes=FAILED)
    account.simulator.start(1, lifetimes=COMPLETED)
    account.discover()
    [path] = account.files()
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"expected": 3, "acknowledged": []}))
    account.clock.advance(20 * DAY)
    account.discover()
    assert json.loads(path.read_text())["expected"] == 3
    account.clock.advance(20 * DAY)
    assert account.discover().dropped == 1
    kept = json.loads(path.read_text())
    assert kept.keys() == {"batch", "export_ids", "acknowledged"}


def test_an_id_is_not_dropped_because_the_list_lacks_it(account: Account) -> None:
    """Where the list forgets what is old, which no page documents, the files do not."""
    ids = account.simulator.start(150, ago=DAY)
    assert account.discover().calls == 3
    new = []
    for gone in (1, 2):
        account.simulator.fault = Fault(
            rewrite=forget(ids[:gone]), headers={"X-Total-Matching-Query": str(151 - gone)}
        )
        if gone == 1:
            new = account.simulator.start(1)
        done = account.discover()
        assert done.whole
    assert account.ids() == sorted(ids + new)
    assert account.discover().calls == 1


def test_an_export_without_an_id_is_no_other_accounts(account: Account) -> None:
    """It is counted until the list shows its ID; then it is new, and none has left the list."""
    ids = account.simulator.start(5)

    def rewrite(body: bytes) -> bytes:
        page = json.loads(body)
        page["items"][2] = {"state": "RUNNING"}
        return json.dumps(page).encode()

    account.simulator.fault = Fault(
        rewrite=rewrite, when=lambda request: "limit=100" in request.query
    )
    done = account.discover()
    assert (done.whole, done.added, done.without_id) == (True, 4, 1)
    account.simulator.fault = None
    account.clock.advance(8 * DAY)
    done = account.discover()
    assert (done.whole, done.added, done.without_id, done.gone) == (True, 1, 0, 0)
    assert account.ids() == sorted(ids)


def test_a_round_that_breaks_off_changes_nothing(account: Account) -> None:
    """Every call must be answered: half a list makes half a batch."""
    account.simulator.start(250)
    account.simulator.fault = Fault(
        status=503, code=90005, when=lambda request: "offset=200" in request.query
    )
    with pytest.raises(ApiError, match="HTTP 503, platform code 90005"):
        account.discover()
    assert [*account.directory.iterdir()] == []
    account.simulator.fault = None
    assert account.discover().added == 250


def test_complete_rounds_renew_the_time_of_the_state_file(account: Account) -> None:
    """The time tells an alert when the last complete round was, to the hour."""
    state = account.directory / STATE_NAME
    account.simulator.start(3)
    account.discover()
    first = state.stat().st_mtime
    assert first == account.clock.time()
    account.clock.advance(3599)
    account.discover()
    assert state.stat().st_mtime == first
    account.clock.advance(1)
    account.simulator.fault = Fault(headers={"X-Total-Matching-Query": "200"})
    assert not account.discover().whole
    assert state.stat().st_mtime != account.clock.time(), "not every export is known"
    account.simulator.fault = None
    account.discover()
    assert state.stat().st_mtime == account.clock.time()
    account.clock.advance(-1800)
    account.discover()
    assert state.stat().st_mtime == account.clock.time(), "the clock was ahead"


def test_incomplete_rounds_keep_the_time_of_the_state_file(account: Account) -> None:
    """An incomplete round that writes the state must not look like a complete one."""
    state = account.directory / STATE_NAME
    account.simulator.start(3, lifetimes=COMPLETED)
    account.discover()
    last, before = account.clock.time(), state.read_bytes()
    account.clock.advance(2 * DAY)
    account.simulator.fault = Fault(headers={"X-Total-Matching-Query": "200"})
    assert not account.discover().whole
    assert state.read_bytes() != before
    assert state.stat().st_mtime == last


def test_another_user_renews_the_time_of_the_state_file(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its owner may set a file's time, but whoever may write the directory replaces it."""
    account.discover()
    account.clock.advance(DAY)
    utime = os.utime

    def refuse_paths(file: int | Path, times: tuple[float, float]) -> None:
        if not isinstance(file, int):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        utime(file, times)

    monkeypatch.setattr(os, "utime", refuse_paths)
    assert account.discover().whole
    assert (account.directory / STATE_NAME).stat().st_mtime == account.clock.time()


def test_a_quiet_round_fails_in_a_directory_that_became_read_only(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without new exports only the state file is renewed, which tells that it cannot be."""
    account.discover()
    account.clock.advance(DAY)

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(LedgerError, match=r"state\.json: cannot be written: Read-only file system"):
        account.discover()


def test_an_answer_without_a_total_is_an_error(account: Account) -> None:
    """An answer without the total is an error: nothing else proves completeness."""
    account.simulator.fault = Fault(headers={"X-Total-Matching-Query": None})
    with pytest.raises(ApiError, match="X-Total-Matching-Query"):
        account.discover()


@pytest.mark.parametrize("listed", [0, 150])
def test_a_list_that_never_shows_all(account: Account, listed: int) -> None:
    """What it shows is written, the round does not count, and the next one looks again."""
    ids = account.simulator.start(150)
    account.simulator.fault = Fault(headers={"X-Total-Matching-Query": "200"})
    if not listed:
        account.simulator.fault = Fault(items=lambda _: [])
    done = account.discover()
    assert (done.whole, done.exports) == (False, listed)
    assert done.missing == done.total - listed
    account.simulator.fault = None
    done = account.discover()
    assert (done.whole, done.warning) == (True, None)
    assert account.ids() == sorted(ids)


def test_a_list_that_is_the_same_page_for_ever(account: Account) -> None:
    """A cache that ignores the query does not use up the share of the rate limit every round."""
    account.simulator.start(120)
    first: list[object] = []

    def items(items: list[object]) -> list[object]:
        first.extend(items if len(items) == 100 and not first else [])
        return first or items

    account.simulator.fault = Fault(items=items, headers={"X-Total-Matching-Query": "9999"})
    done = account.discover()
    assert (done.whole, done.exports, done.missing) == (False, 100, 9899)
    assert done.calls < 15


def test_items_without_an_id_are_no_reason_to_read_for_ever(account: Account) -> None:
    """Items without an ID count as seen, so the search ends."""
    account.simulator.start(3)
    account.simulator.put({"id": "not an ID", "state": "PENDING"})
    assert account.discover().whole
    assert account.discover().calls == 1


def test_details_that_are_missing(account: Account) -> None:
    """An error that will pass delays the export; one that stays costs only the details."""
    account.simulator.listing = Listing(honors_fields=False)
    others = account.simulator.start(2)
    account.discover()
    one, new = account.simulator.start(2)
    error = {"status": 503, "code": 9000, "message": ""}

    def items(items: list[object]) -> list[object]:
        return [
            {"error": error} if "resource" in item and item["resource"]["id"] == one else item
            for item in items
            if isinstance(item, dict)
        ]

    account.simulator.fault = Fault(items=items, when=lambda request: request.method == "POST")
    for added in (1, 0):
        done = account.discover()
        assert (done.whole, done.added, done.pending, done.missing) == (False, added, 1, 0)
        assert account.ids() == sorted([*others, new])
    error |= {"status": 404, "code": 9008}
    done = account.discover()
    assert (done.whole, done.without_details, done.pending) == (True, 1, 0)
    assert account.ids() == sorted([*others, one, new])
    assert account.batches()["no volume 2023-11-14"] == [one]
    assert account.discover().calls == 1


def test_a_clock_that_was_ahead_puts_off_no_check(account: Account) -> None:
    """A day after it is right again at the latest, the whole list is read."""
    account.simulator.start(150)
    account.clock.unix += 3650 * DAY
    account.discover()
    account.clock.unix -= 3650 * DAY
    assert account.discover().calls == 3
    assert account.discover().calls == 1


def test_the_state_names_no_batch_that_is_gone(account: Account) -> None:
    """The state file names no batch without exports."""
    account.simulator.start(1, volume="me/a", ago=2 * DAY, lifetimes=COMPLETED)
    place = {"volume": "me/b", "location": "x"}
    account.simulator.put({"id": "open", "state": "RUNNING", "destination": place})
    account.discover(batch_by="volume")
    account.clock.advance(31 * DAY)
    account.discover(batch_by="volume")
    watchlist = WatchlistLoader(account.directory, account.clock.time).load()
    assert [*watchlist.batches] == ["me/b"]


def test_the_share_of_the_rate_limit_is_kept(account: Account) -> None:
    """A first round of a large account takes several windows; it waits for them."""
    account.simulator.start(250)
    account.simulator.spend(499)
    began = account.clock.unix
    assert account.discover().whole
    assert account.clock.unix - began >= 299
    assert min(int(_remaining(account)), 500) == 500


@pytest.mark.parametrize("offset", [0, 200])
def test_a_limit_that_others_use_up_delays_a_round(account: Account, offset: int) -> None:
    """The call is made once more in the next window, so that a long round is not lost."""
    account.simulator.start(250)
    account.simulator.fault = Fault(
        status=429, code=1000, times=1, when=lambda request: f"offset={offset}&" in request.query
    )
    began = account.clock.unix
    done = account.discover()
    assert (done.whole, done.calls, done.added) == (True, 5, 250)
    assert 299 <= account.clock.unix - began <= 302


def test_a_limit_that_stays_used_up_ends_a_round(account: Account) -> None:
    """After a second refusal the round fails."""
    account.simulator.fault = Fault(status=429)
    with pytest.raises(ApiError, match="HTTP 429"):
        account.discover()
    assert len(account.simulator.requests) == 2


class WrongClock(FakeClock):
    """The machine's clock, which is so many seconds ahead of the API's."""

    def __init__(self, api: FakeClock, ahead: float) -> None:
        super().__init__()
        self.unix += ahead
        self._api = api

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        super().advance(seconds)
        self._api.advance(seconds)


@pytest.mark.parametrize("ahead", [-3500, -600, -50, 50, 3500])
def test_a_wrong_clock_neither_ends_nor_delays_a_round(tmp_path: Path, ahead: float) -> None:
    """If the limit is used up, the round goes on a minute after the window ends at the latest."""
    clock = FakeClock()
    began = clock.unix
    simulator = Simulator(token=TOKEN, clock=clock.time, seed=3)
    simulator.start(250)
    simulator.spend(1000)
    with serve(simulator) as url:
        done = Account(simulator, url, WrongClock(clock, ahead), tmp_path).discover()
    assert (done.whole, done.added) == (True, 250)
    assert 299 <= clock.unix - began <= 361


def _remaining(account: Account) -> str:
    # The limit's own headers, as the last answer had them.
    limit = account.api.rate_limit
    assert limit is not None
    return str(limit.remaining)


def test_the_exporter_reads_what_was_written(account: Account) -> None:
    """All IDs in their batches, no error or remark, and no batch for the state."""
    account.simulator.start(120, volume="me/a", ago=5 * DAY)
    account.simulator.start(10, volume="me/b", ago=60 * DAY, lifetimes=FINISHED)
    account.discover()
    watchlist = WatchlistLoader(account.directory, account.clock.time).load()
    assert watchlist.errors == ()
    assert {batch: sorted(ids) for batch, ids in watchlist.batches.items()} == {
        batch: sorted(ids) for batch, ids in account.batches().items()
    }
    assert watchlist.duplicates == watchlist.rejected == 0
    assert [file.remarks for file in watchlist.files if file.remarks] == []


def test_an_account_without_exports(account: Account) -> None:
    """There is a file that says so, which the exporter can start with."""
    assert account.discover().whole
    assert [path.name for path in account.directory.iterdir()] == [STATE_NAME]
    watchlist = WatchlistLoader(account.directory, account.clock.time).load()
    assert (watchlist.errors, dict(watchlist.batches)) == ((), {"discovered": ()})


def test_other_files_are_left_alone(account: Account) -> None:
    """Only `discovered-*.json` is ever written or removed, and what a killed round left there."""
    for name in ("mine.json", "discovered.yml", ".discovered-notes", "discovered-notes.txt"):
        (account.directory / name).write_text("mine")
    (account.directory / ".discovered-x.json.a1b2_c3d.tmp").write_text("half of a fi")
    account.simulator.start(1)
    account.discover()
    names = {path.name for path in account.directory.iterdir() if path.read_text() == "mine"}
    assert names == {"mine.json", "discovered.yml", ".discovered-notes", "discovered-notes.txt"}
    others = {path.name for path in account.directory.iterdir()} - names
    assert all(re.fullmatch(r"discovered-.*\.json", name) for name in others)


def test_keys_that_somebody_added_stay(account: Account) -> None:
    """An acknowledgement in a discovered file survives the next round."""
    ids = account.simulator.start(2)
    account.discover()
    [path] = account.files()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"acknowledged": ids[:1]}))
    account.simulator.start(1)
    assert account.discover().added == 1
    document = json.loads(path.read_text())
    assert document["acknowledged"] == ids[:1]
    assert len(document["export_ids"]) == 3


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"batch": "b"}', b'{"batch": "b", "export_ids": ["a b"]}']
)
def test_a_file_that_is_not_discovers(account: Account, content: bytes) -> None:
    """It may hold IDs: it is an error with its name, and stays as it is."""
    path = account.directory / "discovered-mine.json"
    path.write_bytes(content)
    with pytest.raises(LedgerError, match=r"discovered-mine\.json: not written by discover"):
        account.discover()
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "state",
    [
        "",
        "{}",
        '{"items": [], "discover": {"version": 1}}',
        '{"items": [], "discover": {"version": 2, "selection": SELECTION}}',
        (
            '{"discover": {"version": 2, "selection": SELECTION, "left_out": "", "completed": {},'
            ' "verified": 0, "unlisted": Infinity}}'
        ),
    ],
)
def test_a_state_that_cannot_be_used(account: Account, state: str) -> None:
    """An unusable state file is reported, and the whole list is read again."""
    ids = account.simulator.start(150, ago=DAY)
    account.discover()
    path = account.directory / STATE_NAME
    selection = json.loads(path.read_text())["discover"]["selection"]
    path.write_text(state.replace("SELECTION", json.dumps(selection)))
    done = account.discover()
    assert done.warning is not None
    assert (done.whole, done.calls, account.ids()) == (True, 3, sorted(ids))


def test_a_batch_file_that_somebody_removed_comes_back(account: Account) -> None:
    """A removed batch file is written again: its exports are still the account's."""
    ids = account.simulator.start(5, volume="me/a") + account.simulator.start(5, volume="me/b")
    account.discover()
    account.files()[0].unlink()
    assert account.discover().added == 5
    assert account.ids() == sorted(ids)


def test_a_large_batch_has_several_files(account: Account) -> None:
    """The exporter reads files of a bounded size; the next export goes where there is room."""
    path = account.directory / file_name("discovered", 1)
    full = [f"x{number}" for number in range(MAX_IDS_PER_FILE)]
    path.write_text(json.dumps({"batch": "discovered", "export_ids": full}))
    [one] = account.simulator.start(1)
    account.discover(batch_by="none")
    assert json.loads((account.directory / file_name("discovered", 2)).read_text()) == {
        "batch": "discovered",
        "export_ids": [one],
    }
    assert len(account.ids()) == MAX_IDS_PER_FILE + 1


def test_names_of_files() -> None:
    """Different batches have different files; the exporter allows a batch 100 characters."""
    names = {file_name(batch, 1) for batch in ("a/b-c", "a-b/c", "a b/c", "A-b/c")}
    assert len(names) == 4
    assert len(file_name("x" * 300, 1)) < 120


def test_a_long_volume_name_makes_a_shorter_batch(account: Account) -> None:
    """A batch name has at most 100 characters; different volumes stay different."""
    for end in ("a", "b"):
        account.simulator.start(1, volume=f"me/{'x' * 120}{end}")
    account.discover()
    batches = [*account.batches()]
    assert len(batches) == 2
    assert all(len(batch) <= 100 for batch in batches)


def test_a_directory_that_cannot_be_read(account: Account) -> None:
    """An unreadable directory is an error that names it."""
    account.directory.rmdir()
    with pytest.raises(LedgerError, match=r"ids: cannot be read: No such file or directory"):
        account.discover()
    # It can go after it was locked, too.
    with pytest.raises(LedgerError, match=r"ids: cannot be read: No such file or directory"):
        Ledger(account.directory, Selection((), 0.0, 0.0))


def test_two_at_once(account: Account, tmp_path: Path) -> None:
    """A second process in the same directory is refused."""
    del tmp_path
    account.simulator.start(150)
    errors: list[LedgerError] = []

    def again(_: Request) -> None:
        with pytest.raises(LedgerError, match="another discover is running there") as caught:
            account.discover()
        errors.append(caught.value)
        account.simulator.listing = Listing()

    account.simulator.listing = Listing(after_page=again)
    assert account.discover().whole
    assert len(errors) == 1


def test_a_disk_that_is_full(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an error that names the file; the next round writes what is missing."""
    ids = account.simulator.start(5)
    account.discover()
    before = account.signatures()
    ids += account.simulator.start(5, volume="me/b")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(
            LedgerError, match=r"\.json: cannot be written: No space left on device"
        ):
            account.discover()
    assert account.signatures() == before
    assert account.discover().added == 5
    assert account.ids() == sorted(ids)


def test_the_first_exports_of_an_account(account: Account) -> None:
    """The first exports of an account are found."""
    account.discover()
    ids = account.simulator.start(150)
    assert account.discover().whole
    assert account.ids() == sorted(ids)


def test_what_is_unfinished_is_found_by_its_state(account: Account) -> None:
    """Where the list has no order that helps, but can be filtered, it is not read as a whole."""
    account.simulator.listing = Listing(order="id")
    for number in range(700):
        account.simulator.put({"id": f"m{number}", "state": "COMPLETED"})
    account.discover()
    account.simulator.put({"id": "m350a", "state": "RUNNING"})
    assert account.discover().calls == 5
    assert "m350a" in account.ids()


def test_an_export_that_is_in_the_filtered_list_only(account: Account) -> None:
    """It was started after the total was read, so no other export has left the list."""
    for number in range(700):
        account.simulator.put({"id": f"m{number}", "state": "COMPLETED"})
    account.discover()
    account.simulator.put({"id": "m350a", "state": "RUNNING"})
    pages = 0

    def arrive(_: Request) -> None:
        nonlocal pages
        pages += 1
        if pages == 3:
            account.simulator.put({"id": "m350b", "state": "RUNNING"})

    account.simulator.listing = Listing(order="id", after_page=arrive)
    done = account.discover()
    assert (done.calls, done.added, done.gone) == (5, 2, 0)
    quiet = account.discover()
    assert (quiet.calls, quiet.whole) == (1, True)


@pytest.mark.parametrize("count", [0, 50, 100, 150])
@pytest.mark.parametrize("order", ["oldest", "newest", "id"])
def test_the_list_of_another_account(account: Account, order: Order, count: int) -> None:
    """That known exports are not in it is told, whichever account has more."""
    ids = account.simulator.start(100, ago=DAY)
    assert account.discover().gone == 0
    simulator = Simulator(token=TOKEN, clock=account.clock.time, seed=9)
    simulator.listing = Listing(order=order)
    ids += simulator.start(count)
    with serve(simulator) as url:
        other = Account(simulator, url, account.clock, account.directory)
        done = other.discover()
        assert (done.whole, done.gone, account.ids()) == (True, 100, sorted(ids))
        assert (other.discover().calls, other.discover().gone) == (1, 0)


def test_a_file_that_cannot_be_read(account: Account) -> None:
    """An unreadable batch file is an error that names it."""
    (account.directory / "discovered-x.json").mkdir()
    with pytest.raises(LedgerError, match=r"discovered-x\.json: cannot be read: Is a directory"):
        account.discover()


def test_an_id_in_two_files_stays_in_the_first(account: Account) -> None:
    """An ID in two files, such as a copy, is kept in one of them."""
    ids = account.simulator.start(2)
    account.discover()
    [path] = account.files()
    (account.directory / "discovered-a.json").write_bytes(path.read_bytes())
    ids += account.simulator.start(1)
    account.discover()
    assert account.ids() == sorted(ids)


def test_a_removal_that_was_interrupted_is_completed(account: Account) -> None:
    """The state says that the export is dropped, its file still has it."""
    account.simulator.start(1, lifetimes=COMPLETED)
    account.discover()
    [path] = account.files()
    before = path.read_bytes()
    account.clock.advance(DAY)
    account.discover(keep=0)
    account.discover(keep=0)
    path.write_bytes(before)
    account.discover(keep=0)
    assert account.ids() == []


def test_a_file_system_that_cannot_lock(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without locks can be used."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert account.discover().whole
