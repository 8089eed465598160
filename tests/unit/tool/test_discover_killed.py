"""Discovery that is killed at any step of its work: no half file, and nothing is lost."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from exporter.simulator import Lifetimes, Simulator, serve
from exporter.watchlist.loader import WatchlistLoader

TOKEN = "a-token"
DAY = 86400.0
COMPLETED = Lifetimes(pending=(0, 1), running=(1, 2), failed_share=0)

# Its state takes several files.
PROGRAM = """
from exporter.tool import state
from exporter.tool.command import main

state.MAX_EXPORTS_PER_FILE = 80
"""
# Runs the program in a child that ends itself with SIGKILL before the step with this number: before
# a file of the directory is opened, renamed or removed.
DRIVER = """
import os, signal, sys

directory = sys.argv[1]
for line in sys.stdin:
    step = int(line)
    child = os.fork()
    if child == 0:
        seen = 0
        def hook(event, arguments):
            global seen
            if event not in ("open", "os.rename", "os.remove"):
                return
            seen += str(arguments[0]).startswith(directory)
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        main(["discover", "--to", directory, "--keep", "5d", "--since", "5d"])
    _, status = os.waitpid(child, 0)
    print(status, flush=True)
"""


@pytest.fixture
def simulator() -> Simulator:
    """Return an account by the machine's clock."""
    return Simulator(token=TOKEN)


def discovered(directory: Path) -> set[str]:
    """Return the IDs in all files; every file is whole."""
    watchlist = WatchlistLoader(directory, time.time).load()
    assert watchlist.errors == ()
    assert watchlist.rejected == 0
    return {export_id for ids in watchlist.batches.values() for export_id in ids}


@pytest.mark.slow
def test_killed_at_every_step(
    simulator: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A round that is killed at any step loses nothing and leaves no partial file."""
    old = simulator.start(3, volume="me/old", ago=6 * DAY, lifetimes=COMPLETED)
    kept = simulator.start(120, volume="me/a", ago=DAY, lifetimes=COMPLETED)
    directory, before = tmp_path / "ids", tmp_path / "before"
    directory.mkdir()
    with serve(simulator) as url:
        monkeypatch.setenv("SB_AUTH_TOKEN", TOKEN)
        monkeypatch.setenv("SB_API_ENDPOINT", url)
        program = [sys.executable, "-c", f"{PROGRAM}main()"]
        # Found at a time when even the oldest ones were kept.
        subprocess.run(
            [*program, "discover", "--to", str(directory), "--keep", "9d", "--since", "9d"],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        assert discovered(directory) == {*old, *kept}
        # So it reads everything again, and drops the old ones.
        _age(directory / "discovered-state.json")
        new = simulator.start(2, volume="me/a") + simulator.start(2, volume="me/b")
        shutil.copytree(directory, before)
        steps = 0
        with subprocess.Popen(
            [sys.executable, "-c", PROGRAM + DRIVER, str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as driver:
            assert driver.stdin is not None
            assert driver.stdout is not None
            killed = True
            while killed:
                shutil.rmtree(directory)
                shutil.copytree(before, directory)
                steps += 1
                driver.stdin.write(f"{steps}\n")
                driver.stdin.flush()
                lines: list[str] = []
                while not (lines and lines[-1].strip().isdigit()):
                    lines.append(driver.stdout.readline())
                killed = lines[-1].strip() == "9"
                # At once: no half file, and what was there is there, but what was to be dropped.
                assert {*kept} <= discovered(directory) <= {*old, *kept, *new}
                subprocess.run(
                    [*program, "discover", "--to", str(directory), "--keep", "5d", "--since", "5d"],
                    check=True,
                    stdout=subprocess.DEVNULL,
                )
                # The next round makes it whole, and leaves nothing behind.
                assert discovered(directory) == {*kept, *new}
                assert not [path for path in directory.iterdir() if path.name.startswith(".")]
            driver.stdin.close()
    # Reading, two state files, two batches that are written, one that is removed.
    assert steps > 14


def _age(path: Path) -> None:
    """Make the state that of another selection, whose last pass was two days ago."""
    document = json.loads(path.read_text())
    document["discover"]["selection"] |= {"keep": 5 * DAY, "since": 5 * DAY}
    document["discover"]["verified"] -= 2 * DAY
    path.write_text(json.dumps(document))
