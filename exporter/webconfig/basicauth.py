"""Basic authentication (RFC 7617) in front of a WSGI application, with bcrypt password hashes.

Every path requires the password, the health paths included: exporter-toolkit does the same, and the
rule stays simple. A probe can send an `Authorization` header, or only open the port.
"""

import base64
import hmac
import re
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import bcrypt

from exporter.document import line_of
from exporter.webconfig.section import Section, WebConfigError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

Users = Mapping[bytes, bytes]
"""User names and the bcrypt hashes of their passwords."""

#: bcrypt uses at most this many bytes. Go's truncates longer passwords; Python's raises an error.
_PASSWORD_BYTES: Final = 72
#: A check takes 2**cost steps: 60 ms for 10, 15 s for 18.
_MAX_COST: Final = 18
#: One password per user is remembered; any others are left over from rotation.
_MAX_REMEMBERED: Final = 256
#: A check occupies a core: password guessing must not take the whole machine.
_MAX_AT_ONCE: Final = 2
#: Nor may one client's network occupy all checks.
_MAX_OF_ONE_NETWORK: Final = 8

_HASH: Final = re.compile(
    # Version, cost, 16 bytes of salt (its last character has two bits), 23 bytes of hash.
    r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
)


def parse_users(names: Mapping[str, object], file: str) -> Users:
    """Parse `basic_auth_users`.

    Raises:
        WebConfigError: It is not valid.
    """
    section = Section(names, "basic_auth_users", file, names)
    users = {}
    for name in names:
        # YAML reads `{alice:password}` as a name. It is not a valid one, and must not be shown.
        if ":" in name:
            raise WebConfigError.at(
                file,
                line_of(name),
                "a name in basic_auth_users must not contain a colon (write NAME: HASH, with a"
                " space after the colon)",
            )
        if not _HASH.fullmatch(section.text(name)):
            raise section.error(name, "must be a bcrypt hash, as `htpasswd -nBC 10 ''` makes it")
        users[name.encode()] = section.text(name).encode()
        if _cost(users[name.encode()]) > _MAX_COST:
            raise section.error(name, f"must have a cost of at most {_MAX_COST}: use 10")
    return users


class BasicAuth:
    """WSGI middleware that passes on the requests of its users only.

    A verified password is remembered as a keyed hash until it or its user changes, so that scrapes
    do not pay for bcrypt each time. Wrong ones are not remembered: guessing stays slow.

    Args:
        app: The protected application.
        users: Called for each request. Without users, every request passes.
        wait_seconds: How long a request waits for its password check before it receives 503.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        users: Callable[[], Users],
        *,
        wait_seconds: float = 5.0,
    ) -> None:
        self._app = app
        self._users = users
        self._wait_seconds = wait_seconds
        self._turns = threading.BoundedSemaphore(_MAX_AT_ONCE)
        # The number of requests per network whose password is being checked or waits for it.
        self._checked = Counter[str]()
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, None] = {}
        self._lock = threading.Lock()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answer a request, or pass it on."""
        users = self._users()
        if not users:
            return self._app(environ, start_response)
        credentials = _credentials(environ.get("HTTP_AUTHORIZATION", ""))
        try:
            # The server sets it. An IPv6 client has a whole network of addresses.
            network = str(environ.get("exporter.network", ""))
            passes = credentials is not None and self._allows(users, *credentials, network)
        except TimeoutError:
            return _refusal(start_response, "503 Service Unavailable", ("Retry-After", "1"))
        if passes:
            return self._app(environ, start_response)
        challenge = ("WWW-Authenticate", 'Basic realm="cavatica-exporter", charset="UTF-8"')
        return _refusal(start_response, "401 Unauthorized", challenge)

    def _allows(self, users: Users, user: bytes, password: bytes, network: str) -> bool:
        """Return whether a user has this password.

        Raises:
            TimeoutError: Too many other checks are in flight.
        """
        known = users.get(user)
        digest = hmac.digest(self._key, repr((user, password, known)).encode(), "sha256")
        if digest in self._remembered:
            return True
        with self._turn(network):
            if not _is_right(users, known, password[:_PASSWORD_BYTES]):
                return False
        with self._lock:
            while len(self._remembered) >= _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = None
        return True

    @contextmanager
    def _turn(self, network: str) -> Iterator[None]:
        with self._lock:
            if self._checked[network] >= _MAX_OF_ONE_NETWORK:
                raise TimeoutError
            self._checked[network] += 1
        try:
            if not self._turns.acquire(timeout=self._wait_seconds):
                raise TimeoutError
            try:
                yield
            finally:
                self._turns.release()
        finally:
            with self._lock:
                self._checked[network] -= 1
                # Drop networks with a count of zero.
                self._checked += Counter()


def _is_right(users: Users, known: bytes | None, password: bytes) -> bool:
    """Return whether a password has the hash `known`.

    A wrong password takes as long as the most expensive hash of all users, so that the time does
    not reveal which users exist.
    """
    if known and bcrypt.checkpw(password, known):
        return True
    most = max(map(_cost, users.values()))
    # 2**c + 2**c + 2**(c + 1) + ... + 2**(most - 1) = 2**most
    for cost in range(_cost(known), most) if known else (most,):
        bcrypt.hashpw(password, bcrypt.gensalt(cost))
    return False


def _cost(hashed: bytes) -> int:
    return int(hashed[4:6])


def _credentials(authorization: str) -> tuple[bytes, bytes] | None:
    """Return user and password; None if there are none."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).partition(b":")
    except ValueError:
        return None
    return (user, password) if colon else None


def _refusal(
    start_response: "StartResponse", status: str, header: tuple[str, str]
) -> Iterable[bytes]:
    body = f"{status[4:]}\n".encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), header])
    return [body]
