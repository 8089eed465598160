"""A call of the API: the request, the answer, and every failure."""

import gzip
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cavatica.answer import (
    MAX_IDS,
    REASONS,
    ApiError,
    BulkResponse,
    ListResponse,
    RateLimit,
    Reason,
    RequestOutcome,
)
from exporter.cavatica.client import BYTES_AROUND, BYTES_PER_ID, Client
from exporter.cavatica.export import Export, LookupFailure
from tests.support.raw_server import Peer, listen

TOKEN = "0123456789abcdef0123456789abcdef"
EXAMPLE = Path(__file__).parents[3] / "tests/data/api/bulk-get-completed.json"
IDS = ["gOM3zcx6CG411ac0SbNkaUE0SNRK4H0S", "YFyyZ7rpCGtXjKTzjGGRJIIAmCd6Mh19"]
NO_LIMIT = RateLimit(None, None, None)
NOT_FOUND = {"status": 404, "code": 9008, "message": "No such export.", "more_info": ""}
TRUNCATED = b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\n{}"


class Clock:
    """A clock that advances with every reading."""

    def __init__(self, step: float = 0.0) -> None:
        """Start at an arbitrary time, as monotonic clocks do."""
        self.now = 1000.0
        self.step = step

    def __call__(self) -> float:
        """Return the time and advance the clock."""
        self.now += self.step
        return self.now - self.step


def close_connection(_: Peer) -> None:
    """Return without an answer, which closes the connection."""


