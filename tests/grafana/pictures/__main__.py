"""Draw all dashboards, light and dark: python -m tests.grafana.pictures [DIRECTORY [SCENARIO]].

Needs Chromium, the libraries of `make pictures`, and Prometheus.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

from tests.grafana.node import DIRECTORY, ROOT
from tests.grafana.scenario import HOUR, MINUTE, NOW, open_metrics
from tests.grafana.scenarios import NEWEST_FAILURE, SCENARIOS
from tests.support.servers import Prometheus, programs_of, promtool

WIDTH = 1500
UNIT = 38
MARGIN = 104
RANGE = 3 * HOUR


def main(directory: Path, scenario: str) -> None:
    """Write a picture of each dashboard and mode into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    jobs = (
        sorted({each.target["job"] for each in SCENARIOS[scenario]})
        if scenario in SCENARIOS
        else [scenario]
    )
    with tempfile.TemporaryDirectory() as temporary, serve(Path(temporary), scenario) as url:
        for file in sorted((ROOT / "dashboards").glob("*.json")):
            panels = json.loads(file.read_text(encoding="utf-8"))["panels"]
            rows = max(each["gridPos"]["y"] + each["gridPos"]["h"] for each in panels)
            for mode in ("light", "dark"):
                view = [("uid", file.stem), ("mode", mode), ("now", NOW), ("range", RANGE)]
                view += [("var-job", job) for job in jobs]
                view += [("var-export_id", NEWEST_FAILURE)]
                picture = directory / f"{file.stem}-{mode}.png"
                shoot(f"{url}/?{urlencode(view)}", picture, height=rows * UNIT + MARGIN)
                sys.stdout.write(f"{picture}\n")


@contextmanager
def serve(directory: Path, scenario: str) -> Iterator[str]:
    """Serve the page that draws dashboards, with a scenario in Prometheus; yield its address."""
    prometheus = directory / "prometheus"
    if scenario in SCENARIOS:
        text = directory / "scenario.txt"
        replicas = [replace(each, since=max(each.since, RANGE)) for each in SCENARIOS[scenario]]
        with text.open("w", encoding="utf-8") as file:
            file.writelines(open_metrics(replicas))
        command = ("tsdb", "create-blocks-from", "openmetrics", "--max-block-duration=24h")
        made = promtool(*command, text, prometheus / "data")
        if made.returncode:
            sys.exit(made.stderr)
    with Prometheus("{}", prometheus, arguments=["--storage.tsdb.retention.time=30y"]) as server:
        arguments = (DIRECTORY / "pictures", ROOT / "dashboards", server.url, str(NOW))
        program = [
            str(each) for each in ("node", Path(__file__).with_name("serve.mjs"), *arguments)
        ]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as node:
            try:
                assert node.stdout
                yield node.stdout.readline().strip()
            finally:
                node.terminate()


def shoot(url: str, picture: Path, *, height: int) -> None:
    """Save a screenshot of a page in Chromium, with few colours so that the file is small."""
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--disable-background-networking", f"--user-data-dir={profile}"),
                *(f"--window-size={WIDTH},{height}", "--virtual-time-budget=20000"),
                *(f"--screenshot={picture}", url),
            ],
            stderr=subprocess.DEVNULL,
            timeout=2 * MINUTE,
            check=True,
        )
    smaller = ["pngquant", "--force", "--ext=.png", "--strip", "64"]
    subprocess.run([*smaller, picture], check=True)


if __name__ == "__main__":
    given = sys.argv[1:]
    with programs_of("new"):
        main(Path(given[0]) if given else ROOT / "docs" / "pictures", (given[1:] or ["demo"])[0])
