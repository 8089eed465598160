"""Real Prometheus and Alertmanager servers, on loopback, for the tests marked `servers`."""

import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import pytest
import requests
from typing_extensions import Self

from scripts.ports import reserved_port
from tests.support.waits import wait_until

DIRECTORY = Path(__file__).parents[2] / ".servers"
"""The directory into which `make test` puts the programs, one subdirectory for each version."""

VERSIONS = ("old", "new")
"""The oldest versions that are promised, and recent ones; tests marked `servers` run on both."""

PROGRAMS: Mapping[str, Sequence[str]] = {
    "prometheus": ["prometheus"],
    "promtool": ["promtool"],
    "alertmanager": ["alertmanager", "prometheus-alertmanager"],
    "amtool": ["amtool"],
}
"""The programs that are needed, each with the names it may have on PATH."""

PROMISED: Mapping[str, tuple[int, int]] = {
    "prometheus": (2, 42),
    "promtool": (2, 42),
    "alertmanager": (0, 25),
    "amtool": (0, 25),
}
"""The oldest versions that the README promises; older programs on PATH are not used."""

START_SECONDS = 30.0
STOP_SECONDS = 10.0
TOOL_SECONDS = 600.0
"""Timeout of promtool and amtool: rule tests over a weekend take long on a busy machine."""

T = TypeVar("T")


def find_program(
    name: str, version: str, *, directory: Path = DIRECTORY, path: str | None = None
) -> Path | None:
    """Return a program of `PROGRAMS`, or None.

    If the directory lacks the old version, a program on PATH is used instead, unless it is older
    than promised.
    """
    if (own := directory / version / "bin" / name).exists():
        return own
    if version != "old":
        return None
    found = _on_path(name, path)
    return found if found and version_of(found) >= PROMISED[name] else None


def _on_path(name: str, path: str | None) -> Path | None:
    found = (shutil.which(known, path=path) for known in PROGRAMS[name])
    return next((Path(each) for each in found if each), None)


@functools.cache
def version_of(file: Path) -> tuple[int, int]:
    """Return the first two numbers of the version that a program prints."""
    result = subprocess.run([file, "--version"], capture_output=True, text=True, check=True)
    # Old versions print it to standard error.
    match = re.search(r"version (\d+)\.(\d+)", result.stdout + result.stderr)
    if match is None:
        message = f"{file} --version names no version: {result.stdout + result.stderr}"
        raise ValueError(message)
    return int(match[1]), int(match[2])


def require_programs(
    version: str, *, ci: bool, directory: Path = DIRECTORY, path: str | None = None
) -> None:
    """Skip the running test if a program of the version is missing; under CI make it fail."""
    missing = [
        name + _too_old(name, version, path)
        for name in PROGRAMS
        if not find_program(name, version, directory=directory, path=path)
    ]
    if not missing:
        return
    reason = (
        f"{version} servers are not here: {', '.join(missing)}"
        " (`make servers` gets them from Debian's packages)"
    )
    if ci:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _too_old(name: str, version: str, path: str | None) -> str:
    if version != "old" or not (found := _on_path(name, path)):
        return ""
    has, needed = (".".join(map(str, each)) for each in (version_of(found), PROMISED[name]))
    return f" ({found} is {has}, {needed} is needed)"


_in_use: list[str] = []


@contextmanager
def programs_of(version: str) -> Iterator[None]:
    """Make all helpers use the programs of a version inside the block."""
    _in_use.append(version)
    try:
        yield
    finally:
        _in_use.pop()


def program(name: str) -> Path:
    """Return a program of the version in use; only tests marked `servers` have one."""
    if _in_use and (found := find_program(name, _in_use[-1])):
        return found
    message = f"{name} is missing: mark the test with pytest.mark.servers"
    raise LookupError(message)


def promtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run promtool to its end, with any exit code; its output is captured as text."""
    return _run("promtool", arguments, stdin)


def amtool(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run amtool to its end, with any exit code; its output is captured as text."""
    return _run("amtool", arguments, stdin)


def _run(
    name: str, arguments: Sequence[str | Path], stdin: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program(name), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS,
        check=False,
        env={**os.environ, "GOGC": "400"},  # a fifth less processor time, for some memory
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of an instant vector; a scalar has no labels."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One element of a range vector: pairs of Unix time and value."""

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]


