"""What all tests of the web configuration need."""

import pytest

from exporter.webconfig import file as webconfig_file
from tests.support.waits import PATIENCE


@pytest.fixture(autouse=True)
def _wait_for_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer for the files: a busy machine may take more than the half second."""
    monkeypatch.setattr(webconfig_file, "_WAIT_SECONDS", PATIENCE)
