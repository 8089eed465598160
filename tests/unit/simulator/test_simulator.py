"""The simulated CAVATICA: its answers, its exports, and its faults."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit
from wsgiref.validate import validator

import pytest
import requests
import sevenbridges

from exporter.simulator import Fault, Lifetimes, Listing, Request, Simulator, malformed_ids, serve
from exporter.simulator.__main__ import main

TOKEN = "a-token"
EPOCH = 1_700_000_000.0
MORE_INFO = "https://docs.sevenbridges.com/docs/api-status-codes"
UNKNOWN = {
    "status": 404,
    "code": 9008,
    "message": "Requested export does not exist.",
    "more_info": MORE_INFO,
}
FILE = "5aba5c8b1c94b662fa6c2ae4"
ELSEWHERE = {"volume": "me/other", "location": "a"}
LIFETIMES = Lifetimes(pending=(10.0, 20.0), running=(100.0, 200.0), failed_share=0.5)

Order = Literal["oldest", "newest", "id", "random"]


class Clock:
    """A clock that the test sets; it records every sleep."""

    def __init__(self) -> None:
        """Start in November 2023."""
        self.now = EPOCH
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        """Return the Unix time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Record the sleep, and return at once."""
        self.sleeps.append(seconds)


class Client:
    """The API's calls, without any logic."""

    def __init__(self, url: str, session: requests.Session) -> None:
        """Call the API at the URL."""
        self.url = url
        self.session = session

    def call(
        self,
        method: str,
        path: str,
        **arguments: Any,  # noqa: ANN401 - passed on
    ) -> requests.Response:
        """Make one call."""
        return self.session.request(method, self.url + path, timeout=5, **arguments)

    def bulk_get(self, *ids: str) -> requests.Response:
        """Ask for exports."""
        return self.call("POST", "/bulk/storage/exports/get", json={"export_ids": ids})

    def items(self, *ids: str) -> list[dict[str, Any]]:
        """Ask for exports and return the items of the answer."""
        items: list[dict[str, Any]] = self.bulk_get(*ids).json()["items"]
        return items

    def create(self, *items: object) -> requests.Response:
        """Submit exports."""
        return self.call("POST", "/bulk/storage/exports/create", json={"items": items})

    def list(self, **parameters: object) -> requests.Response:
        """List exports."""
        return self.call("GET", "/storage/exports", params=parameters)


@pytest.fixture
def clock() -> Clock:
    """Return a clock that the test sets."""
    return Clock()


@pytest.fixture
def simulator(clock: Clock) -> Simulator:
    """Return a simulator on that clock."""
    return Simulator(token=TOKEN, clock=clock, sleep=clock.sleep, seed=7, lifetimes=LIFETIMES)


