"""The text of every cell of the dashboards, as the oldest and the newest Grafana render it.

Prometheus is real and has made-up data. Grafana's part is its library `@grafana/data`; what that
lacks is in `shared.mjs`.
"""

import re
from collections.abc import Iterator, Mapping
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.grafana.node import Panel, Rendering, Variables
from tests.grafana.scenario import DAY, HOUR, NOW, open_metrics
from tests.grafana.scenarios import NEWEST_FAILURE, ODD_NAMES, SCENARIOS
from tests.support.servers import Prometheus, promtool

pytestmark = [pytest.mark.servers, pytest.mark.grafana]

VIEWS: Mapping[str, Variables] = {
    **{
        scenario: {
            "job": sorted({each.target["job"] for each in replicas}),
            "export_id": [replicas[0].exports[0].id],
        }
        for scenario, replicas in SCENARIOS.items()
    },
    "demo": {"job": ["demo"], "export_id": [NEWEST_FAILURE]},
    # A job that no exporter has.
    "nobody": {"job": ["nobody"], "export_id": ["x"]},
    # A link that lost part of a batch's name selects a batch that does not exist.
    "no such batch": {"job": ["demo"], "batch": ["tcga"], "export_id": ["x"]},
}

COLOURS = {
    "#00000000": "-",
    "#5794F2": "blue",
    "#73BF69": "green",
    "#B877D9": "purple",
    "#F2495C": "red",
    "#FF9830": "orange",
    "#ccccdc": "text",
}
"""Names of Grafana's colours in the dark theme; `-` is transparent."""

