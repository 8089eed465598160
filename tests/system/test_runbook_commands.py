"""The commands of the runbooks, run as they are printed, beside a real Prometheus."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.simulator import Simulator, serve
from scripts.ports import reserved_port
from tests.support.alert_files import ROOT, RULES_FILE
from tests.support.curl import require_curl
from tests.support.exporter_process import LOOPBACK, environment, process
from tests.support.servers import Prometheus, program
from tests.support.waits import PATIENCE, wait_until

TOKEN = "0123456789abcdef0123456789abcdef"
BLOCKS = re.findall(
    r"^```sh\n(.*?)^```", (ROOT / "docs/runbooks.md").read_text("utf-8"), re.DOTALL | re.MULTILINE
)
VARIABLES, *COMMANDS = BLOCKS


@pytest.fixture(scope="module")
def site(
    server_version: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Run an exporter and a Prometheus; yield their directory and values of the variables."""
    directory = tmp_path_factory.mktemp(f"site-{server_version}")
    simulator = Simulator(token=TOKEN)
    (directory / "token").write_text(TOKEN, encoding="utf-8")
    (directory / "exports").mkdir()
    # With `fail`, curl exits with an error if the server answers 404 or another error.
    (directory / ".curlrc").write_text("fail\n", encoding="utf-8")
    ids = simulator.start(20, ago=7200)
    text = "".join(f"{export_id}\n" for export_id in ids)
    (directory / "exports/batch.txt").write_text(text, encoding="utf-8")
    with serve(simulator) as api:
        flags = [
            f"--exports.path={directory / 'exports'}",
            f"--api.token-file={directory / 'token'}",
        ]
        flags.append(f"--api.url={api}")
        with reserved_port() as closed, process(directory / "log", *flags, LOOPBACK) as exporter:
            address = exporter.urls[0].removeprefix("http://")
            config = f"""
global: {{scrape_interval: 1s}}
rule_files: ["{RULES_FILE}"]
scrape_configs:
  - {{job_name: cavatica, static_configs: [{{targets: ["{address}"]}}]}}
  - {{job_name: down, static_configs: [{{targets: ["127.0.0.1:{closed}"]}}]}}
"""
            with Prometheus(config, directory / "prometheus") as prometheus:
                wait_until(lambda: prometheus.query("cavatica_up == 1"), "it scrapes")
                wait_until(lambda: prometheus.query('up{job="down"} == 0'), "a scrape fails")
                yield (
                    directory,
                    {
                        "EXPORTER": exporter.urls[0],
                        "PROMETHEUS": prometheus.url,
                        "API": api,
                        "FLAGS": " ".join(flags),
                        "ID": ids[0],
                    },
                )


def test_runbooks_set_the_variables_that_their_commands_use() -> None:
    """The first block of the page sets exactly the variables of all other blocks."""
    set_there = set(re.findall(r"^([A-Z]+)=", VARIABLES, re.MULTILINE))
    assert set_there == {name for each in COMMANDS for name in re.findall(r"\$([A-Z]+)", each)}


@pytest.mark.servers
@pytest.mark.parametrize("commands", COMMANDS, ids=[str(n) for n in range(len(COMMANDS))])
def test_command_works_as_printed(commands: str, site: tuple[Path, dict[str, str]]) -> None:
    """Every command exits with 0 and writes no warning or error to standard error.

    The one for the errors of scrapes prints them in full, though they contain quotation marks.
    """
    directory, variables = site
    if "curl " in commands:
        require_curl()
    for name in ("BATCH", "ID"):
        commands = commands.replace(f'"{name}"', f'"{variables.get(name, "batch")}"')
    path = os.pathsep.join(
        [str(Path(sys.executable).parent), str(program("promtool").parent), os.environ["PATH"]]
    )
    # One command prints the API's status, which is an error without a token: no `fail` for it.
    home = {} if "%{http_code}" in commands else {"HOME": str(directory)}
    done = subprocess.run(
        ["/bin/bash", "-euo", "pipefail", "-c", commands],
        cwd=directory,
        env=environment(PATH=path, **home, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 3,
        check=False,
    )
    logged = [line for line in done.stderr.splitlines() if "level=info" not in line]
    assert (done.returncode, logged) == (0, []), done.stdout
    if "lastError" in commands:
        assert 'connection refused"' in done.stdout
