"""The HTTP server: WSGI over plain or TLS sockets, a thread for each connection.

It is made for few clients that ask seldom, in networks where others connect too: whoever is
silent, slow or talks nonsense costs a thread for some seconds, and nobody else notices.

A connection carries one request (`Connection: close`). A scraper comes once in 15 s or more: a new
connection costs it nothing, no idle ones pile up, and new certificates hold from the next scrape.
"""

from exporter.server.listener import Address, Server, parse_listen_address

__all__ = ["Address", "Server", "parse_listen_address"]