class _Server:
    """A server as a context manager: ready inside the block, stopped after it.

    Its configuration, data and log are in `directory`; paths in the configuration may be relative
    to it. Entering the same object again is a restart with the old data. If the block fails, the
    log is printed for pytest to show.
    """

    name: ClassVar[str]
    flags: ClassVar[Sequence[str]]

    def __init__(self, config: str, directory: Path, *, arguments: Sequence[str] = ()) -> None:
        self.directory = directory.resolve()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_file = self.directory / f"{self.name}.yml"
        self.config_file.write_text(config, encoding="utf-8")
        self.log_file = self.directory / f"{self.name}.log"
        self.arguments = list(arguments)
        self.url = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._http = stack.enter_context(requests.Session())
            self._http.trust_env = False  # no proxy for loopback
            self._start(stack.enter_context(reserved_port()))
            stack.callback(self._stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()
        if kind is not None:
            sys.stdout.write(f"--- log of {self.name}\n{self.log}")

    @property
    def log(self) -> str:
        """Everything that the server wrote since its start."""
        return self.log_file.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str, **parameters: str | float) -> requests.Response:
        """GET a path of the server; an answer other than 2xx fails the test, with its text."""
        response = self._http.get(self.url + path, params=parameters, timeout=30)
        if not response.ok:
            pytest.fail(f"{response.request.url}: {response.status_code} {response.text}")
        return response

    def reload(self) -> None:
        """Load the configuration that is in `config_file` now."""
        self._http.post(f"{self.url}/-/reload", timeout=30).raise_for_status()

    def _start(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        found = program(self.name)
        command = [
            str(found),
            f"--config.file={self.config_file}",
            f"--web.listen-address=127.0.0.1:{port}",
            *(flag.format(data=self.directory / "data") for flag in self.flags),
            *self.arguments,
        ]
        with self.log_file.open("wb") as log:
            # The working directory is where the unpacked Alertmanager finds its templates.
            self._process = subprocess.Popen(
                command,
                cwd=found.parent.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(
                lambda: self._process.poll() is not None or self._ready(),
                f"{self.name} is ready",
                START_SECONDS,
            )
        except BaseException:
            self._stop()
            raise
        if self._process.poll() is not None:
            pytest.fail(f"{self.name} does not start; its log:\n{self.log}")

    def _ready(self) -> bool:
        try:
            return self._http.get(f"{self.url}/-/ready", timeout=5).ok
        except requests.RequestException:
            return False

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Prometheus(_Server):
    """A real Prometheus."""

    name = "prometheus"
    flags = ("--storage.tsdb.path={data}", "--web.enable-lifecycle")

    def query(self, expression: str, *, at: float | None = None) -> list[Sample]:
        """Return the instant vector or scalar of an expression, now or at a Unix time."""
        parameters: dict[str, str | float] = {"query": expression}
        if at is not None:
            parameters["time"] = at
        data = self._data("/api/v1/query", **parameters)
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    def query_range(
        self, expression: str, *, start: float, end: float, step: float
    ) -> list[Series]:
        """Return the range vector of an expression between two Unix times, every `step` seconds."""
        data = self._data("/api/v1/query_range", query=expression, start=start, end=end, step=step)
        return [
            Series(each["metric"], [(time, float(value)) for time, value in each["values"]])
            for each in data["result"]
        ]

    def alerts(self) -> list[dict[str, Any]]:
        """Return all active alerts: `labels`, `annotations`, `state`, `activeAt`, `value`."""
        alerts: list[dict[str, Any]] = self._data("/api/v1/alerts")["alerts"]
        return alerts

    def targets(self) -> list[dict[str, Any]]:
        """Return active targets: `labels`, `health`, `lastError`, `lastScrape`, and more."""
        targets: list[dict[str, Any]] = self._data("/api/v1/targets")["activeTargets"]
        return targets

    def _data(self, path: str, **parameters: str | float) -> dict[str, Any]:
        data: dict[str, Any] = self.get(path, **parameters).json()["data"]
        return data


class Alertmanager(_Server):
    """A real Alertmanager, without a cluster."""

    name = "alertmanager"
    flags = ("--storage.path={data}", "--cluster.listen-address=")

    @property
    def address(self) -> str:
        """Host and port, as a Prometheus configuration names its Alertmanagers."""
        return self.url.removeprefix("http://")

    def alerts(self) -> list[dict[str, Any]]:
        """Return alerts as API v2 does: `labels`, `annotations`, `status`, and more."""
        alerts: list[dict[str, Any]] = self.get("/api/v2/alerts").json()
        return alerts
