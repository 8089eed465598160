"""The exporter's process among faults, file edits and four scrapers at once, for some seconds."""

from pathlib import Path

import pytest

from tests.system.soak.dealer import Plan
from tests.system.soak.run import soak

pytestmark = pytest.mark.slow


def test_nothing_is_wrong_whatever_happens(tmp_path: Path) -> None:
    """Each scrape is in time and right, nothing grows, and no secret is shown."""
    report, problems = soak(Plan.short(), 1, tmp_path)
    assert problems == [], report
