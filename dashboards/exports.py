"""Are my exports done, and what needs me?"""

from dashboards.attention import exports_needing_attention, how_to_acknowledge
from dashboards.batches import batches
from dashboards.codes import error_codes
from dashboards.fields import OTHER_COLOUR, Json, state_colours
from dashboards.frame import PanelRow, Section, batch_variable
from dashboards.frame import dashboard as frame
from dashboards.panels import firing_alerts, graph, query
from dashboards.promql import BATCH, bytes_if_known, counts, in_batches, max_by
from dashboards.tiles import first_tiles, second_tiles


def dashboard() -> Json:
    """Return the dashboard to begin with."""
    return frame(
        "cavatica-exports",
        "CAVATICA / Exports",
        "Are my exports done, and what needs me?",
        [
            Section(
                "What needs me",
                [
                    PanelRow(4, first_tiles()),
                    PanelRow(4, second_tiles(), widths=[3, 3, 3, 3, 4, 4, 4]),
                    PanelRow(12, [exports_needing_attention()]),
                    PanelRow(2, [how_to_acknowledge()]),
                ],
            ),
            Section("Batches", [PanelRow(10, [batches()])]),
            Section("Errors and alerts", [PanelRow(9, [error_codes(), _alerts()], widths=[17, 7])]),
            Section("Over time", [PanelRow(9, [_states(), _bytes(), _throughput()])]),
        ],
        since="now-24h",
        variables=[batch_variable()],
    )


def _alerts() -> Json:
    return firing_alerts(
        "Alerts",
        "Firing and pending alerts about CAVATICA exports. Needs the bundled rules, and a data "
        "source that may show its alerts in Grafana.",
    )


def _states() -> Json:
    return graph(
        "States over time",
        "How many exports were in each state, acknowledged and superseded failures included. A "
        "gap: the scrape failed. Orange: a state that CAVATICA does not document.",
        query(f"sum by (state) ({counts('cavatica_exports', own='state')})", "{{state}}"),
        stacked=True,
        overrides=state_colours(),
        color={"mode": "fixed", "fixedColor": OTHER_COLOUR},
        decimals=0,
        unit="locale",
    )


def _bytes() -> Json:
    return graph(
        "Exported volume",
        "The size of the files of all completed exports of the chosen batches. A gap: it is not "
        "known, or the scrape failed.",
        query(f"sum({bytes_if_known(counts('cavatica_exported_bytes'))})", "exported"),
        empty=NO_BYTES,
        color={"mode": "fixed", "fixedColor": "blue"},
        unit="bytes",
    )


NO_BYTES = "No exporter answers, or no state is known: how much was exported is not known."


def _throughput() -> Json:
    # The size appears when an export completes, and it shrinks when an ID file is removed: not a
    # counter, and smooth only over a long time.
    # While nobody answers, the last hour has answers still.
    now = bytes_if_known(counts("cavatica_exported_bytes"))
    last_hour = max_by(f"delta({in_batches('cavatica_exported_bytes')}[1h])", BATCH)
    return graph(
        "Throughput",
        "Bytes per second, on the average of an hour: it climbs for an hour after a start, and "
        "falls for an hour after an end. Too high for an hour after a partly completed batch was "
        "added, or after an exporter with thousands of exports was restarted.",
        query(f"clamp_min(sum({last_hour} and on ({BATCH}) {now}), 0) / 3600", "mean of an hour"),
        empty=NO_BYTES,
        color={"mode": "fixed", "fixedColor": "blue"},
        unit="binBps",
    )
