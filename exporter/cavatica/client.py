"""The client of the CAVATICA API.

Every failure is an `ApiError` with a reason from a closed list, and every call ends by its
deadline, whatever the server does. The token leaves the process in one header, to the configured
host only, and is removed from everything that comes back.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Final, TypeVar
from urllib.parse import urlencode

from exporter.cavatica.answer import (
    MAX_IDS,
    ApiError,
    BulkResponse,
    ListResponse,
    OrdersResponse,
    RateLimit,
    Reason,
    RequestOutcome,
    UserResponse,
)
from exporter.cavatica.codes import explain
from exporter.cavatica.export import pair_items, parse_error, parse_list
from exporter.cavatica.order import parse_orders
from exporter.cavatica.transport import Response, Transport, TransportError
from exporter.text import excerpt

#: Maximum size of an answer: per ID, and for the rest. An export takes some 1.5 kB.
BYTES_PER_ID: Final = 16 * 1024
BYTES_AROUND: Final = 64 * 1024

# Both public clients use this path; the API's page once prints `export` instead of `exports`.
_BULK_GET = "/bulk/storage/exports/get"
_LIST = "/storage/exports"
_USER = "/user"
# The same as in the official client.
_GOOD = frozenset({200, 201, 202, 203})
# Items per ID; an answer with more is refused unread.
_MAX_ITEMS_PER_ID = 2
# The header's documentation says seconds, the rate_limit page shows milliseconds: no time in
# seconds is as large as this before the year 5138.
_MILLISECONDS_FROM = 10**11
_MAX_INTEGER_DIGITS = 18
_MAX_HEADER_DIGITS = 15

R = TypeVar("R", BulkResponse, ListResponse, UserResponse, OrdersResponse)


class Client:
    """Calls the API; may be used by several threads at once.

    Args:
        url: Base URL up to ``/v2``, without a trailing slash.
        token: Returns the token for the next request.
        user_agent: The header's value.
        advance_access: Whether to send ``X-SBG-Advance-Access: advance``.
        observe: Called after each HTTP request.
        destination_key: Secret key for the exports' `destination`; without it they have none.
        monotonic: The clock of the deadlines.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        user_agent: str,
        advance_access: bool = False,
        observe: Callable[[RequestOutcome], None],
        destination_key: bytes = b"",
        monotonic: Callable[[], float],
    ) -> None:
        self._url = url
        self._destination_key = destination_key
        self._observe = observe
        self._monotonic = monotonic
        headers = {"User-Agent": user_agent}
        if advance_access:
            headers["X-SBG-Advance-Access"] = "advance"
        self._transport = Transport(token, headers)

    def bulk_get(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Fetch up to `MAX_IDS` different exports; return by `deadline`.

        Raises:
            ApiError: there is no usable answer.
        """

        def parse(response: Response) -> BulkResponse:
            outcomes, complete = pair_items(ids, _items(response, len(ids)), self._destination_key)
            return BulkResponse(outcomes, complete, _rate_limit(response), requests=1)

        return self._call(_BULK_GET, {"export_ids": list(ids)}, len(ids), parse, deadline)

    def list_exports(
        self, *, offset: int, limit: int, states: Sequence[str] = (), deadline: float
    ) -> ListResponse:
        """Fetch a part of the list of the account's exports; return by `deadline`.

        Args:
            offset: How many to skip.
            limit: How many to get, 1 to `MAX_IDS`.
            states: Only exports in these states; the API may ignore it.
            deadline: On the monotonic clock.

        Raises:
            ApiError: there is no usable answer.
        """
        # Without `fields=_all` an item has only href, id and state.
        query = [("fields", "_all"), ("offset", offset), ("limit", limit)]
        query += [("state", state) for state in states]

        def parse(response: Response) -> ListResponse:
            exports, without_details, unusable = parse_list(
                _items(response, MAX_IDS), self._destination_key
            )
            total = _number(response, "X-Total-Matching-Query")
            limits = _rate_limit(response)
            return ListResponse(exports, without_details, unusable, total, limits, requests=1)

        return self._call(f"{_LIST}?{urlencode(query)}", None, MAX_IDS, parse, deadline)

    def get_orders(self, ids: Sequence[str], deadline: float) -> OrdersResponse:
        """Fetch the orders of up to `MAX_IDS` exports: their files and places.

        Raises:
            ApiError: there is no usable answer.
        """

        def parse(response: Response) -> OrdersResponse:
            orders = parse_orders(_items(response, len(ids)))
            return OrdersResponse(orders, _rate_limit(response), requests=1)

        return self._call(_BULK_GET, {"export_ids": list(ids)}, len(ids), parse, deadline)

    def user(self, deadline: float) -> UserResponse:
        """Fetch the user that the token belongs to; return by `deadline`.

        Raises:
            ApiError: there is no usable answer.
        """

        def parse(response: Response) -> UserResponse:
            document = _document(response)
            name = document.get("username") if isinstance(document, dict) else None
            name = excerpt(name) if isinstance(name, str) else ""
            return UserResponse(name, _rate_limit(response), requests=1)

        return self._call(_USER, None, 1, parse, deadline)

    def _call(
        self,
        path: str,
        payload: object | None,
        exports: int,
        parse: Callable[[Response], R],
        deadline: float,
    ) -> R:
        """Send the request, retry once if that is likely to help, and parse the answer."""
        attempt = partial(self._attempt, path, payload, exports, parse, deadline)
        try:
            return attempt()
        except ApiError as error:
            if not error.worth_a_retry or self._monotonic() >= deadline:
                raise
        try:
            return replace(attempt(), requests=2)
        except ApiError as error:
            raise error.with_requests(2) from error.__cause__

    def _attempt(
        self,
        path: str,
        payload: object | None,
        exports: int,
        parse: Callable[[Response], R],
        deadline: float,
    ) -> R:
        began = self._monotonic()
        status: int | None = None
        reason: Reason | None = None
        try:
            response = self._send(path, payload, exports, deadline - began)
            status = response.status
            answer = parse(response)
        except ApiError as error:
            status, reason = error.status, error.reason
            raise
        else:
            reason = None if answer.complete else "invalid_response"
            return answer
        finally:
            self._observe(RequestOutcome(status, self._monotonic() - began, reason))

    def _send(self, path: str, payload: object | None, exports: int, timeout: float) -> Response:
        url = self._url + path
        max_bytes = BYTES_AROUND + BYTES_PER_ID * exports
        try:
            if payload is None:
                return self._transport.get(url, timeout, max_bytes=max_bytes)
            return self._transport.post(url, payload, timeout, max_bytes=max_bytes)
        except TransportError as error:
            raise ApiError(error.reason, str(error), status=error.status) from error


def _document(response: Response) -> object:
    """Return the JSON of a successful answer; raise `ApiError` for any other."""
    if response.status not in _GOOD:
        raise _refusal(response)
    return _json(response)


def _items(response: Response, exports: int) -> list[object]:
    """Return the items of a successful answer; raise `ApiError` for any other."""
    document = _document(response)
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list):
        problem = "the answer is not a JSON object with a list of items"
    elif len(items) > _MAX_ITEMS_PER_ID * exports:
        problem = f"the answer has {len(items)} items for {exports} exports"
    else:
        return items
    limit = _rate_limit(response)
    raise ApiError("invalid_response", problem, status=response.status, rate_limit=limit)


def _refusal(response: Response) -> ApiError:
    # Status codes and platform codes: the platform's page "API status codes".
    status = response.status
    error = parse_error(_json(response))
    code = error.code if error else ""
    reason: Reason
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        reason = "auth"
    elif status == HTTPStatus.TOO_MANY_REQUESTS:
        reason = "rate_limited"
    elif status == HTTPStatus.SERVICE_UNAVAILABLE and code == "0":
        reason = "maintenance"
    elif status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = "server_error"
    elif status >= HTTPStatus.BAD_REQUEST:
        reason = "client_error"
    elif status >= HTTPStatus.MULTIPLE_CHOICES:
        reason = "redirect"
    else:
        reason = "invalid_response"
    text = f"HTTP {status}" + (f", platform code {code}" if code else "")
    meaning = explain(code)
    # What helps with a code that exports have, too, is about starting them again.
    if meaning and meaning.places == ("call",) and meaning.http == status:
        text += f" ({meaning.action.rstrip('.')})"
    return ApiError(reason, text, status=status, code=code, rate_limit=_rate_limit(response))


def _json(response: Response) -> object:
    """Return the document of the body, or None if it is not JSON."""
    redact = response.redactor.redact

    def without_token(pairs: list[tuple[str, object]]) -> dict[str, object]:
        return {key: redact(v) if isinstance(v, str) else v for key, v in pairs}

    try:
        document: object = json.loads(
            response.body.decode("utf-8-sig"),
            parse_int=_bounded_integer,
            parse_constant=_no_number,
            object_pairs_hook=without_token if response.redactor.is_needed(response.body) else None,
        )
    except (ValueError, RecursionError):
        return None
    return document


def _bounded_integer(digits: str) -> int | None:
    # Python refuses integers of some thousand digits; the whole answer would be lost.
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else None


def _no_number(_: str) -> None:
    """Return None: NaN and the infinities are not numbers in JSON."""


def _number(response: Response, name: str) -> int | None:
    text = response.headers.get(name, "").strip()
    is_number = text.isascii() and text.isdigit() and len(text) <= _MAX_HEADER_DIGITS
    return int(text) if is_number else None


def _rate_limit(response: Response) -> RateLimit:
    reset = _number(response, "X-RateLimit-Reset")
    return RateLimit(
        limit=_number(response, "X-RateLimit-Limit"),
        remaining=_number(response, "X-RateLimit-Remaining"),
        reset=reset / 1000 if reset is not None and reset >= _MILLISECONDS_FROM else reset,
    )