class Api:
    """A server with scripted answers, clients of it, and the outcomes that they report."""

    def __init__(self) -> None:
        self.port = 0
        self.clock = Clock()
        self.requests: list[bytes] = []
        self.outcomes: list[RequestOutcome] = []
        self._answers: deque[Callable[[Peer], object]] = deque()

    def client(self, *, advance_access: bool = False) -> Client:
        """Return a client of the server."""
        return Client(
            f"http://127.0.0.1:{self.port}/v2",
            lambda: TOKEN,
            user_agent="cavatica-export-exporter/1.2.3",
            observe=self.outcomes.append,
            monotonic=self.clock,
            advance_access=advance_access,
        )

    def talk(self, peer: Peer) -> None:
        """Record a request, and send the next answer."""
        self.requests.append(peer.receive())
        self._answers.popleft()(peer)

    def script(self, talk: Callable[[Peer], object]) -> None:
        """Add what the server does after a request."""
        self._answers.append(talk)

    def answer(
        self,
        body: object = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Add an answer: bytes unchanged, anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Length": str(len(content)), **(headers or {})}
        head = f"HTTP/1.1 {status} Status\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.script(lambda peer: peer.send(head.encode("latin-1") + b"\r\n" + content))

    def ask(self, ids: Sequence[str] = ("A",), seconds: float = 10.0) -> BulkResponse:
        """Fetch exports, with a deadline in so many seconds."""
        return self.client().bulk_get(ids, self.clock.now + seconds)

    def fail(self, **arguments: Any) -> ApiError:  # noqa: ANN401 # as of `ask`
        """Fetch exports, and return the error."""
        with pytest.raises(ApiError) as caught:
            self.ask(**arguments)
        return caught.value

    def discard_answers(self) -> None:
        """Remove the answers that were not fetched."""
        self._answers.clear()

    @property
    def statuses(self) -> list[tuple[int | None, Reason | None]]:
        """Return status and reason of every request so far."""
        return [(each.status, each.reason) for each in self.outcomes]


@pytest.fixture(scope="module")
def server() -> Iterator[Api]:
    """Run one server for all examples of a property-based test."""
    api = Api()
    with listen(api.talk) as api.port:
        yield api


@pytest.fixture
def api() -> Iterator[Api]:
    """Run a server, and check that every answer is fetched."""
    api = Api()
    with listen(api.talk) as api.port:
        yield api
    assert not api._answers, "an answer was not fetched"  # noqa: SLF001 # its own


def found(export_id: str = "A", **fields: object) -> dict[str, Any]:
    """Return an answer that describes one RUNNING export."""
    return {"items": [{"resource": {"id": export_id, "state": "RUNNING"} | fields}]}


class TestRequest:
    """Requests to the API."""

    def test_has_the_documented_path_body_and_headers(self, api: Api) -> None:
        """A request has the path, body and headers that the platform documents, and no others."""
        api.answer(found())
        api.ask(IDS)
        [request] = api.requests
        head, body = request.split(b"\r\n\r\n")
        line, *fields = head.decode().split("\r\n")
        assert line == "POST /v2/bulk/storage/exports/get HTTP/1.1"
        assert json.loads(body) == {"export_ids": IDS}
        assert dict(field.split(": ") for field in fields) == {
            "User-Agent": "cavatica-export-exporter/1.2.3",
            "Accept-Encoding": "gzip",
            "Accept": "*/*",
            "Connection": "close",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "Host": f"127.0.0.1:{api.port}",
            "X-SBG-Auth-Token": TOKEN,
        }

    def test_asks_for_advance_access_on_request(self, api: Api) -> None:
        """The header is sent only with `advance_access`, which is off as in the official client."""
        api.answer(found())
        api.client(advance_access=True).bulk_get(["A"], api.clock.now + 10)
        assert b"\r\nX-SBG-Advance-Access: advance\r\n" in api.requests[0]

    def test_may_be_for_a_hundred_ids(self, api: Api) -> None:
        """A call may have 100 IDs, the maximum in the official client's manual."""
        ids = [f"{number:032}" for number in range(MAX_IDS)]
        api.answer({"items": [found(export_id)["items"][0] for export_id in ids]})
        answer = api.ask(ids)
        assert len(ids) == 100
        assert (list(answer.outcomes), answer.complete) == (ids, True)


class TestAnswer:
    """Successful answers."""

    def test_is_parsed_as_the_documentation_shows_it(self, api: Api) -> None:
        """The example of the API's documentation is parsed with its exact times and sizes."""
        limits = {
            "X-RateLimit-Limit": "1000",
            "X-RateLimit-Remaining": "997",
            "X-RateLimit-Reset": "1522163000",
        }
        api.answer(EXAMPLE.read_bytes(), headers=limits)
        first, second = IDS
        fields = {"size": 36433, "volume": "rfranklin/input"}
        assert api.ask(IDS) == BulkResponse(
            outcomes={
                first: Export(first, "COMPLETED", finished=1522162828.0, **fields),  # type: ignore[arg-type] # fields of several types
                second: Export(second, "COMPLETED", finished=1522162831.0, **fields),  # type: ignore[arg-type] # fields of several types
            },
            complete=True,
            rate_limit=RateLimit(1000, 997, 1522163000.0),
            requests=1,
        )
        assert api.statuses == [(200, None)]

    def test_may_have_errors_instead_of_exports(self, api: Api) -> None:
        """An item with an error is a lookup failure of its ID, which the API may not know."""
        api.answer({"items": [{"error": NOT_FOUND}, found("B")["items"][0]]})
        assert api.ask(["A", "B"]).outcomes == {
            "A": LookupFailure("9008", 404, "No such export."),
            "B": Export("B", "RUNNING"),
        }

    @pytest.mark.parametrize(
        "items",
        [[], [{}], [{"resource": None}], found("B")["items"], found("A")["items"] * 2],
        ids=["no items", "an empty item", "a null export", "another ID", "the ID twice"],
    )
    def test_that_does_not_match_the_ids_counts_as_failed(
        self, api: Api, items: list[object]
    ) -> None:
        """An answer whose items do not match the IDs is used, but its request counts as failed."""
        api.answer({"items": items})
        assert api.ask().complete is False
        assert api.statuses == [(200, "invalid_response")]

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"\xef\xbb\xbf" + json.dumps(found()).encode(), id="a BOM"),
            pytest.param(
                b' \n{"items": %s}\n ' % json.dumps(found()["items"]).encode(), id="space"
            ),
            pytest.param(
                json.dumps({"href": None, **found(), "links": []}).encode(), id="more keys"
            ),
        ],
    )
    def test_may_have_white_space_and_additional_keys(self, api: Api, body: bytes) -> None:
        """White space, a byte order mark and additional keys are accepted."""
        api.answer(body)
        assert api.ask().outcomes == {"A": Export("A", "RUNNING")}

    @pytest.mark.parametrize(
        "size",
        ["NaN", "Infinity", "-Infinity", "1e999", "9" * 400, "9" * 5000, "-" + "9" * 5000],
        ids=lambda size: size[:9],
    )
    def test_may_have_unusable_numbers(self, api: Api, size: str) -> None:
        """An unusable number is dropped; the other fields and items are used."""
        item = '{"resource": {"id": "A", "state": "RUNNING", "result": {"size": %s}}}'
        api.answer(('{"items": [' + item % size + "]}").encode())
        assert api.ask().outcomes == {"A": Export("A", "RUNNING")}

    @pytest.mark.parametrize(
        "body",
        [
            pytest.param(b"", id="nothing"),
            pytest.param(b"<html>Welcome</html>", id="HTML"),
            pytest.param(EXAMPLE.read_bytes()[:500], id="cut off"),
            pytest.param(b'{"items": []}{', id="something behind"),
            pytest.param(b"\xff\xfe{}", id="not UTF-8"),
            pytest.param('{"items": []}'.encode("utf-16"), id="UTF-16"),
            pytest.param(b"[" * 80_000, id="deep"),
            pytest.param(b'{"items":' * 8_000, id="deep objects"),
            pytest.param(b"null", id="null"),
            pytest.param(b"NaN", id="NaN"),
            pytest.param(b"[]", id="a list"),
            pytest.param(b'"items"', id="a text"),
            pytest.param(b"{}", id="no items"),
            pytest.param(b'{"items": null}', id="items null"),
            pytest.param(b'{"items": {}}', id="items an object"),
            pytest.param(b'{"items": "A"}', id="items a text"),
        ],
    )
    def test_of_another_form_is_an_error(self, api: Api, body: bytes) -> None:
        """An answer of another form is an error without a retry."""
        api.answer(body, headers={"X-RateLimit-Remaining": "7"})
        error = api.fail()
        assert error.reason == "invalid_response"
        assert str(error) == "the answer is not a JSON object with a list of items"
        assert (error.status, error.requests) == (200, 1)
        assert error.rate_limit == RateLimit(None, 7, None)
        assert api.statuses == [(200, "invalid_response")]

    @pytest.mark.parametrize("status", [200, 201, 202, 203])
    def test_has_a_status_that_the_official_client_accepts(self, api: Api, status: int) -> None:
        """Every status that the official client accepts is a success."""
        api.answer(found(), status=status)
        assert api.ask().outcomes == {"A": Export("A", "RUNNING")}
        assert api.statuses == [(status, None)]

    def test_is_limited_by_the_number_of_ids(self, api: Api) -> None:
        """The maximum size of an answer depends on the number of IDs."""
        body = b'{"items": [{"resource": {"id": "A", "state": "RUNNING"}}]' + b" " * 100_000 + b"}"
        api.answer(body)
        assert str(api.fail(ids=["A"])) == "the answer is larger than 81920 bytes"
        api.answer(body)
        assert api.ask(["A", "B", "C"]).outcomes == {"A": Export("A", "RUNNING")}

    def test_of_far_more_items_than_ids_costs_little(self, api: Api) -> None:
        """Too many items are counted but not parsed, so they cost little more than their JSON."""
        ids = [f"{number:032}" for number in range(MAX_IDS)]
        count = (BYTES_AROUND + BYTES_PER_ID * MAX_IDS) // 13 - 10
        body = b'{"items": [' + b'{"error":{}},' * count + b"{}]}"
        api.answer(body)
        began = time.process_time()
        assert str(api.fail(ids=ids)) == f"the answer has {count + 1} items for 100 exports"
        used = time.process_time() - began
        for _ in range(4):
            json.loads(body)
        assert used < time.process_time() - began - used


