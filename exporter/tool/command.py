"""The command line of `cavatica-exports`."""

from collections.abc import Sequence
from typing import NoReturn

import click

from exporter.cli.command import invoke, version
from exporter.tool.discover_command import discover_command
from exporter.tool.program import NAME
from exporter.tool.watched_commands import failed_command, status_command


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command and exit with its status; 2 for a wrong flag or no token."""
    invoke(make_group(), arguments)


def make_group() -> click.Group:
    """Return the command with its subcommands."""

    @click.group(
        NAME,
        invoke_without_command=True,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        epilog="The flags for the API, the ID files and the log, and their environment variables,"
        " are those of cavatica-exporter. The others have no variables.",
    )
    @click.version_option(version(), message="%(prog)s %(version)s")
    @click.pass_context
    def group(context: click.Context) -> None:
        """Find CAVATICA's bulk export jobs and report their state."""
        if context.invoked_subcommand is None:
            # Instead of click's help, which would be squeezed into a line.
            raise click.UsageError(f"no command: use one of {', '.join(group.commands)}, or --help")

    for command in (discover_command(), status_command(), failed_command()):
        group.add_command(command)
    return group
