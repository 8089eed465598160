"""The runbooks: one for every alert, with commands that work."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.alert_files import ALERTS, ROOT, RULES_FILE, known_series, series_names

RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
URL = "https://runbooks.example/cavatica-exports#"
"""A reserved name: users set their own with `scripts/set-runbook-url`."""


def anchor(heading: str) -> str:
    """Return the anchor that GitHub generates for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    """The address of every alert ends in a heading that exists, and there is no other heading."""
    headings = re.findall(r"^## (.*)$", RUNBOOKS, re.MULTILINE)
    urls = [rule["annotations"]["runbook_url"] for rule in ALERTS.values()]
    assert headings == list(ALERTS)
    assert urls == [URL + anchor(heading) for heading in headings]


def test_every_runbook_has_the_same_four_parts() -> None:
    """Meaning, Impact, Diagnosis and Mitigation, in this order, and none of them empty."""
    _, *runbooks = re.split(r"^## ", RUNBOOKS, flags=re.MULTILINE)
    for runbook in runbooks:
        _, *parts = re.split(r"^### ", runbook, flags=re.MULTILINE)
        titles = [part.splitlines()[0] for part in parts]
        assert titles == ["Meaning", "Impact", "Diagnosis", "Mitigation"], runbook.splitlines()[0]
        assert all(len(part.split()) > 5 for part in parts)


def test_links_within_the_runbooks_lead_somewhere() -> None:
    """A link to another runbook ends in its heading."""
    assert set(re.findall(r"\(#([^)]*)\)", RUNBOOKS)) <= {anchor(name) for name in ALERTS}


def test_queries_in_runbooks_use_series_that_exist() -> None:
    """Every query in a runbook is valid and uses existing series."""
    queries = re.findall(r"promtool query instant \$PROMETHEUS '([^'…]+)'", RUNBOOKS)
    assert len(queries) == RUNBOOKS.count("promtool query instant") - 1  # one only shows the form
    for query in queries:
        assert series_names(query) <= known_series(), query


def test_one_command_sets_where_runbooks_are(tmp_path: Path) -> None:
    """Every link in copies of the rules leads there, also if it is set repeatedly."""
    names = [RULES_FILE, *(ROOT / "alerts" / "tests").glob("*.yml")]
    files = [Path(shutil.copy(each, tmp_path)) for each in names]
    for base in ("http://localhost:10036/runbooks", "https://wiki.example/x?y=1"):
        subprocess.run([ROOT / "scripts" / "set-runbook-url", base, *files], check=True)
        for file, original in zip(files, names, strict=True):
            text, before = file.read_text(encoding="utf-8"), original.read_text(encoding="utf-8")
            assert text == before.replace(URL, f"{base}#")


@pytest.mark.parametrize("base", ["", "ftp://x.example/", "https://x.example/#", "https://a b"])
def test_an_address_that_cannot_be_one_changes_nothing(base: str, tmp_path: Path) -> None:
    """An invalid URL is an error with status 2."""
    file = Path(shutil.copy(RULES_FILE, tmp_path))
    done = subprocess.run(
        [ROOT / "scripts" / "set-runbook-url", base, file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, file.read_bytes()) == (2, RULES_FILE.read_bytes())
    assert "BASE must be" in done.stderr