class TestRefusal:
    """Refusals: answers with an error status, and perhaps a code of the platform."""

    @pytest.mark.parametrize(
        ("status", "code", "reason"),
        [
            (401, None, "auth"),
            (403, 0, "auth"),
            (429, 1000, "rate_limited"),
            (503, 0, "maintenance"),
            (503, "0", "maintenance"),
            (503, None, "server_error"),
            (503, 3000, "server_error"),
            (500, 0, "server_error"),
            (501, None, "server_error"),
            (599, None, "server_error"),
            (400, 90000, "client_error"),
            (404, None, "client_error"),
            (405, None, "client_error"),
            (409, None, "client_error"),
            (418, None, "client_error"),
            (300, None, "redirect"),
            (301, None, "redirect"),
            (302, None, "redirect"),
            (307, None, "redirect"),
            (308, None, "redirect"),
            (206, None, "invalid_response"),
            (299, None, "invalid_response"),
        ],
    )
    def test_has_its_reason(self, api: Api, status: int, code: object, reason: Reason) -> None:
        """A refusal is an error with reason, status and rate limit, and is not retried."""
        api.answer(
            {"status": status, "code": code, "message": "patient-1.bam", "more_info": TOKEN},
            status=status,
            headers={"X-RateLimit-Remaining": "0"},
        )
        error = api.fail()
        assert reason in REASONS
        assert (error.reason, error.status, error.requests) == (reason, status, 1)
        assert error.rate_limit == RateLimit(None, 0, None)
        text, _, advice = str(error).partition(" (")
        assert text == f"HTTP {status}" + ("" if code is None else f", platform code {code}")
        assert bool(advice) == ((status, str(code)) in {(429, "1000"), (503, "0")})
        assert api.statuses == [(status, reason)]

    @pytest.mark.parametrize("body", [b"", b"<html>Busy</html>", b"[1]", b"\xff", b'{"code": {}}'])
    def test_needs_no_body(self, api: Api, body: bytes) -> None:
        """A refusal may have no JSON: proxies in front of the platform send HTML or nothing."""
        api.answer(body, status=503)
        error = api.fail()
        assert (error.reason, str(error)) == ("server_error", "HTTP 503")

    @pytest.mark.parametrize("status", [502, 504])
    def test_of_a_gateway_is_retried_once(self, api: Api, status: int) -> None:
        """A gateway's error is retried: the servers behind it are restarted from time to time."""
        api.answer(status=status)
        api.answer(found())
        assert api.ask().requests == 2
        assert api.statuses == [(status, "server_error"), (200, None)]

    def test_of_the_retry_is_an_error(self, api: Api) -> None:
        """There is one retry; its error is raised and counts both requests."""
        api.answer(status=502)
        api.answer(status=504)
        error = api.fail()
        assert (error.reason, error.status, error.requests) == ("server_error", 504, 2)