TILES = """
demo            | Failed in the last 24 h     | 2                   | red
demo            | Failed earlier              | 1                   | orange
demo            | Refused at the start        | 5                   | orange
demo            | Missing in the ID files     | 5                   | orange
demo            | State unknown               | 1                   | purple
demo            | Age of the data             | 20 s                | -
demo            | Done                        | 86.1%               | red
demo            | Completed                   | 112                 | green
demo            | Running                     | 7                   | blue
demo            | Pending                     | 4                   | blue
demo            | ID files in error           | 1                   | red
demo            | IDs rejected                | 2                   | red
demo            | Files passed over           | 3                   | orange
demo            | IDs listed twice            | 1                   | orange
demo            | Rate limit left             | 95%                 | text
demo            | State                       | FAILED              | red
demo            | Dealt with                  | no                  | text
demo            | Exporter problems           | 3                   | red
demo            | Error                       | failed              | red
demo            | Size                        | not completed       | text
two jobs        | Failed in the last 24 h     | 3                   | red
two jobs        | Done                        | 71.4%               | red
two jobs        | Oldest unfinished export    | none unfinished     | text
two jobs        | Age of the data             | nothing unfinished  | -
two jobs        | Exporter problems           | none                | -
two replicas    | Failed in the last 24 h     | 1                   | red
two replicas    | State unknown               | 0                   | -
two replicas    | Completed                   | 395                 | green
two replicas    | Running                     | 4                   | blue
two replicas    | Answers missing             | 1                   | red
two replicas    | Exporter problems           | 1                   | red
two replicas    | Dealt with                  | not failed          | text
blind           | Failed in the last 24 h     | not known           | purple
blind           | Failed earlier              | not known           | purple
blind           | State unknown               | 20                  | purple
blind           | Age of the data             | not known           | purple
blind           | Done                        | not known           | purple
blind           | Completed                   | not known           | purple
blind           | Oldest unfinished export    | not known           | purple
blind           | Since the last one finished | not known           | purple
blind           | Since full scrape           | none yet            | red
blind           | State                       | UNKNOWN             | purple
blind           | Error                       | not known           | purple
blind           | Exporter problems           | 1                   | red
blind           | Dealt with                  | not known           | purple
blind           | Started                     | not known           | purple
blind           | Size                        | not known           | purple
waiting         | Error                       | none                | text
waiting         | Failed in the last 24 h     | 0                   | -
waiting         | Oldest unfinished export    | not started         | text
waiting         | Since the last one finished | none yet            | text
waiting         | Missing in the ID files     | no number given     | -
waiting         | Started                     | not started         | text
waiting         | Finished                    | not finished        | text
some unknown    | Failed in the last 24 h     | not all known       | purple
some unknown    | Completed                   | 3                   | green
some unknown    | Running                     | not all known       | purple
all failed      | Failed in the last 24 h     | 400                 | red
all failed      | Done                        | 0.0%                | red
all failed      | Oldest unfinished export    | none unfinished     | text
all failed      | Age of the data             | nothing unfinished  | -
down            | Failed in the last 24 h     | exporter down       | red
down            | Completed                   | exporter down       | red
down            | Exporters down              | 1                   | red
down            | Exporter problems           | 1                   | red
down            | State                       | exporter down       | red
down            | Error                       | exporter down       | red
down            | Dealt with                  | exporter down       | red
down            | Answers missing             | exporter down       | red
down            | IDs of each batch           | exporter down       | red
nobody          | Failed in the last 24 h     | no exporter in 24 h | red
nobody          | Failed earlier              | no exporter in 24 h | red
nobody          | State unknown               | no exporter in 24 h | red
nobody          | Age of the data             | no exporter in 24 h | red
nobody          | Completed                   | no exporter in 24 h | red
nobody          | Oldest unfinished export    | no exporter in 24 h | red
nobody          | Exporters down              | no exporter in 24 h | red
nobody          | State                       | no exporter in 24 h | red
nobody          | Exporter problems           | no exporter in 24 h | red
nobody          | Error                       | no exporter in 24 h | red
nobody          | Dealt with                  | no exporter in 24 h | red
nobody          | IDs of each batch           | no exporter in 24 h | red
odd             | Failed in the last 24 h     | 6                   | red
no such batch   | Failed in the last 24 h     | nothing watched     | -
no such batch   | Failed earlier              | nothing watched     | -
no such batch   | Refused at the start        | nothing watched     | -
no such batch   | State unknown               | nothing watched     | -
no such batch   | Completed                   | nothing watched     | text
no such batch   | Done                        | nothing watched     | text
no such batch   | Error                       | not watched         | text
no such batch   | Dealt with                  | not watched         | text
clocks          | Age of the data             | 20 s                | -
clocks          | Since full scrape           | 40 s                | -
many            | Failed in the last 24 h     | 200                 | red
many            | Completed                   | 8,400               | green
many            | Running                     | 800                 | blue
one of two down | Exporter problems           | 1                   | red
clocks          | Exporter problems           | 2                   | red
one of two down | Failed in the last 24 h     | not all known       | purple
one of two down | Failed earlier              | not all known       | purple
one of two down | Refused at the start        | not all known       | purple
one of two down | Missing in the ID files     | not all known       | purple
one of two down | State unknown               | not all known       | purple
one of two down | Running                     | not all known       | purple
one of two down | Oldest unfinished export    | not all known       | purple
one of two down | Age of the data             | not known           | purple
one of two down | Done                        | not all known       | purple
one of two down | Exporters down              | 1                   | red
one of two down | Answers missing             | not all known       | purple
one of two down | Since full scrape           | not all known       | purple
one of two down | ID files in error           | not all known       | purple
one of two down | IDs rejected                | not all known       | purple
one of two down | Files passed over           | not all known       | purple
one of two down | IDs listed twice            | not all known       | purple
one of two down | Rate limit left             | not all known       | purple
under way, one of two down | Done                        | not all known | purple
under way, one of two down | Running                     | 2             | blue
under way, one of two down | Oldest unfinished export    | not all known | purple
under way, one of two down | Since the last one finished | not all known | purple
under way, one of two down | Age of the data             | not known     | purple
late, one of two down      | Oldest unfinished export    | 1.0 day       | red
blind again                | Failed in the last 24 h     | not known     | purple
blind again                | Done                        | not known     | purple
blind again                | Completed                   | not known     | purple
blind again                | Oldest unfinished export    | not known     | purple
blind again                | Since the last one finished | not known     | purple
blind again                | Age of the data             | not known     | purple
blind, all acknowledged    | Done                        | not known     | purple
blind, all acknowledged    | Completed                   | not known     | purple
blind, all acknowledged    | Oldest unfinished export    | not known     | purple
blind, all acknowledged    | Since the last one finished | not known     | purple
blind, all acknowledged    | Age of the data             | not known     | purple
lookup errors              | Done                        | 0.0%          | blue
lookup errors              | Completed                   | 0             | text
"""

