"""The README and the reference pages match the code."""

import re
from operator import attrgetter
from pathlib import Path

import click
import pytest

from exporter.cavatica.answer import MAX_IDS, RequestOutcome
from exporter.cavatica.client import BYTES_AROUND, BYTES_PER_ID
from exporter.cli.flags import Flags, make_command
from exporter.metrics.export_families import EXPORT_LABELS, export_families
from exporter.metrics.families import BATCH_FAMILIES, BATCH_LABELS, FAMILIES, SCRAPE_FAMILIES
from exporter.metrics.self_metrics import SelfMetrics
from exporter.tool.loop import METRICS
from exporter.tracker.state_file import StateFileStatus
from exporter.watchlist.documents import KEYS
from exporter.watchlist.loader import MAX_FILE_BYTES
from scripts.runbooks_page import anchor
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
"""The text of the README and the reference pages."""

ROWS: dict[str, tuple[str, str]] = {
    name: (labels, meaning)
    for name, labels, meaning in re.findall(
        r"^\| `(cavatica_[a-z_]+)` \|([^|]*)\|([^|]*)\|$", README, re.MULTILINE
    )
}
"""Labels and meaning of each metric in the tables, by name."""

LABELS: dict[str, tuple[str, ...]] = (
    {family.name: (*BATCH_LABELS, *family.labels) for family in BATCH_FAMILIES}
    | {
        family.name: (*EXPORT_LABELS, *family.labels)
        for family in export_families(expose_error_messages=False)
    }
    | {family.name: family.labels for family in SCRAPE_FAMILIES}
)
"""Labels of all families that are made of a snapshot, by name."""


def run(flags: Flags) -> int:
    """Replace the exporter: the tests use the flags only."""
    raise NotImplementedError


def options() -> list[click.Option]:
    """Return the command's flags."""
    command = make_command(run, "")
    return [option for option in command.params if isinstance(option, click.Option)]


def labels_of_self_metrics() -> dict[str, tuple[str, ...]]:
    """Return the labels of the exporter's own metrics, by the name in a scrape."""
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
def test_pages_have_every_flag(name: str) -> None:
    """Every flag is on a page in backticks, with or without a value."""
    if name.startswith("--"):
        assert re.search(rf"`{re.escape(name)}[` ]", README)


@pytest.mark.parametrize("option", options(), ids=lambda option: option.opts[0])
def test_pages_have_the_defaults_of_the_flags(option: click.Option) -> None:
    """The table of flags has the default of each flag."""
    row = re.search(rf"^\| `{re.escape(option.opts[0])}[^|]*\| ([^|]*)\|", README, re.MULTILINE)
    if isinstance(option.default, str | tuple):
        [default] = [option.default] if isinstance(option.default, str) else option.default
        assert row
        assert row[1].startswith(f"`{default}`")


@pytest.mark.parametrize("name", [*map(attrgetter("name"), FAMILIES), *labels_of_self_metrics()])
def test_pages_have_every_metric(name: str) -> None:
    """Every metric has a row in a table, with a meaning."""
    assert ROWS[name][1].strip()


@pytest.mark.parametrize(("name", "labels"), LABELS.items(), ids=LABELS)
def test_pages_have_the_labels_of_each_family(name: str, labels: tuple[str, ...]) -> None:
    """The labels in a row have the order of the labels in the series."""
    assert re.findall(r"\w+", ROWS[name][0]) == [*labels]


def test_pages_have_the_label_of_error_messages() -> None:
    """The meaning names the label that the family has with `--exports.expose-error-messages`."""
    families = export_families(expose_error_messages=True)
    [name] = [family.name for family in families if "message" in family.labels]
    assert "`message`" in ROWS[name][1]


@pytest.mark.parametrize(("name", "labels"), labels_of_self_metrics().items())
def test_pages_have_the_labels_of_self_metrics(name: str, labels: tuple[str, ...]) -> None:
    """The row of each of the exporter's own metrics has all its labels, in any order."""
    assert set(labels) == {*re.findall(r"\w+", ROWS[name][0])}


def test_pages_have_no_metric_that_does_not_exist() -> None:
    """Every metric in the tables exists."""
    assert ROWS.keys() == LABELS.keys() | labels_of_self_metrics().keys()


@pytest.mark.parametrize("name", METRICS)
def test_page_of_discovery_has_its_metrics(name: str) -> None:
    """Every metric of `discover` has a row in docs/discovery.md."""
    page = (ROOT / "docs/discovery.md").read_text(encoding="utf-8")
    assert f"\n| `cavatica_discover_{name}` | " in page


@pytest.mark.parametrize("key", KEYS)
def test_pages_have_every_key_of_id_files(key: str) -> None:
    """Every key of an ID file is in an example on the pages."""
    assert re.search(rf"^{key}:", README, re.MULTILINE)


def test_threat_model_has_the_limits_of_sizes() -> None:
    """It states how much of an answer and of an ID file is read."""
    page = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
    around, each = BYTES_AROUND // 1024, BYTES_PER_ID // 1024
    largest = f"{around + each * MAX_IDS:,} KiB for {MAX_IDS}"
    assert f"{around} KiB and {each} KiB for each export of the call ({largest})" in page
    assert f"Files are bounded ({MAX_FILE_BYTES // 2**20} MiB," in page


def test_table_of_alerts_has_every_alert_and_its_severity() -> None:
    """The table has every alert with the severity of its first rule."""
    rows = re.findall(r"^\| `(Cavatica\w+)` \| (\w+) \|", README, re.MULTILINE)
    severities: dict[str, str] = {}
    for rule in RULES:
        if "alert" in rule:
            severities.setdefault(rule["alert"], rule["labels"]["severity"])
    assert dict(rows) == severities


@pytest.mark.parametrize(
    "page",
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md")],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_of_a_page_are_valid(page: Path) -> None:
    """Every relative link leads to an existing file and heading."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            name, _, place = link.partition("#")
            target = page.parent / name if name else page
            assert target.exists(), link
            if place:
                headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
                assert place in map(anchor, headings), link
