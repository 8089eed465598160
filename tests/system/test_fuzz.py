"""Arbitrary input to every interface of a running exporter; `make fuzz` tries more.

One process receives arbitrary answers of the API, ID files, web configuration files, and raw bytes
on its port. It must not end, answer 500 or log a traceback, and must serve the next valid input.
"""

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.simulator import Fault, Lifetimes, Simulator, serve
from tests.support.exporter_process import LOOPBACK, Page, RunningExporter, process
from tests.support.hypothesis_examples import examples
from tests.support.waits import PATIENCE

TOKEN = "hush-1"
# The password is correct-horse; the cost of the hash is the lowest possible.
USERS = "basic_auth_users:\n  alice: $2b$04$lcKZI3Yyfz8KPmETP5wlLelCACNOU8JGosbwq.hpEYM/LG.RN46z.\n"
AUTHORIZATION = "Basic YWxpY2U6Y29ycmVjdC1ob3JzZQ=="
few = examples(20)


@dataclass(frozen=True, slots=True)
class Site:
    """A running exporter, and its inputs.

    Attributes:
        running: Its process.
        simulator: Its API; the exports there never change.
        ids: The IDs of these exports.
        exports: The directory of its ID files; `good.yml` lists the IDs.
        web: Its web configuration file.
    """

    running: RunningExporter
    simulator: Simulator
    ids: list[str]
    exports: Path
    web: Path

    def scrape(self) -> Page:
        """Scrape; expect right sums and all IDs on the page, whatever their states are."""
        page = Page.of(self.get("/metrics").text)
        for labels in page.all("cavatica_watched_exports"):
            watched = page("cavatica_watched_exports", **labels)
            assert sum(page.states(labels["batch"]).values()) == watched
        shown = {labels["export_id"] for labels in page.all("cavatica_export_state")}
        assert shown.issuperset(self.ids)
        return page

    def get(self, path: str) -> requests.Response:
        """GET a path that exists; expect 200 and no token."""
        answer = self.running.get(path, Authorization=AUTHORIZATION)
        assert answer.status_code == 200, answer.text
        assert TOKEN not in answer.text
        return answer

    def send(self, data: bytes) -> bytes:
        """Send bytes to the port, and return the answer."""
        host, port = self.running.urls[0].removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def check_log(self) -> None:
        """Expect no traceback, no unexpected error and no token in the log."""
        log = self.running.log
        assert "traceback" not in log.lower()
        assert "unexpected error" not in log.lower()
        assert TOKEN not in log


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Run one exporter for all tests; at the end, expect a clean log and exit status 0."""
    directory = tmp_path_factory.mktemp("fuzz")
    exports, web, token = directory / "exports", directory / "web.yml", directory / "token"
    simulator = Simulator(token=TOKEN, rate_limit=10**9)
    for_ever = Lifetimes(pending=(0.0, 0.0), running=(1e9, 1e9))
    short = Lifetimes(failed_share=0.5)
    ids = [
        *simulator.start(6, ago=86400.0, lifetimes=short),
        *simulator.start(6, lifetimes=for_ever),
    ]
    exports.mkdir()
    (exports / "good.yml").write_text("".join(f"- {each}\n" for each in ids))
    web.write_text(USERS)
    token.write_text(TOKEN)
    with (
        serve(simulator) as url,
        process(
            directory / "log",
            f"--exports.path={exports}",
            f"--api.url={url}",
            f"--api.token-file={token}",
            f"--web.config.file={web}",
            LOOPBACK,
        ) as running,
    ):
        site = Site(running, simulator, ids, exports, web)
        yield site
        site.check_log()
        assert running.stop() == 0


def states(page: Page) -> dict[str, str]:
    """Return the state that a page shows of each export in `good.yml`."""
    return {
        labels["export_id"]: labels["state"]
        for labels in page.all("cavatica_export_state")
        if labels["batch"] == "good" and page("cavatica_export_state", **labels)
    }


def truth(site: Site) -> dict[str, str]:
    """Return the true state of each export in `good.yml`."""
    return {each: site.simulator.export(each)["state"] for each in site.ids}


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["COMPLETED", "FAILED", "RUNNING", "ABORTED", "2018-03-27T15:00:28Z", "9001"])
)
KEYS = st.sampled_from(
    ["id", "state", "error", "resource", "status", "code", "message", "started_on", "finished_on",
     "result", "size", "destination", "storage", "volume"]
) | st.text(max_size=5)  # fmt: skip
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5)
)
RESOURCES = st.dictionaries(KEYS, VALUES, max_size=6)
ITEMS = st.fixed_dictionaries({}, optional={"resource": RESOURCES | VALUES, "error": VALUES})
DOCUMENTS = VALUES | st.fixed_dictionaries(
    {"items": VALUES | st.lists(ITEMS | VALUES, max_size=4)}, optional={"href": VALUES}
)
BODIES = st.binary(max_size=200) | DOCUMENTS.map(lambda document: json.dumps(document).encode())
# No 429: after one, the exporter makes no call for a minute.
STATUSES = st.sampled_from([200] * 6 + [201, 204, 302, 400, 401, 404, 500, 502, 503])
HEADERS = st.dictionaries(
    st.sampled_from(
        ["X-RateLimit-Limit", "X-RateLimit-Reset", "Content-Type", "Location", "Set-Cookie"]
    ),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)


@few
@given(body=BODIES, status=STATUSES, headers=HEADERS)
@example(b"", 200, {"Content-Encoding": "gzip"})
@example(b'{"items": []}', 200, {"Content-Length": "-1"})
def test_arbitrary_answer_of_the_api_leads_to_a_valid_page(
    site: Site, body: bytes, status: int, headers: dict[str, str]
) -> None:
    """The page has right sums for any answer; the next valid answer corrects the states."""
    site.simulator.fault = Fault(body=body, status=status, headers=headers)
    try:
        site.scrape()
    finally:
        site.simulator.fault = None
    page = site.scrape()
    assert states(page) == truth(site)
    assert page("cavatica_up") == 1
    site.check_log()


@few
@given(changes=st.dictionaries(st.integers(0, 11), RESOURCES, max_size=3))
def test_arbitrary_fields_of_an_export_leave_the_others_unchanged(
    site: Site, changes: dict[int, dict[str, object]]
) -> None:
    """An answer with arbitrary fields for some exports does not change the states of the others."""
    change = {site.ids[number]: fields for number, fields in changes.items()}

    def items(true: list[object]) -> object:
        resources = [one["resource"] for one in true if isinstance(one, dict)]
        return [{"resource": each | change.get(each["id"], {})} for each in resources]

    site.simulator.fault = Fault(items=items)
    try:
        page = site.scrape()
    finally:
        site.simulator.fault = None
    true = truth(site)
    assert {i: s for i, s in states(page).items() if i not in change}.items() <= true.items()
    assert states(site.scrape()) == true
    site.check_log()


@few
@given(
    content=BODIES | st.text('[]{}",:\\-? \n\t&*#!|>a1').map(str.encode),
    ending=st.sampled_from([".yml", ".yaml", ".json"]),
)
@example(b"batch: good\nexport_ids: [x]\n", ".yml")
def test_arbitrary_id_file_leaves_the_others_unchanged(
    site: Site, content: bytes, ending: str
) -> None:
    """An arbitrary file is loaded or reported as in error; other files are not affected."""
    file = site.exports / f"any{ending}"
    file.write_bytes(content)
    try:
        page = site.scrape()
        assert page("cavatica_exporter_watchlist_file_error", file=file.name) in {0, 1}
        assert page("cavatica_exporter_watchlist_file_error", file="good.yml") == 0
    finally:
        file.unlink()
    assert truth(site).items() <= states(page).items()
    site.check_log()


@few
@given(content=BODIES | st.text('[]{}":\\-? \n\t&*#!|>a1tls_rvconfig').map(str.encode))
@example(b"tls_server_config: {cert_file: web.yml, key_file: web.yml}")
@example(b"basic_auth_users: {}")
def test_arbitrary_web_configuration_keeps_the_last_good_one(site: Site, content: bytes) -> None:
    """The password of the last valid configuration is still required, and accepted."""
    site.web.write_bytes(content)
    try:
        site.get("/-/healthy")
        assert site.running.get("/-/healthy").status_code == 401
    finally:
        site.web.write_text(USERS)
    site.get("/-/healthy")
    site.check_log()


LATIN = st.text(st.characters(max_codepoint=255), max_size=20)
FIELDS = st.tuples(
    st.sampled_from(
        ["Accept", "Accept-Encoding", "X-Prometheus-Scrape-Timeout-Seconds", "Content-Length",
         "Transfer-Encoding", "Connection", "Expect", "Host", "Authorization"]
    ) | LATIN,
    st.sampled_from(
        ["gzip;q=0.5, *;q=0", "application/openmetrics-text;version=1.0.0", "0.05", "-1", "nan",
         "1e400", "chunked", "100-continue", "*/*;q=x", "7"]
    ) | LATIN,
).map(": ".join)  # fmt: skip
TARGETS = (
    st.sampled_from(["/metrics", "/", "/-/healthy", "/-/ready", "*", "//", "/%00", "/?"]) | LATIN
)
REQUESTS = st.builds(
    lambda method, target, version, fields, end, rest: (
        end.join(
            [
                f"{method} {target} HTTP/{version}",
                f"Authorization: {AUTHORIZATION}",
                *fields,
                "",
                "",
            ]
        ).encode("latin-1")
        + rest
    ),
    method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS"]) | LATIN,
    target=TARGETS | TARGETS.map(lambda target: f"http://x{target}"),
    version=st.sampled_from(["1.1", "1.0", "1.9", "2.0", "0.9"]) | LATIN,
    fields=st.lists(FIELDS, max_size=4),
    end=st.sampled_from(["\r\n", "\n"]),
    rest=st.binary(max_size=20),
)


@given(data=st.binary(max_size=200) | REQUESTS)
@example(f"GET /metrics HTTP/1.1\r\nAuthorization: {AUTHORIZATION}\r\n\r\n".encode())
def test_arbitrary_bytes_on_the_port_never_lead_to_500(site: Site, data: bytes) -> None:
    """Any bytes get an answer, a client error or a closed connection; the next client is served."""
    answer = site.send(data)
    # Errors of HTTP/0.9 requests are answered without a head, as in HTTP/0.9.
    assert (
        answer == b""
        or b"HTTP/0.9" in data
        or answer[:12]
        in {f"HTTP/1.1 {status}".encode() for status in (200, 400, 401, 404, 405, 414, 431, 505)}
    )
    assert TOKEN.encode() not in answer
    site.get("/-/healthy")
    site.check_log()
