"""Faults: what can go wrong with an answer over HTTP."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.simulator.answer import JSON, Answer, answer, error
from exporter.simulator.request import Request

# The form of the IDs in the platform's documentation.
_ID = re.compile(r"[0-9A-Za-z]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The change of answers while this is a simulator's `fault`.

    The call itself is executed and counted; only its answer is changed.

    Attributes:
        status: HTTP status. Without a `body`, the answer is the platform's error with this status
            and `code`.
        code: the code in that error.
        body: sent unchanged, in these chunks and without the platform's headers, like that of a
            proxy in front of the platform. `(chunk,) * 3200` is a large body that takes little
            memory.
        items: returns the value of `items` for the true list of items.
        rewrite: returns the body for the true body.
        headers: replace the answer's own; None removes one. Content-Length can be wrong, too.
        delay: seconds before the answer begins.
        drip: seconds between two bytes of the body.
        every: affects only the n-th, 2n-th, ... request.
        times: affects this many requests, then no more; None: all.
        when: selects the requests; others are neither affected nor counted.

    """

    status: int | None = None
    code: int = 0
    body: bytes | Sequence[bytes] | None = None
    items: Callable[[list[object]], object] | None = None
    rewrite: Callable[[bytes], bytes] | None = None
    headers: Mapping[str, str | None] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    every: int = 1
    times: int | None = None
    when: Callable[[Request], bool] = lambda _: True

    def strikes(self, count: int) -> bool:
        """Return whether it affects the `count`-th (from 1) of the selected requests."""
        strike, rest = divmod(count, self.every)
        return rest == 0 and (self.times is None or strike <= self.times)

    def spoil(self, true: Answer) -> Answer:
        """Return the changed answer for a true one."""
        spoilt = true
        if self.body is not None:
            body = (self.body,) if isinstance(self.body, bytes) else tuple(self.body)
            spoilt = Answer(self.status or 200, {"Content-Type": JSON}, body)
        elif self.status is not None:
            refusal = answer(error(self.status, self.code, "Simulated fault."), self.status)
            spoilt = Answer(self.status, true.headers, refusal.body)
        if self.items is not None:
            payload = json.loads(b"".join(spoilt.body))
            payload["items"] = self.items(payload["items"])
            spoilt = Answer(spoilt.status, spoilt.headers, answer(payload).body)
        if self.rewrite is not None:
            body = (self.rewrite(b"".join(spoilt.body)),)
            spoilt = Answer(spoilt.status, spoilt.headers, body)
        return spoilt


def malformed_ids() -> Fault:
    """Return the fault that refuses a whole bulk get for one ID of another form.

    The platform documents neither this nor the opposite.
    """

    def has_malformed_id(request: Request) -> bool:
        return not all(map(_ID.fullmatch, request.export_ids))

    return Fault(status=400, code=9011, when=has_malformed_id)