@pytest.fixture
def url(simulator: Simulator) -> Iterator[str]:
    """Serve the simulator, check that it conforms to WSGI, and return its URL."""
    with serve(validator(simulator)) as url:
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Return a client with the right token."""
    with requests.Session() as session:
        session.trust_env = False
        session.headers["X-SBG-Auth-Token"] = TOKEN
        yield Client(url, session)


@pytest.fixture
def api(url: str) -> Iterator[sevenbridges.Api]:
    """Return the official client."""
    # `debug` is its public switch for http:// URLs.
    api = sevenbridges.Api(url=url, token=TOKEN, debug=True)
    yield api
    api.session.close()


def order(location: str = "release/a.bam") -> dict[str, object]:
    """Return one item of a bulk create."""
    destination = {"volume": "me/vol", "location": location}
    return {"source": {"file": FILE}, "destination": destination}


class TestOfficialClient:
    """sevenbridges-python works unchanged against the simulator."""

    def test_bulk_get(self, simulator: Simulator, clock: Clock, api: sevenbridges.Api) -> None:
        """sevenbridges-python reads finished exports, their results, errors and times."""
        ids = simulator.start(20, volume="me/vol")
        clock.now += 1000
        records = api.exports.bulk_get([*ids, "nobody"])

        assert [record.valid for record in records] == [True] * 20 + [False]
        assert (records[-1].error.status, records[-1].error.code) == (404, 9008)
        exports = [record.resource for record in records[:-1]]
        assert ids == [export.id for export in exports]
        assert {"COMPLETED", "FAILED"} == {export.state for export in exports}
        for export in exports:
            assert export.destination.volume == "me/vol"
            assert isinstance(export.started_on, datetime)
            assert export.started_on < export.finished_on
            if export.state == "COMPLETED":
                assert export.error is None
                assert export.result.size > 0
                assert export.result.id == export.source.id
                assert export.result.storage.volume == "me/vol"
            else:
                assert export.result is None
                assert export.destination.location.rpartition("/")[2] in export.error.message

    def test_bulk_submit(self, api: sevenbridges.Api) -> None:
        """sevenbridges-python submits a batch, and gets back the values that it submitted."""
        wanted = {
            "file": "5aba5c8b1c94b662fa6c2ae4",
            "volume": "me/vol",
            "location": "out/a.bam",
            "overwrite": True,
            "properties": {"sse_algorithm": "AES256"},
        }
        [record] = api.exports.bulk_submit([wanted])

        assert record.valid
        assert record.resource.state == "PENDING"
        assert record.resource.overwrite is True
        assert record.resource.destination.location == "out/a.bam"
        assert record.resource.properties["sse_algorithm"] == "AES256"
        assert record.resource.started_on is None
        [again] = api.exports.bulk_get([record.resource])
        assert record.resource == again.resource

    def test_query(self, simulator: Simulator, api: sevenbridges.Api) -> None:
        """sevenbridges-python pages through the list of a volume's exports."""
        simulator.start(3, volume="me/other")
        ids = simulator.start(25, volume="me/vol")
        page = api.exports.query(volume="me/vol", state="PENDING", limit=10)

        assert page.total == 25
        assert ids[:10] == [export.id for export in page]
        assert ids[10:20] == [export.id for export in page.next_page()]
        assert ids == [export.id for export in page.all()]

    def test_get_and_reload(
        self, simulator: Simulator, clock: Clock, api: sevenbridges.Api
    ) -> None:
        """sevenbridges-python gets one export and asks for it again by its href."""
        [export_id] = simulator.start(1)
        export = api.exports.get(export_id)
        assert export.state == "PENDING"
        clock.now += 1000
        assert export.reload().state in ("COMPLETED", "FAILED")

    def test_list_in_another_order(self, simulator: Simulator, api: sevenbridges.Api) -> None:
        """sevenbridges-python gets all exports, with all fields, of a list in another order."""
        simulator.listing = Listing(order="newest")
        ids = simulator.start(120, volume="me/vol")
        exports = list(api.exports.query(limit=100).all())
        assert [export.id for export in exports] == ids[::-1]
        assert {export.destination.volume for export in exports} == {"me/vol"}

    def test_refusals(self, simulator: Simulator, api: sevenbridges.Api) -> None:
        """sevenbridges-python shows the errors of refused exports and of other users' exports."""
        simulator.refuse("archived", 9006)
        wanted = {"volume": "me/vol", "location": "out/a.bam"}
        records = api.exports.bulk_submit(
            [wanted | {"file": "archived"}, wanted | {"file": "good"}], copy_only=True
        )
        assert [record.valid for record in records] == [False, True]
        assert (records[0].error.status, records[0].error.code) == (403, 9006)
        [record] = api.exports.bulk_get(simulator.start(1, of_others=True))
        assert (record.error.status, record.error.code) == (403, 9005)

    def test_rate_limit(self, api: sevenbridges.Api) -> None:
        """sevenbridges-python reads the rate limit."""
        api.exports.query()
        assert api.limit == 1000
        assert api.remaining == 999

    def test_errors(self, url: str) -> None:
        """sevenbridges-python raises its error for a 401, with the platform's message."""
        api = sevenbridges.Api(url=url, token="wrong", debug=True)
        with pytest.raises(sevenbridges.errors.Unauthorized, match="Unauthorized"):
            api.exports.bulk_get(["x"])
        api.session.close()