TILES_BY_JOB = """
two jobs        | State      | lab-a: FAILED; lab-b: FAILED
two jobs        | Dealt with | lab-a: no; lab-b: acknowledged
two jobs        | Size       | lab-a: not completed; lab-b: not completed
one of two down | State      | off: exporter down; up: FAILED
one of two down | Dealt with | off: exporter down; up: acknowledged
one of two down | Started    | off: exporter down; up: 2026-09-21 12:14:00
one of two down | IDs of each batch | every batch of off: exporter down; up / weekly: 11
"""

TABLES = {
    ("demo", "Failed, unknown and unfinished exports"): """
        State   | Export                           | Batch        | Ended or started      | Code | Start it again
        FAILED  | fNewestCG411ac0SbNkaUE0SNRK4H0Sx | tcga-7       | 30 minutes ago | 9103 | after the repair
        FAILED  | fOlderCG411ac0SbNkaUE0SNRK4H0Sxy | tcga-7       | 8 hours ago   | 9107 | no, change it first
        FAILED  | fOldCG411ac0SbNkaUE0SNRK4H0Sxyz  | archive-2025 | 5 days ago    | 9999 | ask support
        UNKNOWN | an-export-of-another-account     | archive-2025 | -             | 9008 | no, change it first
        RUNNING | rStuckCG411ac0SbNkaUE0SNRK4H0Sxy | trios        | a day ago     | -    | -
        RUNNING | rTcga00000CG411ac0SbNkaUE0SNRK4H | tcga-7       | an hour ago   | -    | -
    """,
    ("demo", "Batches"): """
        Batch        | Done  | Watched | Failed | Dealt with | Running | Pending | Unknown | Refused | Missing | Exported | Estimated end
        tcga-7       | 76.9% | 52 | 2 | 0 | 6 | 4 | 0 | 3 | 5 | 80 GiB  | 2026-09-21 15:42:00
        archive-2025 | 92.3% | 65 | 1 | 3 | 0 | 0 | 1 | 0 | - | 120 GiB | ended, not complete
        refused-only | -     | 0  | 0 | 0 | 0 | 0 | 0 | 2 | - | -       | ended, not complete
        trios        | 92.3% | 13 | 0 | 1 | 1 | 0 | 0 | 0 | 0 | 24 GiB  | 2026-09-21 14:44:00
    """,
    ("demo", "Error codes"): """
        Code | Meaning | Start it again | Failed | Lookup errors | Refused | Dealt with
        9006 | this kind of file cannot be exported: alias, public, archived or external | no, change it first | 0 | 0 | 3 | 1
        none | no code given | ask support | 0 | 0 | 2 | 0
        9008 | the job does not exist | no, change it first | 0 | 1 | 0 | 0
        9103 | the volume's settings do not allow this location | after the repair | 1 | 0 | 0 | 1
        9107 | the location holds a file already | no, change it first | 1 | 0 | 0 | 0
        9999 | unknown code | ask support | 1 | 0 | 0 | 0
        9100 | the storage service cannot be reached | yes | 0 | 0 | 0 | 2
    """,
    ("demo", "ID files"): """
        Loads | File        | Changed
        error | archive.yml | 3 hours ago
    """,
    ("two jobs", "Batches"): """
        Batch  | Job   | Done  | Watched | Failed | Dealt with | Estimated end
        weekly | lab-a | 76.9% | 13      | 3      | 0          | ended, not complete
        weekly | lab-b | 66.6% | 15      | 0      | 5          | ended, failures dealt with
    """,
    ("two jobs", "Failed, unknown and unfinished exports"): """
        State  | Export                          | Job   | Batch
        FAILED | f00000CG411ac0SbNkaUE0SNRK4H0Sxy | lab-a | weekly
        FAILED | f00001CG411ac0SbNkaUE0SNRK4H0Sxy | lab-a | weekly
        FAILED | f00002CG411ac0SbNkaUE0SNRK4H0Sxy | lab-a | weekly
    """,
    ("two replicas", "Batches"): """
        Batch  | Done  | Watched | Failed | Running | Unknown
        cohort | 98.7% | 400     | 1      | 4       | 0
    """,
    ("two replicas", "Exporters"): """
        Exporter  | Scraped | Answers
        one:10036 | up      | complete
        two:10036 | up      | answers missing
    """,
    ("blind", "Batches"): """
        Batch    | Done      | Watched | Failed    | Dealt with | Running   | Unknown | Exported  | Estimated end
        all-done | not known | 20      | not known | not known  | not known | 20      | not known | not known
    """,
    ("blind again", "Batches"): """
        Batch | Done      | Watched | Failed    | Running   | Pending   | Unknown | Exported  | Estimated end
        mixed | not known | 10      | not known | not known | not known | 9       | not known | not known
        dealt | not known | 1       | not known | not known | not known | 0       | not known | not known
    """,
    ("blind again", "Error codes"): """
        Code      | Failed    | Dealt with
        not known | not known | not known
    """,
    ("blind, all acknowledged", "Error codes"): """
        Code      | Failed    | Dealt with
        not known | not known | not known
    """,
    ("lookup errors", "Batches"): """
        Batch   | Done | Watched | Failed | Running | Unknown
        strange | 0.0% | 1       | 0      | 0       | 0
    """,
    ("all failed", "Batches"): """
        Batch | Done | Watched | Failed | Estimated end
        burnt | 0.0% | 400     | 400    | ended, not complete
    """,
    ("odd", "Failed, unknown and unfinished exports"): """
        State   | Export  | Code | Volume
        FAILED  | odd0    | none | l'ab/"é"
        FAILED  | odd1    | none | l'ab/"é"
        FAILED  | odd2    | none | l'ab/"é"
        FAILED  | odd3    | none | l'ab/"é"
        FAILED  | odd4    | none | l'ab/"é"
        FAILED  | odd5    | none | l'ab/"é"
        ABORTED | aborted | -    | lab/results
    """,
    ("clocks", "Exporters"): """
        Exporter     | Since full scrape     | State file
        ahead:10036  | 40 s                 | error
        behind:10036 | 0 s                  | fine
    """,
    ("down", "Exporters"): """
        Exporter       | Scraped
        exporter:10036 | down
    """,
    ("some unknown", "Batches"): """
        Batch | Done  | Failed        | Running       | Unknown | Exported
        part  | 60.0% | not all known | not all known | 2       | 6 GiB
    """,
    ("outage", "Batches"): """
        Batch | Done   | Watched | Failed | Exported | Estimated end
        b     | 100.0% | 1       | 0      | 2 GiB    | complete
    """,
    ("two jobs", "Details"): """
        Export                           | Job   | Start it again
        f00000CG411ac0SbNkaUE0SNRK4H0Sxy | lab-a | after the repair
        f00000CG411ac0SbNkaUE0SNRK4H0Sxy | lab-b | after the repair
    """,
    ("blind", "Failed, unknown and unfinished exports"): """
        State   | Export                           | Batch    | Ended or started | Duration | Code | Meaning of the code | Start it again | Volume
        UNKNOWN | b00000CG411ac0SbNkaUE0SNRK4H0Sxy | all-done | -                | -        | -    | -                   | -              | -
    """,
    ("blind", "Error codes"): """
        Code      | Failed    | Lookup errors | Refused   | Dealt with
        not known | not known | not known     | not known | not known
    """,
    ("waiting", "Error codes"): """
        Code      | Failed | Dealt with
        no errors | 0      | 0
    """,
    ("outage", "Failed, unknown and unfinished exports"): """
        State
        none
    """,
    ("no such batch", "Failed, unknown and unfinished exports"): """
        State
        nothing watched
    """,
    ("one of two down", "Failed, unknown and unfinished exports"): """
        State         | Batch
        exporter down | every batch of off
    """,
    ("one of two down", "Batches"): """
        Batch  | Job | Watched | Failed | Dealt with
        weekly | up  | 11      | 0      | 1
    """,
    ("one of two down", "Error codes"): """
        Code      | Failed    | Dealt with
        9103      | 0         | 1
        not known | not known | not known
    """,
    ("down", "Failed, unknown and unfinished exports"): """
        State         | Batch
        exporter down | every batch of gone
    """,
    ("one of two down", "ID files"): """
        Loads         | File
        exporter down | every file of off
    """,
    ("waiting", "ID files"): """
        Loads | File
        -     | no ID file
    """,
}
"""The first rows of tables, by view and panel; there may be other columns and rows."""


