"""The programs that the tests of deploy/ run; `make deploy-test` provides them."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from exporter.tool.command import make_group

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DIRECTORY = ROOT / ".deploy-tools"
"""The directory into which `scripts/get-deploy-tools` puts them."""

SECONDS = 300.0
"""Timeout of a program: on a busy machine an image takes a minute or two."""


def require_tool(name: str) -> Path:
    """Return the path of a program in `DIRECTORY`; skip the running test if it is missing."""
    path = DIRECTORY / "bin" / name
    if not path.exists():
        pytest.skip(f"not here: {name} (see scripts/get-deploy-tools)")
    return path


def require_base() -> Path:
    """Return the root file system of Debian as a tar archive; skip without it or without root."""
    path = DIRECTORY / "base.tar"
    if not path.exists():
        pytest.skip("not here: a root file system (see scripts/get-deploy-tools)")
    if os.geteuid() != 0:
        pytest.skip("needs root: a root file system is entered by chroot")
    return path


def run(
    command: Sequence[str | Path],
    *,
    directory: Path = ROOT,
    stdin: str | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with any exit code; its output is captured as text."""
    return subprocess.run(
        command,
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def run_tool(
    name: str, *arguments: str | Path, directory: Path = ROOT, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run one of the programs to its end; skip the running test if it is missing."""
    return run([require_tool(name), *arguments], directory=directory, stdin=stdin)


def check(done: subprocess.CompletedProcess[str]) -> str:
    """Return the standard output of a program; if it failed, fail with all of its output."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parse_discover(arguments: Sequence[str], directory: str, existing: Path) -> dict[str, object]:
    """Return the flags of a command line of `discover`.

    The parser demands a directory that exists, so `existing` replaces `directory`.
    """
    assert arguments[0] == "discover"
    assert any(directory in each for each in arguments)
    found = [each.replace(directory, str(existing)) for each in arguments[1:]]
    return make_group().commands["discover"].make_context("discover", found).params
