"""Two discover in one directory by accident, such as a timer and a sidecar."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.simulator import Fault, Simulator, serve
from exporter.watchlist.loader import WatchlistLoader
from tests.support.exporter_process import environment
from tests.support.waits import PATIENCE

TOKEN = "a-token"
TOLD = "another discover is running there"
CHANGED = "another discover writes into the same directory"


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--volume=me/b",)], ids=["same flags", "other flags"])
def test_both_are_told_and_nothing_is_lost(flags: tuple[str, ...], tmp_path: Path) -> None:
    """A round fails while another one runs; what either found is in whole files, once."""
    simulator = Simulator(token=TOKEN, rate_limit=100_000)
    directory = tmp_path / "ids"
    directory.mkdir()
    expected = {*simulator.start(150, volume="me/a", ago=3600)}
    logs = [tmp_path / "one.log", tmp_path / "other.log"]

    def find_until(is_told: Callable[[list[str]], bool]) -> None:
        """Start exports until the logs say something; the files are whole all the time."""
        ends = time.monotonic() + PATIENCE
        while not is_told([log.read_text() for log in logs]):
            assert time.monotonic() < ends
            expected.update(simulator.start(1, volume="me/b"))
            for _ in range(20):
                watchlist = WatchlistLoader(directory, time.time).load()
                assert (watchlist.errors, watchlist.duplicates) == ((), 0)
                time.sleep(0.02)

    with serve(simulator) as url:
        command = [sys.executable, "-m", "exporter.tool", "discover", f"--to={directory}"]
        variables = environment(SB_AUTH_TOKEN=TOKEN, SB_API_ENDPOINT=url)
        processes = []
        # Of two equal intervals, one process would always be first.
        for log, own in zip(logs, (("--every=800ms",), ("--every=1s", *flags)), strict=True):
            with log.open("wb") as stderr:
                arguments = [*command, *own]
                processes.append(subprocess.Popen(arguments, env=variables, stderr=stderr))
        try:
            word = CHANGED if flags else "Exports discovered"
            find_until(lambda texts: all(word in text for text in texts))
            # Now every round lasts until the other process begins one.
            simulator.fault = Fault(delay=1.5)
            find_until(lambda texts: any(TOLD in text for text in texts))
            simulator.fault = None
        finally:
            for process in processes:
                process.terminate()
            statuses = [process.wait(PATIENCE) for process in processes]
        assert statuses == [0, 0]
        subprocess.run(command, env=variables, check=True, capture_output=True)
    watchlist = WatchlistLoader(directory, time.time).load()
    assert {each for ids in watchlist.batches.values() for each in ids} == expected
