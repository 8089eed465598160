"""Calls that the API refuses with HTTP 400: a bad ID costs itself, and an outage costs nothing."""

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
        """Edit the watchlist."""
        self.watchlist = watch({"b": list(watched)})

    def scrape(self) -> Snapshot:
        """Scrape, a minute after the last one."""
        self.clock.pass_by(60)
        return self.tracker.scrape(self.clock.monotonic() + 10)

    def scrapes(self, count: int) -> list[Snapshot]:
        """Scrape so often."""
        return [self.scrape() for _ in range(count)]


def known(snapshot: Snapshot) -> dict[str, WatchedExport]:
    """Return what a snapshot says, by ID."""
    [batch] = snapshot.batches
    return {watched.id: watched for block in batch.blocks for watched in block.exports}


def unknown(snapshot: Snapshot) -> set[str]:
    """Return the IDs that are UNKNOWN."""
    return {export_id for export_id, each in known(snapshot).items() if each.state == "UNKNOWN"}


def costs(snapshots: Sequence[Snapshot]) -> list[tuple[int, bool]]:
    """Return the calls of each scrape, and whether it was good."""
    return [(snapshot.api_calls, snapshot.up) for snapshot in snapshots]


@pytest.mark.parametrize("place", [0, 137, 249])
def test_one_bad_among_250_costs_only_itself_in_the_end(place: int) -> None:
    """It is alone after eight scrapes of two more calls at most, and no other is ever UNKNOWN."""
    everyone = ids(250)
    scene = Scene(everyone)
    assert costs([scene.scrape()]) == [(3, True)]
    bad = everyone[place]
    scene.api.malformed = {bad}
    seeking = scene.scrapes(8)
    assert max(snapshot.api_calls for snapshot in seeking) == 5
    assert [snapshot.up for snapshot in seeking[:5]] == [False] * 5
    assert unknown(seeking[4]) == set()
    assert unknown(seeking[-1]) == {bad}
    after = scene.scrapes(15)
    assert costs(after) == [(4, True)] * 15
    assert {export_id for each in after for export_id in unknown(each)} == {bad}
    assert known(after[-1])[bad].failure == BAD
    assert after[-1].batches[0].totals.lookup_errors == {"9011": 1}
    assert after[-1].problem is None


def test_good_ids_are_asked_on_every_scrape_while_a_bad_one_is_sought() -> None:
    """IDs of answered halves and of other calls are asked for on every scrape."""
    scene = Scene(ids(200))
    scene.api.malformed = {"e00003"}
    scene.scrape()
    for size in (50, 25, 13, 7, 4):
        scene.api.calls.clear()
        scene.scrape()
        asked = [call for call in scene.api.calls if "e00003" not in call]
        assert sorted(i for call in asked for i in call) == list(ids(200)[size:])


def test_bad_ones_in_two_calls_are_found_at_once() -> None:
    """Two are found as quickly as one, by four calls instead of two."""
    scene = Scene(ids(250))
    scene.api.malformed = {"e00000", "e00200"}
    seeking = scene.scrapes(8)
    assert unknown(seeking[-1]) == scene.api.malformed
    assert max(snapshot.api_calls for snapshot in seeking) == 3 + 4
    # Those that are known to be bad take turns.
    assert costs(scene.scrapes(3)) == [(4, True)] * 3
    turns = [call for call in scene.api.calls if len(call) == 1][-2:]
    assert sorted(turns) == [["e00000"], ["e00200"]]


def test_a_bad_one_in_the_only_call_is_found() -> None:
    """Nothing was answered beside it, so shorter calls find out what the API does answer."""
    scene = Scene(ids(60))
    scene.api.malformed = {"e00011"}
    snapshots = scene.scrapes(9)
    assert unknown(snapshots[-1]) == {"e00011"}
    assert known(snapshots[-1])["e00011"].failure == BAD
    assert costs(snapshots[:3]) == [(1, False), (2, False), (3, False)]
    assert max(snapshot.api_calls for snapshot in snapshots) == 3
    assert costs(scene.scrapes(3)) == [(2, True)] * 3


