"""Curves that Python's TLS can select: newer versions of Python support more."""

import ssl

import pytest


def needs_curve(curve: str) -> pytest.MarkDecorator:
    """Skip a test whose client must have a curve that this Python cannot choose."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ecdh_curve(curve)
    except (ValueError, ssl.SSLError):
        can_choose = False
    else:
        can_choose = True
    return pytest.mark.skipif(not can_choose, reason=f"this Python cannot choose {curve}")
