"""Grafana's own libraries, run by Node."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DIRECTORY = ROOT / ".grafana"
"""The directory into which `make test` puts the libraries."""

VERSIONS = ("oldest", "newest")

RENDER = Path(__file__).with_name("render.mjs")

Panel = dict[str, Any]
Variables = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Rendering:
    """One call of `render.mjs`, which renders all dashboards.

    Attributes:
        version: Version of Grafana's library: `oldest` or `newest`.
        prometheus: URL of Prometheus.
        now: The current time, in Unix seconds.
        range: Time range of graphs, in seconds.
        views: Values of the variables of each view; other variables are "All".
    """

    version: str
    prometheus: str
    now: int
    range: int
    views: Mapping[str, Variables]

    def run(self) -> dict[str, list[Panel]]:
        """Return the panels of all dashboards in each view."""
        order = {
            "modules": str(DIRECTORY / self.version),
            "dashboards": str(ROOT / "dashboards"),
            "prometheus": self.prometheus,
            "now": self.now,
            "range": self.range,
            "views": self.views,
        }
        node = subprocess.run(
            ["node", RENDER],  # noqa: S607 - whichever Node the developer uses
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if node.returncode:
            pytest.fail(node.stderr[-3000:], pytrace=False)
        rendered: dict[str, list[Panel]] = json.loads(node.stdout)
        return rendered


def require_libraries(*, ci: bool, directory: Path = DIRECTORY) -> None:
    """Skip the running test if Node or the libraries are missing; under CI make it fail."""
    missing = [each for each in VERSIONS if not (directory / each / "installed").exists()]
    if shutil.which("node") and not missing:
        return
    reason = "no Node, or no libraries of Grafana (`make grafana` installs them)"
    if ci:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
