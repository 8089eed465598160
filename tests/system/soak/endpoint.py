"""The simulator's endpoint as the exporter reaches it, with outages and a token that changes."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from exporter.simulator import Simulator, serve
from scripts.ports import reserved_port
from tests.system.soak.bootstrap import HOST
from tests.system.soak.environment import Environment, drop_connections
from tests.system.soak.findings import TOKEN_BEGIN, Findings
from tests.system.soak.relay import Relay

#: The simulator's token; it never leaves this process.
INNER_TOKEN: Final = "inner"

# Time after the write of a new token during which requests with the old one may arrive.
_ROTATION_SECONDS = 5.0


class Endpoint:
    """The simulator behind a relay, on one port that stays reserved during outages.

    Args:
        simulator: The simulator, with the token `INNER_TOKEN`.
        findings: Records problems of requests.
        environment: The environment, with the file server of the token's file.

    Attributes:
        token: The valid token.
        changed: Monotonic time at which it became valid; None while the old one may be sent, too.
        seen: Whether a request had the valid token.
        url: URL of the API.
        relay: The current relay.
    """

    def __init__(self, simulator: Simulator, findings: Findings, environment: Environment) -> None:
        self.token = ""
        self.changed: float | None = None
        self.seen = False
        self._simulator = simulator
        self._findings = findings
        self._environment = environment
        self._stack = ExitStack()
        self._address = ("127.0.0.1", self._stack.enter_context(reserved_port()))
        served = self._stack.enter_context(serve(self))
        self._target = int(served.removesuffix("/v2").rpartition(":")[2])
        self._stack.enter_context(drop_connections(self._address[1]))
        self.relay = Relay(self._address, self._target)
        self.url = f"http://{HOST}:{self._address[1]}/v2"

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Serve requests that carry the valid token (WSGI)."""
        changed = self.changed and max(self.changed, self._environment.answers_since())
        if environ.get("HTTP_X_SBG_AUTH_TOKEN") == self.token:
            self.seen = True
            environ["HTTP_X_SBG_AUTH_TOKEN"] = INNER_TOKEN
        elif changed is not None and time.monotonic() - changed > _ROTATION_SECONDS:
            self._findings.add("a request with another token than the file's")
        else:
            self._findings.count["requests with an old token"] += 1
        self._findings.count["requests"] += 1
        return self._simulator(environ, start_response)

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """Cut all connections, and refuse new ones during the block."""
        self.relay.close()
        try:
            yield
        finally:
            self.relay = Relay(self._address, self._target)

    def close(self) -> None:
        """Release the port."""
        self.relay.close()
        self._stack.close()


@dataclass(slots=True)
class TokenFile:
    """The token's file while the token is renewed, or the file is damaged.

    Attributes:
        path: Path of the file.
        endpoint: The endpoint, which accepts the newest token.
        random: Chooses tokens and damage.
        count: Number of tokens so far.
    """

    path: Path
    endpoint: Endpoint
    random: Random
    count: int = 0

    def edit(self) -> None:
        """Renew the token, or damage the file: then the last token that was read stays in use."""
        if not self.endpoint.seen or self.random.random() < 0.5:
            self.renew()
        elif self.random.random() < 0.5:
            self.path.unlink(missing_ok=True)
        else:
            # None of these can be a token.
            self.path.write_text(self.random.choice(["", f"{TOKEN_BEGIN} 1", "\0", "ü"]))

    def renew(self) -> None:
        """Make a new token and write it, in place or by renaming a new file."""
        self.endpoint.changed, self.endpoint.seen = None, False
        self.endpoint.token = f"{TOKEN_BEGIN}{self.random.getrandbits(128):032x}"
        path = self.path if self.random.random() < 0.5 else self.path.with_suffix(".new")
        path.write_text(f"{self.endpoint.token}\n")
        path.replace(self.path)
        self.endpoint.changed = time.monotonic()
        self.count += 1
