"""Removal of the token from everything that the server sends."""

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
