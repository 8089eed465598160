"""The entry point of `cavatica-exports` and of `python -m exporter.tool`."""

from typing import NoReturn

from exporter.cli.loading import guard


def main() -> NoReturn:
    """Load and run the command; signals do no harm meanwhile."""
    guard()
    from exporter.tool import command  # noqa: PLC0415 # once signals are guarded

    command.main()


if __name__ == "__main__":
    main()
