"""What goes over the wire: the platform's answers and its error bodies."""

import json
from dataclasses import dataclass
from http.client import responses

MORE_INFO = "https://docs.sevenbridges.com/docs/api-status-codes"
JSON = "application/json"


def error(status: int, code: int, message: str) -> dict[str, object]:
    """The platform's error object; it stands in an answer, in an item, and in a failed export.

    The platform's table of status codes has one thousand codes for every service; volumes and
    exports are the 9xxx. Within each thousand x000 is 503, x001 is 403, x002 is 404 and x003 is
    409. What has no row in that table (401, 405, a body that cannot be read) is given code 0 here.
    """
    return {"status": status, "code": code, "message": message, "more_info": MORE_INFO}


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
        """Status and reason, as WSGI wants them."""
        return f"{self.status} {responses.get(self.status, 'Unknown')}"


def answer(payload: object, status: int = 200) -> Answer:
    """Give an answer that carries the payload as JSON."""
    return Answer(status, {"Content-Type": JSON}, (json.dumps(payload).encode(),))


class Refused(Exception):  # noqa: N818 - a call that is refused is no programming error
    """The platform refuses the whole call.

    Attributes:
        answer: what it says.

    """

    def __init__(self, status: int, code: int, message: str, **headers: str) -> None:
        """Take the error body's parts, and headers (`Allow="GET"`) that go with it."""
        super().__init__(message)
        refusal = answer(error(status, code, message), status)
        self.answer = Answer(status, refusal.headers | headers, refusal.body)
