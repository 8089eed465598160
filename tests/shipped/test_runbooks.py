"""The runbooks: one for each alert, with valid links and queries."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.runbooks_page import anchor
from tests.support.alert_files import ALERTS, RECORDED, ROOT, RULES_FILE, known_series, series_names

RUNBOOKS = (ROOT / "docs" / "runbooks.md").read_text(encoding="utf-8")
URL = "https://runbooks.example/cavatica-exports#"
"""A reserved name, which users replace by `scripts/set-runbook-url`."""


def test_each_alert_has_one_runbook() -> None:
    """Each alert's `runbook_url` names a heading of the page, and there are no other headings."""
    headings = re.findall(r"^## (.*)$", RUNBOOKS, re.MULTILINE)
    urls = [rule["annotations"]["runbook_url"] for rule in ALERTS.values()]
    assert headings == list(ALERTS)
    assert urls == [URL + anchor(heading) for heading in headings]


def test_each_runbook_has_the_same_four_parts() -> None:
    """Each runbook has Meaning, Impact, Diagnosis and Mitigation, in this order, none empty."""
    _, *runbooks = re.split(r"^## ", RUNBOOKS, flags=re.MULTILINE)
    for runbook in runbooks:
        _, *parts = re.split(r"^### ", runbook, flags=re.MULTILINE)
        titles = [part.splitlines()[0] for part in parts]
        assert titles == ["Meaning", "Impact", "Diagnosis", "Mitigation"], runbook.splitlines()[0]
        assert all(len(part.split()) > 5 for part in parts)


def test_links_between_runbooks_are_valid() -> None:
    """A link to another runbook names an existing heading."""
    assert set(re.findall(r"\(#([^)]*)\)", RUNBOOKS)) <= {anchor(name) for name in ALERTS}


def test_queries_in_runbooks_use_series_that_exist() -> None:
    """Each query in a runbook can be parsed and uses existing series."""
    queries = re.findall(r"promtool query instant \$PROMETHEUS '([^'…]+)'", RUNBOOKS)
    assert len(queries) == RUNBOOKS.count("promtool query instant") - 1  # one only shows the form
    for query in queries:
        assert series_names(query) <= known_series(), query


def section(alert: str) -> str:
    """Return the runbook of an alert."""
    return RUNBOOKS.split(f"## {alert}\n")[1].split("\n## ")[0]


def test_counts_of_missing_exports_and_refusals_are_those_of_the_alerts() -> None:
    """The first number of a diagnosis is made as the alert's is: by the same recorded series."""
    assert "'batch:cavatica_exports_missing:sum{" in section("CavaticaExportsMissing")
    query = re.findall(r"instant \$PROMETHEUS '([^']*)'", section("CavaticaFailedExportsBacklog"))
    backlog = RECORDED["batch:cavatica_exports_failed_backlog:sum"]["expr"]
    assert series_names(query[-1]) <= series_names(backlog)


def test_runbook_says_how_a_new_token_takes_effect() -> None:
    """Under systemd and Docker Compose only a restart does: the runbook has both commands."""
    service = (ROOT / "deploy/systemd/cavatica-exporter.service").read_text(encoding="utf-8")
    assert "\nLoadCredential=token:" in service
    advice = section("CavaticaApiAuthRejected")
    assert "`systemctl restart cavatica-exporter`" in advice
    compose = (ROOT / "deploy/compose/README.md").read_text(encoding="utf-8")
    [restart] = re.findall(r"After a new token, (`docker compose restart [^`]*`)", compose)
    assert restart in advice


def test_set_runbook_url_changes_all_links(tmp_path: Path) -> None:
    """The script sets the base of all links in rules and rule tests, also a second time."""
    names = [RULES_FILE, *(ROOT / "alerts" / "tests").glob("*.yml")]
    files = [Path(shutil.copy(each, tmp_path)) for each in names]
    for base in ("http://localhost:10036/runbooks", "https://wiki.example/x?y=1"):
        subprocess.run([ROOT / "scripts" / "set-runbook-url", base, *files], check=True)
        for file, original in zip(files, names, strict=True):
            text, before = file.read_text(encoding="utf-8"), original.read_text(encoding="utf-8")
            assert text == before.replace(URL, f"{base}#")


@pytest.mark.parametrize("base", ["", "ftp://x.example/", "https://x.example/#", "https://a b"])
def test_set_runbook_url_refuses_invalid_urls(base: str, tmp_path: Path) -> None:
    """An invalid URL is an error with status 2, and the file stays as it is."""
    file = Path(shutil.copy(RULES_FILE, tmp_path))
    done = subprocess.run(
        [ROOT / "scripts" / "set-runbook-url", base, file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, file.read_bytes()) == (2, RULES_FILE.read_bytes())
    assert "BASE must be" in done.stderr
