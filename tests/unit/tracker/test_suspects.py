"""Calls that the API refuses with HTTP 400: bad IDs are found, and an outage blames no ID."""

from collections.abc import Iterable, Sequence
from random import Random

import pytest

from exporter.cavatica.answer import MAX_CALLS, ApiError, RateLimit
from exporter.cavatica.export import LookupFailure
from exporter.tracker.departed import REMEMBER_SECONDS
from exporter.tracker.snapshot import Snapshot, WatchedExport
from exporter.tracker.states import ExportStates
from exporter.tracker.suspects import Suspects
from exporter.tracker.tracker import Tracker
from tests.support.fakes import FakeApi, FakeClock, bad_request, completed, error, ids, watch

BAD = LookupFailure("9011", 400, "the API refuses a call with this ID")


class Scene:
    """A tracker, scraped once a minute."""

    def __init__(self, watched: Iterable[str], *, quota_share: float = 0.5) -> None:
        self.clock = FakeClock()
        self.api = FakeApi()
        self.watch(watched)
        self.tracker = Tracker(
            lambda _: self.watchlist,
            self.api,
            ExportStates(600, 0),
            quota_share=quota_share,
            clock=self.clock,
        )

    def watch(self, watched: Iterable[str]) -> None:
        """Watch these IDs from now on."""
        self.watchlist = watch({"b": list(watched)})

    def scrape(self) -> Snapshot:
        """Scrape, a minute after the last one."""
        self.clock.advance(60)
        return self.tracker.scrape(self.clock.monotonic() + 10)

    def scrapes(self, count: int) -> list[Snapshot]:
        """Scrape `count` times."""
        return [self.scrape() for _ in range(count)]


def known(snapshot: Snapshot) -> dict[str, WatchedExport]:
    """Return the watched exports of a snapshot, by ID."""
    [batch] = snapshot.batches
    return {watched.id: watched for block in batch.blocks for watched in block.exports}


def unknown(snapshot: Snapshot) -> set[str]:
    """Return the IDs that are UNKNOWN."""
    return {export_id for export_id, each in known(snapshot).items() if each.state == "UNKNOWN"}


def costs(snapshots: Sequence[Snapshot]) -> list[tuple[int, bool]]:
    """Return the number of calls of each scrape, and whether it was `up`."""
    return [(snapshot.api_calls, snapshot.up) for snapshot in snapshots]


@pytest.mark.parametrize("place", [0, 137, 249])
def test_one_bad_id_among_250_is_found(place: int) -> None:
    """A bad ID is alone in its call after eight scrapes, each with at most two more calls.

    No other ID is ever UNKNOWN.
    """
    all_ids = ids(250)
    scene = Scene(all_ids)
    assert costs([scene.scrape()]) == [(3, True)]
    bad = all_ids[place]
    scene.api.malformed = {bad}
    search = scene.scrapes(8)
    assert max(snapshot.api_calls for snapshot in search) == 5
    assert [snapshot.up for snapshot in search[:5]] == [False] * 5
    assert unknown(search[4]) == set()
    assert unknown(search[-1]) == {bad}
    after = scene.scrapes(15)
    assert costs(after) == [(4, True)] * 15
    assert {export_id for each in after for export_id in unknown(each)} == {bad}
    assert known(after[-1])[bad].failure == BAD
    assert after[-1].batches[0].totals.lookup_errors == {"9011": 1}
    assert after[-1].problem is None


def test_good_ids_are_asked_for_during_a_search() -> None:
    """During a search, IDs of answered halves and of other calls are asked for on every scrape."""
    scene = Scene(ids(200))
    scene.api.malformed = {"e00003"}
    scene.scrape()
    for size in (50, 25, 13, 7, 4):
        scene.api.calls.clear()
        scene.scrape()
        asked = [call for call in scene.api.calls if "e00003" not in call]
        assert sorted(i for call in asked for i in call) == list(ids(200)[size:])


def test_bad_ids_in_two_calls_are_found_concurrently() -> None:
    """Two bad IDs are found as quickly as one, by four additional calls instead of two."""
    scene = Scene(ids(250))
    scene.api.malformed = {"e00000", "e00200"}
    search = scene.scrapes(8)
    assert unknown(search[-1]) == scene.api.malformed
    assert max(snapshot.api_calls for snapshot in search) == 3 + 4
    # Each scrape asks for one of the bad IDs, in turn.
    assert costs(scene.scrapes(3)) == [(4, True)] * 3
    turns = [call for call in scene.api.calls if len(call) == 1][-2:]
    assert sorted(turns) == [["e00000"], ["e00200"]]


def test_bad_id_in_the_only_call_is_found() -> None:
    """If the only call is refused, shorter calls find out whether the API answers any."""
    scene = Scene(ids(60))
    scene.api.malformed = {"e00011"}
    snapshots = scene.scrapes(9)
    assert unknown(snapshots[-1]) == {"e00011"}
    assert known(snapshots[-1])["e00011"].failure == BAD
    assert costs(snapshots[:3]) == [(1, False), (2, False), (3, False)]
    assert max(snapshot.api_calls for snapshot in snapshots) == 3
    assert costs(scene.scrapes(3)) == [(2, True)] * 3


