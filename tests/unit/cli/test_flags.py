"""The flags: each one as a flag and as an environment variable, and what each one takes."""

from dataclasses import asdict
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.cli.flags import Flags, describe, make_command, unknown_variables

DEFAULTS = {
    "exports_path": None,
    "exports_max_age": 600.0,
    "exports_completed_retention": 0.0,
    "exports_state_file": None,
    "exports_expose_error_messages": False,
    "api_url": None,
    "api_token_file": None,
    "api_profile": None,
    "api_timeout": 10.0,
    "api_quota_share": 0.5,
    "api_advance_access": False,
    "web_listen_address": (("", 10036),),
    "web_telemetry_path": "/metrics",
    "web_external_url": None,
    "web_config_file": None,
    "web_timeout_offset": 0.5,
    "web_disable_exporter_metrics": False,
    "log_level": "info",
    "log_format": "logfmt",
    "config_check": False,
    "config_check_api": False,
    "once": False,
    "once_output": None,
    "demo": False,
}
VALUES: dict[str, tuple[str, object]] = {
    "--exports.path": ("exports", Path("exports")),
    "--exports.max-age": ("1h30m", 5400.0),
    "--exports.completed-retention": ("7d", 604800.0),
    "--exports.state-file": ("/var/lib/state", Path("/var/lib/state")),
    "--api.url": ("https://api.sbgenomics.com/v2", "https://api.sbgenomics.com/v2"),
    "--api.token-file": ("/run/token", Path("/run/token")),
    "--api.profile": ("cavatica", "cavatica"),
    "--api.timeout": ("2m", 120.0),
    "--api.quota-share": ("1", 1.0),
    "--web.listen-address": ("[::1]:0", (("::1", 0),)),
    "--web.telemetry-path": ("/exports/metrics", "/exports/metrics"),
    "--web.external-url": ("https://lab.example/cavatica", "https://lab.example/cavatica/"),
    "--web.config.file": ("web.yml", Path("web.yml")),
    "--web.timeout-offset": ("0s", 0.0),
    "--once.output": ("exports.prom", Path("exports.prom")),
    "--log.level": ("warn", "warn"),
    "--log.format": ("json", "json"),
}
SWITCHES = [
    "--exports.expose-error-messages",
    "--api.advance-access",
    "--web.disable-exporter-metrics",
    "--config.check",
    "--config.check.api",
    "--once",
    "--demo",
]


class Collected:
    """What the command would be run with."""

    flags: Flags | None = None

    def __call__(self, flags: Flags) -> int:
        """Remember them."""
        self.flags = flags
        return 0


def parse(*arguments: str) -> dict[str, object]:
    """Return the flags that differ from the defaults."""
    collected = Collected()
    command = make_command(collected, "1.2.3")
    assert command.main(arguments, prog_name=command.name, standalone_mode=False) == 0
    assert collected.flags is not None
    return {name: v for name, v in asdict(collected.flags).items() if v != DEFAULTS[name]}


def field(flag: str) -> str:
    """Return the name of a flag's field."""
    return flag.lstrip("-").replace(".", "_").replace("-", "_")


def variable(flag: str) -> str:
    """Return the name of a flag's environment variable."""
    return f"CAVATICA_EXPORTER_{field(flag).upper()}"


def test_without_flags_the_defaults_are_as_documented() -> None:
    """Nothing is required by the parser: what is missing depends on what is asked for."""
    assert parse() == {}


def test_the_table_of_this_test_is_complete() -> None:
    """Every flag is tested below."""
    assert {field(flag) for flag in (*VALUES, *SWITCHES)} == DEFAULTS.keys()


@pytest.mark.parametrize("flag", VALUES)
def test_a_flag_with_a_value(flag: str) -> None:
    """It is parsed to what the exporter works with; all other flags keep their defaults."""
    text, value = VALUES[flag]
    assert parse(flag, text) == parse(f"{flag}={text}") == {field(flag): value}


@pytest.mark.parametrize("flag", SWITCHES)
def test_a_switch(flag: str) -> None:
    """A switch takes no value."""
    assert parse(flag) == {field(flag): True}


