"""Asks for metrics as Prometheus does."""

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
    # Its default.
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}
# zlib's manual: the window bits that say it is a gzip file.
_GZIP = 16 + zlib.MAX_WBITS
_TOTALS_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Scrape:
    """One answer.

    Attributes:
        seconds: From the request to the last byte of the answer.
        compressed: The body as it came.
    """

    seconds: float
    compressed: bytes

    def body(self) -> str:
        """Return the body as text."""
        return gzip.decompress(self.compressed).decode()

    def total(self, state: str) -> int:
        """Return the number of exports in `state`, of all batches."""
        sample = rf'^cavatica_exports{{.*state="{state}"}} (\S+)$'
        # The totals come first.
        begin = zlib.decompressobj(_GZIP).decompress(self.compressed, _TOTALS_BYTES)
        found = re.findall(sample, begin.decode(errors="replace"), re.MULTILINE)
        return sum(int(float(value)) for value in found)


class Scraper:
    """Asks again and again; the exporter ends the connection after each answer."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(url).netloc)

    def status(self, path: str) -> int:
        """Return the status of the answer for `path`."""
        self._connection.request("GET", path)
        with self._connection.getresponse() as response:
            response.read()
            return response.status

    def scrape(self) -> Scrape:
        """Ask once for the metrics.

        Raises:
            RuntimeError: the answer is not 200.
        """
        return self._get("/metrics", _HEADERS)

    def page(self) -> float:
        """Return how many seconds the status page takes.

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
