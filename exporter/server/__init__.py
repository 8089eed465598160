"""The HTTP server: the standard library's, hardened for networks with untrusted clients.

It serves few clients with few requests. A silent, slow or malformed client occupies one thread for
some seconds and does not affect others: time, bytes and connections are limited, no address can
take all places, and each TLS handshake runs in its connection's own thread.

A connection carries one request (`Connection: close`). Scrapers come every 15 s or less often: a
new connection costs little, idle ones do not accumulate, and a renewed certificate takes effect at
the next scrape.
"""

from exporter.server.address import Address, parse_listen_address
from exporter.server.listener import Server

__all__ = ["Address", "Server", "parse_listen_address"]
