"""A request as the simulated platform received it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from exporter.simulator.answer import Refused

Environ = dict[str, Any]
_CONTENT = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        method: GET, POST, ...
        path: beginning with `/v2`, decoded.
        query: the part behind `?`, as sent.
        headers: by lowercase name. Not in `repr`: they include the token.
        body: as sent.
        base: the API's URL as written by the client, without a path.

    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes
    base: str = field(repr=False)

    @classmethod
    def of(cls, environ: Environ) -> "Request":
        """Parse the request from the WSGI environment."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        headers = {
            name[5:].replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_")
        }
        headers |= {name: environ[key] for key, name in _CONTENT.items() if environ.get(key)}
        host = headers.get("host") or f"{environ['SERVER_NAME']}:{environ['SERVER_PORT']}"
        return cls(
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"],
            query=environ.get("QUERY_STRING", ""),
            headers=headers,
            body=environ["wsgi.input"].read(length),
            base=f"{environ['wsgi.url_scheme']}://{host}",
        )

    @property
    def export_ids(self) -> tuple[str, ...]:
        """The IDs of a bulk get, in order; empty for any other request."""
        try:
            return tuple(self.bulk("export_ids", str))
        except Refused:
            return ()

    def bulk(self, key: str, kind: type) -> list[Any]:
        """Return the list under the key of the JSON body: 1 to 100 members of one kind.

        Raises:
            Refused: 400, when the body is anything else.

        """
        try:
            members = json.loads(self.body)[key]
        except (ValueError, RecursionError, KeyError, TypeError, IndexError):
            raise Refused(400, 90000, f"The body must be a JSON object with {key}.") from None
        if not isinstance(members, list) or not all(isinstance(one, kind) for one in members):
            raise Refused(400, 90000, f"{key} must be a list of the right kind.")
        # The official client's manual states this limit for all bulk calls.
        if not 1 <= len(members) <= 100:  # noqa: PLR2004 - named in the message
            raise Refused(400, 90000, f"{key} must have 1 to 100 members.")
        return members

    def parameter(self, name: str) -> str | None:
        """Return the query parameter, or None if it is missing or empty."""
        return parse_qs(self.query).get(name, [None])[0]
