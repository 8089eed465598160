"""The demo: a simulated CAVATICA in the process, and ID files of three batches."""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter.simulator import Lifetimes, Simulator, serve

_TOKEN = "demo"  # noqa: S105 # the simulator's
_DAY_SECONDS = 86400.0
_QUICK = Lifetimes(pending=(10, 120), running=(20, 300), failed_share=0.12)
_SLOW = Lifetimes(pending=(30, 900), running=(300, 3600), failed_share=0.05)


@dataclass(frozen=True, slots=True)
class Demo:
    """What the exporter needs to watch the simulated CAVATICA.

    Attributes:
        url: Base URL of its API.
        token: Its token.
        exports: The directory with the ID files.
    """

    url: str
    token: str
    exports: Path


@contextlib.contextmanager
def run_demo() -> Iterator[Demo]:
    """Run the simulated CAVATICA on loopback; its ID files go away with it."""
    simulator = Simulator(token=_TOKEN)
    with tempfile.TemporaryDirectory(prefix="cavatica-demo-") as name, serve(simulator) as url:
        directory = Path(name)
        _write_batches(simulator, directory)
        yield Demo(url, _TOKEN, directory)


def _write_batches(simulator: Simulator, directory: Path) -> None:
    """Write one batch in each form that an ID file can have."""
    quick = simulator.start(60, volume="demo/lung-results", lifetimes=_QUICK)
    answer = {"items": [{"resource": simulator.export(export_id)} for export_id in quick]}
    (directory / "lung-cohort.json").write_text(json.dumps(answer, indent=2))

    slow = simulator.start(80, volume="demo/trio-results", lifetimes=_SLOW)
    (directory / "trios.yml").write_text("".join(f"- {export_id}\n" for export_id in slow))

    # Long over. One failure was dealt with, and the API does not know one ID (any more).
    past = simulator.start(40, volume="demo/archive", ago=3 * _DAY_SECONDS, lifetimes=_QUICK)
    failed = [i for i in past if simulator.export(i)["state"] == "FAILED"]
    lines = ["batch: archive-2024", "export_ids:", *(f"  - {export_id}" for export_id in past)]
    lines += ["  - an-export-of-another-account", "acknowledged:"]
    lines += [f"  - {export_id}" for export_id in failed[:1]]
    (directory / "archive.yml").write_text("\n".join(lines) + "\n")
