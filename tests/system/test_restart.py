"""A restart with a state file: finished exports stay known, and the first scrape is one call."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from exporter.simulator import Fault, Lifetimes, Simulator, serve
from exporter.tracker.snapshot import Block
from exporter.tracker.state_format import decode, encode
from tests.support.exporter_process import LOOPBACK, Page, RunningExporter, process, run_process
from tests.support.timing import within
from tests.support.waits import wait_until

TOKEN = "t0ken-of-a-test"
BATCH = "b"
ENDLESS = Lifetimes(pending=(0, 0), running=(1e9, 1e9))
PLACE = {"volume": "owner/volume", "location": "patients/7.bam"}


@dataclass
class Site:
    """A simulated CAVATICA with finished exports, and the files of an exporter that watches them.

    Attributes:
        simulator: The simulated CAVATICA.
        directory: Directory of all files.
        flags: Flags of the exporter.
    """

    simulator: Simulator
    directory: Path
    flags: tuple[str, ...]

    @property
    def state_file(self) -> Path:
        """The state file."""
        return self.directory / "state" / "file"

    def run_exporter(self) -> tuple[Page, Page]:
        """Start an exporter, scrape it twice, stop it by SIGTERM, and return both pages."""
        with process(self.directory / "log", *self.flags, LOOPBACK) as exporter:
            first, second = exporter.scrape(), exporter.scrape()
            end(exporter)
        return first, second


def end(exporter: RunningExporter) -> None:
    """Stop an exporter by SIGTERM, as systemd does, and expect exit status 0."""
    with within(5):
        assert exporter.stop() == 0


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Yield a site with 1,000 finished exports, 3 running ones, and a superseded failure."""
    simulator = Simulator(token=TOKEN, rate_limit=10_000)
    ids = simulator.start(1000, ago=1e6) + simulator.start(3, ago=1e6, lifetimes=ENDLESS)
    for name, state, finished in (
        ("old", "FAILED", "2026-01-02T00:00:00Z"),
        ("new", "COMPLETED", "2026-01-03T00:00:00Z"),
        ("timeless", "FAILED", None),
    ):
        export: dict[str, object] = {"id": name, "state": state, "destination": PLACE}
        if name == "timeless":
            export["destination"] = {"volume": "owner/volume", "location": "elsewhere"}
        if finished:
            export["finished_on"] = finished
        if state == "FAILED":
            export["error"] = {"code": 9103, "status": 403, "message": "patients/7.bam: denied"}
        simulator.put(export)
        ids.append(name)
    exports = tmp_path / "exports"
    exports.mkdir()
    (exports / f"{BATCH}.yml").write_text("".join(f"- {i}\n" for i in ids))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    (tmp_path / "state").mkdir()
    with serve(simulator) as url:
        yield Site(
            simulator,
            tmp_path,
            (
                f"--api.url={url}",
                f"--api.token-file={token}",
                f"--exports.path={exports}",
                f"--exports.state-file={tmp_path / 'state' / 'file'}",
            ),
        )


def facts(page: Page) -> dict[object, float]:
    """Return the series of exports and batches on a page, except the age of answers."""
    return {
        key: value
        for key, value in page.samples.items()
        if key[0].startswith("cavatica_export") and not key[0].startswith("cavatica_exporter_")
        if key[0] != "cavatica_exports_oldest_answer_timestamp_seconds"
    }


def test_restart_keeps_finished_exports(site: Site) -> None:
    """States, times, sizes, codes and superseded failures stay; the first scrape is one call."""
    first, before = site.run_exporter()
    assert first("cavatica_scrape_api_calls") == 11
    assert before("cavatica_superseded_exports", batch=BATCH) == 1
    assert before("cavatica_export_superseded", batch=BATCH, export_id="old") == 1
    name = "cavatica_export_finished_timestamp_seconds"
    assert before(name, batch=BATCH, export_id="timeless") is not None
    after, _ = site.run_exporter()
    assert after("cavatica_scrape_api_calls") == 1
    assert after("cavatica_up") == 1
    assert facts(after) == facts(before)
    assert after("cavatica_exporter_state_file_error") == 0
    assert b"patients" not in site.state_file.read_bytes()


