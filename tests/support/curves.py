"""Elliptic curves that this Python's TLS can choose: newer versions can choose more."""

import ssl

import pytest


def needs_curve(curve: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test if this Python cannot choose a curve for its client."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ecdh_curve(curve)
    except (ValueError, ssl.SSLError):
        can_choose = False
    else:
        can_choose = True
    return pytest.mark.skipif(not can_choose, reason=f"this Python cannot choose {curve}")
