"""The systemd units are valid and sandboxed, and the programs accept their flags."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from exporter.cli.duration import parse_duration
from exporter.cli.flags import Flags, make_command
from exporter.simulator import Simulator, serve
from tests.support.deploy_tools import DEPLOY, ROOT, check, parse_discover, run

SYSTEMD = DEPLOY / "systemd"
SERVICES = sorted(SYSTEMD.glob("*.service"))
UNITS = [*SERVICES, SYSTEMD / "cavatica-discover.timer"]
DEFAULTS = SYSTEMD / "cavatica-exporter.default"

EXPOSURE = "15"
"""Highest exposure that `systemd-analyze security` may report, in tenths."""


def systemd_analyze() -> str:
    """Return the path of systemd-analyze; skip the running test without it."""
    found = shutil.which("systemd-analyze")
    if not found:
        pytest.skip("not here: systemd-analyze")
    return found


@pytest.mark.deploy
def test_systemd_finds_no_problem_in_the_units(tmp_path: Path) -> None:
    """`systemd-analyze verify` knows every key and value in the units."""
    for unit in UNITS:
        # The programs are not installed here, which would be an error.
        text = re.sub(r"/usr/bin/cavatica-\w+", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    done = run([systemd_analyze(), "verify", "--man=no", *(tmp_path / unit.name for unit in UNITS)])
    assert (check(done), done.stderr) == ("", "")


@pytest.mark.deploy
def test_systemd_finds_a_wrong_key(tmp_path: Path) -> None:
    """`systemd-analyze verify` reports a misspelt key."""
    text = SERVICES[0].read_text().replace("/usr/bin/cavatica-exports", "/bin/true")
    (tmp_path / "wrong.service").write_text(text.replace("UMask=", "Umask="))
    done = run([systemd_analyze(), "verify", tmp_path / "wrong.service"])
    assert "Unknown key" in done.stderr


def exposure(unit: Path) -> int:
    """Return the exit status of `systemd-analyze security`: 0 if the exposure is low enough."""
    command = [systemd_analyze(), "security", "--offline=true", f"--threshold={EXPOSURE}"]
    return run([*command, "--no-pager", unit]).returncode


@pytest.mark.deploy
@pytest.mark.parametrize("unit", SERVICES, ids=lambda path: path.name)
def test_services_are_sandboxed(unit: Path, tmp_path: Path) -> None:
    """The services' exposure is low enough; as root, without user namespaces, it would not be."""
    assert exposure(unit) == 0
    open_unit = tmp_path / unit.name
    text = unit.read_text().replace("DynamicUser=yes\nUser=cavatica-exporter\n", "User=root\n")
    open_unit.write_text(text.replace("PrivateUsers=yes\n", ""))
    assert exposure(open_unit) != 0


def test_reload_during_the_start_restarts_the_exporter() -> None:
    """A process that SIGHUP ends at its start is restarted, which `on-failure` would not do."""
    lines = (SYSTEMD / "cavatica-exporter.service").read_text().splitlines()
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert {"Restart=on-failure", "RestartForceExitStatus=SIGHUP"} <= {*lines}


def command_line(unit: Path) -> list[str]:
    """Return the command line of a unit, with a directory for its credentials."""
    [line] = re.findall(r"^ExecStart=((?:.*\\\n)*.*)", unit.read_text(), re.MULTILINE)
    line = line.replace("\\\n", " ").replace("${CREDENTIALS_DIRECTORY}", "/run/credentials/x")
    return shlex.split(line)


def exporter_flags(**variables: str) -> Flags:
    """Return the flags of the exporter's unit, with these variables in its environment file."""
    given: list[Flags] = []

    def run_(flags: Flags) -> int:
        given.append(flags)
        return 0

    unit = SYSTEMD / "cavatica-exporter.service"
    own = dict(re.findall(r"^Environment=(\w+)=(.*)$", unit.read_text(), re.MULTILINE))
    program, *arguments = command_line(unit)
    result = CliRunner().invoke(make_command(run_, ""), arguments, env=own | variables)
    assert (program, result.exit_code) == ("/usr/bin/cavatica-exporter", 0), result.output
    return given[0]