class TestBulkGet:
    """The call bulk get, which the exporter makes on each scrape."""

    def test_keeps_the_requested_order(self, simulator: Simulator, client: Client) -> None:
        """Items come in the requested order; an unknown ID gets an error item without an ID."""
        first, second = simulator.start(2)
        items = client.items("nobody", second, "no-one", first)

        assert {"error": UNKNOWN} == items[0] == items[2]
        assert [second, first] == [items[1]["resource"]["id"], items[3]["resource"]["id"]]

    def test_answers_a_repeated_id_twice(self, simulator: Simulator, client: Client) -> None:
        """An ID that is requested twice has two items."""
        [one] = simulator.start(1)
        assert len(client.items(one, one)) == 2

    def test_accepts_at_most_100_ids(self, client: Client) -> None:
        """A call with 100 IDs is answered, one with 101 is refused."""
        ids = [str(number) for number in range(101)]
        assert len(client.items(*ids[:100])) == 100
        refused = client.bulk_get(*ids)
        assert refused.status_code == 400
        assert refused.json() == {
            "status": 400,
            "code": 90000,
            "message": "export_ids must have 1 to 100 members.",
            "more_info": MORE_INFO,
        }

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"null",
            b"[]",
            b"{}",
            pytest.param(b"[" * 100_000, id="deeply nested"),
            b"\xff",
            b'{"export_ids": null}',
            b'{"export_ids": [1]}',
            b'{"export_ids": []}',
        ],
    )
    def test_refuses_an_invalid_body(self, client: Client, body: bytes) -> None:
        """A body that is not valid for the call is refused with the platform's error."""
        refused = client.call("POST", "/bulk/storage/exports/get", data=body)
        assert refused.status_code == 400
        assert {"status", "code", "message", "more_info"} == set(refused.json())

    def test_shows_a_put_export_unchanged(self, simulator: Simulator, client: Client) -> None:
        """An export that a test puts is shown unchanged, until the test puts it again."""
        simulator.put({"id": "x", "state": "ABORTED", "odd": [1]})
        assert client.items("x") == [{"resource": {"id": "x", "state": "ABORTED", "odd": [1]}}]
        simulator.put({"id": "x", "state": None})
        assert client.items("x") == [{"resource": {"id": "x", "state": None}}]

    def test_shows_the_same_as_export(
        self, simulator: Simulator, client: Client, clock: Clock
    ) -> None:
        """`Simulator.export` returns the same as a call, and is not recorded as a request."""
        [one] = simulator.start(1)
        clock.now += 1000
        [item] = client.items(one)
        truth = simulator.export(one)
        assert truth["finished_on"] == item["resource"]["finished_on"]
        assert truth.keys() == item["resource"].keys()
        assert len(simulator.requests) == 1


class TestCreate:
    """The call bulk create, which starts a batch."""

    def test_answers_each_item_in_its_place(self, client: Client) -> None:
        """The answer has, in the order of the items, a new export or an error for each."""
        bad = [{}, {"source": 1, "destination": 2}, order(location="")]
        items = client.create(order(), *bad, order()).json()["items"]

        assert [item.get("error", {}).get("code") for item in items] == [None, *[9011] * 3, None]
        assert [item["resource"] is None for item in items] == [False, True, True, True, False]
        assert items[1]["error"]["status"] == 400
        assert items[0]["resource"]["id"] != items[4]["resource"]["id"]
        assert items[0]["resource"]["destination"] == order()["destination"]

    @pytest.mark.parametrize(
        ("name", "code", "status"),
        [
            (FILE, 9004, 403),
            (FILE, 9006, 403),
            (FILE, 9009, 404),
            ("me/vol", 9020, 403),
            ("me/vol", 9027, 400),
        ],
    )
    def test_refuses_a_file_or_a_volume(
        self, simulator: Simulator, client: Client, name: str, code: int, status: int
    ) -> None:
        """Exports of a refused file, or to a refused volume, get an error; others start."""
        simulator.refuse(name, code)
        other = order() | {"source": {"file": "other"}, "destination": ELSEWHERE}
        refused, started = client.create(order(), other).json()["items"]
        assert refused["resource"] is None
        assert (refused["error"]["code"], refused["error"]["status"]) == (code, status)
        assert started["resource"]["state"] == "PENDING"

    def test_refuse_needs_a_known_code(self, simulator: Simulator) -> None:
        """`Simulator.refuse` raises an error for a code that is not one of a refused start."""
        with pytest.raises(KeyError):
            simulator.refuse("me/vol", 9103)

    @pytest.mark.parametrize(("copy_only", "code"), [("false", 9006), ("True", None)])
    def test_refuses_a_file_that_was_moved(
        self, clock: Clock, client: Client, copy_only: str, code: int | None
    ) -> None:
        """A moved file is an alias, which cannot be exported again; with `copy_only` it can."""
        path = f"/bulk/storage/exports/create?copy_only={copy_only}"

        def create() -> dict[str, Any]:
            items = client.call("POST", path, json={"items": [order()]}).json()["items"]
            clock.now += 1000
            item: dict[str, Any] = items[0]
            return item

        # A failed export does not move its file.
        while client.items(create()["resource"]["id"])[0]["resource"]["state"] == "FAILED":
            pass
        assert create().get("error", {}).get("code") == code

    def test_accepts_at_most_100_exports(self, client: Client) -> None:
        """A call with more than 100 exports is refused."""
        assert client.create(*[order()] * 101).status_code == 400


