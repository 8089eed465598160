"""Fakes of the clock and the API, and functions that make test data."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from exporter.cavatica.answer import ApiError, BulkResponse, RateLimit, Reason
from exporter.cavatica.export import ErrorDetail, Export, LookupFailure
from exporter.tracker.snapshot import Batch, Snapshot
from exporter.watchlist.watchlist import Watchlist

NO_LIMIT = RateLimit(None, None, None)
NOT_FOUND = LookupFailure("9008", 404, "Requested export does not exist.")
BROKEN = LookupFailure("", 500, "Something went wrong.")

Outcome = Export | LookupFailure | None


class FakeClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.unix = 1_700_000_000.0
        self.steady = 5000.0

    def time(self) -> float:
        """Return Unix time."""
        return self.unix

    def monotonic(self) -> float:
        """Return the monotonic time."""
        return self.steady

    def advance(self, seconds: float) -> None:
        """Move both times forward."""
        self.unix += seconds
        self.steady += seconds


class FakeApi:
    """Answers calls at once, as the test configures it.

    Attributes:
        outcomes: The result for an ID; for any other ID, a RUNNING export.
        omitted: IDs that are missing from its answers.
        malformed: IDs that make it refuse the whole call.
        failure: The exception that every call raises instead of an answer.
        rate_limit: The rate limit in the headers of its answers.
        calls: The IDs of every call so far.
    """

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] = {}
        self.omitted: set[str] = set()
        self.malformed: set[str] = set()
        self.failure: Exception | None = None
        self.rate_limit = NO_LIMIT
        self.calls: list[list[str]] = []
        self._lock = threading.Lock()

    def __call__(self, ids: Sequence[str], deadline: float) -> BulkResponse:
        """Answer as `exporter.cavatica.client.Client.bulk_get` does."""
        del deadline
        with self._lock:
            self.calls.append(list(ids))
        if self.failure is not None:
            raise self.failure
        if not self.malformed.isdisjoint(ids):
            raise bad_request()
        outcomes = {i: self.outcomes.get(i, running(i)) for i in ids if i not in self.omitted}
        complete = sum(outcome is not None for outcome in outcomes.values()) == len(ids)
        return BulkResponse(outcomes, complete, self.rate_limit, requests=1)

    def answer_with(self, *exports: Export) -> None:
        """Return these exports for their IDs from now on."""
        self.outcomes |= {export.id: export for export in exports}


def error(reason: Reason, rate_limit: RateLimit | None = None, requests: int = 1) -> ApiError:
    """Return the failure of a call."""
    return ApiError(reason, "as the test wants it", rate_limit=rate_limit, requests=requests)


def bad_request(code: str = "9011") -> ApiError:
    """Return the refusal of a call because of its IDs."""
    return ApiError("client_error", "HTTP 400, platform code 9011", status=400, code=code)


def ids(count: int, prefix: str = "e") -> tuple[str, ...]:
    """Return `count` IDs, sorted."""
    return tuple(f"{prefix}{number:05}" for number in range(count))


def watch(batches: Mapping[str, Sequence[str]], acknowledged: Sequence[str] = ()) -> Watchlist:
    """Return a watchlist with these batches."""
    return Watchlist(
        batches={name: tuple(batches[name]) for name in sorted(batches)},
        acknowledged=frozenset(acknowledged),
    )


def make_snapshot(*batches: Batch, **fields: Any) -> Snapshot:  # noqa: ANN401 # those of `Snapshot`
    """Return the snapshot of a successful scrape with these batches, changed by `fields`."""
    good = Snapshot(
        watchlist=Watchlist(),
        batches=batches,
        oldest_answers={},
        up=True,
        duration=0.25,
        api_calls=1,
        last_success=None,
        rate_limit=None,
        time=1_700_000_000.0,
    )
    return replace(good, **fields)


def pending(export_id: str) -> Export:
    """Return a PENDING export."""
    return Export(export_id, "PENDING", started=1_699_990_000.0, volume="rfranklin/output")


def running(export_id: str) -> Export:
    """Return a RUNNING export."""
    return Export(export_id, "RUNNING", started=1_699_990_000.0, volume="rfranklin/output")


def completed(export_id: str, finished: float | None = 1_699_999_000.0) -> Export:
    """Return a COMPLETED export."""
    return Export(
        export_id,
        "COMPLETED",
        started=1_699_990_000.0,
        finished=finished,
        size=1000,
        volume="rfranklin/output",
    )


def failed(export_id: str, finished: float | None = 1_699_999_500.0) -> Export:
    """Return a FAILED export."""
    return Export(
        export_id,
        "FAILED",
        started=1_699_990_000.0,
        finished=finished,
        volume="rfranklin/output",
        error=ErrorDetail("9103", 403, "patient-7.bam: access denied"),
    )
