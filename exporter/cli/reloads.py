"""What SIGHUP reloads, each part in a thread of its own."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from signal import SIGHUP
from signal import Signals as Signal
from typing import TYPE_CHECKING, Final

from exporter import background
from exporter.cli import logs
from exporter.cli.signals import Signals

if TYPE_CHECKING:
    from concurrent import futures

# After so many seconds a reload that is not finished is logged.
_LATE_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Reloads:
    """Reloads everything on SIGHUP; after an error, the last good content stays in effect.

    A file server that hangs keeps neither the other parts nor SIGTERM waiting.

    Args:
        works: What is reloaded, by name.
        reload_files: Begins to reload the ID files, in a thread of its own.
    """

    def __init__(
        self,
        works: Mapping[str, Callable[[], object]],
        reload_files: "Callable[[], futures.Future[None]] | None" = None,
    ) -> None:
        self._reload_files = reload_files
        self._reloads = {
            name: background.Repeated(partial(_attempt, work, name), f"reload {name}")
            for name, work in works.items()
        }
        self._begun: dict[str, futures.Future[None]] = {}

    def serve(self, signals: Signals) -> Signal:
        """Reload on each SIGHUP, and return the signal that ends the process."""
        while True:
            # This thread tells what is late: a timer would need another one.
            received = signals.next(_LATE_SECONDS if self._begun else None)
            if received == SIGHUP:
                self._begin()
            elif received is None:
                self._report_late()
            else:
                return received

    def _begin(self) -> None:
        _log.info("Reloading")
        self._begun = {}
        if self._reload_files is not None:
            self._start("ID files", self._reload_files)
        for name, reload in self._reloads.items():
            is_late = reload.is_running
            self._start(name, reload.begin)
            if is_late:
                _log.warning("Earlier reload not finished; another follows it", extra={"of": name})

    def _start(self, name: str, begin: Callable[[], "futures.Future[None]"]) -> None:
        try:
            self._begun[name] = begin()
        except RuntimeError:
            _log.error(  # a traceback would not help
                "Reload failed; the last good content stays in effect",
                extra={"of": name, "err": "no thread can be started"},
            )

    def _report_late(self) -> None:
        for name, reload in self._begun.items():
            if not reload.done():
                _log.warning(
                    "Reload not finished yet; the last good content stays in effect",
                    extra={"of": name},
                )
        self._begun = {}


def _attempt(reload: Callable[[], object], name: str) -> None:
    try:
        reload()
    except Exception as error:  # noqa: BLE001 # a failed reload changes nothing
        _log.error(
            "Reload failed; the last good content stays in effect",
            extra={"of": name, "err": logs.unexpected(error)},
        )