GRAFANA = {"old": "oldest", "new": "newest"}
"""The version of Grafana that is tested with each version of the servers."""


@pytest.fixture(scope="module")
def rendered(
    server_version: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Panel]]:
    """Return the panels of every view."""
    directory = tmp_path_factory.mktemp("scenarios")
    for replicas in SCENARIOS.values():
        text = directory / "scenario.txt"
        with text.open("w", encoding="utf-8") as file:
            file.writelines(open_metrics(replicas))
        command = ("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h")
        made = promtool(*command, text, directory / "data")
        assert made.returncode == 0, made.stderr
        text.unlink()
    long_range = {"outage in 90 days": VIEWS["outage"]}
    version = GRAFANA[server_version]
    with Prometheus("{}", directory, arguments=["--storage.tsdb.retention.time=30y"]) as server:
        return (
            Rendering(version, server.url, NOW, HOUR, VIEWS).run()
            | Rendering(version, server.url, NOW, 90 * DAY, long_range).run()
        )


def find(panels: list[Panel], title: str) -> Panel:
    """Return the panel with a title."""
    return next(panel for panel in panels if panel["title"] == title)


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return [cell.strip() for cell in line.split("|")]


def forbidden_texts(panel: Panel) -> Iterator[str]:
    """Yield the texts and links of a panel that must never appear."""
    values = panel.get("values", [])
    rows = [cell for row in panel.get("rows", []) for cell in row]
    texts = [text for each in values for text in (each["text"], each.get("name"))]
    texts += [*panel.get("columns", []), *(cell["text"] for cell in rows)]
    texts += [text for each in panel.get("series", []) for text in (each["name"], *each["texts"])]
    forbidden = (
        r"Value|^Time( \d)?$|NaN|undefined|\[object|Infinity|1970|Invalid date|^\{|\$\{|\(cavatica_"
    )
    for text in texts:
        if text is not None and re.search(forbidden, text):
            yield text
        if panel.get("message") and text == panel["message"]:
            yield f"a cell says {text}"
    for each in [*values, *rows]:
        href = each.get("href", "")
        if re.search(r"\$\{|undefined|NaN|\[object|null|(from|to)=(&|$)|(from|to)=[^&]*\.", href):
            yield href
    if panel.get("frames", 1) > 1:
        yield f"{panel['frames']} tables in one"


