"""The exporter's certificate while it is renewed, and while its files are damaged."""

import ssl
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Final

import trustme

_WEB_CONFIG: Final = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"


class Certificates:
    """The web configuration, its certificate and its key.

    Args:
        directory: Directory of these files.
        random: Chooses the edits.
        pause: Waits for a number of seconds.

    Attributes:
        authority: File of the authority that clients trust.
        web_config: File of the web configuration.
        count: Number of certificates so far.
    """

    def __init__(self, directory: Path, random: Random, pause: Callable[[float], object]) -> None:
        self._ca = trustme.CA()
        self._random = random
        self._pause = pause
        self._certificate = directory / "server.crt"
        self._key = directory / "server.key"
        self.authority = directory.parent / "ca.crt"
        self._ca.cert_pem.write_to_path(str(self.authority))
        self.web_config = directory / "web.yml"
        self.web_config.write_text(_WEB_CONFIG)
        self.count = 0
        self._newest = ""
        self.renew()

    def edit(self) -> None:
        """Renew the certificate, or damage a file: then the last good one stays in use."""
        if self._random.random() < 0.6:
            self.renew()
        else:
            path = self._random.choice([self._certificate, self._key, self.web_config])
            path.write_bytes(
                self._random.choice([b"", b"\0", b"-----BEGIN CERTIFICATE-----\n", b"{"])
            )

    def renew(self) -> None:
        """Write a new certificate and then its key: they do not match in between."""
        leaf = self._ca.issue_cert("127.0.0.1")
        self.web_config.write_text(_WEB_CONFIG)
        leaf.cert_chain_pems[0].write_to_path(str(self._certificate))
        self._pause(self._random.uniform(0, 0.5))
        leaf.private_key_pem.write_to_path(str(self._key))
        self.count += 1
        self._newest = leaf.cert_chain_pems[0].bytes().decode()

    def is_served(self, url: str) -> bool:
        """Return whether new connections get the newest certificate."""
        host, port = url.removeprefix("https://").split(":")
        return ssl.get_server_certificate((host, int(port))).split() == self._newest.split()
