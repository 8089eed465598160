"""The build hook: writes the commit into the archives, for `--version` and the build's metric."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FILE = "exporter/_revision"


class RevisionHook(BuildHookInterface[Any]):
    """Adds a file with the commit; a wheel from a source archive has the archive's commit.

    Without git, or outside a checkout, there is no such file.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the file to what is packed."""
        root = Path(self.root)
        if version == "editable" or not (root / ".git").exists():
            return
        try:
            commit = subprocess.run(
                ["git", "rev-parse", "HEAD"],  # noqa: S607 # whichever git made the checkout
                cwd=root,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        except (OSError, subprocess.CalledProcessError):
            return
        self._directory = tempfile.TemporaryDirectory()
        file = Path(self._directory.name) / "revision"
        file.write_text(commit, encoding="utf-8")
        build_data["force_include"][str(file)] = _FILE
