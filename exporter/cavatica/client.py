"""The seam to the network: the calls of the CAVATICA API, bulk get and list.

Every failure is one `ApiError` with a reason of a closed list, and every call ends by its
deadline, whatever the other side does. The token leaves the process in one header, to the
configured host only.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlencode

from exporter.cavatica.answer import (
    MAX_CALLS,
    ApiError,
    BulkResponse,
    ListResponse,
    RateLimit,
    Reason,
    RequestOutcome,
    UserResponse,
)
from exporter.cavatica.export import pair_items, parse_error, parse_list
from exporter.cavatica.transport import Response, Transport, TransportError
from exporter.text import excerpt

# Both public clients use this path; the API's page prints `export` for `exports` in one place.
_BULK_GET = "/bulk/storage/exports/get"
_LIST = "/storage/exports"
_USER = "/user"
# The header's documentation says seconds, the rate_limit page shows milliseconds: no time in
# seconds is as large as this before the year 5138.
_MILLISECONDS_FROM = 10**11
_MAX_INTEGER_DIGITS = 18

R = TypeVar("R", BulkResponse, ListResponse, UserResponse)


class Client:
    """Asks the API; may be used by several threads at once.

    Args:
        url: Base URL up to ``/v2``, without a slash at the end.
        token: Gives the token to use for the next request.
        user_agent: The header's value.
        advance_access: Whether to send ``X-SBG-Advance-Access: advance``.
        observe: Is told of every HTTP request when it is over.
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
        monotonic: Callable[[], float],
    ) -> None:
        self._url = url
        self._observe = observe
        self._monotonic = monotonic
        headers = {"User-Agent": user_agent, "Accept-Encoding": "gzip"}
        if advance_access:
            headers["X-SBG-Advance-Access"] = "advance"
        self._transport = Transport(
            token,
            headers,
            use_environment=url.startswith("https://"),
            connections=MAX_CALLS,
        )

    def bulk_get(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Ask for up to `MAX_IDS` different exports, and have done by `deadline`.

        Raises:
            ApiError: when there is no answer to use.
        """

        def parse(reply: Response) -> BulkResponse:
            outcomes, complete = pair_items(ids, _items(reply))
            return BulkResponse(outcomes, complete, _rate_limit(reply), requests=1)

        return self._call(_BULK_GET, {"export_ids": list(ids)}, parse, deadline)

    def list_exports(
        self, *, offset: int, limit: int, states: Sequence[str] = (), deadline: float
    ) -> ListResponse:
        """Ask for a part of the list of the account's exports, and have done by `deadline`.

        Args:
            offset: How many to skip.
            limit: How many to get, 1 to `MAX_IDS`.
            states: Only exports in these states; the API may ignore it.
            deadline: On the monotonic clock.

        Raises:
            ApiError: when there is no answer to use.
        """
        # Without `fields=_all` an item is only href, id and state.
        query = [("fields", "_all"), ("offset", offset), ("limit", limit)]
        query += [("state", state) for state in states]

        def parse(reply: Response) -> ListResponse:
            exports, without_details, unusable = parse_list(_items(reply))
            total = _number(reply, "X-Total-Matching-Query")
            limits = _rate_limit(reply)
            return ListResponse(exports, without_details, unusable, total, limits, requests=1)

        return self._call(f"{_LIST}?{urlencode(query)}", None, parse, deadline)

    def user(self, deadline: float) -> UserResponse:
        """Ask whose token it is, and have done by `deadline`.

        Raises:
            ApiError: when there is no answer to use.
        """

        def parse(reply: Response) -> UserResponse:
            document = _document(reply)
            name = document.get("username") if isinstance(document, dict) else None
            name = excerpt(name) if isinstance(name, str) else ""
            return UserResponse(name, _rate_limit(reply), requests=1)

        return self._call(_USER, None, parse, deadline)

    def _call(
        self, path: str, payload: object | None, parse: Callable[[Response], R], deadline: float
    ) -> R:
        """Send the request, once more where that may well help, and parse the answer."""
        try:
            return self._attempt(path, payload, parse, deadline)
        except ApiError as error:
            if not error.worth_a_retry or self._monotonic() >= deadline:
                raise
        try:
            return replace(self._attempt(path, payload, parse, deadline), requests=2)
        except ApiError as error:
            raise error.with_requests(2) from error.__cause__

    def _attempt(
        self, path: str, payload: object | None, parse: Callable[[Response], R], deadline: float
    ) -> R:
        began = self._monotonic()
        status: int | None = None
        reason: Reason | None = None
        try:
            reply = self._send(path, payload, deadline - began)
            status = reply.status
            response = parse(reply)
        except ApiError as error:
            status, reason = error.status, error.reason
            raise
        else:
            reason = None if response.complete else "invalid_response"
            return response
        finally:
            self._observe(RequestOutcome(status, self._monotonic() - began, reason))

    def _send(self, path: str, payload: object | None, timeout: float) -> Response:
        try:
            if payload is None:
                return self._transport.get(self._url + path, timeout)
            return self._transport.post(self._url + path, payload, timeout)
        except TransportError as error:
            raise ApiError(error.reason, str(error), status=error.status) from error


def _document(reply: Response) -> object:
    """Return the JSON of a good answer; raise `ApiError` for any other."""
    if reply.status != HTTPStatus.OK:
        raise _refusal(reply)
    return _json(reply.body)


def _items(reply: Response) -> list[object]:
    """Return the items of a good answer; raise `ApiError` for any other."""
    document = _document(reply)
    items = document.get("items") if isinstance(document, dict) else None
    if not isinstance(items, list):
        raise ApiError(
            "invalid_response",
            "the answer is no JSON object with a list of items",
            status=reply.status,
            rate_limit=_rate_limit(reply),
        )
    return items


def _refusal(reply: Response) -> ApiError:
    # Status codes and platform codes: the platform's page "API status codes".
    error = parse_error(_json(reply.body))
    code = error.code if error else ""
    reason: Reason
    if reply.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        reason = "auth"
    elif reply.status == HTTPStatus.TOO_MANY_REQUESTS:
        reason = "rate_limited"
    elif reply.status == HTTPStatus.SERVICE_UNAVAILABLE and code == "0":
        reason = "maintenance"
    elif reply.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        reason = "server_error"
    elif reply.status >= HTTPStatus.BAD_REQUEST:
        reason = "client_error"
    elif reply.status >= HTTPStatus.MULTIPLE_CHOICES:
        reason = "redirect"
    else:
        reason = "invalid_response"
    text = f"HTTP {reply.status}" + (f", platform code {code}" if code else "")
    return ApiError(reason, text, status=reply.status, rate_limit=_rate_limit(reply))


def _json(body: bytes) -> object:
    try:
        document: object = json.loads(
            body.decode("utf-8-sig"), parse_int=_bounded_integer, parse_constant=_no_number
        )
    except (ValueError, RecursionError):
        return None
    return document


def _bounded_integer(digits: str) -> int | None:
    # Python refuses to read integers of some thousand digits, and would drop the whole answer.
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else None


def _no_number(_: str) -> None:
    """NaN and the infinities are no numbers in JSON."""


def _number(reply: Response, name: str) -> int | None:
    text = reply.headers.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None  # noqa: PLR2004 # no count or time is longer


def _rate_limit(reply: Response) -> RateLimit:
    reset = _number(reply, "X-RateLimit-Reset")
    return RateLimit(
        limit=_number(reply, "X-RateLimit-Limit"),
        remaining=_number(reply, "X-RateLimit-Remaining"),
        reset=reset / 1000 if reset is not None and reset >= _MILLISECONDS_FROM else reset,
    )
