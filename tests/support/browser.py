"""Pages in a real Chromium, opened by `tests/browser/look.mjs`, which needs Node."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

DIRECTORY = Path(__file__).parents[1] / "browser"
# Long enough for a cold start of Chromium on a busy machine.
_SECONDS = 120


def look(url: str, pictures: Path) -> dict[str, Any]:
    """Open a page in Chromium; return what `look.mjs` prints of each view: light, dark, phone.

    If Chromium, Node or the packages are missing, the test is skipped; under CI it fails.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    node = shutil.which("node")
    if not (chromium and node and (DIRECTORY / "node_modules").is_dir()):
        missing = "needs Chromium, Node and `npm ci` in tests/browser"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    pictures.mkdir(parents=True, exist_ok=True)
    finished = subprocess.run(
        [node, DIRECTORY / "look.mjs", chromium, url, pictures],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    seen: dict[str, Any] = json.loads(finished.stdout)
    return seen
