"""Basic authentication: which requests pass, and what the checks cost."""

import base64
import threading
import time
from collections import UserDict
from collections.abc import Callable, Iterable, Mapping, ValuesView
from typing import TYPE_CHECKING

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.webconfig import BasicAuth, WebConfigError, WebConfigFile
from exporter.webconfig.basicauth import parse_users
from tests.support.waits import PATIENCE, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

MADE_BY_HTPASSWD = b"$2y$05$b4NQLD0vgzawXl56ps3QfeKSlwyQs6zH4Nq1PIeDTI90XPnQi4oFe"
ALICE = {b"alice": MADE_BY_HTPASSWD}
Answer = tuple[str, Mapping[str, str], bytes]
OK: Answer = ("200 OK", {}, b"sample\n")


def behind(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer the requests that pass."""
    start_response("200 OK", [])
    return [b"sample\n"]


def basic(user: bytes, password: bytes) -> str:
    """Return the header for a user and a password."""
    return "Basic " + base64.b64encode(user + b":" + password).decode()


def ask(
    application: "WSGIApplication",
    authorization: str | None,
    path: str = "/metrics",
    network: str = "127.0.0.1",
) -> Answer:
    """Send a request through the middleware; return status, headers and body of the answer."""
    environ: WSGIEnvironment = {"PATH_INFO": path, "exporter.network": network}
    if authorization is not None:
        environ["HTTP_AUTHORIZATION"] = authorization
    started: list[tuple[str, Mapping[str, str]]] = []

    def start_response(
        status: str, headers: list[tuple[str, str]], _: object = None
    ) -> Callable[[bytes], object]:
        started.append((status, dict(headers)))
        return list[bytes]().append

    body = b"".join(application(environ, start_response))
    return (*started[0], body)


def seconds(application: "WSGIApplication", authorization: str) -> float:
    """Return the processor time in seconds that a request takes."""
    begin = time.thread_time()
    ask(application, authorization)
    return time.thread_time() - begin


def hashed(password: bytes, cost: int = 4) -> bytes:
    """Return the bcrypt hash of a password."""
    return bcrypt.hashpw(password, bcrypt.gensalt(cost))


def test_right_password_is_accepted() -> None:
    """The password of a user passes whose hash was made by `htpasswd -B`."""
    assert ask(BasicAuth(behind, lambda: ALICE), basic(b"alice", b"correct-horse")) == OK


def test_scheme_is_case_insensitive() -> None:
    """The scheme may be written in any case, and several spaces may follow it."""
    header = basic(b"alice", b"correct-horse").replace("Basic ", "bAsIc  ")
    assert ask(BasicAuth(behind, lambda: ALICE), header) == OK


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic \xe4",
        "Basic !",
        "Basic YQ",
        "Bearer YWxpY2U6Y29ycmVjdC1ob3JzZQ==",
        "Basic YWxpY2U=",
        basic(b"alice", b""),
        basic(b"alice", b"wrong"),
        basic(b"alice", b"correct-horse\0"),
        basic(b"alice", b"correct-horse" + b"a" * 60),
        basic(b"Alice", b"correct-horse"),
        basic(b"bob", b"correct-horse"),
        basic(b"", b"correct-horse"),
        basic(b"\xff", b"\xff"),
        "Basic YWxpY2U6Y29ycmVjdC1ob3JzZQ==,Basic YWxpY2U6Y29ycmVjdC1ob3JzZQ==",
    ],
)
def test_invalid_credentials_are_refused(authorization: str | None) -> None:
    """A request without valid credentials receives 401, without further information."""
    status, headers, body = ask(BasicAuth(behind, lambda: ALICE), authorization)
    assert (status, body) == ("401 Unauthorized", b"Unauthorized\n")
    assert headers["WWW-Authenticate"] == 'Basic realm="cavatica-exporter", charset="UTF-8"'


@given(st.text(st.characters(max_codepoint=255), max_size=60), st.booleans())
def test_any_other_header_is_refused(text: str, basic: bool) -> None:  # noqa: FBT001 -- hypothesis gives it
    """Any text that a client can send as credentials is refused without an exception."""
    header = f"Basic {text}" if basic else text
    assert ask(BasicAuth(behind, lambda: ALICE), header)[0] == "401 Unauthorized"


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nowhere"])
def test_every_path_is_protected(path: str) -> None:
    """The health paths require a password, too, as in exporter-toolkit."""
    assert ask(BasicAuth(behind, lambda: ALICE), None, path)[0] == "401 Unauthorized"


def test_without_users_every_request_passes() -> None:
    """If there are no users, there is no authentication."""
    assert ask(BasicAuth(behind, dict), None) == OK


def test_changed_users_take_effect_with_the_next_request() -> None:
    """A changed password is required at once, even if the old one was remembered."""
    users = dict(ALICE)
    application = BasicAuth(behind, lambda: users)
    assert ask(application, basic(b"alice", b"correct-horse")) == OK
    users[b"alice"] = hashed(b"new")
    assert ask(application, basic(b"alice", b"correct-horse"))[0] == "401 Unauthorized"
    assert ask(application, basic(b"alice", b"new")) == OK
    del users[b"alice"]
    users[b"bob"] = hashed(b"b")
    assert ask(application, basic(b"alice", b"new"))[0] == "401 Unauthorized"


def test_users_of_the_file_protect_the_application(tmp_path: "Path") -> None:
    """An application that the web configuration wraps requires a password of its users."""
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{alice: {MADE_BY_HTPASSWD.decode()}}}", encoding="utf-8")
    application = WebConfigFile(path).wrap(behind)
    assert ask(application, None)[0] == "401 Unauthorized"
    assert ask(application, basic(b"alice", b"correct-horse")) == OK


def test_verified_password_is_remembered() -> None:
    """Only the first request with a password pays for bcrypt."""
    application = BasicAuth(behind, lambda: {b"alice": hashed_once})
    hashed_once = hashed(b"a", cost=10)
    header = basic(b"alice", b"a")
    first = seconds(application, header)
    assert min(seconds(application, header) for _ in range(3)) < first / 10


def test_wrong_password_is_not_remembered() -> None:
    """Guessing stays slow, even if the guess is the same."""
    application = BasicAuth(behind, lambda: users)
    users = {b"alice": hashed(b"a", cost=8)}
    header = basic(b"alice", b"wrong")
    first = seconds(application, header)
    assert min(seconds(application, header) for _ in range(3)) > first / 4


def test_number_of_remembered_passwords_is_limited() -> None:
    """At most 256 passwords are remembered: the oldest is forgotten, as rotation adds others."""
    cheap = hashed(b"a")
    users = {f"user{number}".encode(): cheap for number in range(256)}
    users[b"alice"] = hashed(b"a", cost=9)
    application = BasicAuth(behind, lambda: users)
    alice = basic(b"alice", b"a")
    first = seconds(application, alice)
    assert seconds(application, alice) < first / 5
    for user in users:
        if user != b"alice":
            assert ask(application, basic(user, b"a")) == OK
    assert seconds(application, alice) > first / 5


@pytest.mark.slow
@pytest.mark.parametrize("user", [b"alice", b"bob", b"carol", b"eve"])
def test_a_wrong_password_takes_as_long_for_every_user(user: bytes) -> None:
    """The time of an answer does not reveal which users exist, whatever their hashes cost."""
    users = {b"alice": hashed(b"a", 9), b"bob": hashed(b"b", 4), b"carol": hashed(b"c", 7)}
    application = BasicAuth(behind, lambda: users)
    slowest = min(seconds(application, basic(b"alice", b"wrong")) for _ in range(4))
    measured = min(seconds(application, basic(user, b"wrong")) for _ in range(4))
    assert 0.7 < measured / slowest < 1.4


# Made by Go's bcrypt from 72 times "a", with cost 4.
MADE_BY_GO = b"$2a$04$91Y3vtfg7BCZ6XlOZEN3Xu.gKT1OZk5uLi9YGtB.jxE189CilGlZS"


@pytest.mark.parametrize("length", [72, 73, 100, 1000])
def test_first_72_bytes_of_a_password_count(length: int) -> None:
    """As in Go, all of the first 72 bytes count, and no byte after them."""
    application = BasicAuth(behind, lambda: {b"alice": MADE_BY_GO})
    assert ask(application, basic(b"alice", b"a" * length)) == OK
    assert ask(application, basic(b"alice", b"a" * 71))[0] == "401 Unauthorized"
    assert ask(application, basic(b"alice", b"a" * 71 + b"b" * 29))[0] == "401 Unauthorized"


def test_password_may_contain_a_nul() -> None:
    """As in Go, a password may contain a NUL, and the bytes after it count."""
    application = BasicAuth(behind, lambda: {b"alice": hashed(b"a\0b")})
    assert ask(application, basic(b"alice", b"a\0b")) == OK
    assert ask(application, basic(b"alice", b"a"))[0] == "401 Unauthorized"
    assert ask(application, basic(b"alice", b"a\0c"))[0] == "401 Unauthorized"


def test_user_name_may_be_empty() -> None:
    """A user with an empty name needs a password like any other."""
    application = BasicAuth(behind, lambda: {b"": hashed(b"a")})
    assert ask(application, basic(b"", b"a")) == OK
    assert ask(application, None)[0] == "401 Unauthorized"


class HeldUsers(UserDict[bytes, bytes]):
    """Users whose hashes are returned when the test sets `go`, so that a check takes that long."""

    def __init__(self, users: Mapping[bytes, bytes]) -> None:
        super().__init__(users)
        self.checking = threading.Barrier(3)
        self.go = threading.Event()

    def values(self) -> ValuesView[bytes]:
        """Return the hashes, which the check for an unknown user reads."""
        self.checking.wait(PATIENCE)
        self.go.wait(PATIENCE)
        return super().values()


def test_two_passwords_are_checked_at_once() -> None:
    """A third check waits, and then receives 503; a remembered password passes meanwhile."""
    users = HeldUsers({b"alice": hashed(b"a")})
    application = BasicAuth(behind, lambda: users, wait_seconds=0.01)
    assert ask(application, basic(b"alice", b"a")) == OK
    guessing = [
        threading.Thread(target=ask, args=(application, basic(b"eve", b"guess"))) for _ in range(2)
    ]
    for thread in guessing:
        thread.start()
    users.checking.wait(PATIENCE)
    refused = ask(application, basic(b"alice", b"guess"))
    passed = ask(application, basic(b"alice", b"a"))
    users.go.set()
    for thread in guessing:
        thread.join()
    assert refused[::2] == ("503 Service Unavailable", b"Service Unavailable\n")
    assert refused[1]["Retry-After"] == "1"
    assert passed == OK


def test_timeout_error_of_the_application_is_not_answered_503() -> None:
    """A `TimeoutError` of the application is not taken for a password check that took too long."""

    def fail(_environ: "WSGIEnvironment", _start_response: "StartResponse") -> Iterable[bytes]:
        raise TimeoutError

    application = BasicAuth(fail, lambda: {b"alice": hashed(b"a")})
    with pytest.raises(TimeoutError):
        ask(application, basic(b"alice", b"a"))


def test_number_of_waiting_checks_of_one_network_is_limited() -> None:
    """Guesses of one client do not prevent the password check of a scraper in another network."""
    users = HeldUsers({b"alice": hashed(b"a")})
    application = BasicAuth(behind, lambda: users, wait_seconds=PATIENCE)
    guess, right = basic(b"eve", b"guess"), basic(b"alice", b"a")
    answers: list[Answer] = []
    scraped: list[Answer] = []

    def start_request(answers: list[Answer], authorization: str, network: str) -> threading.Thread:
        thread = threading.Thread(
            target=lambda: answers.append(ask(application, authorization, "/", network))
        )
        thread.start()
        return thread

    threads = [start_request([], guess, "10.0.0.1") for _ in range(2)]
    users.checking.wait(PATIENCE)
    threads += [start_request(answers, right, "10.0.0.1") for _ in range(7)]
    wait_until(lambda: bool(answers), "one too many is refused")
    threads.append(start_request(scraped, right, "10.0.0.2"))
    users.go.set()
    for thread in threads:
        thread.join()
    assert [status for status, *_ in answers] == ["503 Service Unavailable"] + ["200 OK"] * 6
    assert scraped == [OK]
    assert ask(application, right, "/", "10.0.0.1") == OK


def users_of(text: str) -> Mapping[bytes, bytes]:
    """Return the users of a file in which alice has this hash."""
    return parse_users({"alice": text}, "web.yml")


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
def test_every_version_of_a_hash_is_accepted(version: str) -> None:
    """The version depends on the program that made the hash; the hash is the same."""
    users = users_of(f"${version}${MADE_BY_HTPASSWD.decode()[4:]}")
    assert ask(BasicAuth(behind, lambda: users), basic(b"alice", b"correct-horse")) == OK


@pytest.mark.parametrize("cost", ["04", "10", "18"])
def test_usual_cost_of_a_hash_is_accepted(cost: str) -> None:
    """Costs from bcrypt's minimum to one of some seconds are accepted."""
    assert users_of(MADE_BY_HTPASSWD.decode().replace("$05$", f"${cost}$"))


@pytest.mark.parametrize("cost", ["19", "31"])
def test_higher_cost_of_a_hash_is_refused(cost: str) -> None:
    """With a higher cost, one request could keep a core busy for minutes."""
    with pytest.raises(WebConfigError, match="alice in basic_auth_users must have a cost of at"):
        users_of(MADE_BY_HTPASSWD.decode().replace("$05$", f"${cost}$"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "correct-horse",
        MADE_BY_HTPASSWD.decode()[:-1],
        MADE_BY_HTPASSWD.decode() + "\n",
        MADE_BY_HTPASSWD.decode().replace("$2y$", "$2x$"),
        MADE_BY_HTPASSWD.decode().replace("$05$", "$03$"),
        MADE_BY_HTPASSWD.decode().replace("$05$", "$32$"),
        MADE_BY_HTPASSWD.decode().replace("QfeKS", "QfaKS"),
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "~",
    ],
)
def test_invalid_hash_is_refused(text: str) -> None:
    """A text that bcrypt would refuse during a check is refused when the file is read."""
    with pytest.raises(WebConfigError, match="alice in basic_auth_users must be a bcrypt hash"):
        users_of(text)
