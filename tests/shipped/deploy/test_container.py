"""The container image: built, started as its user on a read-only root, and scraped."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from scripts.ports import reserved_port
from tests.support.deploy_tools import DEPLOY, ROOT, check, require_base, run, run_tool
from tests.support.waits import PATIENCE, wait_until

pytestmark = [pytest.mark.deploy, pytest.mark.slow]

DOCKERFILE = DEPLOY / "container/Dockerfile"
USER = 65532
REVISION = "0123456789abcdef0123456789abcdef01234567"


def test_hadolint_finds_no_problem() -> None:
    """The Dockerfile follows all rules of hadolint."""
    check(run_tool("hadolint", DOCKERFILE))


def test_hadolint_finds_an_image_that_runs_as_root() -> None:
    """A Dockerfile whose last user is root is an error."""
    text = re.sub(r"^USER .*", "USER root", DOCKERFILE.read_text(), flags=re.MULTILINE)
    done = run_tool("hadolint", "-", stdin=text)
    assert done.returncode == 1
    assert "DL3002" in done.stdout


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its configuration and its unpacked root file system."""

    config: dict[str, Any]
    root: Path


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    """Build the image on a local base with the name in the Dockerfile, and mount it."""
    base = require_base()
    if not shutil.which("buildah"):
        pytest.skip("not here: buildah (apt-get install buildah)")
    directory = tmp_path_factory.mktemp("image")
    store = [
        *("--storage-driver", "vfs"),
        *("--root", str(directory / "storage")),
        *("--runroot", str(directory / "run")),
    ]
    build = ["buildah", *store, "bud", "--isolation", "chroot", "--pull-never"]
    (directory / "base").mkdir()
    (directory / "base/Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
    os.link(base, directory / "base/base.tar")
    tag = re.search(r"^ARG PYTHON=(.*)", DOCKERFILE.read_text(), re.MULTILINE)
    assert tag
    check(run([*build, "--tag", f"docker.io/library/{tag[1]}", directory / "base"]))
    build += ["--format", "docker", "--build-arg", f"REVISION={REVISION}"]
    check(run([*build, "--file", DOCKERFILE, "--tag", "exporter", ROOT]))
    inspected = check(run(["buildah", *store, "inspect", "--type", "image", "exporter"]))
    container = check(run(["buildah", *store, "from", "--pull-never", "exporter"])).strip()
    mounted = check(run(["buildah", *store, "mount", container])).strip()
    yield Image(json.loads(inspected)["Docker"]["config"], Path(mounted))
    check(run(["buildah", *store, "umount", container]))
    shutil.rmtree(directory)


def start(image: Image, *arguments: str) -> list[str]:
    """Return a command that starts the image as a hardened engine does.

    The root is read-only, /tmp is a tmpfs, the user is the image's, there are no capabilities, and
    only the image's environment is set.
    """
    root = str(image.root)
    enter = (
        'set -e; mount --bind "$0" "$0"; mount -o remount,bind,ro "$0";'
        ' mount -t tmpfs tmp "$0/tmp";'
        ' exec chroot "$0" /usr/bin/setpriv --reuid "$1" --regid "$1" --clear-groups'
        ' --bounding-set=-all --inh-caps=-all --no-new-privs /usr/bin/env -i "${@:2}"'
    )
    user = image.config["User"].partition(":")[0]
    command = [*image.config["Env"], *arguments]
    return ["unshare", "--mount", "bash", "-c", enter, root, user, *command]


def test_image_has_both_programs(image: Image) -> None:
    """Both programs are found on PATH, and print their revision; one is the entry point."""
    assert image.config["Entrypoint"] == ["cavatica-exporter"]
    for program in ("cavatica-exporter", "cavatica-exports"):
        shown = check(run(start(image, program, "--version")))
        assert shown.startswith(f"{program} ")
        assert REVISION in shown


def test_image_runs_hardened(image: Image) -> None:
    """The demo runs without root, writable file system or capability; its health check passes."""
    with ExitStack() as stack:
        port = stack.enter_context(reserved_port())
        arguments = ["--demo", f"--web.listen-address=127.0.0.1:{port}"]
        command = start(image, *image.config["Entrypoint"], *arguments)
        process = stack.enter_context(subprocess.Popen(command))
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: answers(f"{url}/-/ready"), "the container is ready", PATIENCE * 3)
            assert "\ncavatica_up 1.0\n" in requests.get(f"{url}/metrics", timeout=30).text
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(rf"^Uid:\s+{USER}\s+{USER}\s", status, re.MULTILINE)
            assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
            kind, *probe = image.config["Healthcheck"]["Test"]
            assert kind == "CMD"
            probe = [each.replace("10036", str(port)) for each in probe]
            check(run(start(image, *probe)))
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
        assert run(start(image, *probe)).returncode == 1, "nobody listens, and it is healthy"


def answers(url: str) -> bool:
    """Return whether the URL answers 200."""
    try:
        return requests.get(url, timeout=5).ok
    except requests.RequestException:
        return False


def test_volumes_belong_to_the_user_of_the_image(image: Image) -> None:
    """A new volume has the image's user as owner, so discovery can write and state can be kept."""
    for name in ("exports", "state"):
        found = (image.root / name).stat()
        assert (found.st_uid, found.st_gid) == (USER, USER)


def test_image_has_no_sources_and_no_pip(image: Image) -> None:
    """The image has the package and the alerts, but neither pip nor the sources."""
    [package] = image.root.glob("opt/cavatica/lib/python*/site-packages")
    assert not (package / "pip").exists()
    assert not (image.root / "src").exists()
    assert (image.root / "opt/cavatica/share/cavatica-export-exporter/alerts").is_dir()


def test_labels_are_those_of_the_project(image: Image) -> None:
    """The labels with which registries link to the sources are those in pyproject.toml."""
    project = (ROOT / "pyproject.toml").read_text()
    labels = image.config["Labels"]
    for name, key in (
        ("licenses", "license"),
        ("description", "description"),
        ("source", "Source"),
    ):
        assert f'{key} = "{labels[f"org.opencontainers.image.{name}"]}"\n' in project