@pytest.mark.parametrize("view", VIEWS)
def test_no_panel_has_a_forbidden_text(rendered: dict[str, list[Panel]], view: str) -> None:
    """No cell, name or link shows a raw value, such as NaN or a template variable."""
    found = {panel["title"]: list(forbidden_texts(panel)) for panel in rendered[view]}
    assert {title: found for title, found in found.items() if found} == {}


@pytest.mark.parametrize(
    "panel",
    [
        {"values": [{"text": "NaN"}]},
        {"values": [{"text": "1", "name": "sum(cavatica_exports)"}]},
        {"columns": ["Value #B"]},
        {"rows": [[{"text": "1970-01-01"}]]},
        {"rows": [[{"text": "Nothing"}]], "message": "Nothing"},
        {"rows": [[{"text": "a", "href": "/d/x?from=&to=now"}]]},
        {"rows": [[{"text": "a", "href": "/d/x?var-batch=${batch}"}]]},
        {"series": [{"name": '{code="200"}', "texts": []}]},
        {"frames": 2},
    ],
)
def test_forbidden_texts_are_found(panel: Panel) -> None:
    """`forbidden_texts` finds each kind of text or link that must never appear."""
    assert list(forbidden_texts(panel))


@pytest.mark.parametrize("line", TILES.strip().splitlines())
def test_tile_has_text_and_colour(rendered: dict[str, list[Panel]], line: str) -> None:
    """A tile has the text and the colour that `TILES` lists."""
    view, title, text, colour = cells(line)
    [value] = find(rendered[view], title)["values"]
    assert (text, colour) == (value["text"], COLOURS.get(value["colour"], value["colour"]))