def test_exporter_accepts_its_command_line() -> None:
    """The token is systemd's credential; ID files and state file are in the state directory."""
    flags = exporter_flags()
    assert flags.api_token_file == Path("/run/credentials/x/token")
    assert flags.exports_path == Path("/var/lib/cavatica-exporter/exports")
    assert flags.exports_state_file == Path("/var/lib/cavatica-exporter/state")


def test_environment_file_takes_precedence() -> None:
    """The unit sets paths by variables, so that those in the environment file replace them."""
    variables = suggested_variables()
    assert variables["CAVATICA_EXPORTER_EXPORTS_PATH"] == "/srv/cavatica-exports"
    assert exporter_flags(**variables).exports_path == Path("/srv/cavatica-exports")


def test_discovery_has_time_for_a_large_account() -> None:
    """A first run has time for 100,000 exports: two calls per 100, at half the rate limit."""
    unit = (SYSTEMD / "cavatica-discover.service").read_text()
    [limit] = re.findall(r"^TimeoutStartSec=(.*)", unit, re.MULTILINE)
    calls = 2 * 100_000 / 100
    assert parse_duration(limit) > calls / 500 * 300


def test_discovery_accepts_its_command_line(tmp_path: Path) -> None:
    """`discover` runs once and writes into the directory that the exporter reads."""
    program, *arguments = command_line(SYSTEMD / "cavatica-discover.service")
    flags = parse_discover(arguments, "/var/lib/cavatica-exporter/exports", tmp_path)
    assert (program, flags["every"]) == ("/usr/bin/cavatica-exports", None)
    assert flags["api_token_file"] == Path("/run/credentials/x/token")


def documented_drop_in() -> str:
    """Return the drop-in for metrics of discovery that its page suggests."""
    text = (ROOT / "docs/discovery.md").read_text()
    [found] = re.findall(r"^  ```ini\n(.*?)^  ```\n", text, re.MULTILINE | re.DOTALL)
    return re.sub("^  ", "", str(found), flags=re.MULTILINE)


def commands(drop_in: str, key: str) -> list[list[str]]:
    """Return the command lines of a key; the first one of `ExecStart` removes the unit's own."""
    values = re.findall(rf"^{key}=(.*)$", drop_in, re.MULTILINE)
    return [shlex.split(value) for value in values]


def test_metrics_of_discovery_reach_node_exporter(tmp_path: Path) -> None:
    """The documented commands put a readable file into its directory, and follow no link."""
    drop_in = documented_drop_in()
    state, target = tmp_path / "state", tmp_path / "node-exporter"
    for directory in (state / "exports", target, tmp_path / "credentials"):
        directory.mkdir(parents=True)
    (tmp_path / "credentials/token").write_text("a-token")

    def run_one(command: list[str], *, umask: int, **variables: str) -> None:
        paths = {
            "${CREDENTIALS_DIRECTORY}": str(tmp_path / "credentials"),
            "/var/lib/cavatica-exporter": str(state),
            "/var/lib/prometheus/node-exporter": str(target),
            "+/usr/bin/": "/usr/bin/",
        }
        line = "\0".join(command)
        for old, new in paths.items():
            line = line.replace(old, new)
        environment = os.environ | variables
        subprocess.run(line.split("\0"), env=environment, umask=umask, check=True, timeout=60)

    reset, [program, *arguments] = commands(drop_in, "ExecStart")
    assert (reset, program) == ([], "/usr/bin/cavatica-exports")
    with serve(Simulator(token="a-token")) as url:
        discover = [sys.executable, "-m", "exporter.tool", *arguments]
        run_one(discover, umask=0o027, CAVATICA_EXPORTER_API_URL=url)
    metrics = target / "discover.prom"
    for content in ((state / "discover.prom").read_text(), "newer\n"):
        (state / "discover.prom").write_text(content)
        for command in commands(drop_in, "ExecStopPost"):
            # Root copies: the service's user cannot write there.
            assert command[0].startswith("+/")
            run_one(command, umask=0o022)
        assert [path.name for path in target.iterdir()] == ["discover.prom"]
        assert (metrics.read_text(), stat.S_IMODE(metrics.stat().st_mode)) == (content, 0o644)
    # The last step is a rename within the directory.
    assert Path(commands(drop_in, "ExecStopPost")[-1][0]).name == "mv"
    secret = tmp_path / "secret"
    secret.write_text("of root")
    (state / "discover.prom").unlink()
    (state / "discover.prom").symlink_to(secret)
    for command in commands(drop_in, "ExecStopPost"):
        run_one(command, umask=0o022)
    assert metrics.is_symlink()


