"""Where the server listens: `HOST:PORT`, as in `--web.listen-address`."""

import ipaddress
import os
import re
import socket
from typing import Final

Address = tuple[str, int]
"""Host and port. The host is a name, an IP address without brackets, or empty for all addresses."""

_EVERY_ADDRESS: Final = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 # the user's choice
_MAX_PORT: Final = 65535
_PORT: Final = re.compile(r"[0-9]{1,5}")
_HOST: Final = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*")
_BACKLOG: Final = 512


def parse_listen_address(text: str) -> Address:
    """Parse `HOST:PORT`; `:10036` means port 10036 on all addresses, IPv4 and IPv6.

    Raises:
        ValueError: It is not valid; the text shows the valid forms.
    """
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        good = _is_ipv6(host)
    else:
        good = not host or bool(_HOST.fullmatch(host))
    if ":" in text and good and _PORT.fullmatch(port) and int(port) <= _MAX_PORT:
        return host, int(port)
    raise ValueError(
        f"not a valid listen address: {text!r} (use HOST:PORT such as :10036, 127.0.0.1:10036 or"
        f" [::1]:10036, with a port from 0 to {_MAX_PORT})"
    )


def url_of(scheme: str, address: Address) -> str:
    """Return the URL of an address for this machine, without a trailing slash."""
    host, port = address
    if host in _EVERY_ADDRESS:
        host = "localhost"
    return f"{scheme}://{_show((host, port))}"


def listen(address: Address) -> socket.socket:
    """Listen on an address.

    Raises:
        OSError: The system refuses it; the text names the address.
    """
    host, port = address
    try:
        if host in {"", "::"} and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
            )
        # IPv4 first, as users of `localhost` expect and as Go's exporters do.
        family, *_, found = min(
            socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            ),
            key=lambda each: each[0] != socket.AF_INET,
        )
        return socket.create_server(found, family=family, backlog=_BACKLOG)
    except OSError as error:
        # `create_server` adds text of its own. For an unknown name, the number is the resolver's.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror
        raise OSError(number, f"cannot listen on {_show(address)}: {reason}") from error


def _show(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
