"""The exporter's process: its first start, its restart with a state file, and its end."""

import contextlib
import signal
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from exporter.simulator import Fault, Simulator
from scripts.ports import reserved_port
from tests.support.exporter_process import RunningExporter, process
from tests.support.timing import is_within
from tests.support.waits import wait_until
from tests.system.soak.endpoint import Endpoint
from tests.system.soak.environment import Environment
from tests.system.soak.findings import Findings
from tests.system.soak.pages import Moment, PageChecker, read

# The documented limit for the end after SIGTERM.
_END_SECONDS: Final = 5.0
_START_SECONDS: Final = 10.0


class RestartableExporter:
    """The exporter's process, which can be restarted on the same port.

    Args:
        directory: Directory of the logs.
        flags: Flags of the exporter, without its listen address.
        authority: File of the authority that signed its certificate.
        environment: The environment of its process.
        findings: Records problems.

    Attributes:
        running: The current process.
        logs: Log files of all processes.
    """

    def __init__(
        self,
        directory: Path,
        flags: Sequence[str],
        authority: Path,
        environment: Environment,
        findings: Findings,
    ) -> None:
        self.logs: list[Path] = []
        self._directory = directory
        self._flags = flags
        self._authority = authority
        self._environment = environment
        self._findings = findings
        self._stack = contextlib.ExitStack()
        self._port = self._stack.enter_context(reserved_port())
        self.running = self._begin()

    @property
    def url(self) -> str:
        """The exporter's URL."""
        return self.running.urls[0]

    def close(self) -> None:
        """Stop the process, by SIGKILL if necessary."""
        self._stack.close()

    def restart(self, endpoint: Endpoint, checker: PageChecker) -> str:
        """Stop the exporter while the file server hangs; start it while the API is unavailable."""
        with endpoint.unavailable():
            with self._environment.hanging():
                self.running.send(signal.SIGHUP)
                time.sleep(0.5)
                took = self._stop()
            began = Moment.now()
            self.running = self._begin()
            ready = time.monotonic() - began.monotonic
            if not is_within(ready, _START_SECONDS):
                self._findings.add(f"a start took {ready:.1f} s")
            began = Moment.now()
            page = read(self.running.get().text, is_openmetrics=False)
            for problem in checker.problems(page, began, Moment.now()):
                self._findings.add(f"after the restart: {problem}")
        known = sum(
            value
            for (name, labels), value in page.samples.items()
            if name == "cavatica_exports" and dict(labels)["state"] in {"COMPLETED", "FAILED"}
        )
        if not known:
            self._findings.add("after the restart: nothing is known of finished exports")
        return (
            f"ended in {took:.1f} s while the file server hung, ready again in {ready:.1f} s, and"
            f" {known:g} finished exports known without the API"
        )

    def end(self, simulator: Simulator) -> str:
        """Send SIGTERM during a slow scrape; expect an answer to the scrape, then the exit."""
        answers: list[float] = []

        def scrape() -> None:
            timeout = {"X-Prometheus-Scrape-Timeout-Seconds": "20"}
            read(self.running.get(**timeout).text, is_openmetrics=False)
            answers.append(time.monotonic())

        simulator.fault = Fault(delay=15.0)
        simulator.requests.clear()
        scraper = threading.Thread(target=scrape)
        scraper.start()
        wait_until(lambda: simulator.requests, "the scrape asks the API")
        began = time.monotonic()
        took = self._stop()
        scraper.join()
        if not answers:
            self._findings.add("SIGTERM: the running scrape was not answered")
            return "the running scrape was not answered"
        return f"SIGTERM answered in {answers[0] - began:.1f} s, exit in {took:.1f} s"

    def _begin(self) -> RunningExporter:
        address = f"--web.listen-address=127.0.0.1:{self._port}"
        self.logs.append(self._directory / f"log{len(self.logs)}")
        running = self._stack.enter_context(
            process(self.logs[-1], *self._flags, address, command=self._environment.command)
        )
        running.authority = self._authority
        return running

    def _stop(self) -> float:
        """Stop the process by SIGTERM; return the seconds that it took."""
        began = time.monotonic()
        status = self.running.stop()
        took = time.monotonic() - began
        if status != 0 or not is_within(took, _END_SECONDS):
            self._findings.add(f"SIGTERM: status {status} after {took:.2f} s")
        assert self.running.process is not None
        output, _ = self.running.process.communicate()
        self._findings.search("standard output", output.encode())
        return took
