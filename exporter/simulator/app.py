"""The simulated platform: a WSGI application that knows exports, one account and its token."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from random import Random
from threading import Lock
from typing import Any
from urllib.parse import urlencode

from exporter.simulator.answer import Answer, Refused, answer, error
from exporter.simulator.fault import Fault
from exporter.simulator.life import Life, Lifetimes, Order, draw_life, draw_order
from exporter.simulator.quota import Quota
from exporter.simulator.request import Environ, Request

StartResponse = Callable[[str, list[tuple[str, str]]], object]

_ROOT = "/v2"
_BULK_GET = "/bulk/storage/exports/get"
_BULK_CREATE = "/bulk/storage/exports/create"
_EXPORTS = "/storage/exports"
_RATE_LIMIT = "/rate_limit"
_METHODS = {_BULK_GET: "POST", _BULK_CREATE: "POST", _EXPORTS: "GET", _RATE_LIMIT: "GET"}


class Simulator:
    """A CAVATICA of one account, from its URL's `/v2` on. Safe to use from many threads.

    Attributes:
        requests: the latest 1,000 requests, oldest first; `clear()` it at will.

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
        """Make one without exports.

        Args:
            token: what `X-SBG-Auth-Token` must hold.
            clock: gives the Unix time; exports live and the rate limit resets by it.
            sleep: waits for a fault's delays, in seconds.
            seed: the same seed and the same calls give the same exports.
            lifetimes: how exports live unless `start` is told otherwise.
            rate_limit: calls in one window, for all users of the account together.
            rate_window: length of the window in seconds.

        """
        self.requests: deque[Request] = deque(maxlen=1000)
        self._token = token
        self._clock = clock
        self._sleep = sleep
        self._random = Random(seed)  # noqa: S311 - repeatable is what it must be
        self._lifetimes = lifetimes or Lifetimes()
        self._quota = Quota(rate_limit, rate_window)
        self._exports: dict[str, Life | Mapping[str, Any]] = {}
        self._fault: Fault | None = None
        self._fault_count = 0
        self._lock = Lock()

    @property
    def fault(self) -> Fault | None:
        """What spoils the answers; None: nothing. Setting it begins its count anew."""
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
    ) -> list[str]:
        """Submit n exports of made-up files, as if `ago` seconds before now; give their IDs."""
        with self._lock:
            submitted = self._clock() - ago
            orders = (draw_order(self._random, volume) for _ in range(n))
            return [self._submit(order, submitted, lifetimes).id for order in orders]

    def put(self, export: Mapping[str, Any]) -> None:
        """Show this export exactly as it is under its `id`, in place of what was there before."""
        with self._lock:
            self._exports[export["id"]] = export

    def export(self, export_id: str) -> dict[str, Any]:
        """Give the export as the API would show it now: the truth, without a call.

        Raises:
            KeyError: nobody knows the ID.

        """
        return self._render(self._exports[export_id], "")

    def spend(self, calls: int) -> None:
        """Use up that many calls of the rate limit, as other users of the account do."""
        with self._lock:
            self._quota.spend(self._clock(), calls)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request, as WSGI says."""
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
        # A call that belongs to no account uses up nobody's rate limit.
        if request.headers.get("x-sbg-auth-token") != self._token:
            raise Refused(401, 0, "Unauthorized")
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
            raise Refused(404, 0, "The requested path does not exist.")
        if request.method != _METHODS[known_path]:
            raise Refused(405, 0, "Method not allowed.", Allow=_METHODS[known_path])
        if path == _RATE_LIMIT:
            return answer(page)
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
                items.append({"error": _unknown()})
            else:
                items.append({"resource": self._render(export, request.base)})
        return answer({"items": items})

    def _bulk_create(self, request: Request) -> Answer:
        items: list[object] = []
        with self._lock:
            for item in request.bulk("items", dict):
                order = _order(item)
                if order is None:
                    items.append({"error": error(400, 0, "Source or destination is not valid.")})
                else:
                    life = self._submit(order, self._clock(), None)
                    items.append({"resource": self._render(life, request.base)})
        return answer({"items": items})

    def _get(self, request: Request) -> Answer:
        export = self._exports.get(request.path.rpartition("/")[2])
        if export is None:
            return answer(_unknown(), 404)
        return answer(self._render(export, request.base))

    def _list(self, request: Request) -> Answer:
        volume, state = request.parameter("volume"), request.parameter("state")
        offset, limit = _number(request, "offset", 0), _number(request, "limit", 50)
        if not 1 <= limit <= 100:  # noqa: PLR2004 - named in the message
            raise Refused(400, 0, "limit must be between 1 and 100.")
        with self._lock:
            exports = list(self._exports.values())
        matching = [
            export
            for export in (self._render(one, request.base) for one in exports)
            if volume in (None, (export.get("destination") or {}).get("volume"))
            and state in (None, export.get("state"))
        ]
        chosen = {"volume": volume, "state": state, "limit": limit}

        def href(offset: int) -> str:
            query = {name: value for name, value in chosen.items() if value is not None}
            query["offset"] = offset
            return f"{request.base}{_ROOT}{_EXPORTS}?{urlencode(query)}"

        links = []
        if offset + limit < len(matching):
            links.append({"rel": "next", "href": href(offset + limit), "method": "GET"})
        page = {
            "href": href(offset),
            "items": matching[offset : offset + limit],
            "links": links,
        }
        listed = answer(page)
        total = {"X-Total-Matching-Query": str(len(matching))}
        return replace(listed, headers=listed.headers | total)

    def _submit(self, order: Order, submitted: float, lifetimes: Lifetimes | None) -> Life:
        life = draw_life(self._random, lifetimes or self._lifetimes, order, submitted)
        self._exports[life.id] = life
        return life

    def _render(self, export: Life | Mapping[str, Any], base: str) -> dict[str, Any]:
        if isinstance(export, Life):
            return export.render(self._clock(), f"{base}{_ROOT}")
        return dict(export)


def _unknown() -> dict[str, object]:
    # Without the ID: that is what the platform's error items are like.
    return error(404, 9002, "Requested export does not exist.")


def _order(item: Mapping[str, Any]) -> Order | None:
    try:
        order = Order(
            file=item["source"]["file"],
            volume=item["destination"]["volume"],
            location=item["destination"]["location"],
            overwrite=item.get("overwrite") is True,
            properties=item.get("properties"),
        )
    except (KeyError, TypeError):
        return None
    names = (order.file, order.volume, order.location)
    return order if all(isinstance(name, str) and name for name in names) else None


def _number(request: Request, name: str, default: int) -> int:
    text = request.parameter(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise Refused(400, 0, f"{name} must be a number.")
    return int(text)
