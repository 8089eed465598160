"""Checks that the use of memory, threads and descriptors of the exporter does not grow."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.exporter_process import RunningExporter
from tests.system.soak.findings import Findings

# Idle connections in the client's pool.
_POOL: Final = 4


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """Resources that a process uses: bytes of resident memory, threads, file descriptors."""

    resident: int
    threads: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "ResourceUse":
        """Return the process's current use of resources."""
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
        status = dict(line.split(":\t") for line in lines if ":\t" in line)
        descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
        return cls(int(status["VmRSS"].split()[0]) * 1024, int(status["Threads"]), descriptors)


def measure_at_rest(running: RunningExporter) -> ResourceUse:
    """Return the minimum use of resources while the exporter is idle."""
    # Scrape once, so that all files are loaded; they do not change during the measurement.
    running.scrape()
    assert running.process is not None
    uses = []
    for _ in range(20):
        time.sleep(0.1)
        uses.append(ResourceUse.of(running.process.pid))
    return ResourceUse(
        min(use.resident for use in uses),
        min(use.threads for use in uses),
        min(use.descriptors for use in uses),
    )


def compare(uses: Sequence[ResourceUse], growth: int, findings: Findings) -> None:
    """Record a problem if the use grows: after a warm-up of a fifth, between the two halves."""
    warm = uses[len(uses) // 5 :]
    first, last = warm[: len(warm) // 2], warm[len(warm) // 2 :]
    memory = [statistics.median(use.resident for use in half) for half in (first, last)]
    if memory[1] > memory[0] + growth:
        findings.add("the process's memory grows")
    if max(use.threads for use in last) > max(use.threads for use in first):
        findings.add("the process's threads grow")
    if max(use.descriptors for use in last) > max(use.descriptors for use in first) + _POOL:
        findings.add("the process's descriptors grow")
