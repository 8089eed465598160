"""Clients of the exporter's port: scrapers, and others."""

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
from tests.system.soak.pages import Judge, Moment, read

OPENMETRICS: Final = "application/openmetrics-text"

# Beyond a scraper's own deadline, for a machine that is busy with other things as well.
_LATE_SECONDS: Final = 0.25
_PATIENCE: Final = 10.0
_SILENCE_SECONDS: Final = 0.5
# Pages that ask the API nothing.
_PAGE_SECONDS: Final = 1.0
_PATHS: Final = ("/", "/-/healthy", "/-/ready")


@dataclass(slots=True)
class Scraper:
    """Scrapes as Prometheus does, and looks at what it gets.

    Attributes:
        url: Of the metrics.
        authority: The file of the authority that the exporter's certificate is of.
        timeout: Seconds that it says it waits.
        openmetrics, gzip: What it asks for.
        judge: Knows what must hold.
        findings: Takes what does not.
        took: How long each scrape took, in seconds.
    """

    url: str
    authority: Path
    timeout: float
    openmetrics: bool
    gzip: bool
    judge: Judge
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
        for problem in self.judge.problems(page, began, ended):
            self.findings.add(problem)


@dataclass(slots=True)
class Visitor:
    """Looks at the other pages, and sends what is no request; both cost the scrapers nothing.

    Attributes:
        url: Of the exporter.
        authority: The file of the authority that the exporter's certificate is of.
        random: Draws what it does.
        findings: Takes what is wrong.
    """

    url: str
    authority: Path
    random: Random
    findings: Findings

    def visit(self) -> None:
        """Do one thing."""
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
        """Send random bytes, behind what looks like a request or not."""
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
            # The exporter may wait for more: TLS has no half of a connection to close.
            client.settimeout(_SILENCE_SECONDS)
            answer = b""
            with suppress(TimeoutError, ConnectionError):
                while data := client.recv(65536):
                    answer += data
        self.findings.search("an answer to random bytes", answer)
        if answer and answer[9:10] != b"4" and answer[9:12] != b"505" and answer[9:12] != b"200":
            self.findings.add(f"random bytes were answered: {answer!r}")

    def _hang(self) -> None:
        """Keep the exporter waiting for the rest of a request."""
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
