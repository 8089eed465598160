"""The token, cut out of whatever the other side sends."""

import re

# Shorter ones are no secrets, and parts of common words.
_SHORTEST_SECRET = 8


class Redactor:
    """Cuts a token out of texts, in any case of its letters."""

    def __init__(self, token: str) -> None:
        self._token = token.lower().encode()
        self._is_secret = len(token) >= _SHORTEST_SECRET
        self._pattern = re.compile(re.escape(token), re.IGNORECASE)

    def is_needed(self, document: bytes) -> bool:
        """Return whether the token may be in a JSON document; one with escapes may hide it."""
        return self._is_secret and (b"\\" in document or self._token in document.lower())

    def redact(self, text: str) -> str:
        """Return the text without the token."""
        return self._pattern.sub("[token]", text)
