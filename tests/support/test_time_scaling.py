"""Copies of the shipped rules and routes with shorter durations."""

from pathlib import Path

import pytest

from tests.support.alert_files import ROUTES_FILE, RULES_FILE
from tests.support.servers import amtool, promtool
from tests.support.time_scaling import shorten


@pytest.mark.servers
def test_shortened_copies_load(tmp_path: Path) -> None:
    """Promtool and amtool accept the rules and routes with durations divided by 60."""
    rules, routes = tmp_path / "rules.yml", tmp_path / "routes.yml"
    rules.write_text(shorten(RULES_FILE.read_text(encoding="utf-8"), 60), encoding="utf-8")
    routes.write_text(shorten(ROUTES_FILE.read_text(encoding="utf-8"), 60), encoding="utf-8")
    assert promtool("check", "rules", rules).returncode == 0
    assert amtool("check-config", routes).returncode == 0


@pytest.mark.parametrize(
    ("line", "shortened"),
    [
        ("    interval: 1m", "    interval: 1000ms"),
        ("        for: 10m", "        for: 10000ms"),
        ("group_wait: 30s", "group_wait: 500ms"),
        ("repeat_interval: 1h30m", "repeat_interval: 90000ms"),
        (
            "last_over_time(a:b:rate5m[20m] offset 6h)",
            "last_over_time(a:b:rate5m[20000ms] offset 360000ms)",
        ),
        ("time() - x > 86400", "time() - x > 86400"),
        ("for: export 10m", "for: export 10m"),
    ],
)
def test_shorten_changes_only_durations(line: str, shortened: str) -> None:
    """Durations of keys, ranges and offsets are divided; names and other numbers stay."""
    assert shorten(line, 60) == shortened