class TestList:
    """The list of exports, and the page of one export."""

    def test_last_page_has_no_next_link(self, simulator: Simulator, client: Client) -> None:
        """The last page has no link to a next one, and every page has the total."""
        simulator.start(4)
        page = client.list(offset=2, limit=2)
        assert page.json()["links"] == []
        assert len(page.json()["items"]) == 2
        assert page.headers["X-Total-Matching-Query"] == "4"

    def test_filters_by_volume_and_state(
        self, simulator: Simulator, client: Client, clock: Clock
    ) -> None:
        """Only exports of the requested volume and in the requested state are listed."""
        old = simulator.start(5, volume="me/vol")
        clock.now += 1000
        simulator.start(5, volume="me/vol")
        simulator.start(5, volume="me/other", ago=1000)
        simulator.put({"id": "x", "state": "FAILED", "destination": {"project": "me/project"}})
        listed = [
            export["id"]
            for state in ("COMPLETED", "FAILED")
            for export in client.list(volume="me/vol", state=state).json()["items"]
        ]
        assert set(old) == set(listed)

    def test_shows_all_fields_on_request(self, simulator: Simulator, client: Client) -> None:
        """An item is href, id and state, or has all fields if they are requested and honored."""
        [one] = simulator.start(1)
        slim = {
            "href": f"{client.url}/storage/exports/{one}",
            "id": one,
            "state": "PENDING",
        }
        assert client.list().json()["items"] == [slim]
        [full] = client.list(fields="_all").json()["items"]
        assert full == client.items(one)[0]["resource"]
        simulator.listing = Listing(honors_fields=False)
        assert client.list(fields="_all").json()["items"] == [slim]

    def test_page_has_50_exports_or_up_to_100(self, simulator: Simulator, client: Client) -> None:
        """A page has 50 exports without a limit, and 100 with the highest limit."""
        simulator.start(120)
        assert len(client.list().json()["items"]) == 50
        assert len(client.list(limit=100).json()["items"]) == 100

    def test_order_can_be_chosen(self, simulator: Simulator, client: Client) -> None:
        """The API documents no order: oldest or newest first, by ID or random can be chosen."""
        ids = simulator.start(100)

        def listed(order: Order) -> list[str]:
            simulator.listing = Listing(order=order)
            return [item["id"] for item in client.list(limit=100).json()["items"]]

        assert listed("oldest") == ids
        assert listed("newest") == ids[::-1]
        assert listed("id") == sorted(ids)
        once = listed("random")
        again = [item["id"] for item in client.list(limit=100).json()["items"]]
        assert once != again
        assert sorted(once) == sorted(again) == sorted(ids)

    def test_filters_by_several_states(
        self, simulator: Simulator, client: Client, clock: Clock
    ) -> None:
        """Several states filter by all of them, or are ignored with `honors_states=False`."""
        simulator.start(3, lifetimes=Lifetimes(failed_share=0))
        clock.now += 1000
        ids = simulator.start(2)
        states = ["PENDING", "RUNNING"]
        page = client.list(state=states, limit=1)
        assert page.headers["X-Total-Matching-Query"] == "2"
        following = client.session.get(page.json()["links"][0]["href"], timeout=5).json()
        assert [item["id"] for item in following["items"]] == ids[1:]
        simulator.listing = Listing(honors_states=False)
        assert client.list(state=states).headers["X-Total-Matching-Query"] == "5"
        assert client.list(state="PENDING").headers["X-Total-Matching-Query"] == "2"

    def test_can_change_between_two_pages(self, simulator: Simulator, client: Client) -> None:
        """A new export between two pages moves the others, so that one is listed twice."""
        first, second = simulator.start(2)

        def arrive(request: Request) -> None:
            if "offset=0" in request.query:
                simulator.start(1)

        simulator.listing = Listing(order="newest", after_page=arrive)
        pages = [client.list(limit=1, offset=offset) for offset in (0, 1, 2)]
        assert [page.json()["items"][0]["id"] for page in pages] == [second, second, first]
        assert [page.headers["X-Total-Matching-Query"] for page in pages] == ["2", "3", "3"]

    @pytest.mark.parametrize(
        "parameters", [{"limit": 101}, {"limit": 0}, {"limit": "x"}, {"offset": -1}], ids=str
    )
    def test_refuses_invalid_parameters(
        self, client: Client, parameters: dict[str, object]
    ) -> None:
        """A limit over 100 and invalid numbers are refused."""
        assert client.list(**parameters).status_code == 400

    def test_hides_exports_of_other_accounts(self, simulator: Simulator, client: Client) -> None:
        """Exports of another account are not listed; requested by ID they are 403 and 9005."""
        [own] = simulator.start(1)
        [other] = simulator.start(1, of_others=True)
        assert [item["id"] for item in client.list().json()["items"]] == [own]
        error = client.items(other)[0]["error"]
        assert (error["status"], error["code"]) == (403, 9005)
        single = client.call("GET", f"/storage/exports/{other}")
        assert (single.status_code, single.json()) == (403, error)

    def test_unknown_export_is_404(self, client: Client) -> None:
        """The page of an unknown export has the platform's error and status 404."""
        answer = client.call("GET", "/storage/exports/nobody")
        assert (answer.status_code, answer.json()) == (404, UNKNOWN)