def test_bad_id_that_is_the_only_one_is_not_found() -> None:
    """If the API refuses the only ID, it may refuse every call, so the ID is not blamed."""
    scene = Scene(["x"])
    scene.api.malformed = {"x"}
    assert costs(scene.scrapes(3)) == [(1, False)] * 3
    snapshot = scene.scrape()
    assert known(snapshot) == {"x": WatchedExport("x", "UNKNOWN")}
    assert snapshot.problem == "client_error: HTTP 400, platform code 9011"


def test_refused_id_of_a_finished_export_keeps_its_state() -> None:
    """A COMPLETED export whose ID is refused later stays so, and has a call of its own."""
    scene = Scene(ids(20))
    scene.api.answer_with(completed("e00005"))
    scene.scrape()
    scene.api.malformed = {"e00005"}
    snapshot = scene.scrapes(12)[-1]
    assert known(snapshot)["e00005"] == WatchedExport("e00005", "COMPLETED", completed("e00005"))
    assert costs([snapshot]) == [(2, True)]


def test_bad_id_that_the_api_accepts_again_is_good_at_once() -> None:
    """The scrape in which a bad ID is answered shows its state; the next one needs one call."""
    scene = Scene(ids(20))
    scene.api.malformed = {"e00005"}
    assert unknown(scene.scrapes(10)[-1]) == {"e00005"}
    scene.api.malformed = set()
    snapshot = scene.scrape()
    assert (unknown(snapshot), snapshot.api_calls, snapshot.up) == (set(), 2, True)
    assert known(snapshot)["e00005"].failure is None
    assert costs(scene.scrapes(3)) == [(1, True)] * 3


def test_bad_id_that_leaves_the_watchlist_ends_the_search() -> None:
    """A bad ID that leaves costs no more calls, whether it was found already or not."""
    for scrapes in range(1, 12):
        scene = Scene(ids(150))
        scene.api.malformed = {"e00005"}
        scene.scrapes(scrapes)
        scene.watch(i for i in ids(150) if i != "e00005")
        scene.scrape()
        snapshots = scene.scrapes(2)
        assert costs(snapshots) == [(2, True)] * 2
        assert unknown(snapshots[-1]) == set()


def test_suspects_that_leave_the_watchlist_are_not_asked_for() -> None:
    """A call of suspects is not made once all of them have left the watchlist."""
    scene = Scene(ids(150))
    scene.api.malformed = {"e00005"}
    scene.scrapes(3)
    scene.watch([])
    assert costs([scene.scrape()]) == [(0, True)]


@pytest.mark.parametrize(("away", "calls"), [(REMEMBER_SECONDS, 2), (REMEMBER_SECONDS + 1, 1)])
def test_bad_id_that_returns_within_an_hour_is_still_bad(away: float, calls: int) -> None:
    """ID files are replaced and renamed, so a bad ID that returns is kept out of other calls."""
    scene = Scene(ids(20))
    scene.api.malformed = {"e00005"}
    scene.scrapes(10)
    scene.watch(i for i in ids(20) if i != "e00005")
    scene.scrape()
    scene.clock.advance(away - 60)
    scene.watch(ids(20))
    assert costs([scene.scrape()]) == [(calls, calls == 2)]


