"""The page on networks and machines: the tests that it names exist, or are here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.cli.flags import make_command
from exporter.cli.options import ENVIRONMENT_PREFIX
from exporter.simulator import Simulator, serve
from tests.support.exporter_process import environment
from tests.support.waits import PATIENCE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
TESTS = re.findall(r"`(test_\w+\.py)::([\w:]+)`", PAGE)
SERVICE_VARIABLES = {
    f"{ENVIRONMENT_PREFIX}{ending}": value
    for ending, value in {
        "_SERVICE_HOST": "10.0.0.1",
        "_SERVICE_PORT": "9000",
        "_SERVICE_PORT_HTTP": "9000",
        "_PORT": "tcp://10.0.0.1:9000",
        "_PORT_9000_TCP": "tcp://10.0.0.1:9000",
        "_PORT_9000_TCP_PROTO": "tcp",
        "_PORT_9000_TCP_PORT": "9000",
        "_PORT_9000_TCP_ADDR": "10.0.0.1",
    }.items()
}

# Reports every file that is opened for writing, created, renamed or linked.
REPORT_WRITES = """
import os, sys

def watch(event, arguments):
    if event == "open":
        path, mode, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and path != os.devnull:
            os.write(2, f"WRITES {path}\\n".encode())
    elif event in {"os.mkdir", "os.rename", "os.link", "os.symlink", "tempfile.mkstemp"}:
        os.write(2, f"WRITES {arguments}\\n".encode())

sys.addaudithook(watch)
"""
NO_USER_NAME = """
import pwd

def fail(_):
    raise KeyError("getpwuid(): uid not found")

pwd.getpwuid = fail
"""


def scrape_once(prelude: str, directory: Path, **variables: str) -> tuple[str, str]:
    """Run `prelude` and `--once` with a simulated API; return standard output and error."""
    (directory / "batch.yml").write_text("export_ids: [e00001]\n", encoding="utf-8")
    simulator = Simulator(token="simulated")
    with serve(simulator) as url:
        arguments = ["--once", "--api.url", url, "--exports.path", str(directory)]
        program = f"{prelude}\nfrom exporter.cli.command import main\nmain({arguments!r})"
        names = environment(SB_AUTH_TOKEN="simulated", **variables)
        names.pop("HOME", None)
        for name in [name for name in names if name.startswith("COVERAGE_")]:
            del names[name]  # to measure coverage, a process writes files
        done = subprocess.run(
            [sys.executable, "-B", "-c", program],
            env=names,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    return done.stdout, done.stderr


@pytest.mark.parametrize(("file", "name"), TESTS, ids=lambda text: text)
def test_tests_that_the_page_names_exist(file: str, name: str) -> None:
    """Each test that the page names is defined in the file that it names."""
    [path] = (ROOT / "tests").rglob(file)
    assert f"def {name.rpartition(':')[2]}(" in path.read_text(encoding="utf-8")


def test_page_names_tests() -> None:
    """The pattern that finds the tests on the page still matches."""
    assert len(TESTS) > 20


def test_scrape_writes_no_file(tmp_path: Path) -> None:
    """A scrape works with a read-only root and without /tmp, as it writes no file."""
    output, log = scrape_once(REPORT_WRITES, tmp_path)
    assert "\ncavatica_up 1" in output, log
    assert "WRITES" not in log


def test_scrape_needs_no_user_name_and_no_home(tmp_path: Path) -> None:
    """The exporter works under a user ID without name and home directory, as in OpenShift."""
    output, log = scrape_once(NO_USER_NAME, tmp_path)
    assert "\ncavatica_up 1" in output, log


def test_variables_of_a_kubernetes_service_set_no_flags(tmp_path: Path) -> None:
    """Kubernetes' variables of a Service with the exporter's name are not taken for flags."""
    command = make_command(lambda _: 0, "")
    flags = {f"{ENVIRONMENT_PREFIX}_{str(each.name).upper()}" for each in command.params}
    assert not flags & set(SERVICE_VARIABLES)
    output, log = scrape_once("", tmp_path, **SERVICE_VARIABLES)
    assert "\ncavatica_up 1" in output, log
