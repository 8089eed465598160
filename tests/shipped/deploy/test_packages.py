"""The deb and rpm packages: built, installed, upgraded and removed by dpkg and rpm."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter import __version__
from tests.support.deploy_tools import (
    DEPLOY,
    ROOT,
    check,
    require_base,
    require_tool,
    run,
    run_tool,
)

PACKAGES = DEPLOY / "packages"
NAME = "cavatica-export-exporter"

pytestmark = [pytest.mark.deploy, pytest.mark.slow]


class Root:
    """A root file system of Debian, in which commands run by chroot."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        check(run(["tar", "--extract", "--file", require_base(), "--directory", path]))
        shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside; any exit code is allowed."""
        return run(["chroot", self.path, *command])

    def fake_systemd(self) -> None:
        """Install a `systemctl` that records its arguments, and make systemd look as if it ran."""
        (self.path / "run/systemd/system").mkdir(parents=True)
        program = self.path / "usr/bin/systemctl"
        program.write_text('#!/bin/sh\necho "$@" >>/systemctl.log\n')
        program.chmod(0o755)

    def systemctl_calls(self) -> list[str]:
        """Return the arguments of each `systemctl` since the last call."""
        log = self.path / "systemctl.log"
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return text.splitlines()


STARTED = ["daemon-reload", "try-restart cavatica-exporter.service"]
"""Calls of `systemctl` when a package is installed or upgraded."""
STOPPED = [
    "disable --now cavatica-discover.timer cavatica-exporter.service",
    "stop cavatica-discover.service",
    "daemon-reload",
]
"""Calls of `systemctl` when the package is removed."""


def create_user_files(root: Root) -> set[str]:
    """Create files as an operator and the services do; return their names."""
    made = {
        "etc/cavatica-exporter/token",
        "var/lib/private/cavatica-exporter/exports/mine.yml",
        "var/lib/private/cavatica-exporter/state",
    }
    for name in made:
        (root.path / name).parent.mkdir(parents=True, exist_ok=True)
        (root.path / name).touch()
    (root.path / "var/lib/cavatica-exporter").symlink_to("private/cavatica-exporter")
    return made


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Build both packages on the Debian of the base; return the directory with them.

    The builder's umask hides new files from others; files in the packages must be readable.
    """
    nfpm = require_tool("nfpm")
    root = Root(tmp_path_factory.mktemp("builder") / "root")
    shutil.copy(nfpm, root.path / "usr/local/bin")
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard", ":!tests"])
    for name in check(listed).split("\n"):
        if (source := ROOT / name).is_file():
            (root.path / "src" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, root.path / "src" / name)
    build = "umask 077; exec /src/deploy/packages/build /packages deb rpm"
    check(root.run("sh", "-c", build))
    yield root.path / "packages"
    shutil.rmtree(root.path)


def package(packages: Path, ending: str) -> Path:
    """Return the package of a kind."""
    [found] = packages.glob(f"*.{ending}")
    return found


def test_deb_is_installed_runs_and_is_removed(packages: Path, tmp_path: Path) -> None:
    """The package installs, runs and is removed on another Debian, and leaves nothing behind."""
    root = Root(tmp_path / "root")
    before = files(root.path)
    shutil.copy(package(packages, "deb"), root.path / "package.deb")
    check(root.run("dpkg", "--install", "/package.deb"))
    for program in ("cavatica-exporter", "cavatica-exports"):
        assert check(root.run(program, "--version")).startswith(f"{program} {__version__} ")
        page = f"/usr/share/man/man1/{program}.1.gz"
        assert f".TH {program.upper()}" in check(root.run("zcat", page)).replace("\\", "")
        completion = f"usr/share/bash-completion/completions/{program}"
        assert "complete -o nosort -F" in (root.path / completion).read_text()
    as_service = ("setpriv", "--reuid=65532", "--regid=65532", "--clear-groups")
    demo = root.run(*as_service, "cavatica-exporter", "--demo", "--once")
    assert "\ncavatica_up 1.0\n" in check(demo)
    for name in ("cavatica-exporter.service", "cavatica-discover.service"):
        unit = (root.path / "usr/lib/systemd/system" / name).read_text()
        assert unit == (DEPLOY / "systemd" / name).read_text()
    rules = root.path / f"opt/{NAME}/share/{NAME}/alerts/cavatica-exports.rules.yml"
    assert rules.read_bytes() == (ROOT / "alerts/cavatica-exports.rules.yml").read_bytes()
    assert (root.path / "etc/cavatica-exporter").stat().st_mode & 0o777 == 0o700
    passwd = (root.path / "etc/passwd").read_text()
    assert "cavatica" not in passwd
    made = create_user_files(root)
    check(root.run("dpkg", "--remove", NAME))
    assert made <= files(root.path)
    check(root.run("dpkg", "--purge", NAME))
    left = files(root.path) - before - {"package.deb"}
    assert {name for name in left if "cavatica" in name} == set()


