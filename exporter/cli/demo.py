"""The demo: a simulated CAVATICA in the process, ID files of three batches, and discovery."""

import contextlib
import json
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from exporter import background
from exporter.cavatica.answer import ApiError
from exporter.cavatica.client import Client
from exporter.clock import SystemClock
from exporter.simulator import Lifetimes, Simulator, serve
from exporter.tool.api import PacedApi
from exporter.tool.discover import discover
from exporter.tool.ledger import LedgerError, Selection

_TOKEN = "demo"  # noqa: S105 # the simulator's
_DAY_SECONDS = 86400.0
_QUICK = Lifetimes(pending=(10, 120), running=(20, 300), failed_share=0.12)
_FAILED = replace(_QUICK, failed_share=1.0)
_SLOW = Lifetimes(pending=(30, 900), running=(300, 3600), failed_share=0.05)
# Exports to this volume are in no ID file: discovery finds them.
_DISCOVERED_VOLUME = "demo/discovered"
#: Seconds between two rounds of discovery.
DISCOVERY_SECONDS: Final = 30.0
# A file that was exported before, twice, and a volume in another region.
_REFUSALS = {"exported-before": 9006, "archived": 9006, "elsewhere": 9027}


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
    """Run the simulated CAVATICA on loopback; remove its ID files at the end."""
    simulator = Simulator(token=_TOKEN)
    with tempfile.TemporaryDirectory(prefix="cavatica-demo-") as name, serve(simulator) as url:
        directory = Path(name)
        _write_batches(simulator, directory)
        with _discovery(simulator, url, directory):
            yield Demo(url, _TOKEN, directory)


def _write_batches(simulator: Simulator, directory: Path) -> None:
    """Write one batch in each form that an ID file can have."""
    # A saved answer: some files were refused at the start, and have no ID.
    # Two have failed already, so that the first alert fires soon.
    quick = simulator.start(2, volume="demo/lung-results", ago=600.0, lifetimes=_FAILED)
    quick += simulator.start(58, volume="demo/lung-results", lifetimes=_QUICK)
    items: list[object] = [{"resource": simulator.export(export_id)} for export_id in quick]
    for file, code in _REFUSALS.items():
        simulator.refuse(file, code)
    items += simulator.create(
        [
            {
                "source": {"file": file},
                "destination": {"volume": "demo/lung-results", "location": file},
            }
            for file in _REFUSALS
        ]
    )
    answer = json.dumps({"items": items}, indent=2)
    (directory / "lung-cohort.json").write_text(answer, encoding="utf-8")

    slow = simulator.start(80, volume="demo/trio-results", lifetimes=_SLOW)
    (directory / "trios.yml").write_text("".join(f"- {export_id}\n" for export_id in slow))

    # Finished long ago. One failure is acknowledged, and one export belongs to another account.
    days = 3 * _DAY_SECONDS
    past = simulator.start(36, volume="demo/archive", ago=days, lifetimes=_QUICK)
    past += simulator.start(4, volume="demo/archive", ago=days, lifetimes=_FAILED)
    failed = [i for i in past if simulator.export(i)["state"] == "FAILED"]
    lines = ["batch: archive-2024", "export_ids:", *(f"  - {export_id}" for export_id in past)]
    lines += [f"  - {simulator.start(1, of_others=True)[0]}", "acknowledged:"]
    lines += [f"  - {export_id}" for export_id in failed[:1]]
    (directory / "archive.yml").write_text("\n".join(lines) + "\n")


@contextlib.contextmanager
def _discovery(simulator: Simulator, url: str, directory: Path) -> Iterator[None]:
    """Start an export from time to time, and let discovery find it."""
    stop = threading.Event()
    clock = SystemClock()
    client = Client(
        url,
        lambda: _TOKEN,
        user_agent="cavatica-exports",
        observe=lambda _: None,
        monotonic=clock.monotonic,
    )
    api = PacedApi(client, quota_share=0.5, timeout=5.0, clock=clock, pause=stop.wait)
    selection = Selection((_DISCOVERED_VOLUME,), since=0, keep=30 * _DAY_SECONDS)

    def one_round() -> None:
        simulator.start(1, volume=_DISCOVERED_VOLUME, lifetimes=_QUICK)
        # The simulation may end before the thread does.
        with contextlib.suppress(ApiError, LedgerError):
            discover(
                api,
                directory,
                selection,
                batch_by="volume-day",
                clock=clock,
                progress=lambda *_: None,
            )

    def rounds() -> None:
        while not stop.wait(DISCOVERY_SECONDS):
            one_round()

    simulator.start(11, volume=_DISCOVERED_VOLUME, lifetimes=_QUICK)
    one_round()
    thread = background.start(rounds, "discovery")
    try:
        yield
    finally:
        stop.set()
        thread.result()