class TestRefusals:
    """Requests that the platform refuses."""

    @pytest.mark.parametrize("token", [None, "", "wrong"])
    def test_missing_or_wrong_token_is_401(
        self, simulator: Simulator, client: Client, token: str | None
    ) -> None:
        """Without the right token a call is refused, and does not count for the rate limit."""
        path = "/bulk/storage/exports/get"
        headers = {"X-SBG-Auth-Token": token}
        refused = client.call("POST", path, json={"export_ids": ["x"]}, headers=headers)
        assert (refused.status_code, refused.json()["code"]) == (401, 90001)
        assert refused.headers["X-RateLimit-Remaining"] == "1000"
        assert TOKEN not in repr(simulator.requests)

    @pytest.mark.parametrize("path", ["", "/", "/bulk/storage/export/get", "/files", "/../v2"])
    def test_unknown_path_is_404(self, client: Client, path: str) -> None:
        """A path that does not exist has the platform's error and status 404."""
        refused = client.call("GET", path)
        assert (refused.status_code, refused.json()["status"]) == (404, 404)

    def test_path_outside_v2_is_404(self, client: Client) -> None:
        """Paths outside /v2 do not exist."""
        client.url = client.url.replace("/v2", "/v1")
        assert client.bulk_get("x").status_code == 404

    @pytest.mark.parametrize(
        ("method", "path", "allow"),
        [
            ("GET", "/bulk/storage/exports/get", "POST"),
            ("PUT", "/bulk/storage/exports/create", "POST"),
            ("POST", "/rate_limit", "GET"),
            ("DELETE", "/storage/exports/x", "GET"),
        ],
    )
    def test_wrong_method_is_405(self, client: Client, method: str, path: str, allow: str) -> None:
        """Another method is refused; the header `Allow` names the allowed one."""
        refused = client.call(method, path)
        assert (405, allow) == (refused.status_code, refused.headers["Allow"])
        assert refused.json()["status"] == 405


class TestRateLimit:
    """The rate limit of the account."""

    def test_counts_and_resets(self, client: Client, clock: Clock) -> None:
        """Every call counts, whatever its status, until the window of 5 minutes ends."""
        left = []
        for now in (0, 1, 299, 300):
            clock.now = EPOCH + now
            left.append(client.bulk_get("x").headers["X-RateLimit-Remaining"])
        assert left == ["999", "998", "997", "999"]
        last = client.call("GET", "/nowhere").headers
        assert last["X-RateLimit-Limit"] == "1000"
        assert last["X-RateLimit-Remaining"] == "998"
        assert last["X-RateLimit-Reset"] == str(int(EPOCH) + 600)

    def test_used_up_is_429(self, simulator: Simulator, client: Client, clock: Clock) -> None:
        """When other users have used up the account's calls, calls fail until the window ends."""
        simulator.spend(2000)
        refused = client.bulk_get("x")
        assert (refused.status_code, refused.json()["code"]) == (429, 1000)
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        clock.now = float(refused.headers["X-RateLimit-Reset"])
        assert client.bulk_get("x").status_code == 200

    def test_page_about_it_does_not_count(self, client: Client) -> None:
        """The page about the rate limit has the reset in milliseconds; reading it is no call."""
        page = {"rate": {"limit": 1000, "remaining": 1000, "reset": int(EPOCH + 300) * 1000}}
        assert [page, page] == [client.call("GET", "/rate_limit").json() for _ in range(2)]

    def test_window_ends_if_the_clock_is_set_back(self, client: Client, clock: Clock) -> None:
        """A clock that is set back by a day does not make the window a day longer."""
        client.bulk_get("x")
        clock.now -= 86400
        reset = client.bulk_get("x").headers["X-RateLimit-Reset"]
        assert reset == str(int(clock.now) + 300)