@pytest.mark.parametrize("flag", VALUES)
def test_every_flag_has_an_environment_variable(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name follows from the flag's, and its value is written in the same way."""
    text, value = VALUES[flag]
    monkeypatch.setenv(variable(flag), text)
    assert parse() == {field(flag): value}


@pytest.mark.parametrize("flag", SWITCHES)
@pytest.mark.parametrize(
    ("text", "expected"), [("true", True), ("1", True), ("false", False), ("0", False), ("", False)]
)
def test_every_switch_has_an_environment_variable(
    flag: str, text: str, *, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch is on or off as the variable says; an empty one is ignored."""
    monkeypatch.setenv(variable(flag), text)
    assert parse() == ({field(flag): True} if expected else {})


@pytest.mark.parametrize("flag", VALUES)
def test_an_empty_variable_is_none(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable means the default."""
    monkeypatch.setenv(variable(flag), "")
    assert parse() == {}


@pytest.mark.parametrize("flag", VALUES)
def test_a_flag_beats_its_variable(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag takes precedence over any value of its variable, even an invalid one."""
    text, value = VALUES[flag]
    monkeypatch.setenv(variable(flag), "no such thing")
    assert parse(flag, text) == {field(flag): value}


@pytest.mark.parametrize("flag", SWITCHES)
def test_a_switch_beats_its_variable(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag on the command line switches on what the environment switches off."""
    monkeypatch.setenv(variable(flag), "false")
    assert parse(flag) == {field(flag): True}


def test_the_listen_address_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each flag adds one; the variable's are separated by white space; flags replace them all."""
    both = {"web_listen_address": (("127.0.0.1", 0), ("::1", 9))}
    assert parse("--web.listen-address=127.0.0.1:0", "--web.listen-address", "[::1]:9") == both
    monkeypatch.setenv("CAVATICA_EXPORTER_WEB_LISTEN_ADDRESS", "127.0.0.1:0 [::1]:9")
    assert parse() == both
    assert parse("--web.listen-address=:1") == {"web_listen_address": (("", 1),)}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--exports.path="], "'--exports.path': must not be empty (use a path)"),
        (["--exports.max-age=5"], "'--exports.max-age': not a valid duration: '5' (use 500ms"),
        (["--exports.completed-retention=-1s"], "'--exports.completed-retention': not a valid dur"),
        (["--api.token-file="], "'--api.token-file': must not be empty (use a path)"),
        (
            ["--web.config.file=a: b\nc: d\n"],
            "'--web.config.file': must be a path, but has line breaks (name the file, not its con",
        ),
        (
            ["--api.timeout=0s"],
            "'--api.timeout': not a valid timeout: '0s' (use more than 0s and at",
        ),
        (
            ["--api.timeout=121s"],
            "'--api.timeout': not a valid timeout: '121s' (use more than 0s and at",
        ),
        (
            ["--api.quota-share=0"],
            "'--api.quota-share': not a valid share: '0' (use more than 0 and",
        ),
        (["--api.quota-share=1.01"], "not a valid share: '1.01' (use more than 0 and at most 1"),
        (["--api.quota-share=half"], "not a valid share: 'half' (use more than 0 and at most 1"),
        (["--api.quota-share=nan"], "not a valid share: 'nan' (use more than 0 and at most 1"),
        (
            ["--web.listen-address=10036"],
            "'--web.listen-address': not a valid listen address: '10036'",
        ),
        (["--web.listen-address=:65536"], "with a port from 0 to 65535"),
        (["--web.telemetry-path=metrics"], "not a valid path for metrics: 'metrics' (use one like"),
        (["--web.telemetry-path=/"], "(use one like /metrics, but not /, /-/healthy"),
        (["--web.telemetry-path=/-/ready"], "not a valid path for metrics: '/-/ready'"),
        (["--web.telemetry-path=/metrics?x"], "not a valid path for metrics: '/metrics?x'"),
        (["--web.telemetry-path=//metrics"], "not a valid path for metrics: '//metrics'"),
        (["--web.telemetry-path=/m%65trics"], "not a valid path for metrics: '/m%65trics'"),
        (["--web.telemetry-path=/métriques"], "not a valid path for metrics: '/métriques'"),
        (["--web.external-url=lab"], "not a valid URL: 'lab' (use one like https://example.org/"),
        (["--web.external-url=https://u:p@lab/"], "not a valid URL"),
        (["--web.config.file="], "'--web.config.file': must not be empty (use a path)"),
        (["--web.timeout-offset=1"], "'--web.timeout-offset': not a valid duration: '1'"),
        (["--log.level=verbose"], "'--log.level': 'verbose' is not one of 'debug', 'info', 'warn'"),
        (["--log.format=xml"], "'--log.format': 'xml' is not one of 'logfmt', 'json'"),
        (["--once=yes"], "'--once' does not take a value"),
        (["--exports.pth=x"], "--exports.path"),
        (["--api.token=secret"], "No such option"),
        (["--exports.path"], "'--exports.path' requires an argument"),
        (["exports"], "unexpected extra argument (exports)"),
    ],
)
def test_an_unusable_flag_is_an_error_that_says_what_to_do(
    arguments: list[str], problem: str
) -> None:
    """It names the flag, quotes the value, and says what is right."""
    with pytest.raises(click.ClickException) as error:
        parse(*arguments)
    assert problem in error.value.format_message()


def test_a_token_on_the_command_line_is_not_repeated() -> None:
    """There is no such flag, and its value is not shown again in a log of errors."""
    with pytest.raises(click.ClickException) as error:
        parse("--api.token=a-secret")
    assert "a-secret" not in error.value.format_message()


@pytest.mark.parametrize("flag", ["--exports.max-age", "--api.quota-share"])
def test_an_unusable_variable_is_an_error_too(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable, for there is no flag to look at."""
    monkeypatch.setenv(variable(flag), "no such thing")
    with pytest.raises(click.ClickException, match="no such thing") as caught:
        parse()
    assert describe(caught.value).startswith(f"environment variable {variable(flag)}: ")


def test_an_unusable_flag_is_not_blamed_on_a_variable() -> None:
    """The error of a flag does not name the variable."""
    with pytest.raises(click.ClickException) as caught:
        parse("--api.timeout=x")
    assert describe(caught.value) == caught.value.format_message()


def test_variables_that_no_flag_has_are_found() -> None:
    """A misspelt one changes nothing in silence; Kubernetes' service variables are not ours."""
    prefix = "CAVATICA_EXPORTER"
    kubernetes = [
        f"{prefix}_SERVICE_HOST",
        f"{prefix}_SERVICE_PORT",
        f"{prefix}_SERVICE_PORT_METRICS",
        f"{prefix}_PORT",
        f"{prefix}_PORT_10036_TCP",
        f"{prefix}_PORT_10036_TCP_ADDR",
        f"{prefix}_WEB_SERVICE_HOST",
    ]
    others = ["PATH", f"{prefix}_VERSION", f"{prefix}_ONCE", "CAVATICA_EXPORTERS_X"]
    misspelt = f"{prefix}_EXPORTS_MAXAGE"
    assert unknown_variables([*kubernetes, *others, misspelt]) == [misspelt]


@given(flag=st.sampled_from([*VALUES]), text=st.text(max_size=20))
def test_no_value_makes_it_fail_in_another_way(flag: str, text: str) -> None:
    """Any value is accepted or refused with an error."""
    try:
        parse(f"{flag}={text}")
    except click.ClickException as error:
        assert error.format_message()  # noqa: PT017 # both ends are right


def test_the_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` prints all of them, and how to write durations and variables."""
    command = make_command(Collected(), "1.2.3")
    assert command.main(["--help"], prog_name=command.name, standalone_mode=False) == 0
    text = capsys.readouterr().out
    assert all(f"  {flag}" in text for flag in (*VALUES, *SWITCHES, "--version"))
    assert "CAVATICA_EXPORTER_" in text
    assert "500ms, 30s," in text


def test_a_version_in_the_environment_is_not_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Container images name their versions in variables that look like the flag's."""
    monkeypatch.setenv("CAVATICA_EXPORTER_VERSION", "1")
    monkeypatch.setenv("CAVATICA_EXPORTER_HELP", "1")
    assert parse("--exports.path=x") == {"exports_path": Path("x")}


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` prints the command's name and the version, and does nothing else."""
    collected = Collected()
    command = make_command(collected, "1.2.3")
    assert command.main(["--version"], prog_name=command.name, standalone_mode=False) == 0
    assert capsys.readouterr().out == "cavatica-exporter 1.2.3\n"
    assert collected.flags is None


def test_a_path_is_completed_by_the_shell() -> None:
    """The shell knows the names of files; the program only says that it wants one."""
    command = make_command(lambda _: 0, "")
    [option] = [each for each in command.params if "--api.token-file" in each.opts]
    [item] = option.shell_complete(click.Context(command), "tok")
    assert (item.value, item.type) == ("tok", "file")
