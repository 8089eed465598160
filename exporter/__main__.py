"""The entry point of `cavatica-exporter` and of `python -m exporter`."""

from typing import NoReturn

from exporter.cli.loading import guard


def main() -> NoReturn:
    """Load and run the command; signals do no harm meanwhile."""
    guard()
    from exporter.cli import command  # noqa: PLC0415 # once signals are guarded

    command.main()


if __name__ == "__main__":
    main()
