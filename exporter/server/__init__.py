"""The HTTP server: the standard library's, made fit for networks where others connect too.

It serves few clients that ask seldom. Whoever is silent, slow or talks nonsense costs a thread for
some seconds, and nobody else notices: what a client may take, in time and in bytes, is bounded, and
a TLS handshake is made in the connection's own thread.

A connection carries one request (`Connection: close`). A scraper comes once in 15 s or more: a new
connection costs it nothing, no idle ones pile up, and new certificates hold from the next scrape.
"""

from exporter.server.address import Address, parse_listen_address
from exporter.server.listener import Server

__all__ = ["Address", "Server", "parse_listen_address"]
