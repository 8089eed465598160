"""The simulated platform's list of exports, where the documentation leaves it open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

from exporter.simulator.answer import Answer, Refused, answer
from exporter.simulator.life import Life
from exporter.simulator.request import Request

Stored = Life | Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The switches of `GET /storage/exports`.

    Attributes:
        order: ``oldest`` or ``newest`` first; ``id``: stable, but new exports appear anywhere;
            ``random``: another order for every call.
        honors_fields: Whether `fields=_all` is honored; without it an item is href, id and state.
        honors_states: Whether several `state` parameters filter by all of them, or are ignored.
        random: Source of the random order.
        after_page: Called after a page is made and before it is sent: the list can change here.

    """

    order: Literal["oldest", "newest", "id", "random"] = "oldest"
    honors_fields: bool = True
    honors_states: bool = True
    after_page: Callable[[Request], None] = lambda _: None
    random: Random = field(default_factory=lambda: Random(0))  # noqa: S311 - repeatable

    def page(
        self,
        request: Request,
        exports: Sequence[tuple[str, Stored]],
        now: float,
        render: Callable[[Stored], dict[str, Any]],
    ) -> Answer:
        """Return the part of `exports` that the request asks for.

        Args:
            request: What was asked.
            exports: All exports of the account by ID, in the order of submission.
            now: Unix time.
            render: Returns an export as the API shows it.

        Raises:
            Refused: 400, when a parameter is not valid.

        """
        query = parse_qs(request.query)
        volume, states = request.parameter("volume"), query.get("state", [])
        if len(states) > 1 and not self.honors_states:
            states = []
        offset, limit = _number(request, "offset", 0), _number(request, "limit", 50)
        if not 1 <= limit <= 100:  # noqa: PLR2004 - named in the message
            raise Refused(400, 90000, "limit must be between 1 and 100.")
        matching = [
            (export_id, export)
            for export_id, export in exports
            if volume in (None, _volume(export)) and (not states or _state(export, now) in states)
        ]
        items = [render(export) for _, export in self._sorted(matching)[offset : offset + limit]]
        if request.parameter("fields") != "_all" or not self.honors_fields:
            items = [{key: item.get(key) for key in ("href", "id", "state")} for item in items]

        def href(offset: int) -> str:
            place = {"limit": [str(limit)], "offset": [str(offset)]}
            parameters = urlencode(query | place, doseq=True)
            return f"{request.base}{request.path}?{parameters}"

        links = []
        if offset + limit < len(matching):
            links.append({"rel": "next", "href": href(offset + limit), "method": "GET"})
        page = answer({"href": href(offset), "items": items, "links": links})
        total = {"X-Total-Matching-Query": str(len(matching))}
        return Answer(page.status, page.headers | total, page.body)

    def _sorted(self, exports: list[tuple[str, Stored]]) -> list[tuple[str, Stored]]:
        if self.order == "newest":
            return exports[::-1]
        if self.order == "id":
            return sorted(exports, key=lambda export: export[0])
        if self.order == "random":
            return self.random.sample(exports, len(exports))
        return exports


def _volume(export: Stored) -> object:
    if isinstance(export, Life):
        return export.order.volume
    return (export.get("destination") or {}).get("volume")


def _state(export: Stored, now: float) -> object:
    return export.state(now) if isinstance(export, Life) else export.get("state")


def _number(request: Request, name: str, default: int) -> int:
    text = request.parameter(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise Refused(400, 90000, f"{name} must be a number.")
    return int(text)