class TestLife:
    """The life of an export depends on the clock and the seed."""

    def test_changes_its_state_on_time(self, simulator: Simulator, clock: Clock) -> None:
        """An export is PENDING, RUNNING and finished to the second; later fields are absent."""
        [one] = simulator.start(1, lifetimes=Lifetimes((10, 10), (100, 100), failed_share=0))
        seen = []
        for now in (0, 9, 10, 109, 110):
            clock.now = EPOCH + now
            seen.append(simulator.export(one))
        times = [(export.get("started_on"), export.get("finished_on")) for export in seen]

        states = ["PENDING", "PENDING", "RUNNING", "RUNNING", "COMPLETED"]
        assert [export["state"] for export in seen] == states
        begun, ended = "2023-11-14T22:13:30Z", "2023-11-14T22:15:10Z"
        assert times == [(None, None)] * 2 + [(begun, None)] * 2 + [(begun, ended)]
        assert ["result" in export for export in seen] == [False] * 4 + [True]
        assert not any("error" in export for export in seen)

    def test_draws_times_from_the_whole_range(self, simulator: Simulator, clock: Clock) -> None:
        """Times are drawn from the whole range between the shortest and the longest."""
        ids = simulator.start(200)
        shares = []
        for now in (10, 15, 20):
            clock.now = EPOCH + now
            shares.append(sum(simulator.export(one)["state"] == "RUNNING" for one in ids))
        assert shares[0] == 0
        assert 60 < shares[1] < 140
        assert shares[2] == 200

    def test_does_not_change_after_its_end(self, simulator: Simulator, clock: Clock) -> None:
        """An export that ended is still the same years later."""
        ids = simulator.start(10, ago=1000)
        then = [simulator.export(one) for one in ids]
        clock.now += 1e8
        assert then == [simulator.export(one) for one in ids]

    def test_fails_at_the_requested_share(self, simulator: Simulator) -> None:
        """About the requested share of exports fails, each with an error code from 9100 to 9109."""
        exports = [simulator.export(one) for one in simulator.start(1000, ago=1000)]
        failed = [export for export in exports if export["state"] == "FAILED"]
        assert 450 < len(failed) < 550
        assert {export["error"]["code"] for export in failed} == set(range(9100, 9110))

    def test_depends_on_the_seed(self, clock: Clock) -> None:
        """The same seed results in the same exports, another seed in others."""
        lives = []
        for seed in (1, 1, 2):
            simulator = Simulator(token=TOKEN, clock=clock, seed=seed)
            lives.append([simulator.export(one) for one in simulator.start(5, ago=5000)])
        assert lives[0] == lives[1] != lives[2]

    def test_can_have_its_own_lifetimes(self, simulator: Simulator, clock: Clock) -> None:
        """Lifetimes given to `Simulator.start` replace the simulator's for these exports."""
        [one] = simulator.start(1, lifetimes=Lifetimes(pending=(0, 0), running=(1e9, 1e9)))
        clock.now += 1e8
        assert simulator.export(one)["state"] == "RUNNING"


class TestRequests:
    """The requests that the simulator has received."""

    def test_are_recorded(self, simulator: Simulator, client: Client) -> None:
        """A request is recorded with method, path, query, headers, body and export IDs."""
        client.bulk_get("a", "b")
        client.list(limit=7)
        get, listed = simulator.requests

        assert (get.method, get.path) == ("POST", "/v2/bulk/storage/exports/get")
        assert json.loads(get.body) == {"export_ids": ["a", "b"]}
        assert get.export_ids == ("a", "b")
        assert get.headers["x-sbg-auth-token"] == TOKEN
        assert get.headers["content-type"] == "application/json"
        assert (listed.query, listed.export_ids) == ("limit=7", ())

    def test_only_the_latest_1000_are_kept(self, simulator: Simulator) -> None:
        """The simulator keeps the latest 1,000 requests; a test can clear them."""
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
        }
        for _ in range(1001):
            simulator(environ, lambda *_: None)
        assert len(simulator.requests) == 1000
        assert simulator.requests[0].base == "http://localhost:80"
        simulator.requests.clear()
        assert not simulator.requests


