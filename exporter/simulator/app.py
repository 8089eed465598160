"""The simulated platform: a WSGI application with exports, one account and its token."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from random import Random
from threading import Lock
from typing import Any

from exporter.simulator.answer import Answer, Refused, answer, error, refusal
from exporter.simulator.fault import Fault
from exporter.simulator.life import Life, Lifetimes, Order, draw_life, draw_order, parse_order
from exporter.simulator.listing import Listing
from exporter.simulator.quota import Quota
from exporter.simulator.request import Environ, Request

StartResponse = Callable[[str, list[tuple[str, str]]], object]

_ROOT = "/v2"
_BULK_GET = "/bulk/storage/exports/get"
_BULK_CREATE = "/bulk/storage/exports/create"
_EXPORTS = "/storage/exports"
_RATE_LIMIT = "/rate_limit"
_USER = "/user"
_METHODS = {
    _BULK_GET: "POST",
    _BULK_CREATE: "POST",
    _EXPORTS: "GET",
    _RATE_LIMIT: "GET",
    _USER: "GET",
}

#: The user that the simulator's token belongs to.
USER = "rfranklin"


class Simulator:
    """A CAVATICA with one account, below `/v2` of its URL; may be used by several threads.

    Attributes:
        requests: the latest 1,000 requests, oldest first; `clear()` it at will.
        listing: the behaviour of the list of exports; may be replaced at any time.

    """

    def __init__(
        self,
        *,
        token: str,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        seed: int = 0,
        lifetimes: Lifetimes | None = None,
        rate_limit: int = 1000,
        rate_window: float = 300.0,
    ) -> None:
        """Create a simulator without exports.

        Args:
            token: the expected value of `X-SBG-Auth-Token`.
            clock: returns Unix time; the state of exports and the rate limit depend on it.
            sleep: waits for a fault's delays, in seconds.
            seed: the same seed and the same calls produce the same exports.
            lifetimes: default lifetimes of exports.
            rate_limit: calls per window, for all users of the account together.
            rate_window: length of the window in seconds.
        """
        self.requests: deque[Request] = deque(maxlen=1000)
        self.listing = Listing()
        self._token = token
        self._clock = clock
        self._sleep = sleep
        self._random = Random(seed)  # noqa: S311 - must be repeatable
        self._lifetimes = lifetimes or Lifetimes()
        self._quota = Quota(rate_limit, rate_window)
        self._exports: dict[str, Life | Mapping[str, Any]] = {}
        self._of_others: dict[str, Life] = {}
        self._refusals: dict[str, int] = {}
        # The files that were moved, and so are aliases now.
        self._moves: dict[str, list[Life]] = {}
        self._fault: Fault | None = None
        self._fault_count = 0
        self._lock = Lock()

    @property
    def fault(self) -> Fault | None:
        """The fault that changes the answers, or None. Setting it resets its count."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | None) -> None:
        with self._lock:
            self._fault, self._fault_count = fault, 0

    def start(
        self,
        n: int,
        *,
        volume: str = "rfranklin/exports",
        ago: float = 0.0,
        lifetimes: Lifetimes | None = None,
        of_others: bool = False,
    ) -> list[str]:
        """Submit n exports of made-up files, as if `ago` seconds before now; return their IDs.

        With `of_others` they belong to another account: this one's token may not see them.
        """
        with self._lock:
            submitted = self._clock() - ago
            orders = (draw_order(self._random, volume) for _ in range(n))
            return [
                self._submit(order, submitted, lifetimes, of_others=of_others).id
                for order in orders
            ]

    def create(
        self, items: Sequence[Mapping[str, Any]], *, copy_only: bool = False, base: str = ""
    ) -> list[dict[str, object]]:
        """Return the items of a bulk create without a call: exports and refusals."""
        answers: list[dict[str, object]] = []
        with self._lock:
            for item in items:
                order = parse_order(item, copy_only=copy_only)
                refusal = self._refusal(order)
                if order is None or refusal is not None:
                    answers.append({"error": refusal, "resource": None})
                else:
                    life = self._submit(order, self._clock(), None)
                    answers.append({"resource": self._render(life, base)})
        return answers

    def refuse(self, name: str, code: int) -> None:
        """Refuse from now on to start exports of the file, or to the volume, with this name.

        Raises:
            KeyError: the code is not one of a refused start.
        """
        refusal(code)
        with self._lock:
            self._refusals[name] = code

    def put(self, export: Mapping[str, Any]) -> None:
        """Return this export unchanged for its `id` from now on."""
        with self._lock:
            self._exports[export["id"]] = export

    def export(self, export_id: str) -> dict[str, Any]:
        """Return the export's true state as the API would show it, without a call.

        Raises:
            KeyError: the ID is unknown.
        """
        return self._render(self._exports[export_id], "")

    def spend(self, calls: int) -> None:
        """Use up this many calls of the rate limit, like other users of the account."""
        with self._lock:
            self._quota.spend(self._clock(), calls)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        request = Request.of(environ)
        self.requests.append(request)
        sent = self._answer(request)
        fault = self._striking(request)
        if fault is not None:
            sent = fault.spoil(sent)
            self._sleep(fault.delay)
        headers: dict[str, str | None] = dict(sent.headers)
        headers["Content-Length"] = str(sum(map(len, sent.body)))
        headers |= fault.headers if fault is not None else {}
        kept = [(name, value) for name, value in headers.items() if value is not None]
        start_response(sent.status_line, kept)
        return self._drip(sent.body, fault.drip) if fault is not None and fault.drip else sent.body

    def _drip(self, body: Iterable[bytes], pause: float) -> Iterator[bytes]:
        for place, byte in enumerate(b"".join(body)):
            if place:
                self._sleep(pause)
            yield bytes((byte,))

    def _striking(self, request: Request) -> Fault | None:
        with self._lock:
            fault = self._fault
            if fault is None or not fault.when(request):
                return None
            self._fault_count += 1
            return fault if fault.strikes(self._fault_count) else None

    def _answer(self, request: Request) -> Answer:
        try:
            true = self._route(request)
        except Refused as refused:
            true = refused.answer
        with self._lock:
            limits = self._quota.headers(self._clock())
        return replace(true, headers=true.headers | limits)

    def _route(self, request: Request) -> Answer:
        # A call without an account does not count against a rate limit.
        if request.headers.get("x-sbg-auth-token") != self._token:
            raise Refused(401, 90001, "Unauthorized")
        root, path = request.path[: len(_ROOT)], request.path[len(_ROOT) :]
        if path == _RATE_LIMIT:
            with self._lock:
                page = self._quota.page(self._clock())
        else:
            with self._lock:
                if not self._quota.spend(self._clock(), 1):
                    raise Refused(429, 1000, "Rate limit exceeded! Check response headers.")
        known_path = _EXPORTS if path.startswith(f"{_EXPORTS}/") else path
        if root != _ROOT or known_path not in _METHODS:
            raise Refused(404, 90003, "The requested path does not exist.")
        if request.method != _METHODS[known_path]:
            raise Refused(405, 90000, "Method not allowed.", Allow=_METHODS[known_path])
        if path == _RATE_LIMIT:
            return answer(page)
        if path == _USER:
            return answer({"href": f"{request.base}{_USER}", "username": USER})
        if path == _BULK_GET:
            return self._bulk_get(request)
        if path == _BULK_CREATE:
            return self._bulk_create(request)
        return self._list(request) if path == _EXPORTS else self._get(request)

    def _bulk_get(self, request: Request) -> Answer:
        items: list[object] = []
        for export_id in request.bulk("export_ids", str):
            export = self._exports.get(export_id)
            if export is None:
                items.append({"error": self._lookup_error(export_id)})
            else:
                items.append({"resource": self._render(export, request.base)})
        return answer({"items": items})

    def _bulk_create(self, request: Request) -> Answer:
        # The official client sends the parameter in Python's notation.
        copy_only = (request.parameter("copy_only") or "").lower() == "true"
        items = self.create(request.bulk("items", dict), copy_only=copy_only, base=request.base)
        return answer({"items": items})

    def _refusal(self, order: Order | None) -> dict[str, object] | None:
        if order is None:
            return error(400, 9011, "Source or destination is not valid.")
        code = self._refusals.get(order.file) or self._refusals.get(order.volume)
        if code is None and any(
            not life.order.copy_only and life.state(self._clock()) == "COMPLETED"
            for life in self._moves.get(order.file, ())
        ):
            # A file that was moved to a volume is an alias now.
            code = 9006
        return None if code is None else refusal(code)

    def _get(self, request: Request) -> Answer:
        export_id = request.path.rpartition("/")[2]
        export = self._exports.get(export_id)
        if export is None:
            refusal = self._lookup_error(export_id)
            return answer(refusal, 403 if export_id in self._of_others else 404)
        return answer(self._render(export, request.base))

    def _list(self, request: Request) -> Answer:
        with self._lock:
            exports = list(self._exports.items())
        listing = self.listing
        page = listing.page(
            request, exports, self._clock(), lambda export: self._render(export, request.base)
        )
        listing.after_page(request)
        return page

    def _submit(
        self,
        order: Order,
        submitted: float,
        lifetimes: Lifetimes | None,
        *,
        of_others: bool = False,
    ) -> Life:
        life = draw_life(self._random, lifetimes or self._lifetimes, order, submitted)
        (self._of_others if of_others else self._exports)[life.id] = life
        self._moves.setdefault(order.file, []).append(life)
        return life

    def _lookup_error(self, export_id: str) -> dict[str, object]:
        # Without the ID, like the platform's error items.
        if export_id in self._of_others:
            return error(403, 9005, "Insufficient privileges on the export job.")
        return error(404, 9008, "Requested export does not exist.")

    def _render(self, export: Life | Mapping[str, Any], base: str) -> dict[str, Any]:
        if isinstance(export, Life):
            return export.render(self._clock(), f"{base}{_ROOT}")
        return dict(export)