def test_restart_with_a_broken_id_file_keeps_its_exports(site: Site) -> None:
    """The state file keeps exports of a broken ID file until a restart after its repair."""
    file = site.directory / "exports" / f"{BATCH}.yml"
    _, before = site.run_exporter()
    content = file.read_bytes()
    (site.directory / "exports" / "other.yml").write_text("[]")
    file.write_text("{")
    between, _ = site.run_exporter()
    assert between("cavatica_watched_exports", batch=BATCH) is None
    file.write_bytes(content)
    after, _ = site.run_exporter()
    assert after("cavatica_scrape_api_calls") == 1
    assert facts(after).items() >= facts(before).items()


def test_scrapes_by_cron_forget_removed_ids(site: Site) -> None:
    """With `--once`, too, the state file keeps a removed ID for an hour and not longer."""
    file = site.directory / "exports" / f"{BATCH}.yml"
    ids = file.read_text().splitlines(keepends=True)
    before: list[str] = []
    for part in (ids[:100], ids[100:200], ids[200:300]):
        file.write_text("".join(part))
        scrape_into(site, "page")
        key, known = decode(site.state_file.read_bytes())
        assert {f"- {each.id}\n" for each in known if each.left is None} == set(part)
        assert {f"- {each.id}\n" for each in known if each.left is not None} == set(before)
        # An hour passes.
        aged = tuple(replace(each, left=each.left and each.left - 3601) for each in known)
        site.state_file.write_bytes(b"".join(encode([Block.of(BATCH, aged)], key)))
        before = part


def test_id_file_that_is_missing_in_one_scrape_by_cron_loses_nothing(site: Site) -> None:
    """Exports of an ID file that one scrape does not find stay in the state file.

    Only the state file has the time of a failure to which the API gives none.
    """
    file = site.directory / "exports" / f"{BATCH}.yml"
    scrape_into(site, "page")
    before = scrape_into(site, "page")
    content = file.read_bytes()
    (site.directory / "exports" / "other.yml").write_text("[]")
    file.unlink()
    assert scrape_into(site, "page")("cavatica_watched_exports", batch=BATCH) is None
    file.write_bytes(content)
    after = scrape_into(site, "page")
    assert after("cavatica_scrape_api_calls") == 1
    assert facts(after).items() >= facts(before).items()


def test_failure_before_a_restart_is_superseded_after_it(site: Site) -> None:
    """The hash of a destination is the same in both processes, so the repeat is recognised."""
    late = site.simulator.export("new") | {"state": "RUNNING"}
    done = site.simulator.export("new")
    site.simulator.put(late)
    _, before = site.run_exporter()
    assert before("cavatica_superseded_exports", batch=BATCH) == 0
    site.simulator.put(done)
    after, _ = site.run_exporter()
    assert after("cavatica_superseded_exports", batch=BATCH) == 1


def test_restart_without_the_api_keeps_finished_exports(site: Site) -> None:
    """Finished exports keep their states after a restart during an outage; others are UNKNOWN."""
    _, before = site.run_exporter()
    site.simulator.fault = Fault(status=500)
    after, _ = site.run_exporter()
    assert after("cavatica_up") == 0
    expected = before.states(BATCH)
    expected["UNKNOWN"] = expected.pop("RUNNING")
    assert after.states(BATCH) == expected


