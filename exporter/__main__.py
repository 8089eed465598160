"""The entry point of `cavatica-exporter` and of `python -m exporter`."""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Block SIGHUP, then load and run the command.

    Loading can take a second. SIGHUP in that time would end the process, and systemd does not
    restart a process that SIGHUP ended.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    from exporter.cli import command  # noqa: PLC0415 # once SIGHUP is blocked

    command.main()


if __name__ == "__main__":
    main()
