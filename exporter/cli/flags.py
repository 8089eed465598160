"""The command line: every flag, its environment variable, its type and its help."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from exporter.cli.duration import parse_duration
from exporter.cli.logs import FORMATS, LEVELS, Format
from exporter.server import Address, parse_listen_address
from exporter.web.application import MAX_TIMEOUT_SECONDS, RESERVED_PATHS

ENVIRONMENT_PREFIX: Final = "CAVATICA_EXPORTER"

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The values of all flags; durations are seconds."""

    exports_path: Path | None
    exports_max_age: float
    exports_completed_retention: float
    exports_expose_error_messages: bool
    api_url: str | None
    api_token_file: Path | None
    api_profile: str | None
    api_timeout: float
    api_quota_share: float
    api_advance_access: bool
    web_listen_address: tuple[Address, ...]
    web_telemetry_path: str
    web_external_url: str | None
    web_config_file: Path | None
    web_timeout_offset: float
    web_disable_exporter_metrics: bool
    log_level: str
    log_format: Format
    config_check: bool
    config_check_api: bool
    once: bool
    once_output: Path | None
    demo: bool


def _click_type(parse: Callable[[str], T]) -> Callable[[str], T]:
    """Return a type for click whose errors keep their texts."""

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


def _telemetry_path(text: str) -> str:
    if _TELEMETRY_PATH.fullmatch(text) is None or text in RESERVED_PATHS:
        raise ValueError(
            f"not a valid path for metrics: {text!r} (use one like /metrics, but not"
            f" {', '.join(sorted(RESERVED_PATHS))})"
        )
    return text


def _external_url(text: str) -> str:
    if _EXTERNAL_URL.fullmatch(text) is None:
        raise ValueError(f"not a valid URL: {text!r} (use one like https://example.org/cavatica/)")
    return text.rstrip("/") + "/"


def _path(text: str) -> Path:
    if not text:
        raise ValueError("it is empty; name a path")
    return Path(text)


_SHARE = re.compile(r"[0-9]{0,9}\.?[0-9]{1,9}")
# No user, query or fragment: links begin with it.
_EXTERNAL_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9_.~%-]+)*/?")
# What needs no escaping in a URL or in HTML.
_TELEMETRY_PATH = re.compile(r"(/[A-Za-z0-9_.~-]+)+/?")
_KUBERNETES_VARIABLE = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_DURATION = _click_type(parse_duration)
_PATH = _click_type(_path)


