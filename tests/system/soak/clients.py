"""Clients of the exporter: scrapers, and clients that request other pages or send garbage."""

import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import requests

from tests.support.timing import is_within
from tests.system.soak.findings import Findings
from tests.system.soak.pages import Moment, PageChecker, read

OPENMETRICS: Final = "application/openmetrics-text"

# Tolerance beyond a scraper's deadline, for a busy machine.
_LATE_SECONDS: Final = 0.25
_PATIENCE: Final = 10.0
_SILENCE_SECONDS: Final = 0.5
# For pages that make no call of the API.
_PAGE_SECONDS: Final = 1.0
_PATHS: Final = ("/", "/-/healthy", "/-/ready")


@dataclass(slots=True)
class Scraper:
    """Scrapes as Prometheus does, and checks the answers.

    Attributes:
        url: URL of the metrics.
        authority: File of the authority that signed the exporter's certificate.
        timeout: Scrape timeout that it sends, in seconds.
        openmetrics, gzip: Format and encoding that it requests.
        checker: Checks the pages.
        findings: Records problems.
        took: Duration of each scrape, in seconds.
    """

    url: str
    authority: Path
    timeout: float
    openmetrics: bool
    gzip: bool
    checker: PageChecker
    findings: Findings
    took: list[float] = field(default_factory=list)

    def scrape(self) -> None:
        """Scrape once."""
        began = Moment.now()
        answer = _get(
            self.url,
            self.authority,
            {
                "Accept": f"{OPENMETRICS};version=1.0.0" if self.openmetrics else "text/plain",
                "Accept-Encoding": "gzip" if self.gzip else "identity",
                "X-Prometheus-Scrape-Timeout-Seconds": f"{self.timeout:g}",
            },
        )
        ended = Moment.now()
        took = ended.monotonic - began.monotonic
        self.took.append(took)
        if not is_within(took, self.timeout + _LATE_SECONDS):
            self.findings.add(f"a scrape of {self.timeout:g} s took {took:.2f} s")
        self.findings.search("a page of metrics", _all_of(answer))
        is_openmetrics = answer.headers.get("Content-Type", "").startswith(OPENMETRICS)
        is_gzip = answer.headers.get("Content-Encoding") == "gzip"
        if (answer.status_code, is_openmetrics, is_gzip) != (200, self.openmetrics, self.gzip):
            self.findings.add(f"not what was asked for: {answer.status_code} {answer.headers}")
            return
        page = read(answer.text, is_openmetrics=is_openmetrics)
        for problem in self.checker.problems(page, began, ended):
            self.findings.add(problem)


@dataclass(slots=True)
class Visitor:
    """Requests other pages and sends invalid requests, neither of which may delay the scrapers.

    Attributes:
        url: URL of the exporter.
        authority: File of the authority that signed the exporter's certificate.
        random: Chooses the requests.
        findings: Records problems.
    """

    url: str
    authority: Path
    random: Random
    findings: Findings

    def visit(self) -> None:
        """Send one request, valid or not."""
        self.random.choice([self._look, self._look, self._send, self._hang])()

    def _look(self) -> None:
        began = time.monotonic()
        path = self.random.choice(_PATHS)
        answer = _get(self.url + path, self.authority, {})
        took = time.monotonic() - began
        self.findings.search(path, _all_of(answer))
        if answer.status_code != 200 or not is_within(took, _PAGE_SECONDS):
            self.findings.add(f"{path} was {answer.status_code} after {took:.2f} s")

    def _send(self) -> None:
        """Send random bytes, with or without the begin of a request before them."""
        begin = self.random.choice(
            [
                b"",
                b"GET ",
                b"GET / HTTP/1.1\r\n",
                b"POST /metrics HTTP/1.0\r\n\r\n",
                b"\x16\x03\x01",
            ]
        )
        with self._connect() as client:
            client.sendall(begin + self.random.randbytes(self.random.randrange(200)))
            # The exporter may wait for more bytes: TLS cannot close one direction only.
            client.settimeout(_SILENCE_SECONDS)
            answer = b""
            with suppress(TimeoutError, ConnectionError):
                while data := client.recv(65536):
                    answer += data
        self.findings.search("an answer to random bytes", answer)
        if answer and answer[9:10] != b"4" and answer[9:12] != b"505" and answer[9:12] != b"200":
            self.findings.add(f"random bytes were answered: {answer!r}")

    def _hang(self) -> None:
        """Send the begin of a request, and let the exporter wait for the rest."""
        with self.random.choice([self._connect, self._reach])() as client:
            client.sendall(b"GET /metrics HT")
            time.sleep(self.random.uniform(0, 1))

    def _connect(self) -> socket.socket:
        context = ssl.create_default_context(cafile=self.authority)
        return context.wrap_socket(self._reach(), server_hostname="127.0.0.1")

    def _reach(self) -> socket.socket:
        """Return a connection without TLS."""
        host, port = self.url.removeprefix("https://").split(":")
        return socket.create_connection((host, int(port)), _PATIENCE)


def _get(url: str, authority: Path, headers: Mapping[str, str]) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.get(url, headers=headers, timeout=_PATIENCE, verify=str(authority))


def _all_of(answer: requests.Response) -> bytes:
    return repr(answer.headers).encode() + answer.content