class TestConnection:
    """Calls without an answer."""

    def test_is_retried_once(self, api: Api) -> None:
        """A request is retried once after a broken connection."""
        api.script(close_connection)
        api.answer(found())
        assert api.ask().requests == 2
        assert api.statuses == [(None, "connection"), (200, None)]

    def test_that_breaks_twice_is_an_error(self, api: Api) -> None:
        """After a second broken connection there is no third attempt."""
        api.script(close_connection)
        api.script(close_connection)
        error = api.fail()
        assert (error.reason, error.status, error.requests) == ("connection", None, 2)
        assert error.rate_limit is None
        assert api.statuses == [(None, "connection")] * 2

    @pytest.mark.parametrize(
        ("talk", "status", "reason"),
        [
            pytest.param(Peer.hang, None, "timeout", id="silence"),
            pytest.param(
                lambda peer: peer.send(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n{}"),
                200,
                "invalid_response",
                id="no gzip",
            ),
        ],
    )
    def test_is_not_retried_after_other_failures(
        self, api: Api, talk: Callable[[Peer], object], status: int | None, reason: Reason
    ) -> None:
        """A failure that a retry cannot solve is raised at once."""
        api.script(talk)
        error = api.fail(seconds=0.5)
        assert (error.reason, error.status, error.requests) == (reason, status, 1)

    def test_is_not_retried_after_the_deadline(self, api: Api) -> None:
        """After the deadline there is no retry."""
        api.clock.step = 4.0
        api.script(close_connection)
        # The clock is read when the request begins, when it ends, and before a retry.
        assert api.fail(seconds=8.0).requests == 1

    def test_is_retried_just_before_the_deadline(self, api: Api) -> None:
        """Any remaining time is enough for a retry."""
        api.clock.step = 4.0
        api.script(close_connection)
        api.answer(found())
        assert api.ask(seconds=20.0).requests == 2

    def test_is_timed(self, api: Api) -> None:
        """The observer receives the duration of each request."""
        api.clock.step = 2.0
        api.script(close_connection)
        api.answer(found())
        api.ask()
        assert [each.seconds for each in api.outcomes] == [2.0, 2.0]

    def test_that_breaks_within_an_answer_is_counted_with_its_status(self) -> None:
        """A request whose answer breaks off is counted with the status of that answer."""

        def talk(peer: Peer) -> None:
            peer.receive()
            peer.send(TRUNCATED)

        outcomes: list[RequestOutcome] = []
        with listen(talk) as port:
            client = Client(
                f"http://127.0.0.1:{port}/v2",
                lambda: TOKEN,
                user_agent="a-test",
                observe=outcomes.append,
                monotonic=time.monotonic,
            )
            with pytest.raises(ApiError) as caught:
                client.bulk_get(["A"], time.monotonic() + 5)
        assert (caught.value.reason, caught.value.status) == ("connection", 500)
        assert [(each.status, each.reason) for each in outcomes] == [(500, "connection")] * 2

    @pytest.mark.slow
    def test_shares_its_deadline_with_the_retry(self) -> None:
        """The retry has only the time that the first request left."""
        peers: list[Peer] = []

        def talk(peer: Peer) -> None:
            peers.append(peer)
            peer.receive()
            if len(peers) > 1:
                peer.hang()
            time.sleep(1)
            peer.reset()

        outcomes: list[RequestOutcome] = []
        with listen(talk) as port:
            url = f"http://127.0.0.1:{port}/v2"
            client = Client(
                url,
                lambda: TOKEN,
                user_agent="a-test",
                observe=outcomes.append,
                monotonic=time.monotonic,
            )
            with pytest.raises(ApiError) as caught:
                client.bulk_get(["A"], time.monotonic() + 2)
        assert (caught.value.reason, caught.value.requests) == ("timeout", 2)
        assert [each.reason for each in outcomes] == ["connection", "timeout"]
        assert outcomes[1].seconds < 1.9


class TestProxy:
    """Proxies from the environment."""

    def test_is_used_for_https_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Plain HTTP is for loopback and uses no proxy, which would see the token."""
        visits: list[Peer] = []
        ids: list[str] = []

        def talk(peer: Peer) -> None:
            ids.extend(json.loads(peer.receive().partition(b"\r\n\r\n")[2])["export_ids"])
            peer.send(b"HTTP/1.1 418 No\r\nContent-Length: 0\r\n\r\n")

        with listen(visits.append) as proxy, listen(talk) as port:
            for name in ("HTTP_PROXY", "HTTPS_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
            for url in (f"http://127.0.0.1:{port}/v2", "https://127.0.0.1:1/v2"):
                client = Client(
                    url,
                    lambda: TOKEN,
                    user_agent="a-test",
                    observe=lambda _: None,
                    monotonic=time.monotonic,
                )
                with pytest.raises(ApiError):
                    client.bulk_get(["A"], time.monotonic() + 5)
        assert ids == ["A"]
        # The broken connection is retried once.
        assert len(visits) == 2


class TestRateLimit:
    """The rate limit in an answer's headers."""

    @pytest.mark.parametrize(
        ("text", "reset"),
        [
            ("1445694506", 1445694506.0),
            ("1445694506797", 1445694506.797),
            (" 1445694506 ", 1445694506.0),
            ("0", 0.0),
            ("99999999999", 99999999999.0),
            ("100000000000", 100000000.0),
        ],
    )
    def test_resets_in_seconds_or_milliseconds(self, api: Api, text: str, reset: float) -> None:
        """The reset time may be in seconds or milliseconds: the documentation has both."""
        api.answer(found(), headers={"X-RateLimit-Reset": text})
        assert api.ask().rate_limit == RateLimit(None, None, reset)

    @pytest.mark.parametrize(
        "text",
        ["", "soon", "-1", "1.5", "1e3", "+1", "1_000", "NaN", "1, 2", "²", "9" * 16, "0x10"],
    )
    def test_is_ignored_if_it_is_not_a_number(self, api: Api, text: str) -> None:
        """A header that is not a whole number is ignored."""
        names = ("Limit", "Remaining", "Reset")
        api.answer(found(), headers={f"X-RateLimit-{name}": text for name in names})
        assert api.ask().rate_limit == NO_LIMIT

    def test_may_be_missing(self, api: Api) -> None:
        """An answer without the headers of the rate limit is valid."""
        api.answer(found())
        assert api.ask().rate_limit == NO_LIMIT

    def test_is_found_in_any_case(self, api: Api) -> None:
        """Header names are case-insensitive."""
        limits = {"x-ratelimit-limit": "1000", "X-RATELIMIT-REMAINING": "999"}
        api.answer(found(), headers=limits)
        assert api.ask().rate_limit == RateLimit(1000, 999, None)


class TestSecrets:
    """Secrets: the token is in its header and nowhere else."""

    def test_are_not_logged_or_repeated(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        """The token is in no error, no cause of one, no `repr` and no log line of any level."""
        caplog.set_level(logging.DEBUG)
        api.answer({"code": TOKEN, "message": TOKEN}, status=401)
        error = api.fail()
        texts = [
            repr(error),
            str(error),
            repr(error.__cause__),
            repr(api.client()),
            repr(vars(error)),
        ]
        assert TOKEN not in "".join([*texts, caplog.text])

    @pytest.mark.parametrize(
        "echo",
        [
            pytest.param(TOKEN, id="as it is"),
            pytest.param(TOKEN.upper(), id="in capitals"),
            pytest.param(TOKEN.replace("a", "\\u0061"), id="escaped"),
            pytest.param("x" * 290 + TOKEN, id="where the text is cut"),
        ],
    )
    def test_are_removed_from_answers(self, api: Api, echo: str) -> None:
        """A token in an answer that repeats the request is removed."""
        failed = (
            '{"resource": {"id": "A", "state": "FAILED", "destination": {"volume": "%s"},'
            ' "error": {"code": 9103, "message": "Denied: %s"}}}'
        )
        refused = '{"error": {"code": 9008, "message": "%s"}}'
        items = ", ".join([failed % (echo[-32:] if "x" in echo else echo, echo), refused % echo])
        api.answer(f'{{"items": [{items}]}}'.encode())
        outcomes = api.ask(["A", "B"]).outcomes
        shown = repr(outcomes).lower()
        assert "[token]" in shown
        assert TOKEN[:8].lower() not in shown
        assert isinstance(outcomes["A"], Export)
        assert outcomes["A"].volume == "[token]"

    def test_of_a_few_letters_are_not_removed(self, api: Api) -> None:
        """A token of a few letters is not removed: it occurs in ordinary words."""
        api.answer(found(destination={"volume": "me/tests"}))
        client = Client(
            f"http://127.0.0.1:{api.port}",
            lambda: "test",
            user_agent="a-test",
            observe=api.outcomes.append,
            monotonic=api.clock,
        )
        outcomes = client.bulk_get(["A"], api.clock.now + 10).outcomes
        assert outcomes == {"A": Export("A", "RUNNING", volume="me/tests")}


class TestAnything:
    """Arbitrary answers of a server."""

    @given(
        status=st.integers(200, 599),
        body=st.binary(max_size=20)
        | st.sampled_from([b"{}", b'{"items": [{}]}', b"\xef\xbb\xbf", gzip.compress(b"{}")]),
        headers=st.dictionaries(
            st.sampled_from(
                ["X-RateLimit-Limit", "X-RateLimit-Reset", "Location", "Content-Type", "Set-Cookie"]
            ),
            st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f")),
        ),
    )
    def test_are_an_answer_or_an_api_error(
        self, status: int, body: bytes, headers: dict[str, str], server: Api
    ) -> None:
        """Any answer is a result or an `ApiError`."""
        server.answer(body, status=status, headers=headers)
        # For the retry after a gateway's error.
        server.answer(body, status=status, headers=headers)
        try:
            answer = server.ask()
        except ApiError as error:
            assert error.reason == server.outcomes[-1].reason  # noqa: PT017 # either
        else:
            assert answer.complete is (server.outcomes[-1].reason is None)
        server.discard_answers()


class TestList:
    """The call that fetches a part of the list of the account's exports."""

    @staticmethod
    def ask(api: Api, **arguments: Any) -> ListResponse:  # noqa: ANN401 # as of the client
        """Fetch 100 exports."""
        return api.client().list_exports(
            offset=0, limit=100, deadline=api.clock.now + 10, **arguments
        )

    @staticmethod
    def answer(api: Api, items: object, **headers: str) -> None:
        """Add an answer with these items of the list."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        api.answer({"items": items}, headers=fields)

    def test_request_has_the_documented_parameters(self, api: Api) -> None:
        """The request asks for a part and all fields, with one parameter for each state."""
        self.answer(api, [], X_Total_Matching_Query="0")
        api.client().list_exports(
            offset=200, limit=50, states=("PENDING", "FAILED"), deadline=api.clock.now + 10
        )
        head, body = api.requests[0].split(b"\r\n\r\n")
        query = b"fields=_all&offset=200&limit=50&state=PENDING&state=FAILED"
        assert head.startswith(b"GET /v2/storage/exports?" + query + b" HTTP/1.1\r\n")
        assert b"\r\nX-SBG-Auth-Token: " + TOKEN.encode() in head
        assert (body, b"Content-" in head) == (b"", False)

    def test_exports_with_and_without_their_details(self, api: Api) -> None:
        """Exports are in the order of the answer; an item may have only href, ID and state."""
        full = {"id": "A", "state": "RUNNING", "destination": {"volume": "me/vol"}}
        slim = {"href": "https://api.example/v2/storage/exports/B", "id": "B", "state": "COMPLETED"}
        self.answer(api, [full, slim], X_Total_Matching_Query="2", X_RateLimit_Remaining="7")
        assert self.ask(api) == ListResponse(
            (Export("A", "RUNNING", volume="me/vol"), Export("B", "COMPLETED")),
            without_details=frozenset({"B"}),
            unusable=0,
            total=2,
            rate_limit=RateLimit(None, 7, None),
            requests=1,
        )
        assert api.statuses == [(200, None)]

    @pytest.mark.parametrize(
        ("items", "headers", "unusable"),
        [
            ([{"id": "A", "state": "RUNNING"}], {}, 0),
            ([{"id": "A", "state": "RUNNING"}], {"X_Total_Matching_Query": "many"}, 0),
            ([{"id": "not an ID"}, None], {"X_Total_Matching_Query": "2"}, 2),
        ],
        ids=["no total", "an invalid total", "no IDs"],
    )
    def test_answer_without_total_or_ids_is_incomplete(
        self, api: Api, items: list[object], headers: dict[str, str], unusable: int
    ) -> None:
        """An answer without the total, or with items that have no ID, is not complete."""
        self.answer(api, items, **headers)
        response = self.ask(api)
        assert not response.complete
        assert response.unusable == unusable
        assert api.statuses == [(200, "invalid_response")]

    def test_failures_are_those_of_bulk_get(self, api: Api) -> None:
        """As for bulk get, a broken connection is retried once, and a refusal has its reason."""
        api.script(close_connection)
        api.answer({"status": 401, "code": 90001}, status=401)
        with pytest.raises(ApiError, match=r"platform code 90001 \(Renew the token: ") as caught:
            self.ask(api)
        assert (caught.value.reason, caught.value.requests) == ("auth", 2)
