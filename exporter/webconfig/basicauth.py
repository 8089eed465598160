"""Basic authentication (RFC 7617) in front of a WSGI application, with passwords kept by bcrypt.

Every path asks for the password, the health paths too: exporter-toolkit does the same, and what is
protected stays easy to say. A probe can send an `Authorization` header, or only open the port.
"""

import base64
import hmac
import re
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import bcrypt

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: bcrypt looks at no more. A longer password is refused rather than cut short.
_MAX_PASSWORD_BYTES: Final = 72
#: Of a few users each remembered password is one; the rest is what rotation leaves behind.
_MAX_REMEMBERED: Final = 256
#: bcrypt keeps a core busy for some 60 ms: guesses must not take the machine.
_MAX_AT_ONCE: Final = 2

_HASH: Final = re.compile(
    # Version, cost, 16 bytes of salt (its last character has two bits), 23 bytes of hash.
    r"\$2[aby]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}"
)
_COST: Final = slice(4, 6)


def is_hash(text: str) -> bool:
    """Whether it is a bcrypt hash, as `htpasswd -B` makes them among others."""
    return bool(_HASH.fullmatch(text))


class BasicAuth:
    """An application that lets only its users through to another.

    A password that was right once is remembered until it or its user changes, as a keyed hash, so
    that a scrape does not pay for bcrypt each time. Wrong ones are not: guessing stays slow.

    Args:
        app: The application behind.
        users: Asked at each request: name to bcrypt hash. Nobody: everybody may pass.
        wait_seconds: How long a request waits for its turn to be checked; then it is answered 503.
    """

    def __init__(
        self,
        app: "WSGIApplication",
        users: Callable[[], Mapping[bytes, bytes]],
        *,
        wait_seconds: float = 5.0,
    ) -> None:
        self._app = app
        self._users = users
        self._wait_seconds = wait_seconds
        self._turns = threading.BoundedSemaphore(_MAX_AT_ONCE)
        self._key = secrets.token_bytes(32)
        self._remembered: dict[bytes, None] = {}
        self._remembering = threading.Lock()

    def __call__(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        """Answers a request, or passes it on."""
        users = self._users()
        if not users:
            return self._app(environ, start_response)
        try:
            if self._allows(users, *_credentials(environ.get("HTTP_AUTHORIZATION", ""))):
                return self._app(environ, start_response)
        except TimeoutError:
            return _refusal(start_response, "503 Service Unavailable", ("Retry-After", "1"))
        challenge = ("WWW-Authenticate", 'Basic realm="cavatica-exporter", charset="UTF-8"')
        return _refusal(start_response, "401 Unauthorized", challenge)

    def _allows(self, users: Mapping[bytes, bytes], user: bytes, password: bytes) -> bool:
        # bcrypt 5 raises for the longer ones, earlier ones for a NUL.
        if not user or len(password) > _MAX_PASSWORD_BYTES or b"\0" in password:
            return False
        known = users.get(user)
        digest = hmac.digest(self._key, repr((user, password, known)).encode(), "sha256")
        if digest in self._remembered:
            return True
        if not self._turns.acquire(timeout=self._wait_seconds):
            raise TimeoutError
        try:
            if not known:
                # Takes as long as for a known user: the time must not tell who is one.
                cost = max(int(each[_COST]) for each in users.values())
                bcrypt.hashpw(password, bcrypt.gensalt(cost))
                return False
            if not bcrypt.checkpw(password, known):
                return False
        finally:
            self._turns.release()
        with self._remembering:
            while len(self._remembered) >= _MAX_REMEMBERED:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[digest] = None
        return True


def _credentials(authorization: str) -> tuple[bytes, bytes]:
    """User and password; both empty where there are none."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        user, _, password = base64.b64decode(text.strip(), validate=True).partition(b":")
    except ValueError:
        return b"", b""
    return user, password


def _refusal(
    start_response: "StartResponse", status: str, header: tuple[str, str]
) -> Iterable[bytes]:
    body = f"{status[4:]}\n".encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), header])
    return [body]
