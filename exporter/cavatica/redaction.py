"""The token in texts of others: removed from answers of the server, found in ID files."""

import re

# Shorter tokens are not secrets, and occur in ordinary words.
_SHORTEST_SECRET = 8


class Redactor:
    """Removes a token from texts, ignoring case."""

    def __init__(self, token: str) -> None:
        self._token = token.lower().encode()
        self._is_secret = len(token) >= _SHORTEST_SECRET
        self._pattern = re.compile(re.escape(token), re.IGNORECASE)

    def is_needed(self, document: bytes) -> bool:
        """Return whether a JSON document may contain the token; escapes could hide it."""
        return self._is_secret and (b"\\" in document or self._token in document.lower())

    def redact(self, text: str) -> str:
        """Return the text without the token."""
        return self._pattern.sub("[token]", text)


def find_token(document: bytes, token: str) -> int | None:
    """Return the line, from 1, in which a document contains the token, ignoring case, or None."""
    if len(token) < _SHORTEST_SECRET or (at := document.lower().find(token.lower().encode())) < 0:
        return None
    return document.count(b"\n", 0, at) + 1