def test_with_nothing_but_a_bad_one_the_api_is_to_blame() -> None:
    """If the only call is refused, no ID is blamed."""
    scene = Scene(["x"])
    scene.api.malformed = {"x"}
    assert costs(scene.scrapes(3)) == [(1, False)] * 3
    snapshot = scene.scrape()
    assert known(snapshot) == {"x": WatchedExport("x", "UNKNOWN")}
    assert snapshot.problem == "client_error: HTTP 400, platform code 9011"


def test_a_finished_export_stays_what_it_is() -> None:
    """An ID that the API knew, and refuses now, is COMPLETED, and is asked in a call of its own."""
    scene = Scene(ids(20))
    scene.api.say(completed("e00005"))
    scene.scrape()
    scene.api.malformed = {"e00005"}
    snapshot = scene.scrapes(12)[-1]
    assert known(snapshot)["e00005"] == WatchedExport("e00005", "COMPLETED", completed("e00005"))
    assert costs([snapshot]) == [(2, True)]


def test_a_good_one_is_free_at_once() -> None:
    """Where the API takes an ID again, that scrape shows its state, and the next is one call."""
    scene = Scene(ids(20))
    scene.api.malformed = {"e00005"}
    assert unknown(scene.scrapes(10)[-1]) == {"e00005"}
    scene.api.malformed = set()
    snapshot = scene.scrape()
    assert (unknown(snapshot), snapshot.api_calls, snapshot.up) == (set(), 2, True)
    assert known(snapshot)["e00005"].failure is None
    assert costs(scene.scrapes(3)) == [(1, True)] * 3


def test_the_bad_one_may_leave_the_list() -> None:
    """An ID that leaves the watchlist ends the search for it, before its end and after it."""
    for scrapes in range(1, 12):
        scene = Scene(ids(150))
        scene.api.malformed = {"e00005"}
        scene.scrapes(scrapes)
        scene.watch(i for i in ids(150) if i != "e00005")
        scene.scrape()
        snapshots = scene.scrapes(2)
        assert costs(snapshots) == [(2, True)] * 2
        assert unknown(snapshots[-1]) == set()


def test_everyone_may_leave_the_list() -> None:
    """A call of suspects is not made once all of them have left the watchlist."""
    scene = Scene(ids(150))
    scene.api.malformed = {"e00005"}
    scene.scrapes(3)
    scene.watch([])
    assert costs([scene.scrape()]) == [(0, True)]


@pytest.mark.parametrize(("away", "calls"), [(REMEMBER_SECONDS, 2), (REMEMBER_SECONDS + 1, 1)])
def test_a_bad_one_that_comes_back_is_remembered(away: float, calls: int) -> None:
    """Within an hour it is not put among others again: files are replaced and renamed."""
    scene = Scene(ids(20))
    scene.api.malformed = {"e00005"}
    scene.scrapes(10)
    scene.watch(i for i in ids(20) if i != "e00005")
    scene.scrape()
    scene.clock.pass_by(away - 60)
    scene.watch(ids(20))
    assert costs([scene.scrape()]) == [(calls, calls == 2)]


