"""The platform's answers and error bodies, as they are sent."""

import json
from dataclasses import dataclass
from http.client import responses

MORE_INFO = "https://docs.sevenbridges.com/docs/api-status-codes"
JSON = "application/json"


def error(status: int, code: int, message: str) -> dict[str, object]:
    """Return the platform's error object, for an answer, an item, or a failed export.

    The codes are the platform's own where they exist: 9xxx for volumes and exports, 90000 for an
    invalid request, 90001 for unauthorized, 90003 for not found, 0 for maintenance.
    """
    return {"status": status, "code": code, "message": message, "more_info": MORE_INFO}


# Codes of a refused start, with the HTTP status.
_REFUSALS = {
    9004: (403, "Insufficient privileges on the file."),
    9006: (403, "Files of this kind cannot be exported."),
    9009: (404, "Requested file does not exist."),
    9020: (403, "Insufficient privileges on the volume."),
    9027: (400, "The volume and the project are on different clouds."),
}


def refusal(code: int) -> dict[str, object]:
    """Return the error of an export that is refused at the start.

    Raises:
        KeyError: the code is not one of a refused start.

    """
    status, message = _REFUSALS[code]
    return error(status, code, message)


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer.

    Attributes:
        status: HTTP status.
        headers: name to value, without Content-Length.
        body: the chunks in which the body is sent.

    """

    status: int
    headers: dict[str, str]
    body: tuple[bytes, ...]

    @property
    def status_line(self) -> str:
        """The status and its reason phrase, as WSGI wants them."""
        return f"{self.status} {responses.get(self.status, 'Unknown')}"


def answer(payload: object, status: int = 200) -> Answer:
    """Return an answer that carries the payload as JSON."""
    return Answer(status, {"Content-Type": JSON}, (json.dumps(payload).encode(),))


class Refused(Exception):  # noqa: N818 - not a programming error
    """The refusal of a whole call.

    Attributes:
        answer: the answer to send.

    """

    def __init__(self, status: int, code: int, message: str, **headers: str) -> None:
        """Build the answer from an error and additional headers (`Allow="GET"`)."""
        super().__init__(message)
        refusal = answer(error(status, code, message), status)
        self.answer = Answer(status, refusal.headers | headers, refusal.body)
