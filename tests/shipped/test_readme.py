"""The README and the reference pages match the programs."""

import re
from operator import attrgetter
from pathlib import Path

import click
import pytest

from exporter.cavatica.answer import RequestOutcome
from exporter.cli.flags import Flags, make_command
from exporter.metrics.export_families import EXPORT_LABELS, export_families
from exporter.metrics.families import BATCH_FAMILIES, BATCH_LABELS, FAMILIES, SCRAPE_FAMILIES
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tool.loop import METRICS
from exporter.tracker.state_file import StateFileStatus
from exporter.watchlist.documents import KEYS
from tests.support.alert_files import RULES

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/alerts.md",
    "docs/failures.md",
    "docs/flags.md",
    "docs/id-files.md",
    "docs/metrics.md",
)
README = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
"""What users read first, and the reference pages."""

ROWS: dict[str, tuple[str, str]] = {
    name: (labels, meaning)
    for name, labels, meaning in re.findall(
        r"^\| `(cavatica_[a-z_]+)` \|([^|]*)\|([^|]*)\|$", README, re.MULTILINE
    )
}
"""The rows of the tables of metrics: name to labels and meaning."""

LABELS: dict[str, tuple[str, ...]] = (
    {family.name: (*BATCH_LABELS, *family.labels) for family in BATCH_FAMILIES}
    | {
        family.name: (*EXPORT_LABELS, *family.labels)
        for family in export_families(expose_error_messages=False)
    }
    | {family.name: family.labels for family in SCRAPE_FAMILIES}
)
"""The labels of all families that are made of a snapshot."""


def run(flags: Flags) -> int:
    """Stand in for the exporter; only the flags are used."""
    raise NotImplementedError


def options() -> list[click.Option]:
    """Return the command's flags."""
    command = make_command(run, "")
    return [option for option in command.params if isinstance(option, click.Option)]


def names_of_telemetry() -> dict[str, tuple[str, ...]]:
    """Return the names of the exporter's own metrics, as they are scraped, with their labels."""
    self_metrics = SelfMetrics(version="", revision="", python="", exporter_metrics=False)
    self_metrics.observe(RequestOutcome(200, 0.1, None))
    self_metrics.show_state_file(lambda: StateFileStatus(1.0, error=False))
    return {
        metric.name + ("_total" if metric.type == "counter" else ""): tuple(
            sorted({label for sample in metric.samples for label in sample.labels} - {"le"})
        )
        for metric in self_metrics.collect()
    }


@pytest.mark.parametrize("name", [name for option in options() for name in option.opts])
def test_every_flag_is_in_the_readme(name: str) -> None:
    """Every flag is on the page in backticks, with or without its value."""
    if name.startswith("--"):
        assert re.search(rf"`{re.escape(name)}[` ]", README)


@pytest.mark.parametrize("option", options(), ids=lambda option: option.opts[0])
def test_the_defaults_in_the_readme_are_those_of_the_flags(option: click.Option) -> None:
    """The table has the default of every flag."""
    row = re.search(rf"^\| `{re.escape(option.opts[0])}[^|]*\| ([^|]*)\|", README, re.MULTILINE)
    if isinstance(option.default, str | tuple):
        [default] = [option.default] if isinstance(option.default, str) else option.default
        assert row
        assert row[1].startswith(f"`{default}`")


@pytest.mark.parametrize("name", [*map(attrgetter("name"), FAMILIES), *names_of_telemetry()])
def test_every_metric_is_in_the_readme(name: str) -> None:
    """Every metric has a row with a meaning."""
    assert ROWS[name][1].strip()


@pytest.mark.parametrize(("name", "labels"), LABELS.items(), ids=LABELS)
def test_the_readme_has_the_labels_of_every_family(name: str, labels: tuple[str, ...]) -> None:
    """The labels of a row are in the order of the series."""
    assert re.findall(r"\w+", ROWS[name][0]) == [*labels]


def test_the_readme_has_the_label_of_error_messages() -> None:
    """With the flag, the error family has one more label."""
    families = export_families(expose_error_messages=True)
    [name] = [family.name for family in families if "message" in family.labels]
    assert "`message`" in ROWS[name][1]


@pytest.mark.parametrize(("name", "labels"), names_of_telemetry().items())
def test_the_readme_has_the_labels_of_the_exporters_metrics(
    name: str, labels: tuple[str, ...]
) -> None:
    """The labels of a row are complete, in any order."""
    assert set(labels) == {*re.findall(r"\w+", ROWS[name][0])}


def test_the_readme_has_no_metric_that_is_not_there() -> None:
    """Every metric of the page exists."""
    assert ROWS.keys() == LABELS.keys() | names_of_telemetry().keys()


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_of_discovery_is_on_its_page(name: str) -> None:
    """The metrics of discovery are on their own page."""
    page = (ROOT / "docs/discovery.md").read_text(encoding="utf-8")
    assert f"\n| `cavatica_discover_{name}` | " in page


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_an_id_file_is_in_the_readme(key: str) -> None:
    """Every key of an ID file is in an example."""
    assert re.search(rf"^{key}:", README, re.MULTILINE)


def test_the_table_of_alerts_has_every_alert_with_its_severity() -> None:
    """Every alert is listed in the order of the rules, with its first severity."""
    rows = re.findall(r"^\| `(Cavatica\w+)` \| (\w+) \|", README, re.MULTILINE)
    severities: dict[str, str] = {}
    for rule in RULES:
        if "alert" in rule:
            severities.setdefault(rule["alert"], rule["labels"]["severity"])
    assert dict(rows) == severities


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    """Every link leads to an existing file and heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            name, _, anchor = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