@pytest.mark.parametrize("watched", [60, 250, 5000])
def test_an_api_that_refuses_everything_gets_no_more_calls(watched: int) -> None:
    """Four calls a scrape at most; states become old as in any outage, and no ID is blamed."""
    scene = Scene(ids(watched))
    scene.scrape()
    scene.api.malformed = set(ids(watched))
    outage = scene.scrapes(30)
    assert max(snapshot.api_calls for snapshot in outage) <= MAX_CALLS
    assert not any(snapshot.up for snapshot in outage)
    assert outage[-1].batches[0].totals.lookup_errors == {}
    assert (len(unknown(outage[8])), len(unknown(outage[-1]))) == (0, watched)
    scene.api.malformed = set()
    # A scrape that is well again asks everyone, and the next is as before.
    first, second = scene.scrapes(2)
    assert unknown(first) == set()
    assert first.api_calls <= 4 + -(-watched // 100)
    assert costs([second]) == [(-(-watched // 100), True)]


def test_an_outage_ends_a_search() -> None:
    """What was suspected before it is not what made the API refuse everything."""
    scene = Scene(ids(1000))
    scene.api.malformed = {i for i in ids(1000) if i.endswith("00")}
    scene.scrapes(3)
    scene.api.malformed = set(ids(1000))
    scene.scrapes(3)
    scene.api.malformed = set()
    assert unknown(scene.scrape()) == set()
    assert costs([scene.scrape()]) == [(10, True)]


def test_beside_other_failures_nothing_is_learnt() -> None:
    """A refusal beside a timeout blames neither the IDs nor the API."""
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
def test_only_a_400_of_the_api_is_about_the_ids(failure: ApiError) -> None:
    """Any other failure concerns the call."""
    scene = Scene(ids(100))
    scene.api.failure = failure
    assert costs(scene.scrapes(3)) == [(1, False)] * 3


def test_the_search_stays_within_the_quota_share() -> None:
    """With a used-up share a scrape makes one call, and no ID is asked for twice."""
    scene = Scene(ids(150))
    scene.api.malformed = {"e00005"}
    scene.scrapes(3)
    now = scene.clock.time()
    scene.api.rate_limit = RateLimit(1000, 500, now + 3600)
    scene.scrape()
    assert costs(scene.scrapes(3)) == [(1, True)] * 3


def test_a_scrape_beside_another_may_ask_suspects() -> None:
    """A concurrent scrape asks for suspects if no other IDs are left."""
    states = ExportStates(600, 0)
    everyone = ids(100)
    states.update_watchlist(watch({"b": everyone}), monotonic=0, unix=0)
    assert states.next_call(100) == [list(everyone)]
    states.plan(100, overlaps=False)
    states.requeue(
        everyone, [], refused=[everyone[:60], everyone[60:]], answered=[["y"]], monotonic=0
    )
    assert states.next_call(100) == [list(everyone[:30])]
    states.update_watchlist(watch({"b": []}), monotonic=0, unix=0)
    assert states.next_call(100) == []


def test_many_bad_ones_are_sought_side_by_side() -> None:
    """One in each of thirty calls: no good ID is ever too old, for three times the calls."""
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
def test_whoever_is_bad_is_found_and_whoever_is_not_is_known(seed: int) -> None:
    """Up to eight bad IDs at any position are found, as long as at least one ID is good."""
    random = Random(seed)  # noqa: S311 # repeatable
    everyone = ids(random.randint(2, 300))
    scene = Scene(everyone)
    scene.api.malformed = set(random.choices(everyone[:-1], k=random.randint(1, 8)))
    for _ in range(30):
        snapshot = scene.scrape()
        asked = [i for call in scene.api.calls for i in call]
        assert len(asked) == len(set(asked))
        assert snapshot.api_calls <= 3 * 3 + 4
        scene.api.calls.clear()
    assert unknown(snapshot) == scene.api.malformed
    assert snapshot.batches[0].totals.lookup_errors == {"9011": len(scene.api.malformed)}
    assert snapshot.up


# What is not seen from outside.


def test_without_suspects_the_plan_is_as_it_was() -> None:
    """Without suspects the plan is unchanged."""
    assert Suspects().plan([["a", "b"], ["c"]], 2) == [["a", "b"], ["c"]]
    assert Suspects().plan([], 2) == []


def test_after_a_refusal_of_everything_the_first_calls_are_short() -> None:
    """Four of half the size, then the rest of the first call, then the others."""
    suspects = Suspects()
    assert suspects.learn(3, [["a", "b"], ["c"]], []) == []
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
    suspects.learn(1, [], [["a"]])
    assert suspects.plan([list("abcdef")], 6) == [list("abcdef")]
