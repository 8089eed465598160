"""Manual pages and shell completion, generated from the flags: read by mandoc and bash."""

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from scripts.man_pages import COMMANDS, page
from tests.support.deploy_tools import check, run
from tests.support.waits import PATIENCE

BIN = Path(sys.executable).parent


def mandoc(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run mandoc on a page; skip the test if mandoc is not installed."""
    if not shutil.which("mandoc"):
        pytest.skip("not here: mandoc (apt-get install mandoc)")
    return run(["mandoc", *arguments], stdin=text)


@pytest.mark.deploy
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_mandoc_finds_no_problem(command: click.Command) -> None:
    """A page has no error and no warning of mandoc, and no remark on style."""
    done = mandoc(page(command), "-T", "lint", "-W", "style")
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_no_line_is_indented(command: click.Command) -> None:
    """Pages have no indentation of docstrings, which Python keeps before version 3.13."""
    assert re.findall(r"^ .*|.*   .*", page(command), re.MULTILINE) == []


@pytest.mark.deploy
@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_page_shows_every_flag(command: click.Command) -> None:
    """Every flag is on the page, with its help text."""
    printed = re.sub(r".\x08", "", check(mandoc(page(command), "-T", "ascii", "-O", "width=1000")))
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    for parameter in (each for child in commands for each in child.params):
        assert isinstance(parameter, click.Option)
        assert re.search(rf"^ +(?:-\w, )?{re.escape(parameter.opts[-1])}\b", printed, re.MULTILINE)
        assert " ".join((parameter.help or "").split()) in " ".join(printed.split())


@pytest.mark.deploy
def test_mandoc_finds_a_wrong_macro() -> None:
    """A macro that does not exist is an error."""
    done = mandoc(page(COMMANDS[0]).replace(".TP", ".TPX"), "-T", "lint")
    assert "unknown macro" in done.stdout


def type_in_bash(program: str, keys: str, expected: str, directory: Path) -> str:
    """Type keys into bash; return its output as soon as it has the expected text, or in the end."""
    variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
    script = run(["env", f"{variable}=bash_source", BIN / program])
    (directory / "completion").write_text(check(script))
    master, slave = pty.openpty()
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
    with subprocess.Popen(
        ["bash", "--norc", "--noprofile", "-i"],  # noqa: S607 # bash on PATH
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=directory,
        env=environment,
        start_new_session=True,
    ) as shell:
        try:
            os.write(master, b"source ./completion; bind 'set bell-style none'\n" + keys.encode())
            shown, end = "", time.monotonic() + PATIENCE
            while expected not in shown and time.monotonic() < end:
                if select.select([master], [], [], 0.1)[0]:
                    shown += os.read(master, 4096).decode()
        finally:
            shell.kill()
            os.close(master)
            os.close(slave)
    return shown


@pytest.mark.slow
@pytest.mark.parametrize(
    ("program", "typed", "completed"),
    [
        ("cavatica-exporter", "--api.tok\t", "--api.token-file "),
        ("cavatica-exporter", "--api.token-file my-t\t", "my-token "),
        ("cavatica-exports", "discover --to my-d\t", "my-directory/"),
        ("cavatica-exports", "disc\t", "discover "),
    ],
)
def test_bash_completes(program: str, typed: str, completed: str, tmp_path: Path) -> None:
    """A tab completes flags and commands, and names of files and directories as values of flags."""
    (tmp_path / "my-token").touch()
    (tmp_path / "my-directory").mkdir()
    assert completed in type_in_bash(program, f"{program} {typed}", completed, tmp_path)
