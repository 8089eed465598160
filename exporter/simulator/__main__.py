"""A simulator in a process of its own: `python -m exporter.simulator --help`."""

import argparse
import sys
from pathlib import Path

from exporter.simulator.app import Simulator
from exporter.simulator.life import Lifetimes
from exporter.simulator.server import serve

_MONTH, _DAY = 30 * 86400.0, 86400.0


def main(arguments: list[str] | None = None) -> None:
    """Serve until standard input ends, so that the process never outlives its parent.

    A number on a line of standard input changes this many unfinished exports (from RUNNING to
    PENDING or back: they stay unfinished); the same line on standard output confirms it.
    """
    options = _options().parse_args(arguments)
    simulator = Simulator(token=options.token, seed=options.seed, rate_limit=options.rate_limit)
    for_ever = Lifetimes(pending=(0.0, 0.0), running=(10 * 365 * _DAY,) * 2)
    short = Lifetimes(failed_share=options.failed_share)
    finished = [
        *simulator.start(options.finished, ago=_MONTH, lifetimes=short),
        *simulator.start(options.recent, ago=_DAY / 2, lifetimes=short),
    ]
    unfinished = simulator.start(options.unfinished, lifetimes=for_ever)
    if options.write_ids is not None:
        _write_ids(finished + unfinished, options.write_ids, options.files)
    with serve(simulator, port=options.port) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            for export_id in unfinished[: int(line)]:
                export = simulator.export(export_id)
                state = "RUNNING" if export["state"] == "PENDING" else "PENDING"
                simulator.put(export | {"state": state})
            sys.stdout.write(line)
            sys.stdout.flush()


def _write_ids(ids: list[str], directory: Path, files: int) -> None:
    """Distribute the IDs over this many ID files in turn, so that each has unfinished ones."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        lines = [f"- {export_id}\n" for export_id in ids[number::files]]
        (directory / f"batch-{number:04}.yml").write_text("".join(lines), encoding="utf-8")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m exporter.simulator",
        description="Simulates CAVATICA on a port of loopback, and prints its URL as first line. "
        "It exits when its standard input ends.",
    )
    add = parser.add_argument
    add("--port", type=int, default=0, help="0: a free one")
    add("--token", default="simulated", help="what clients must send (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--rate-limit", type=int, default=1000, help="calls in 5 minutes")
    add("--finished", type=int, default=0, help="exports that ended about a month ago")
    add("--recent", type=int, default=0, help="exports that ended about half a day ago")
    add("--unfinished", type=int, default=0, help="exports that run for years")
    add("--failed-share", type=float, default=0.1, help="of those that ended")
    add("--write-ids", type=Path, metavar="DIR", help="write the IDs there as ID files")
    add("--files", type=int, default=1, help="number of ID files")
    return parser


if __name__ == "__main__":
    main()
