"""The commands of docs/id-files.md that start failed exports again, run as they are printed."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from exporter.simulator import Fault, Lifetimes, Simulator, serve
from exporter.simulator.app import StartResponse
from exporter.simulator.request import Environ
from tests.support.alert_files import ROOT
from tests.support.curl import require_curl
from tests.support.exporter_process import environment
from tests.support.waits import PATIENCE

TOKEN = "0123456789abcdef0123456789abcdef"
API = "https://cavatica-api.sbgenomics.com/v2"
CREATE = "/v2/bulk/storage/exports/create"
PAGE = (ROOT / "docs/id-files.md").read_text("utf-8")
[SCRIPT] = re.findall(r"^    \(\n(?:    .*\n)+?    \)\n", PAGE, re.MULTILINE)
FAILED = next(line for line in SCRIPT.splitlines() if "cavatica-exports failed" in line)


def readable_by_others(path: Path, top: Path) -> bool:
    """Return whether other users can read a file, by the modes of it and of what it is in."""
    here = [path, *(each for each in path.parents if top in each.parents)]
    return all(stat.S_IMODE(each.stat().st_mode) & 0o077 for each in here)


@dataclass
class Site:
    """A directory with ID files, and the API.

    Attributes:
        directory: Holds `exports`, `token` and `tmp`, the directory for temporary files.
        simulator: The API.
        url: Its URL.
        seen: Temporary files during the requests, and whether others can read each.
    """

    directory: Path
    simulator: Simulator
    url: str = ""
    seen: dict[Path, bool] = field(default_factory=dict)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Note which temporary files there are, then answer."""
        temporary = self.directory / "tmp"
        if environ["PATH_INFO"] == CREATE:
            files = [path for path in temporary.rglob("*") if path.is_file()]
            self.seen |= {path: readable_by_others(path, temporary) for path in files}
        return self.simulator(environ, start_response)

    def watch(self, count: int, failed_share: float) -> None:
        """Write an ID file of exports that have ended."""
        lifetimes = Lifetimes((1, 1), (1, 1), failed_share)
        ids = self.simulator.start(count, ago=7200, lifetimes=lifetimes)
        (self.directory / "exports/batch.txt").write_text("\n".join(ids), encoding="utf-8")

    def run(self, commands: str) -> "subprocess.CompletedProcess[str]":
        """Run commands of the page, with the API's URL in place of CAVATICA's."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return subprocess.run(
            ["/bin/sh", "-c", commands.replace(API, self.url)],
            cwd=self.directory,
            env=environment(
                PATH=path, TMPDIR=str(self.directory / "tmp"), CAVATICA_EXPORTER_API_URL=self.url
            ),
            capture_output=True,
            text=True,
            timeout=PATIENCE * 3,
            check=False,
            umask=0o022,
        )

    def sent(self) -> list[str]:
        """Return the bodies of the requests that start exports."""
        requests = [each for each in self.simulator.requests if each.path == CREATE]
        return [each.body.decode() for each in requests]

    def files(self) -> set[str]:
        """Return the names of all files but the token."""
        found = (path for path in self.directory.rglob("*") if path.is_file())
        return {str(path.relative_to(self.directory)) for path in found} - {"token"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Return a directory with a token and no ID file, and an API without exports."""
    require_curl()
    for name in ("exports", "tmp"):
        (tmp_path / name).mkdir()
    (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
    result = Site(tmp_path, Simulator(token=TOKEN))
    with serve(result) as result.url:
        yield result


def test_each_request_is_sent_once_and_its_answer_is_an_id_file(site: Site) -> None:
    """Every line is sent once; others can read none of them, and only the answers stay."""
    site.watch(250, 1.0)
    lines = site.run(FAILED.partition(" --output")[0]).stdout.splitlines()
    assert len(lines) > 1
    done = site.run(SCRIPT)
    assert done.returncode == 0, done.stderr
    assert site.sent() == lines
    assert len(site.seen) > len(lines)
    assert not any(site.seen.values())
    answers = site.files() - {"exports/batch.txt"}
    assert len(answers) == len(lines)
    assert all(re.fullmatch(r"exports/again-[\d-]+\.[a-z]+\.json", name) for name in answers)


def test_exports_that_were_started_again_are_not_started_twice(site: Site) -> None:
    """The answers are ID files, so that a second run knows what is under way."""
    site.watch(20, 1.0)
    site.run(SCRIPT)
    before = site.sent()
    assert site.run(SCRIPT).returncode == 0
    assert site.sent() == before


def test_nothing_is_sent_if_nothing_has_failed(site: Site) -> None:
    """Without a failure, no request is sent and no file is made."""
    site.watch(20, 0.0)
    done = site.run(SCRIPT)
    assert (done.returncode, site.sent(), site.files()) == (0, [], {"exports/batch.txt"})


def test_nothing_is_sent_if_what_failed_is_not_known(site: Site) -> None:
    """If `failed` reports an error, no request is sent and no file is made."""
    site.watch(20, 1.0)
    (site.directory / "exports/broken.json").write_text("{", encoding="utf-8")
    done = site.run(SCRIPT)
    assert "broken.json" in done.stderr
    assert done.returncode == 1
    assert site.sent() == []
    assert site.files() == {"exports/batch.txt", "exports/broken.json"}


def test_no_further_request_is_sent_after_one_without_an_answer(site: Site) -> None:
    """If a request fails, the rest is not sent, and no request stays in a file."""
    site.watch(250, 1.0)
    site.simulator.fault = Fault(status=503, when=lambda request: request.path == CREATE)
    done = site.run(SCRIPT)
    assert "503" in done.stderr
    assert done.returncode != 0
    assert len(site.sent()) == 1
    assert site.files() == {"exports/batch.txt"}