@pytest.mark.parametrize("line", TILES_BY_JOB.strip().splitlines())
def test_tile_has_a_value_for_each_job(rendered: dict[str, list[Panel]], line: str) -> None:
    """For an export that two jobs watch, a tile has one value for each job (`TILES_BY_JOB`)."""
    view, title, texts = cells(line)
    values = find(rendered[view], title)["values"]
    assert "; ".join(sorted(f"{each['name']}: {each['text']}" for each in values)) == texts


@pytest.mark.parametrize("view", ["blind", "nobody"])
@pytest.mark.parametrize("title", ["Exported volume", "Throughput"])
def test_graph_without_data_has_no_line(
    rendered: dict[str, list[Panel]], view: str, title: str
) -> None:
    """A graph of bytes without any answer of the API has no line, rather than one at zero."""
    assert find(rendered[view], title)["series"] == []


@pytest.mark.parametrize(("view", "title"), TABLES)
def test_table_begins_with_its_rows(
    rendered: dict[str, list[Panel]], view: str, title: str
) -> None:
    """A table begins with the rows that `TABLES` lists, in this order."""
    header, *expected = map(cells, TABLES[view, title].strip().splitlines())
    panel = find(rendered[view], title)
    assert [each for each in panel["columns"] if each in header] == header
    shown = [
        [cell["text"] for name, cell in zip(panel["columns"], row, strict=True) if name in header]
        for row in panel["rows"]
    ]
    assert shown[: len(expected)] == expected


LOST = "[&#+%]"
"""Characters that data links lose since Grafana 10.4, which decodes a link before opening it."""


def test_link_selects_its_batch(rendered: dict[str, list[Panel]], server_version: str) -> None:
    """The link of a batch selects it, whatever its name; new Grafana fails for names with `LOST`."""
    panel = find(rendered["odd"], "Batches")
    rows = (dict(zip(panel["columns"], row, strict=True)) for row in panel["rows"])
    links = {row["Batch"]["text"]: row["Batch"]["href"] for row in rows}
    assert set(links) == set(ODD_NAMES)
    led = {name: parse_qs(urlsplit(href).query)["var-batch"] for name, href in links.items()}
    lost = {name for name, batch in led.items() if batch != [name]}
    decoded = {name for name in ODD_NAMES if re.search(LOST, name)}
    assert lost == {"old": set(), "new": decoded}[server_version]


def test_restarted_replica_adds_no_unknown_states(
    rendered: dict[str, list[Panel]],
) -> None:
    """A replica that has just restarted knows no state yet; the graph of states does not count it."""
    panel = find(rendered["two replicas"], "States over time")
    unknown = next(each for each in panel["series"] if each["name"] == "UNKNOWN")
    assert unknown["texts"] == ["0"]


def test_undocumented_state_has_its_own_colour(
    rendered: dict[str, list[Panel]],
) -> None:
    """An undocumented state has a colour that no documented state has."""
    panel = find(rendered["odd"], "States over time")
    colours = {each["name"]: each["colour"] for each in panel["series"]}
    assert colours.pop("ABORTED") == "orange"
    assert "orange" not in colours.values()


def test_table_has_a_row_for_each_export_of_many(
    rendered: dict[str, list[Panel]],
) -> None:
    """With 10,000 exports, every failed, pending and running one has its row in the table."""
    panel = find(rendered["many"], "Failed, unknown and unfinished exports")
    assert len(panel["rows"]) == 200 * 7 + 200


@pytest.mark.parametrize(
    ("view", "texts"),
    [
        ("two jobs", {"lab-a exporter:10036": ["complete"], "lab-b exporter:10036": ["complete"]}),
        ("down", {"gone exporter:10036": ["complete", "down"]}),
        ("outage", {"outage exporter:10036": ["down", "complete"]}),
        ("outage in 90 days", {"outage exporter:10036": ["down"]}),
    ],
)
def test_outage_is_visible_in_every_time_range(
    rendered: dict[str, list[Panel]],
    view: str,
    texts: Mapping[str, list[str]],
) -> None:
    """Each exporter has one band, which shows an outage even in a range of 90 days."""
    series = find(rendered[view], "Answers over time")["series"]
    assert {each["name"]: each["texts"] for each in series} == texts