def _flag(name: str, **attributes: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:  # noqa: ANN401 # as click has them
    """Declare a flag; click makes no parameter name of a flag with dots."""
    parameter = name.lstrip("-").replace(".", "_").replace("-", "_")
    return click.option(name, parameter, **attributes)


def describe(error: click.ClickException) -> str:
    """Return the message of an error; of a value from the environment it names the variable."""
    message = error.format_message()
    if isinstance(error, click.BadParameter) and error.ctx and error.param and error.param.name:
        source = error.ctx.get_parameter_source(error.param.name)
        if source is click.core.ParameterSource.ENVIRONMENT:
            return f"environment variable {_variable(error.param.name)}: {message}"
    return message


def _variable(parameter: str) -> str:
    return f"{ENVIRONMENT_PREFIX}_{parameter.upper()}"


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """Return the variables with the exporter's prefix that no flag has.

    Those that Kubernetes sets for a service of the exporter's name are left out, and a version,
    which many an image has.
    """
    known = {_variable(name) for name in Flags.__dataclass_fields__} | {_variable("version")}
    return sorted(
        name
        for name in environ
        if name.startswith(f"{ENVIRONMENT_PREFIX}_")
        and name not in known
        and not _KUBERNETES_VARIABLE.fullmatch(name)
    )


def make_command(run: Callable[[Flags], int], version: str) -> click.Command:
    """Return the command that parses the flags and returns what `run` returns."""

    @click.command(
        "cavatica-exporter",
        context_settings={
            "auto_envvar_prefix": ENVIRONMENT_PREFIX,
            "help_option_names": ["-h", "--help"],
            "max_content_width": 100,
            "show_default": True,
        },
        epilog=(
            "Every flag can be set by an environment variable: CAVATICA_EXPORTER_ and its name in"
            " capitals, with . and - as _. The token is never a flag: it comes from"
            " --api.token-file, --api.profile, SB_AUTH_TOKEN or the profile `default` of"
            " ~/.sevenbridges/credentials. Durations are written like 500ms, 30s, 1h30m, 7d."
        ),
    )
    @_flag(
        "--exports.path", type=_PATH, metavar="PATH", help="File or directory with the export IDs."
    )
    @_flag(
        "--exports.max-age",
        type=_DURATION,
        metavar="DURATION",
        default="5m",
        help="How long the last known state of an unfinished export is shown without a new answer.",
    )
    @_flag(
        "--exports.completed-retention",
        type=_DURATION,
        metavar="DURATION",
        default="0s",
        help="Drop the series of an export this long after it COMPLETED; 0s: never.",
    )
    @_flag(
        "--exports.expose-error-messages",
        is_flag=True,
        help="Show the API's error texts. They can hold file names.",
    )
    @_flag("--api.url", metavar="URL", help="Base URL of the API, up to /v2.")
    @_flag(
        "--api.token-file", type=_PATH, metavar="FILE", help="File with the token and nothing else."
    )
    @_flag(
        "--api.profile",
        metavar="NAME",
        help="Section of ~/.sevenbridges/credentials for URL and token.",
    )
    @_flag(
        "--api.timeout",
        type=_click_type(_timeout),
        metavar="DURATION",
        default="10s",
        help="Deadline of a scrape's calls when the scraper sends none.",
    )
    @_flag(
        "--api.quota-share",
        type=_click_type(_share),
        metavar="SHARE",
        default="0.5",
        help="Part of the account's rate limit that may be used up.",
    )
    @_flag("--api.advance-access", is_flag=True, help="Send X-SBG-Advance-Access: advance.")
    @_flag(
        "--web.listen-address",
        type=_click_type(parse_listen_address),
        metavar="HOST:PORT",
        multiple=True,
        default=(":10036",),
        help="Where to listen; repeatable. Port 0 picks a free one.",
    )
    @_flag(
        "--web.telemetry-path",
        type=_click_type(_telemetry_path),
        metavar="PATH",
        default="/metrics",
        help="Where the metrics are.",
    )
    @_flag(
        "--web.external-url",
        type=_click_type(_external_url),
        metavar="URL",
        help="URL under which people reach the exporter, for links; else they are relative.",
    )
    @_flag(
        "--web.config.file",
        type=_PATH,
        metavar="FILE",
        help="TLS and basic auth (exporter-toolkit).",
    )
    @_flag(
        "--web.timeout-offset",
        type=_DURATION,
        metavar="DURATION",
        default="500ms",
        help="Taken off the scraper's own timeout.",
    )
    @_flag(
        "--web.disable-exporter-metrics",
        is_flag=True,
        help="Leave out process_* and python_*.",
    )
    @_flag("--log.level", type=click.Choice(LEVELS), default="info", help="Minimum log level.")
    @_flag("--log.format", type=click.Choice(FORMATS), default="logfmt", help="Log format.")
    @_flag("--config.check", is_flag=True, help="Check everything without a call, and exit.")
    @_flag(
        "--config.check.api",
        is_flag=True,
        help="Check everything, ask the API whose token it is, and exit.",
    )
    @_flag("--once", is_flag=True, help="Print one scrape and exit.")
    @_flag(
        "--once.output",
        type=_PATH,
        metavar="FILE",
        help="Write the scrape of --once to this file, for the textfile collector.",
    )
    @_flag(
        "--demo",
        is_flag=True,
        help="Run against a simulated CAVATICA; needs no token or network.",
    )
    # Not from the environment: many an image has a variable like CAVATICA_EXPORTER_VERSION.
    @click.version_option(version, message="%(prog)s %(version)s", allow_from_autoenv=False)
    def command(**values: Any) -> int:  # noqa: ANN401 # click has parsed them
        """Export the state of CAVATICA's bulk export jobs to Prometheus."""
        return run(Flags(**values))

    return command
