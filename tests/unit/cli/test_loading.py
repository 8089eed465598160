"""Signals while a program loads."""

import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from exporter.cli.loading import guard
from tests.support.exporter_process import environment, run_process
from tests.support.preserved_signals import preserved_signals
from tests.support.waits import PATIENCE, wait_until

PROGRAMS = {"exporter": "cavatica-exporter", "exporter.tool": "cavatica-exports"}
SLOW = """
import pathlib, time
pathlib.Path(__file__).with_name("began").touch()
time.sleep(60)
"""


@contextmanager
def loading(module: str, directory: Path) -> Iterator["subprocess.Popen[str]"]:
    """Run a program that loads for long."""
    (directory / "click.py").write_text(SLOW)
    path = os.pathsep.join([str(directory), *filter(None, sys.path)])
    command = [sys.executable, "-m", module]
    variables = environment(PYTHONPATH=path)
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        try:
            began = directory / "began"
            wait_until(lambda: began.exists() or process.poll() is not None, "it loads")
            assert process.poll() is None
            yield process
        finally:
            process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("module", PROGRAMS)
def test_signals_while_it_loads(module: str, number: signal.Signals, tmp_path: Path) -> None:
    """SIGHUP waits; SIGTERM and SIGINT end it at once, without a traceback."""
    with loading(module, tmp_path) as process:
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("module", PROGRAMS)
def test_nothing_that_takes_long_is_loaded_before(module: str) -> None:
    """Until signals are guarded, they can end the process or print a traceback."""
    code = f"import sys, {module}.__main__; print({{'click', 'logging'}} & {{*sys.modules}})"
    assert run_process(["-c", code], command=[sys.executable]).stdout == "set()\n"


@pytest.mark.parametrize("module", PROGRAMS)
def test_it_runs_as_a_module(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m` runs the command, with SIGHUP held back."""
    monkeypatch.setattr(sys, "argv", [module, "--version"])
    monkeypatch.delitem(sys.modules, f"{module}.__main__", raising=False)
    with preserved_signals():
        with pytest.raises(SystemExit) as end:
            runpy.run_module(module, run_name="__main__")
        assert signal.SIGHUP in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"{PROGRAMS[module]} ")


def test_pid_1_ends_with_the_status_of_shells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux protects PID 1 of a container from the default actions."""
    left: list[int] = []
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr(os, "_exit", left.append)
    with preserved_signals():
        guard()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    assert left == [143, 130]


def test_what_a_parent_ignores_stays_ignored() -> None:
    """A shell ignores SIGINT for a program that it starts with `&` in a script."""
    with preserved_signals():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        guard()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
