"""Write the manual pages of both programs from their flags: `python scripts/man_pages.py DIR`."""

import os
import re
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import click

from exporter import __version__
from exporter.cli.command import run, version
from exporter.cli.flags import make_command
from exporter.cli.options import ENVIRONMENT_PREFIX
from exporter.tool.command import make_group

COMMANDS = (make_command(run, version()), make_group())
"""The two programs: the first has only flags, the second has commands."""

FILES = {
    "~/.sevenbridges/credentials": "Profiles with a URL and a token; --api.profile names one.",
    "/etc/default/cavatica-exporter": "Variables of the services that the packages install.",
}
ENVIRONMENT = {
    "SB_AUTH_TOKEN": "The token, without a token file and a named profile.",
    "SB_API_ENDPOINT": "Base URL of the API, without --api.url and a named profile.",
}


def escape(text: str) -> str:
    """Escape text so that roff shows it literally, and break it into short lines."""
    text = "\n".join(textwrap.wrap(text, 60, break_long_words=False, break_on_hyphens=False))
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.MULTILINE)


def page(command: click.Command) -> str:
    """Return the manual page of a program."""
    return "\n".join(_page(command)) + "\n"


def _page(command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, show_default=True)
    name = command.name or ""
    summary = command.get_short_help_str(limit=1000).rstrip(".")
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH", time.time()))
    date = time.strftime("%Y-%m-%d", time.gmtime(seconds))
    title = f"cavatica\\-export\\-exporter {escape(__version__)}"
    yield f'.TH {escape(name.upper())} 1 "{date}" "{title}" "User commands"'
    yield from (".SH NAME", f"{escape(name)} \\- {escape(summary)}")
    yield from (".SH SYNOPSIS", f".B {escape(name)}")
    yield escape(" ".join(command.collect_usage_pieces(context)))
    yield ".SH DESCRIPTION"
    yield from _paragraphs(f"{command.help}\n\n{command.epilog}")
    yield ".SH OPTIONS"
    yield from _options(command, context)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for child_name in command.list_commands(context):
            child = command.commands[child_name]
            inner = click.Context(child, parent=context, info_name=child_name, show_default=True)
            yield f".SS {escape(child_name)}"
            yield from _paragraphs(child.help)
            yield from _options(child, inner)
    yield ".SH ENVIRONMENT"
    yield "Each of these sets the flag of its name:"
    yield escape(", ".join(sorted(_variables(command)))) + "."
    for variable, meaning in ENVIRONMENT.items():
        yield from (".TP", f".B {escape(variable)}", escape(meaning))
    yield ".SH FILES"
    for file, meaning in FILES.items():
        yield from (".TP", f".I {escape(file)}", escape(meaning))
    yield ".SH SEE ALSO"
    others = [other.name for other in COMMANDS if other.name and other.name != name]
    yield ",\n".join(f".BR {escape(other)} (1)" for other in others)


def _paragraphs(text: str | None) -> Iterator[str]:
    for number, paragraph in enumerate(filter(str.strip, re.split(r"\n\s*\n", text or ""))):
        if number:
            yield ".PP"
        yield escape(" ".join(paragraph.split()))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            names, meaning = record
            yield from (".TP", f".B {escape(names)}", escape(meaning))


def _variables(command: click.Command) -> Iterator[str]:
    commands = command.commands.values() if isinstance(command, click.Group) else [command]
    for each in commands:
        for parameter in each.params:
            if parameter.name and getattr(parameter, "allow_from_autoenv", False):
                yield f"{ENVIRONMENT_PREFIX}_{parameter.name.upper()}"


def main(directory: Path) -> None:
    """Write the page of each program into `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    for command in COMMANDS:
        (directory / f"{command.name}.1").write_text(page(command), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
