"""The values of the API's calls: their answers, the rate limit, and the error with its reason.

They load no HTTP library, so that whatever only reads them does not either.
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

#: IDs in one call: the official client's manual gives this for all bulk calls.
MAX_IDS: Final = 100
#: Calls side by side.
MAX_CALLS: Final = 4


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What the rate-limit headers of an answer say; None where they do not.

    Attributes:
        limit: Calls that the account may make in a window.
        remaining: Calls that are left of them.
        reset: Unix time in seconds at which the next window begins.
    """

    limit: int | None
    remaining: int | None
    reset: float | None


@dataclass(frozen=True, slots=True)
class RequestOutcome:
    """One HTTP request, for the books.

    Attributes:
        status: The HTTP status, or None where no answer began.
        seconds: How long it took.
        reason: Why it failed, or None.
    """

    status: int | None
    seconds: float
    reason: Reason | None


@dataclass(frozen=True, slots=True)
class BulkResponse:
    """What a bulk get call said.

    Attributes:
        outcomes: By asked ID, as `pair_items` gives them.
        complete: Whether the items account for every ID asked, and for nothing else.
        rate_limit: From the headers.
        requests: How many HTTP requests it took.
    """

    outcomes: Mapping[str, Export | LookupFailure | None]
    complete: bool
    rate_limit: RateLimit
    requests: int


@dataclass(frozen=True, slots=True)
class ListResponse:
    """The answer of a list call: a part of the account's exports, in an order of the API's own.

    Attributes:
        exports: Those that have an ID, in the order of the answer.
        without_details: IDs of those that came with their state alone.
        unusable: How many items had no ID to use.
        total: How many exports the API says there are of this query; None where it does not.
        rate_limit: From the headers.
        requests: How many HTTP requests it took.
    """

    exports: tuple[Export, ...]
    without_details: frozenset[str]
    unusable: int
    total: int | None
    rate_limit: RateLimit
    requests: int

    @property
    def complete(self) -> bool:
        """Whether the answer holds what the API documents of every list."""
        return not self.unusable and self.total is not None


@dataclass(frozen=True, slots=True)
class UserResponse:
    """The answer to the question whose token it is.

    Attributes:
        name: The user's name, escaped; ``""`` where the answer has none.
        rate_limit: From the headers.
        requests: How many HTTP requests it took.
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
    """What exports were asked to do.

    Attributes:
        orders: By ID, of the exports of which the answer tells it.
        rate_limit: From the headers.
        requests: How many HTTP requests it took.
    """

    orders: Mapping[str, Order]
    rate_limit: RateLimit
    requests: int

    @property
    def complete(self) -> bool:
        """Whether the answer tells it of any export."""
        return bool(self.orders)


class ApiError(Exception):
    """A call that gave no answer to use.

    The text never holds anything that the other side sent, but numbers.

    Attributes:
        reason: One of `REASONS`.
        status: The HTTP status, or None where no answer began.
        rate_limit: From the headers, or None where no whole answer came.
        requests: How many HTTP requests were sent.
    """

    def __init__(
        self,
        reason: Reason,
        text: str,
        *,
        status: int | None = None,
        rate_limit: RateLimit | None = None,
        requests: int = 1,
    ) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.status = status
        self.rate_limit = rate_limit
        self.requests = requests

    def with_requests(self, requests: int) -> "ApiError":
        """Return the same failure of a call that took so many requests."""
        return ApiError(
            self.reason,
            str(self),
            status=self.status,
            rate_limit=self.rate_limit,
            requests=requests,
        )

    @property
    def worth_a_retry(self) -> bool:
        """Whether a second request may well succeed at once."""
        return self.reason == "connection" or self.status in {
            HTTPStatus.BAD_GATEWAY,
            HTTPStatus.GATEWAY_TIMEOUT,
        }