@pytest.mark.parametrize("watched", [60, 250, 5000])
def test_api_that_refuses_every_call_gets_no_more_calls(watched: int) -> None:
    """If every call is refused, a scrape makes four calls at most, and no ID is blamed.

    States expire as in any outage.
    """
    scene = Scene(ids(watched))
    scene.scrape()
    scene.api.malformed = set(ids(watched))
    outage = scene.scrapes(30)
    assert max(snapshot.api_calls for snapshot in outage) <= MAX_CALLS
    assert not any(snapshot.up for snapshot in outage)
    assert outage[-1].batches[0].totals.lookup_errors == {}
    assert (len(unknown(outage[8])), len(unknown(outage[-1]))) == (0, watched)
    scene.api.malformed = set()
    # The first scrape after the outage asks for all IDs, the next one by the usual calls.
    first, second = scene.scrapes(2)
    assert unknown(first) == set()
    assert first.api_calls <= 4 + -(-watched // 100)
    assert costs([second]) == [(-(-watched // 100), True)]


def test_outage_ends_a_search() -> None:
    """If every call is refused, suspected IDs are not the cause, so none is suspected any more."""
    scene = Scene(ids(1000))
    scene.api.malformed = {i for i in ids(1000) if i.endswith("00")}
    scene.scrapes(3)
    scene.api.malformed = set(ids(1000))
    scene.scrapes(3)
    scene.api.malformed = set()
    assert unknown(scene.scrape()) == set()
    assert costs([scene.scrape()]) == [(10, True)]


def test_refusal_beside_another_failure_blames_nothing() -> None:
    """If one call is refused and another times out, no ID is suspected, and no call is split."""
    scene = Scene(ids(200))
    calls = iter([bad_request(), error("timeout")])

    def fail(_: Sequence[str], __: float) -> None:
        raise next(calls)

    scene.tracker = Tracker(
        lambda _: scene.watchlist,
        fail,  # type: ignore[arg-type] # names of its parameters
        states := ExportStates(600, 0),
        quota_share=0.5,
        clock=scene.clock,
    )
    assert costs([scene.scrape()]) == [(2, False)]
    assert list(map(len, states.plan(100, overlaps=False))) == [100, 100]


@pytest.mark.parametrize(
    "failure",
    [
        error("client_error"),
        ApiError("client_error", "HTTP 404", status=404),
        ApiError("proxy", "HTTP 400", status=400),
    ],
    ids=["no status", "404", "400 of a proxy"],
)
def test_only_a_400_of_the_api_blames_ids(failure: ApiError) -> None:
    """Any other failure concerns the call, so later scrapes do not split it."""
    scene = Scene(ids(100))
    scene.api.failure = failure
    assert costs(scene.scrapes(3)) == [(1, False)] * 3


def test_search_stays_within_the_quota_share() -> None:
    """If the quota share is used up, a scrape makes a single call, even during a search."""
    scene = Scene(ids(150))
    scene.api.malformed = {"e00005"}
    scene.scrapes(3)
    now = scene.clock.time()
    scene.api.rate_limit = RateLimit(1000, 500, now + 3600)
    scene.scrape()
    assert costs(scene.scrapes(3)) == [(1, True)] * 3


def test_concurrent_scrape_may_ask_for_suspects() -> None:
    """A concurrent scrape asks for suspects if no other IDs are left."""
    states = ExportStates(600, 0)
    all_ids = ids(100)
    states.update_watchlist(watch({"b": all_ids}), monotonic=0, unix=0)
    assert states.next_call(100) == [list(all_ids)]
    states.plan(100, overlaps=False)
    states.requeue(all_ids, [], refused=[all_ids[:60], all_ids[60:]], answered=[["y"]], monotonic=0)
    assert states.next_call(100) == [list(all_ids[:30])]
    states.update_watchlist(watch({"b": []}), monotonic=0, unix=0)
    assert states.next_call(100) == []


def test_many_bad_ids_are_searched_for_concurrently() -> None:
    """With a bad ID in each of thirty calls, a scrape makes at most three times the calls.

    No good ID is ever UNKNOWN.
    """
    scene = Scene(ids(3000))
    scene.scrape()
    scene.api.malformed = {f"e{hundred:03}{hundred:02}" for hundred in range(30)}
    snapshots = scene.scrapes(12)
    assert max(snapshot.api_calls for snapshot in snapshots) <= 3 * 30
    for snapshot in snapshots:
        assert unknown(snapshot) <= scene.api.malformed
    assert unknown(snapshots[-1]) == scene.api.malformed
    assert costs(snapshots[-1:]) == [(31, True)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_all_bad_ids_are_found_and_all_others_known(seed: int) -> None:
    """Up to eight bad IDs at any position are found, as long as at least one ID is good."""
    random = Random(seed)  # noqa: S311 # repeatable
    all_ids = ids(random.randint(2, 300))
    scene = Scene(all_ids)
    scene.api.malformed = set(random.choices(all_ids[:-1], k=random.randint(1, 8)))
    for _ in range(30):
        snapshot = scene.scrape()
        asked = [i for call in scene.api.calls for i in call]
        assert len(asked) == len(set(asked))
        assert snapshot.api_calls <= 3 * 3 + 4
        scene.api.calls.clear()
    assert unknown(snapshot) == scene.api.malformed
    assert snapshot.batches[0].totals.lookup_errors == {"9011": len(scene.api.malformed)}
    assert snapshot.up


# The plan with suspects


def test_plan_without_suspects_is_unchanged() -> None:
    """Without suspects, a scrape makes exactly the calls that it was given."""
    assert Suspects().plan([["a", "b"], ["c"]], 2) == [["a", "b"], ["c"]]
    assert Suspects().plan([], 2) == []


def test_first_calls_are_short_after_every_call_was_refused() -> None:
    """The first call is split: four calls of half the refused size, then its rest.

    An answered call ends that.
    """
    suspects = Suspects()
    assert suspects.record(3, [["a", "b"], ["c"]], []) == []
    assert suspects.plan([list("abcdef"), ["g"]], 6) == [
        ["a"],
        ["b"],
        ["c"],
        ["d"],
        ["e", "f"],
        ["g"],
    ]
    assert suspects.plan([["a"]], 6) == [["a"]]
    assert suspects.plan([], 6) == []
    suspects.record(1, [], [["a"]])
    assert suspects.plan([list("abcdef")], 6) == [list("abcdef")]


def test_ids_that_the_api_accepts_again_are_known_soon() -> None:
    """When one bad ID is accepted again, the others are asked for together, not one by one."""
    watched = ids(400)
    scene = Scene(watched)
    scene.scrape()
    scene.api.malformed = set(watched[:100])
    assert unknown(scene.scrapes(60)[-1]) == set(watched[:100])
    scene.api.malformed = set()
    assert unknown(scene.scrapes(3)[-1]) == set()
