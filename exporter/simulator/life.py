"""The life of a simulated export: drawn when it is submitted, then a function of the clock."""

import string
import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from exporter.simulator.answer import error

ID_ALPHABET = string.ascii_letters + string.digits

# Status, code, message, weight. Like the platform's messages, these contain names of buckets and
# files, which can hold patient identifiers: tests search the exporter's output for them.
_FAILURES = (
    (503, 9100, "The storage service was unavailable while copying {name}.", 2),
    (403, 9101, "The volume {volume} is read-only; {location} was not written.", 2),
    (403, 9102, "Insufficient privileges on the project of {name}.", 1),
    (403, 9103, "Access denied to the bucket of {volume} while writing {location}.", 6),
    (404, 9104, "The volume {volume} for {name} does not exist.", 1),
    (404, 9105, "The bucket of {volume} was not found; {location} was not written.", 2),
    (404, 9106, "The file {name} does not exist.", 1),
    (409, 9107, "{location} already exists on {volume} and must not be overwritten.", 4),
    (409, 9108, "A file {name} already exists.", 1),
    (404, 9109, "The file {name} is not accessible.", 1),
)
_WEIGHTS = tuple(weight for *_, weight in _FAILURES)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """The lifetimes of a simulator's exports.

    Attributes:
        pending: minimum and maximum time in the queue, in seconds.
        running: minimum and maximum time of copying, in seconds.
        failed_share: the share of exports that fail, 0 to 1.

    """

    pending: tuple[float, float] = (5.0, 60.0)
    running: tuple[float, float] = (60.0, 900.0)
    failed_share: float = 0.1


@dataclass(frozen=True, slots=True)
class Order:
    """The request of an export; the platform repeats it in every answer.

    Attributes:
        file: ID of the file to export.
        volume: destination, `<owner>/<volume>`.
        location: path on that volume.
        overwrite: whether a file at that path is replaced.
        properties: the volume service's options.
        copy_only: whether the platform keeps the file; otherwise it becomes an alias.

    """

    file: str
    volume: str
    location: str
    overwrite: bool = False
    properties: dict[str, object] | None = None
    copy_only: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """One export; its state at any time follows from the clock.

    Attributes:
        id: 32 letters and digits, like the documentation's IDs.
        order: its request.
        begins, ends: Unix times of the end of PENDING and of RUNNING.
        size: size of the file in bytes.
        failure: index in the list of failures, or None if it completes.

    """

    id: str
    order: Order
    begins: float
    ends: float
    size: int
    failure: int | None

    def state(self, now: float) -> str:
        """Return PENDING, RUNNING, COMPLETED or FAILED: the state at the Unix time `now`."""
        if now < self.begins:
            return "PENDING"
        if now < self.ends:
            return "RUNNING"
        return "COMPLETED" if self.failure is None else "FAILED"

    def render(self, now: float, base: str) -> dict[str, object]:
        """Return the export as the API shows it at the Unix time `now`; `base` is the API's URL.

        Keys whose value is not known yet are absent, as in the API page's example. Whether a
        PENDING export has `started_on` is not documented; here it has not.
        """
        order, state = self.order, self.state(now)
        export: dict[str, object] = {
            "href": f"{base}/storage/exports/{self.id}",
            "id": self.id,
            "state": state,
            "overwrite": order.overwrite,
            "source": {"file": order.file},
            "destination": {"volume": order.volume, "location": order.location},
            "properties": order.properties or {},
        }
        if state != "PENDING":
            export["started_on"] = _iso8601(self.begins)
        if state == "COMPLETED":
            export["result"] = self._result(base)
        if state == "FAILED" and self.failure is not None:
            status, code, message, _ = _FAILURES[self.failure]
            name = order.location.rpartition("/")[2]
            text = message.format(volume=order.volume, location=order.location, name=name)
            export["error"] = error(status, code, text)
        if now >= self.ends:
            export["finished_on"] = _iso8601(self.ends)
        return export

    def _result(self, base: str) -> dict[str, object]:
        order, finished_on = self.order, _iso8601(self.ends)
        return {
            "href": f"{base}/files/{order.file}",
            "id": order.file,
            "name": order.location.rpartition("/")[2],
            "size": self.size,
            "project": f"{order.volume.partition('/')[0]}/my-project",
            "created_on": finished_on,
            "modified_on": finished_on,
            "storage": {"type": "VOLUME", "volume": order.volume, "location": order.location},
            "origin": {},
            "tags": [],
            "metadata": {},
        }


def parse_order(item: Mapping[str, Any], *, copy_only: bool) -> Order | None:
    """Return the order in an item of the bulk create, or None if it is not valid."""
    try:
        order = Order(
            file=item["source"]["file"],
            volume=item["destination"]["volume"],
            location=item["destination"]["location"],
            overwrite=item.get("overwrite") is True,
            properties=item.get("properties"),
            copy_only=copy_only,
        )
    except (KeyError, TypeError):
        return None
    names = (order.file, order.volume, order.location)
    return order if all(isinstance(name, str) and name for name in names) else None


def draw_order(random: Random, volume: str) -> Order:
    """Draw a file to export to the volume."""
    sample = f"PT-{random.randrange(16**6):06X}"
    kind = random.choice(("tumor.cram", "normal.cram", "rna.fastq.gz", "germline.vcf.gz"))
    return Order(f"{random.randrange(16**24):024x}", volume, f"release/{sample}_{kind}")


def draw_life(random: Random, lifetimes: Lifetimes, order: Order, submitted: float) -> Life:
    """Draw the life of an export submitted at that Unix time."""
    begins = submitted + random.uniform(*lifetimes.pending)
    # The number of draws is constant, so that another share of failures changes no times or IDs.
    fails = random.random() < lifetimes.failed_share
    [failure] = random.choices(range(len(_FAILURES)), _WEIGHTS)
    return Life(
        id="".join(random.choices(ID_ALPHABET, k=32)),
        order=order,
        begins=begins,
        ends=begins + random.uniform(*lifetimes.running),
        size=int(random.lognormvariate(21.0, 1.5)),
        failure=failure if fails else None,
    )


def _iso8601(timestamp: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(timestamp))
