"""A simulated account whose exports are discovered, by a clock that is set by hand."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.cavatica.client import Client
from exporter.simulator import Simulator, serve
from exporter.tool.api import PacedApi
from exporter.tool.discover import BatchBy, Round, discover
from exporter.tool.ledger import Selection
from exporter.tool.state import state_number
from tests.support.fakes import FakeClock

DAY = 86400.0
TOKEN = "a-token"


class Account:
    """An account, and the directory into which its exports are discovered."""

    def __init__(self, simulator: Simulator, url: str, clock: FakeClock, directory: Path) -> None:
        """Start without a file."""
        self.simulator = simulator
        self.url = url
        self.clock = clock
        self.directory = directory
        self.progress: list[tuple[int, int]] = []
        client = Client(
            url,
            lambda: TOKEN,
            user_agent="test",
            observe=lambda _: None,
            destination_key=b"a key",
            monotonic=clock.monotonic,
        )
        self.api = PacedApi(client, quota_share=0.5, timeout=10.0, clock=clock, pause=clock.advance)

    def discover(
        self,
        *,
        volumes: tuple[str, ...] = (),
        since: float = 30 * DAY,
        keep: float = 30 * DAY,
        batch_by: BatchBy = "volume-day",
    ) -> Round:
        """Run a round."""
        return discover(
            self.api,
            self.directory,
            Selection(volumes, since, keep),
            batch_by=batch_by,
            clock=self.clock,
            progress=lambda *seen: self.progress.append(seen),
        )

    def ids(self) -> list[str]:
        """Return the IDs in all files, sorted, each as often as it is there."""
        return sorted(export_id for ids in self.batches().values() for export_id in ids)

    def batches(self) -> dict[str, list[str]]:
        """Return the IDs by batch."""
        batches: dict[str, list[str]] = {}
        for path in self.files():
            document: dict[str, Any] = json.loads(path.read_text())
            batches.setdefault(document["batch"], []).extend(document["export_ids"])
        return batches

    def files(self) -> list[Path]:
        """Return the batch files."""
        paths = sorted(self.directory.glob("discovered-*.json"))
        return [path for path in paths if state_number(path.name) is None]

    def signatures(self) -> dict[str, tuple[int, bytes]]:
        """Return inodes and contents, which show whether any file was written."""
        return {
            path.name: (path.stat().st_ino, path.read_bytes()) for path in self.directory.iterdir()
        }


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """Return an account without exports, and an empty directory."""
    clock = FakeClock()
    simulator = Simulator(token=TOKEN, clock=clock.time, seed=3)
    directory = tmp_path / "ids"
    directory.mkdir()
    with serve(simulator) as url:
        yield Account(simulator, url, clock, directory)
