"""Between the exporter and the simulator: a port that can be away, and a token that changes."""

import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from exporter.simulator import Simulator, serve
from tests.system.soak.bootstrap import HOST
from tests.system.soak.findings import TOKEN_BEGIN, Findings
from tests.system.soak.ground import Ground, drop_connections
from tests.system.soak.relay import Relay

#: What the simulator knows; it never leaves this process.
INNER_TOKEN: Final = "inner"

# So long after a new token is in its file a request with the old one may still be under way.
_ROTATION_SECONDS = 5.0


class Line:
    """The simulator behind a relay on one port, which stays its own while it is away.

    Args:
        simulator: With the token `INNER_TOKEN`.
        findings: Takes what is wrong with requests.
        ground: Has the file server with the token's file.

    Attributes:
        token: The one that is good now.
        changed: Monotonic time from which on no other may be sent; None while either may be.
        seen: Whether it was sent.
        url: The API's.
        relay: Of the connections now.
    """

    def __init__(self, simulator: Simulator, findings: Findings, ground: Ground) -> None:
        self.token = ""
        self.changed: float | None = None
        self.seen = False
        self._simulator = simulator
        self._findings = findings
        self._ground = ground
        # Bound and not listening: connections are refused, and no other program gets the port.
        self._holder = socket.socket()
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._holder.bind(("127.0.0.1", 0))
        self._address = self._holder.getsockname()
        self._stack = ExitStack()
        served = self._stack.enter_context(serve(self))
        self._target = int(served.removesuffix("/v2").rpartition(":")[2])
        self._stack.enter_context(drop_connections(self._address[1]))
        self.relay = Relay(self._address, self._target)
        self.url = f"http://{HOST}:{self._address[1]}/v2"

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Serve requests that carry the valid token (WSGI)."""
        changed = self.changed and max(self.changed, self._ground.answers_since())
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
    def gone(self) -> Iterator[None]:
        """During the block all connections are cut and new ones refused."""
        self.relay.close()
        try:
            yield
        finally:
            self.relay = Relay(self._address, self._target)

    def close(self) -> None:
        """Release the port."""
        self.relay.close()
        self._stack.close()
        self._holder.close()


@dataclass(slots=True)
class TokenFile:
    """The token's file while the token is renewed, or the file is damaged.

    Attributes:
        path: Of the file.
        line: Receives the valid token.
        random: Draws tokens and faults.
        count: How many tokens there were.
    """

    path: Path
    line: Line
    random: Random
    count: int = 0

    def edit(self) -> None:
        """Renew the token, or spoil the file: then the last token that was read stays in use."""
        if not self.line.seen or self.random.random() < 0.5:
            self.renew()
        elif self.random.random() < 0.5:
            self.path.unlink(missing_ok=True)
        else:
            # None of these can be a token.
            self.path.write_text(self.random.choice(["", f"{TOKEN_BEGIN} 1", "\0", "ü"]))

    def renew(self) -> None:
        """Make a new token and write it, in place or beside and renamed."""
        self.line.changed, self.line.seen = None, False
        self.line.token = f"{TOKEN_BEGIN}{self.random.getrandbits(128):032x}"
        path = self.path if self.random.random() < 0.5 else self.path.with_suffix(".new")
        path.write_text(f"{self.line.token}\n")
        path.replace(self.path)
        self.line.changed = time.monotonic()
        self.count += 1
