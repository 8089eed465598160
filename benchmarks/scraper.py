"""A client that requests metrics as Prometheus does."""

import gzip
import http.client
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

_HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0,"
    "application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
    "Accept-Encoding": "gzip",
    # Prometheus' default.
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
# The window bits with which zlib reads the gzip format, according to its manual.
_GZIP = 16 + zlib.MAX_WBITS
_TOTALS_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer.

    Attributes:
        seconds: Time from the request to the last byte of the answer.
        compressed: The body as it was received.
    """

    seconds: float
    compressed: bytes

    def body(self) -> str:
        """Return the body as text."""
        return gzip.decompress(self.compressed).decode()

    def total(self, state: str) -> int:
        """Return the number of exports in `state`, in all batches."""
        sample = rf'^cavatica_exports{{.*state="{state}"}} (\S+)$'
        # The totals are at the begin of the body.
        begin = zlib.decompressobj(_GZIP).decompress(self.compressed, _TOTALS_BYTES)
        found = re.findall(sample, begin.decode(errors="replace"), re.MULTILINE)
        return sum(int(float(value)) for value in found)


class Scraper:
    """Requests pages one after the other; the exporter closes the connection after each answer."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def status(self, path: str) -> int:
        """Return the status of the answer for `path`."""
        self._connection.request("GET", path)
        with self._connection.getresponse() as response:
            response.read()
            return response.status

    def wait_until_ready(self) -> None:
        """Wait for the first 200 of `/-/ready`."""
        while self.status("/-/ready") != http.client.OK:
            time.sleep(0.005)

    def scrape(self) -> Scrape:
        """Request the metrics once.

        Raises:
            RuntimeError: the answer is not 200.
        """
        return self._get("/metrics", _HEADERS)

    def page(self) -> float:
        """Request the status page; return the seconds that it took.

        Raises:
            RuntimeError: the answer is not 200.
        """
        return self._get("/", {}).seconds

    def _get(self, path: str, headers: Mapping[str, str]) -> Scrape:
        began = time.perf_counter()
        self._connection.request("GET", path, headers=headers)
        with self._connection.getresponse() as response:
            body = response.read()
        seconds = time.perf_counter() - began
        if response.status != http.client.OK:
            raise RuntimeError(f"{path} answers {response.status}")
        return Scrape(seconds, body)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