class TestFault:
    """A fault changes answers."""

    def test_status_alone_is_a_platform_error(self, simulator: Simulator, client: Client) -> None:
        """A fault with only a status sends the platform's error with the rate limit's headers."""
        simulator.fault = Fault(status=503, code=0)
        spoilt = client.bulk_get("x")
        assert (spoilt.status_code, spoilt.json()["code"]) == (503, 0)
        assert spoilt.headers["X-RateLimit-Remaining"] == "999"
        simulator.fault = None
        assert simulator.fault is None
        assert client.bulk_get("x").status_code == 200

    def test_malformed_ids_refuse_the_whole_call(
        self, simulator: Simulator, client: Client
    ) -> None:
        """One ID of another form makes the API refuse the whole call; other calls are answered."""
        [known] = simulator.start(1)
        simulator.fault = malformed_ids()
        refused = client.bulk_get(known, "x")
        assert (refused.status_code, refused.json()["code"]) == (400, 9011)
        assert client.bulk_get(known).status_code == 200

    def test_status_may_be_unknown_to_http(self, simulator: Simulator, client: Client) -> None:
        """A fault can send a status that HTTP does not define."""
        simulator.fault = Fault(status=599)
        assert client.bulk_get("x").status_code == 599

    def test_body_is_sent_unchanged(self, simulator: Simulator, client: Client) -> None:
        """A fault's body is sent unchanged and without the platform's headers, as by a proxy."""
        simulator.fault = Fault(status=502, body=b"<html>", headers={"Content-Type": "text/html"})
        spoilt = client.bulk_get("x")
        assert (spoilt.status_code, spoilt.content) == (502, b"<html>")
        assert spoilt.headers == {"Content-Type": "text/html", "Content-Length": "6"}

    def test_body_may_have_many_chunks(self, simulator: Simulator, client: Client) -> None:
        """A fault's body may have many chunks, so that a large one takes little memory."""
        simulator.fault = Fault(body=(b" " * 65536,) * 50)
        spoilt = client.bulk_get("x")
        assert (spoilt.status_code, len(spoilt.content)) == (200, 50 * 65536)

    def test_headers_are_replaced_and_removed(self, simulator: Simulator, client: Client) -> None:
        """A fault replaces and removes headers; without a length the connection ends the body."""
        simulator.fault = Fault(headers={"X-RateLimit-Reset": "soon", "Content-Length": None})
        spoilt = client.bulk_get("x")
        assert spoilt.headers["X-RateLimit-Reset"] == "soon"
        assert spoilt.json() == {"items": [{"error": UNKNOWN}]}
        assert "Content-Length" not in spoilt.headers
        assert spoilt.headers["Connection"] == "close"

    def test_content_length_may_be_wrong(self, simulator: Simulator, client: Client) -> None:
        """A body shorter than its `Content-Length` ends with the connection and does not hang."""
        simulator.fault = Fault(headers={"Content-Length": "9999"}, times=1)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            client.bulk_get("x")
        assert client.bulk_get("x").status_code == 200

    def test_items_can_be_changed(self, simulator: Simulator, client: Client) -> None:
        """A function of the test changes the list of items."""
        ids = simulator.start(3)
        simulator.fault = Fault(items=lambda items: items[::-1])
        assert ids[::-1] == [item["resource"]["id"] for item in client.items(*ids)]
        simulator.fault = Fault(items=lambda _: None)
        assert client.bulk_get(*ids).json() == {"items": None}

    def test_body_can_be_rewritten(self, simulator: Simulator, client: Client) -> None:
        """A function of the test rewrites the true body; `Content-Length` is that of the result."""
        simulator.fault = Fault(rewrite=lambda body: b"\xef\xbb\xbf" + body)
        assert client.bulk_get("x").content.startswith(b"\xef\xbb\xbf{")

    def test_answer_is_delayed_and_slow(
        self, simulator: Simulator, client: Client, clock: Clock
    ) -> None:
        """A fault delays an answer and then sends it byte by byte."""
        simulator.fault = Fault(delay=3.0, drip=1.0, body=b"1234")
        assert client.bulk_get("x").content == b"1234"
        assert clock.sleeps == [3.0, 1.0, 1.0, 1.0]

    def test_every_and_times_select_requests(self, simulator: Simulator, client: Client) -> None:
        """A fault affects every second request, twice; setting it again resets the count."""
        for _ in range(2):
            simulator.fault = Fault(status=500, every=2, times=2)
            seen = [client.bulk_get("x").status_code for _ in range(6)]
            assert seen == [200, 500, 200, 500, 200, 200]

    def test_when_selects_requests(self, simulator: Simulator, client: Client) -> None:
        """A fault affects only the requests that `when` accepts, and counts no others."""
        simulator.fault = Fault(status=500, times=1, when=lambda asked: "x" in asked.export_ids)
        seen = [client.bulk_get(one).status_code for one in ("a", "x", "a", "x")]
        assert seen == [200, 500, 200, 200]


