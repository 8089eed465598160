"""Faults between the exporter and the API."""

import gzip
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, Final

from exporter.simulator import Fault
from tests.system.soak.endpoint import INNER_TOKEN

CUT: Final = "connections are cut"
REFUSED: Final = "connection refused"
EXISTING_SILENT: Final = "existing connections go silent"
NEW_SILENT: Final = "new connections go silent"
BLACK_HOLE_FIRST: Final = "the first address is a black hole"

_MEGABYTE = bytes(2**20)
_BOMB = gzip.compress(_MEGABYTE * 50)
_PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def _items(change: Callable[[Random, list[Any]], object]) -> Callable[[Random], Fault]:
    """Return a fault that transforms the list of items."""
    return lambda random: Fault(items=lambda items: change(random, items))


def _each(change: Callable[[Random, dict[str, Any]], object]) -> Callable[[Random], Fault]:
    """Return a fault that changes about every third export of an answer in place."""

    def rewrite(random: Random, items: list[Any]) -> object:
        for item in items:
            if "resource" in item and random.random() < 0.3:
                change(random, item["resource"])
        return items

    return _items(rewrite)


def _shuffled(random: Random, items: list[Any]) -> object:
    return random.sample(items, len(items))


def _errors(status: int, code: int) -> Callable[[Random, list[Any]], object]:
    error = {"status": status, "code": code, "message": "Simulated fault.", "more_info": ""}
    return lambda random, items: [
        {"error": error} if random.random() < 0.3 else item for item in items
    ]


def _refused(random: Random, reset: float) -> Fault:
    """Return a 429 with a rate limit that resets `reset` seconds from now."""
    headers = {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time() + reset))}
    return Fault(status=429, code=1000, headers=headers, times=random.randint(1, 3))


def _status(status: int, code: int = 0) -> Callable[[Random], Fault]:
    return lambda _: Fault(status=status, code=code)


def _body(body: bytes, **headers: str) -> Callable[[Random], Fault]:
    return lambda _: Fault(body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})


def _sent(rewrite: Callable[[Random, bytes], bytes]) -> Callable[[Random], Fault]:
    return lambda random: Fault(rewrite=lambda body: rewrite(random, body))


FAULTS: Final[Mapping[str, Callable[[Random], Fault]]] = {
    # Slow
    "slow": lambda random: Fault(delay=random.uniform(0.2, 8)),
    "every third is slow": lambda random: Fault(delay=random.uniform(1, 8), every=3),
    "drips fast": lambda _: Fault(drip=0.0001),
    "drips slowly": lambda random: Fault(drip=random.uniform(0.01, 0.5)),
    "an error that drips": lambda _: Fault(status=500, drip=0.1),
    # HTTP errors and redirects
    **{f"HTTP {status}": _status(status) for status in (400, 401, 403, 404, 409, 500, 502, 504)},
    "maintenance": _status(503),
    "a service is unavailable": _status(503, 9000),
    "every second is a 502": lambda _: Fault(status=502, every=2),
    "redirect": lambda _: Fault(status=302, headers={"Location": "http://127.0.0.2:9/v2"}),
    # Answers that are not the API's format
    "HTML": _body(_PAGE, Content_Type="text/html"),
    "HTML with 502": lambda _: Fault(status=502, body=_PAGE),
    "empty": _body(b""),
    "not JSON": _body(b"{'items': []}"),
    "not UTF-8": _body(b'{"items": ["\xff"]}'),
    "deep nesting": _body(b"[" * 100_000),
    "NaN and huge numbers": _body(b'{"items": [NaN, 1e999, ' + b"9" * 5000 + b"]}"),
    "20 MB": lambda _: Fault(body=(_MEGABYTE,) * 20),
    "a gzip bomb": _body(_BOMB, Content_Encoding="gzip"),
    "not gzip, but declared as gzip": _body(b"{}", Content_Encoding="gzip"),
    "random bytes": lambda random: Fault(body=random.randbytes(1000)),
    "truncated": _sent(lambda random, body: body[: random.randrange(len(body))]),
    "a wrong byte": _sent(lambda random, body: body[:-1] + random.randbytes(1)),
    "a length that is too large": lambda _: Fault(headers={"Content-Length": "1000000"}),
    "a length that is too small": lambda _: Fault(headers={"Content-Length": "10"}),
    "a length that is not a number": lambda _: Fault(headers={"Content-Length": "many"}),
    "invalid rate limit": lambda _: Fault(
        headers={"X-RateLimit-Limit": "-1", "X-RateLimit-Reset": "soon"}
    ),
    # Answers in the API's format with wrong content
    "no items": _items(lambda _, __: None),
    "items are an object": _items(lambda _, items: {"0": items}),
    "some are missing": _items(lambda random, items: items[: random.randrange(len(items))]),
    "some twice": _items(lambda random, items: items + random.choices(items, k=3)),
    "another order": _items(_shuffled),
    "not asked for": _items(
        lambda _, items: [*items, {"resource": {"id": "notAskedFor", "state": "RUNNING"}}]
    ),
    "some null": _items(lambda random, items: [random.choice([item, None]) for item in items]),
    "unknown IDs": _items(_errors(404, 9008)),
    "lookup errors": _items(_errors(503, 9000)),
    "no ID": _each(lambda _, export: export.pop("id")),
    "an ID that is a number": _each(lambda _, export: export.update(id=7)),
    "no state": _each(lambda _, export: export.pop("state")),
    "an invalid state": _each(
        lambda random, export: export.update(state=random.choice([1, None, [], "done", "A" * 99]))
    ),
    "invalid times": _each(
        lambda random, export: export.update(
            started_on=random.choice(["yesterday", 7, {}, "2018-13-27T15:00:28Z"]),
            finished_on=random.choice(["", None, "0000-00-00T00:00:00Z"]),
        )
    ),
    "invalid results": _each(
        lambda random, export: export.update(
            result=random.choice([[], "x", {"size": "7"}, {"size": -1}, {"size": 1e308}])
        )
    ),
    "control characters": _each(
        lambda _, export: export.update(
            destination={"volume": 'a"\n\\\x1b/b'},
            error={"code": "\n", "message": json.dumps("\n")},
        )
    ),
}

#: After these the exporter makes no call for some seconds, or for a minute.
RATE_LIMITS: Final[Mapping[str, Callable[[Random], Fault]]] = {
    "429 for a moment": lambda random: _refused(random, 4),
    "429 without headers": lambda _: Fault(
        status=429, times=1, headers=dict.fromkeys(["X-RateLimit-Remaining", "X-RateLimit-Reset"])
    ),
}

NAMES: Final = (*FAULTS, CUT, REFUSED, EXISTING_SILENT, NEW_SILENT, BLACK_HOLE_FIRST)


def draw(name: str, random: Random) -> Fault:
    """Return the named fault with random details; a wrong token still receives 401."""
    fault = {**FAULTS, **RATE_LIMITS}[name](random)
    return replace(
        fault, when=lambda request: request.headers.get("x-sbg-auth-token") == INNER_TOKEN
    )
