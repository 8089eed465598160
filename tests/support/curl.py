"""The real curl, with which people and scripts query the exporter."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SECONDS = 20


def require_curl() -> str:
    """Return the path of curl; if it is missing, skip the running test, or fail it under CI."""
    program = shutil.which("curl")
    if program is None:
        missing = "needs curl"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return program


def curl(url: str, *arguments: str, directory: Path | None = None) -> str:
    """Return curl's output: the body and, on the last line, the status; or curl's error."""
    program = require_curl()
    ended = subprocess.run(
        [program, "--silent", "--show-error", "--noproxy", "*",
         "--write-out", "\n%{http_code}", *arguments, url],
        cwd=directory, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    return ended.stdout + ended.stderr