def cut_off(file: Path) -> None:
    """Cut off half of the file."""
    os.truncate(file, file.stat().st_size // 2)


def another_file(file: Path) -> None:
    """Replace the file by one of another program."""
    file.write_text("something of somebody's")


def a_directory(file: Path) -> None:
    """Replace the file by a directory."""
    file.unlink()
    file.mkdir()


def a_pipe(file: Path) -> None:
    """Replace the file by a pipe: a plain open of it would wait for ever."""
    file.unlink()
    os.mkfifo(file)


def no_directory(file: Path) -> None:
    """Remove the file and its directory."""
    file.unlink()
    file.parent.rmdir()


@pytest.mark.parametrize("damage", [cut_off, another_file, a_directory, a_pipe, no_directory])
def test_unusable_state_file_is_ignored(site: Site, damage: Callable[[Path], None]) -> None:
    """An unusable file is logged and has no other effect: all exports are asked for again."""
    site.run_exporter()
    damage(site.state_file)
    first, second = site.run_exporter()
    assert first("cavatica_scrape_api_calls") == 11
    assert second("cavatica_up") == 1
    log = (site.directory / "log").read_text()
    assert "Traceback" not in log
    assert 'msg="State file' in log


def test_file_that_is_unreadable_at_the_start_is_used_later(site: Site) -> None:
    """The exporter reads the file later, before it writes it, and knows its content again."""
    _, before = site.run_exporter()
    name = "cavatica_export_finished_timestamp_seconds"
    first = before(name, batch=BATCH, export_id="timeless")
    # Something new, which the file does not have.
    new = site.simulator.start(1, ago=1e6)
    with (site.directory / "exports" / f"{BATCH}.yml").open("a") as ids:
        ids.write(f"- {new[0]}\n")
    aside = site.state_file.rename(site.directory / "aside")
    site.state_file.mkdir()
    with process(site.directory / "log", *site.flags, LOOPBACK) as exporter:
        assert "Is a directory; it will not be overwritten until it can be read" in exporter.log
        site.state_file.rmdir()
        aside.rename(site.state_file)
        page = exporter.scrape()
        assert page("cavatica_scrape_api_calls") == 11
        seen = page(name, batch=BATCH, export_id="timeless")
        assert first is not None
        assert seen is not None
        assert seen > first
        wait_until(lambda: 'msg="State file read"' in exporter.log, "it is read", 10)
        page = exporter.scrape()
        assert page(name, batch=BATCH, export_id="timeless") == first
        assert page("cavatica_exporter_state_file_error") == 0
        end(exporter)
    assert new[0] in {each.id for each in decode(site.state_file.read_bytes())[1]}
    after, _ = site.run_exporter()
    assert after("cavatica_scrape_api_calls") == 1
    assert facts(after) == facts(page)


def scrape_into(site: Site, name: str) -> Page:
    """Write one scrape to a file, as cron jobs do, and return it."""
    output = site.directory / name
    ended = run_process([*site.flags, "--once", f"--once.output={output}"])
    assert ended.returncode == 0, ended.stderr
    return Page.of(output.read_text())


def test_once_uses_the_state_file(site: Site) -> None:
    """`--once --once.output` reads and writes the state file, so later cron jobs make one call."""
    calls = [scrape_into(site, "page")("cavatica_scrape_api_calls") for _ in range(2)]
    assert calls == [11, 1]


def test_once_shows_its_own_write_of_the_state_file(site: Site) -> None:
    """The output has time and error of the same run's write: cron jobs have no later page."""
    began = time.time()
    page = scrape_into(site, "page")
    written = page("cavatica_exporter_state_file_last_write_success_timestamp_seconds")
    assert written is not None
    assert began <= written <= time.time()
    assert page("cavatica_exporter_state_file_error") == 0
    no_directory(site.state_file)
    page = scrape_into(site, "page")
    assert page("cavatica_exporter_state_file_last_write_success_timestamp_seconds") is None
    assert page("cavatica_exporter_state_file_error") == 1


def test_once_without_output_only_reads_the_state_file(site: Site) -> None:
    """A scrape that is printed may run with a running exporter's flags, as another user."""
    scrape_into(site, "page")
    before = site.state_file.stat()
    new = site.simulator.start(1, ago=1e6)
    (site.directory / "exports" / "new.yml").write_text(f"- {new[0]}\n")
    ended = run_process([*site.flags, "--once"])
    assert ended.returncode == 0, ended.stderr
    assert Page.of(ended.stdout)("cavatica_scrape_api_calls") == 1
    after = site.state_file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert [*site.state_file.parent.iterdir()] == [site.state_file]