class TestServe:
    """`serve` runs a server until the end of a block."""

    def test_keeps_connections_open(self, simulator: Simulator) -> None:
        """A client can send several requests on one connection, with a body or without."""
        with serve(simulator) as url:
            connection = HTTPConnection(urlsplit(url).netloc, timeout=5)
            connection.connect()
            port = connection.sock.getsockname()
            for method, body in (("GET", b"null"), ("POST", b"{}"), ("GET", None)):
                connection.request(method, "/v2/rate_limit", body)
                with connection.getresponse() as response:
                    response.read()
                assert connection.sock.getsockname() == port
            connection.close()
        assert [request.body for request in simulator.requests] == [b"null", b"{}", b""]

    def test_stops_after_the_block(self, simulator: Simulator) -> None:
        """After the block the port is closed, and so are idle connections."""
        with requests.Session() as session:
            with serve(simulator) as url:
                session.get(f"{url}/rate_limit", timeout=5)
            with pytest.raises(requests.ConnectionError):
                session.get(f"{url}/rate_limit", timeout=5)

    def test_can_use_the_same_port_again(self, simulator: Simulator) -> None:
        """The same port can be used again at once, to simulate an API that was unavailable."""
        with requests.Session() as session:
            with serve(simulator) as url:
                session.get(f"{url}/rate_limit", timeout=5)
            with serve(simulator, port=urlsplit(url).port or 0) as again:
                assert again == url
                assert session.get(f"{url}/rate_limit", timeout=5).status_code == 401

    def test_answers_concurrent_calls(self, client: Client) -> None:
        """All concurrent calls are answered, and each counts once for the rate limit."""
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(client.bulk_get, ["x"] * 40))
        left = sorted(int(answer.headers["X-RateLimit-Remaining"]) for answer in answers)
        assert [answer.status_code for answer in answers] == [200] * 40
        assert left[0] == 960

    def test_logs_nothing_when_a_client_leaves(
        self, simulator: Simulator, client: Client, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A client that leaves before the end of the answer causes no output and no error."""
        simulator.fault = Fault(body=(b" " * 65536,) * 500)
        client.call("GET", "/rate_limit", stream=True).close()
        simulator.fault = None
        assert client.bulk_get("x").status_code == 200
        assert capfd.readouterr() == ("", "")

    def test_shows_an_error_of_the_application(self, capfd: pytest.CaptureFixture[str]) -> None:
        """An exception of the application is written to standard error."""

        def broken(*_: object) -> list[bytes]:
            raise ZeroDivisionError

        with serve(broken) as url, pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)
        assert "ZeroDivisionError" in capfd.readouterr().err


class TestProcess:
    """The simulator in a process of its own."""

    def test_serves_exports_and_changes_some(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        """The process prints its URL, serves the exports in its ID files, and changes some."""
        states = []

        def steps() -> Iterator[str]:
            url = capsys.readouterr().out.strip()
            files = sorted(tmp_path.iterdir())
            ids = [line[2:] for file in files for line in file.read_text().splitlines()]
            for _ in range(3):
                with requests.Session() as session:
                    session.headers["X-SBG-Auth-Token"] = "simulated"
                    items = Client(url, session).items(*ids)
                states.append(sorted(item["resource"]["state"] for item in items))
                yield "1\n"

        monkeypatch.setattr(sys, "stdin", steps())
        options = "--finished 2 --recent 1 --unfinished 2 --failed-share 0 --files 2 --write-ids"
        main([*options.split(), str(tmp_path)])
        assert states[0] == states[2] == ["COMPLETED"] * 3 + ["RUNNING"] * 2
        assert states[1] == ["COMPLETED"] * 3 + ["PENDING", "RUNNING"]
        assert capsys.readouterr().out == "1\n" * 3
        names = ["batch-0000.yml", "batch-0001.yml"]
        assert sorted(file.name for file in tmp_path.iterdir()) == names

    def test_ends_with_its_input(self) -> None:
        """`python -m exporter.simulator` prints its URL and exits when its input ends."""
        command = [sys.executable, "-m", "exporter.simulator"]
        ended = subprocess.run(command, input="", capture_output=True, text=True, check=True)
        assert ended.stdout.startswith("http://127.0.0.1:")
        assert ended.stderr == ""