def files(root: Path) -> set[str]:
    """Return the names of all files and directories below a root."""
    return {
        os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118 # many, so plain text
        for folder, folders, names in os.walk(root)
        for name in (*folders, *names)
    }


def test_deb_restarts_and_stops_the_services(packages: Path, tmp_path: Path) -> None:
    """An upgrade of the deb restarts running services, and only a removal stops them."""
    root = Root(tmp_path / "root")
    root.fake_systemd()
    shutil.copy(package(packages, "deb"), root.path / "package.deb")
    for command, calls in (
        (("--install", "/package.deb"), STARTED),
        (("--install", "/package.deb"), ["daemon-reload", *STARTED]),
        (("--remove", NAME), STOPPED),
        (("--purge", NAME), ["daemon-reload"]),
    ):
        check(root.run("dpkg", *command))
        assert root.systemctl_calls() == calls, command


def test_rpm_restarts_and_stops_the_services(packages: Path, tmp_path: Path) -> None:
    """The rpm restarts and stops services like the deb; its removal keeps token and state."""
    require_rpm()
    root = Root(tmp_path / "root")
    root.fake_systemd()
    rpm: list[str | Path] = ["rpm", "--root", root.path, "--nodeps", "--nosignature"]
    check(run([*rpm, "--install", package(packages, "rpm")]))
    assert root.systemctl_calls() == STARTED
    check(run([*rpm, "--upgrade", "--replacepkgs", package(packages, "rpm")]))
    assert root.systemctl_calls() == [*STARTED, "daemon-reload"]
    made = create_user_files(root)
    check(run([*rpm, "--erase", NAME]))
    assert root.systemctl_calls() == STOPPED
    assert made <= files(root.path)


def require_rpm() -> None:
    """Skip the running test without rpm."""
    if not shutil.which("rpm"):
        pytest.skip("not here: rpm (apt-get install rpm)")


def test_deb_depends_on_the_python_of_its_build(packages: Path) -> None:
    """The deb requires the Python version of its environment, which works with no other."""
    depends = check(run(["dpkg-deb", "--field", package(packages, "deb"), "Depends"]))
    assert depends == "python3 (>= 3.13), python3 (<< 3.14), ca-certificates\n"


def test_rpm_has_the_files_and_dependencies_of_the_deb(packages: Path) -> None:
    """The rpm has the same files and requires the same Python."""
    require_rpm()
    rpm = package(packages, "rpm")
    query = ["rpm", "--query", "--package", "--nosignature"]
    requires = check(run([*query, "--requires", rpm])).split("\n")
    assert {"ca-certificates", "python(abi) = 3.13"} <= set(requires)
    listed = set(check(run([*query, "--list", rpm])).split())
    deb = check(run(["dpkg-deb", "--contents", package(packages, "deb")])).splitlines()
    packed = {line.split(" -> ")[0].split()[-1][1:] for line in deb}
    # On systems with rpm, zsh looks for completions in another directory.
    moved = {name.replace("/vendor-completions/", "/site-functions/") for name in packed}
    assert len(moved - packed) == 3
    assert {name for name in moved if not name.endswith("/")} <= listed


def test_nfpm_finds_a_wrong_key(tmp_path: Path) -> None:
    """A misspelt key in nfpm.yaml is an error."""
    text = (PACKAGES / "nfpm.yaml").read_text().replace("depends:", "depend:")
    (tmp_path / "nfpm.yaml").write_text(text)
    done = run_tool("nfpm", "package", "--config", tmp_path / "nfpm.yaml", "--packager", "deb")
    assert done.returncode != 0
    assert "depend not found" in done.stdout + done.stderr
