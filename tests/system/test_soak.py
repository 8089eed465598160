"""The exporter's process under faults, file edits and concurrent scrapers, for some seconds."""

from pathlib import Path

import pytest

from tests.system.soak.run import soak
from tests.system.soak.schedule import Plan

pytestmark = pytest.mark.slow


def test_soak_finds_no_problem(tmp_path: Path) -> None:
    """Every scrape is in time and correct, memory does not grow, and no secret is shown."""
    report, problems = soak(Plan.short(), 1, tmp_path)
    assert problems == [], report
