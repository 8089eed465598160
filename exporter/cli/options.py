"""The types of flags, and the flags that both programs share."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click
from click.shell_completion import CompletionItem

from exporter.cli.duration import parse_duration
from exporter.cli.logs import FORMATS, LEVELS
from exporter.web.application import MAX_TIMEOUT_SECONDS

ENVIRONMENT_PREFIX: Final = "CAVATICA_EXPORTER"

T = TypeVar("T")
_Flag = Callable[[Callable[..., int]], Callable[..., int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiFlags:
    """The values of the flags that both programs share; durations are seconds."""

    api_url: str | None
    api_token_file: Path | None
    api_profile: str | None
    api_timeout: float
    api_quota_share: float
    api_advance_access: bool


def click_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a click type that keeps the messages of errors."""

    def parse_or_fail(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return parse_or_fail


def _timeout(text: str) -> float:
    seconds = parse_duration(text)
    if not 0 < seconds <= MAX_TIMEOUT_SECONDS:
        raise ValueError(f"not a valid timeout: {text!r} (use more than 0s and at most 2m)")
    return seconds


def _share(text: str) -> float:
    if _SHARE.fullmatch(text) is None or not 0 < float(text) <= 1:
        raise ValueError(
            f"not a valid share: {text!r} (use more than 0 and at most 1, such as 0.5)"
        )
    return float(text)


def _path(text: str) -> Path:
    if not text:
        raise ValueError("must not be empty (use a path)")
    # The content may be a secret: messages quote paths.
    if "\n" in text:
        raise ValueError("must be a path, but has line breaks (name the file, not its content)")
    return Path(text)


class PathType(click.ParamType):  # type: ignore[type-arg] # generic in new versions of click only
    """A path, which a shell completes with names of files or directories."""

    name = "path"

    def __init__(self, parse: Callable[[str], Path], kind: Literal["file", "dir"] = "file") -> None:
        self._parse = click_type(parse)
        self._kind = kind

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002 # click's signature
        """Return the path that a text names."""
        return self._parse(value)

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 # click's signature
        param: click.Parameter,  # noqa: ARG002 # click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the item that makes the shell complete file names itself."""
        return [CompletionItem(incomplete, type=self._kind)]


_SHARE = re.compile(r"[0-9]{0,9}\.?[0-9]{1,9}")
DURATION = click_type(parse_duration)
PATH = PathType(_path)


def flag(name: str, **attributes: Any) -> _Flag:  # noqa: ANN401 # as click has them
    """Declare a flag; click derives no parameter name from a flag with dots."""
    parameter = name.lstrip("-").replace(".", "_").replace("-", "_")
    return click.option(name, parameter, **attributes)


def api_flags(*, scraped: bool) -> _Flag:
    """Return a decorator that adds the flags of `ApiFlags` to a command, which may be scraped."""
    timeout = flag(
        "--api.timeout",
        type=click_type(_timeout),
        metavar="DURATION",
        default="10s",
        help="Time limit of the API calls"
        + (", unless a scraper sends its own." if scraped else "."),
    )
    return lambda command: _add((*_API_ACCESS_FLAGS, timeout, *_API_USE_FLAGS), command)


def log_flags(command: Callable[..., int]) -> Callable[..., int]:
    """Add the flags of the log to a command."""
    return _add(_LOG_FLAGS, command)


def _add(flags: Sequence[_Flag], command: Callable[..., int]) -> Callable[..., int]:
    for each in reversed(flags):
        command = each(command)
    return command


_API_ACCESS_FLAGS: Final[tuple[_Flag, ...]] = (
    flag("--api.url", metavar="URL", help="Base URL of the API, up to /v2."),
    flag(
        "--api.token-file", type=PATH, metavar="FILE", help="File with the token and nothing else."
    ),
    flag(
        "--api.profile",
        metavar="NAME",
        help="Section of ~/.sevenbridges/credentials with URL and token.",
    ),
)
_API_USE_FLAGS: Final[tuple[_Flag, ...]] = (
    flag(
        "--api.quota-share",
        type=click_type(_share),
        metavar="SHARE",
        default="0.5",
        help="Maximum share of the account's rate limit to use.",
    ),
    flag("--api.advance-access", is_flag=True, help="Send X-SBG-Advance-Access: advance."),
)
_LOG_FLAGS: Final[tuple[_Flag, ...]] = (
    flag("--log.level", type=click.Choice(LEVELS), default="info", help="Minimum log level."),
    flag("--log.format", type=click.Choice(FORMATS), default="logfmt", help="Log format."),
)
