"""The exporter's command line: every flag, its environment variable, its type and its help."""

import logging
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from exporter.cli.logs import Format
from exporter.cli.options import (
    DURATION,
    ENVIRONMENT_PREFIX,
    PATH,
    ApiFlags,
    api_flags,
    click_type,
    flag,
    log_flags,
)
from exporter.server import Address, parse_listen_address
from exporter.web.application import RESERVED_PATHS

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags(ApiFlags):
    """The values of all flags; durations are seconds."""

    exports_path: Path | None
    exports_max_age: float
    exports_completed_retention: float
    exports_state_file: Path | None
    exports_expose_error_messages: bool
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


# No user, query or fragment: links start with it.
_EXTERNAL_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9_.~%-]+)*/?")
# Characters that need no escaping in a URL or in HTML.
_TELEMETRY_PATH = re.compile(r"(/[A-Za-z0-9_.~-]+)+/?")
_KUBERNETES_VARIABLE = re.compile(
    r".*_(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)


def describe(error: click.ClickException) -> str:
    """Return an error's message; errors of environment variables name the variable."""
    message = error.format_message()
    if isinstance(error, click.BadParameter) and error.ctx and error.param and error.param.name:
        source = error.ctx.get_parameter_source(error.param.name)
        if source is click.core.ParameterSource.ENVIRONMENT:
            return f"environment variable {_variable(error.param.name)}: {message}"
    return message


def _variable(parameter: str) -> str:
    return f"{ENVIRONMENT_PREFIX}_{parameter.upper()}"


def warn_of_unknown_variables() -> None:
    """Log each variable that looks like a flag's and changes nothing."""
    for name in unknown_variables(os.environ):
        _log.warning("Ignoring unknown environment variable", extra={"variable": name})


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """Return the variables with the exporter's prefix that belong to no flag.

    Variables that Kubernetes sets for a service of the exporter's name are ignored, and so is a
    version, which many images set.
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
    @flag(
        "--exports.path", type=PATH, metavar="PATH", help="File or directory with the export IDs."
    )
    @flag(
        "--exports.max-age",
        type=DURATION,
        metavar="DURATION",
        default="10m",
        help="How long the last known state of an unfinished export is shown without a new answer.",
    )
    @flag(
        "--exports.completed-retention",
        type=DURATION,
        metavar="DURATION",
        default="0s",
        help="Drop the series of an export this long after it COMPLETED; 0s: never.",
    )
    @flag(
        "--exports.state-file",
        type=PATH,
        metavar="FILE",
        help="File that stores finished exports, so that a restart need not ask for them again.",
    )
    @flag(
        "--exports.expose-error-messages",
        is_flag=True,
        help="Show the API's error texts in metrics. They can contain file names.",
    )
    @api_flags(scraped=True)
    @flag(
        "--web.listen-address",
        type=click_type(parse_listen_address),
        metavar="HOST:PORT",
        multiple=True,
        default=(":10036",),
        help="Address to listen on; repeatable. Port 0 picks a free port.",
    )
    @flag(
        "--web.telemetry-path",
        type=click_type(_telemetry_path),
        metavar="PATH",
        default="/metrics",
        help="Path of the metrics.",
    )
    @flag(
        "--web.external-url",
        type=click_type(_external_url),
        metavar="URL",
        help="External URL of the exporter, for links; by default, links are relative.",
    )
    @flag(
        "--web.config.file",
        type=PATH,
        metavar="FILE",
        help="File with TLS and authentication settings, in exporter-toolkit's format.",
    )
    @flag(
        "--web.timeout-offset",
        type=DURATION,
        metavar="DURATION",
        default="500ms",
        help="Time subtracted from the scraper's timeout.",
    )
    @flag(
        "--web.disable-exporter-metrics",
        is_flag=True,
        help="Leave out process_* and python_*.",
    )
    @log_flags
    @flag(
        "--config.check",
        is_flag=True,
        help="Check the configuration and exit; makes no API call.",
    )
    @flag(
        "--config.check.api",
        is_flag=True,
        help="Like --config.check, but test the token with one API call, too.",
    )
    @flag("--once", is_flag=True, help="Print one scrape and exit.")
    @flag(
        "--once.output",
        type=PATH,
        metavar="FILE",
        help="Write the scrape of --once to this file, for the textfile collector.",
    )
    @flag(
        "--demo",
        is_flag=True,
        help="Run against a simulated CAVATICA; needs no token or network.",
    )
    # Not from the environment: many images have a variable like CAVATICA_EXPORTER_VERSION.
    @click.version_option(version, message="%(prog)s %(version)s", allow_from_autoenv=False)
    @click.help_option("-h", "--help", allow_from_autoenv=False)
    def command(**values: Any) -> int:  # noqa: ANN401 # click has parsed them
        """Export the state of CAVATICA's bulk export jobs to Prometheus."""
        return run(Flags(**values))

    return command
