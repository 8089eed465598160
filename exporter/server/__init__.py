"""The HTTP server: the standard library's, made fit for networks that others can reach.

It serves few clients that ask seldom. Clients that are silent, slow or send nonsense cost a thread
for some seconds and nobody else notices: time, bytes and connections are limited, one address
cannot take all places, and a TLS handshake runs in the connection's own thread.

A connection carries one request (`Connection: close`). A scraper comes once in 15 s or more: a new
connection costs it nothing, no idle ones pile up, and new certificates hold from the next scrape.
"""

from exporter.server.address import Address, parse_listen_address
from exporter.server.listener import Server

__all__ = ["Address", "Server", "parse_listen_address"]