@pytest.mark.deploy
def test_systemd_finds_no_problem_in_the_documented_drop_in(tmp_path: Path) -> None:
    """Every key is known, and the commands replace those of the unit."""
    unit = SYSTEMD / "cavatica-discover.service"
    for path, text in (
        (tmp_path / unit.name, unit.read_text()),
        (tmp_path / f"{unit.name}.d/override.conf", documented_drop_in()),
    ):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.replace("/usr/bin/cavatica-exports", "/bin/true"))
    done = run([systemd_analyze(), "verify", "--man=no", tmp_path / unit.name])
    assert (check(done), done.stderr) == ("", "")


def test_a_round_that_is_stopped_has_not_failed() -> None:
    """To systemd, an end by SIGTERM is not a clean one of a service of this type."""
    unit = (SYSTEMD / "cavatica-discover.service").read_text()
    assert {"Type=oneshot", "SuccessExitStatus=SIGTERM"} <= {*unit.splitlines()}


def suggested_variables() -> dict[str, str]:
    """Return the variables that the environment file suggests in comments."""
    found = re.findall(r"^#(CAVATICA_EXPORTER_\w+)=(.*)$", DEFAULTS.read_text(), re.MULTILINE)
    return dict(found)


def suggested_drop_in() -> str:
    """Return the drop-in for a web configuration that the environment file suggests."""
    text = DEFAULTS.read_text()
    [found] = re.findall(r"^#   \[Service\]\n(?:#   .*\n)+", text, re.MULTILINE)
    return re.sub("^#   ", "", str(found), flags=re.MULTILINE)


def test_suggested_web_configuration_is_a_credential() -> None:
    """The service's user cannot read the directory, so every file of it is a credential."""
    drop_in = suggested_drop_in()
    credentials = dict(re.findall(r"^LoadCredential=(.*?):(.*)$", drop_in, re.MULTILINE))
    assert credentials
    assert credentials == {name: f"/etc/cavatica-exporter/{name}" for name in credentials}
    [variable] = re.findall(r"^Environment=(.*)=(.*)$", drop_in, re.MULTILINE)
    assert variable == (
        "CAVATICA_EXPORTER_WEB_CONFIG_FILE",
        "/run/credentials/cavatica-exporter.service/web.yml",
    )
    assert "/etc/cavatica-exporter" not in "".join(suggested_variables().values())


@pytest.mark.deploy
def test_systemd_finds_no_problem_in_the_drop_in(tmp_path: Path) -> None:
    """Every key of the suggested drop-in is known; a misspelt one is an error."""
    unit = SYSTEMD / "cavatica-exporter.service"
    text = unit.read_text().replace("/usr/bin/cavatica-exporter", "/bin/true")
    (tmp_path / unit.name).write_text(text)
    drop_in = tmp_path / f"{unit.name}.d/override.conf"
    drop_in.parent.mkdir()
    for content, message in (
        (suggested_drop_in(), ""),
        (suggested_drop_in().replace("LoadCredential", "LoadCredentials"), "Unknown key"),
    ):
        drop_in.write_text(content)
        done = run([systemd_analyze(), "verify", "--man=no", tmp_path / unit.name])
        assert message in done.stderr
        assert bool(message) == bool(done.stderr)


def test_suggested_variables_are_flags() -> None:
    """Each variable that the environment file suggests is a flag's and has a valid value."""
    variables = suggested_variables()
    command = make_command(lambda _: 0, "")
    known = {f"CAVATICA_EXPORTER_{each.name}".upper() for each in command.params}
    assert variables
    assert variables.keys() <= known
    assert CliRunner().invoke(command, env=variables).exit_code == 0


def test_services_have_the_same_sandbox() -> None:
    """Both services have the same user and the same sandbox settings."""
    sections = []
    for unit in SERVICES:
        text = unit.read_text()
        start = text.index("AmbientCapabilities=")
        sections.append(re.split(r"\n\n|\Z", text[start:])[0].strip())
    assert sections[0] == sections[1]
    assert {"User=cavatica-exporter", "DynamicUser=yes"} <= {
        *SERVICES[0].read_text().split("\n")
    } & {*SERVICES[1].read_text().split("\n")}
