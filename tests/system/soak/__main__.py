"""The command: `python -m tests.system.soak --help`."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.system.soak.run import soak
from tests.system.soak.schedule import Plan


def main() -> None:
    """Run, print the report, and exit with 0, or with 1 if there were problems."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.system.soak",
        description="Runs the exporter among faults, file edits and four scrapers at once.",
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="default: %(default)g")
    add("--seed", type=int, default=int(time.time()), help="draws faults and edits")
    options = parser.parse_args()
    say = sys.stdout.write
    say(f"{options.minutes:g} minutes with the seed {options.seed}\n")
    sys.stdout.flush()
    directory = Path(tempfile.mkdtemp(prefix="soak-"))
    report, problems = soak(Plan.long(options.minutes), options.seed, directory)
    for name, text in report.items():
        say(f"{name:12} {text}\n")
    for problem in problems[:20]:
        say(f"WRONG  {problem}\n")
    if problems:
        sys.exit(f"{len(problems)} problems; files and log are in {directory}")
    shutil.rmtree(directory)
    say("nothing was wrong\n")


if __name__ == "__main__":
    main()
