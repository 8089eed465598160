"""The results of API calls: answers, the rate limit, and the error with its reason.

This module loads no HTTP library, so neither do modules that only read results.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal, get_args

from exporter.cavatica.export import Export, LookupFailure
from exporter.cavatica.order import Order

Reason = Literal[
    "timeout",
    "connection",
    "tls",
    "proxy",
    "redirect",
    "auth",
    "rate_limited",
    "maintenance",
    "server_error",
    "client_error",
    "invalid_response",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

#: Maximum IDs in one call: the limit of all bulk calls in the official client's manual.
MAX_IDS: Final = 100
#: Maximum concurrent calls.
MAX_CALLS: Final = 4


@dataclass(frozen=True, slots=True)
class RateLimit:
    """The rate-limit headers of an answer; None for values that they lack.

    Attributes:
        limit: Calls allowed to the account in a window.
        remaining: Calls left in the window.
        reset: Unix time in seconds at which the next window begins.
    """

    limit: int | None
    remaining: int | None
    reset: float | None


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """The outcome of one HTTP request, for the exporter's own metrics.

    Attributes:
        status: The HTTP status, or None if no answer began.
        seconds: Its duration.
        reason: Why it failed, or None.
    """

    status: int | None
    seconds: float
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class BulkResponse:
    """The answer to a bulk get call.

    Attributes:
        outcomes: By requested ID, as returned by `pair_items`.
        complete: Whether the items account for every requested ID, and for nothing else.
        rate_limit: From the headers.
        requests: Number of HTTP requests sent.
    """

    outcomes: Mapping[str, Export | LookupFailure | None]
    complete: bool
    rate_limit: RateLimit
    requests: int


@dataclass(frozen=True, slots=True)
class ListResponse:
    """The answer to a list call: a part of the account's exports, in an order that the API chooses.

    Attributes:
        exports: Those that have an ID, in the order of the answer.
        without_details: IDs of exports that came with their state only.
        unusable: Number of items without a usable ID.
        total: Number of exports that match the query, according to the API; None if it is missing.
        rate_limit: From the headers.
        requests: Number of HTTP requests sent.
    """

    exports: tuple[Export, ...]
    without_details: frozenset[str]
    unusable: int
    total: int | None
    rate_limit: RateLimit
    requests: int

    @property
    def complete(self) -> bool:
        """Whether the answer holds everything that the API documents for lists."""
        return not self.unusable and self.total is not None


@dataclass(frozen=True, slots=True)
class UserResponse:
    """The answer to a call that asks for the token's user.

    Attributes:
        name: The user's name, escaped; ``""`` if the answer has none.
        rate_limit: From the headers.
        requests: Number of HTTP requests sent.
    """

    name: str
    rate_limit: RateLimit
    requests: int

    @property
    def complete(self) -> bool:
        """Whether the answer names the user."""
        return bool(self.name)


@dataclass(frozen=True, slots=True)
class OrdersResponse:
    """The requests that created exports, from the answer to a bulk get call.

    Attributes:
        orders: By ID, for the exports whose order the answer contains.
        rate_limit: From the headers.
        requests: Number of HTTP requests sent.
    """

    orders: Mapping[str, Order]
    rate_limit: RateLimit
    requests: int

    @property
    def complete(self) -> bool:
        """Whether the answer contains the order of any export."""
        return bool(self.orders)


class ApiError(Exception):
    """A call without a usable answer.

    Its text contains nothing that the API or a proxy sent, except numbers.

    Attributes:
        reason: One of `REASONS`.
        status: The HTTP status, or None if no answer began.
        code: The platform's own error code, ``""`` if it gave none.
        rate_limit: From the headers, or None if no complete answer came.
        requests: Number of HTTP requests sent.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        status: int | None = None,
        code: str = "",
        rate_limit: RateLimit | None = None,
        requests: int = 1,
    ) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.status = status
        self.code = code
        self.rate_limit = rate_limit
        self.requests = requests

    @property
    def problem(self) -> str:
        """The reason and the text, for people."""
        return f"{self.reason}: {self}"

    def with_requests(self, requests: int) -> "ApiError":
        """Return the same error for a call that sent this many requests."""
        return ApiError(
            self.reason,
            str(self),
            status=self.status,
            code=self.code,
            rate_limit=self.rate_limit,
            requests=requests,
        )

    @property
    def blames_ids(self) -> bool:
        """Whether the API refused the call because of its content, which is IDs only."""
        return self.reason == "client_error" and self.status == HTTPStatus.BAD_REQUEST

    @property
    def worth_a_retry(self) -> bool:
        """Whether an immediate second request is likely to succeed."""
        return self.reason == "connection" or self.status in {
            HTTPStatus.BAD_GATEWAY,
            HTTPStatus.GATEWAY_TIMEOUT,
        }
