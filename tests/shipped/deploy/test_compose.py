"""Docker Compose: its loader reads the files, and real servers run with the mounted files."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from exporter import __version__
from exporter.cli.flags import Flags, make_command
from tests.support.deploy_tools import DEPLOY, ROOT, check, parse_discover, run_tool
from tests.support.exporter_process import LOOPBACK, process
from tests.support.servers import Alertmanager, Prometheus
from tests.support.waits import wait_until

COMPOSE = DEPLOY / "compose"
FILE = COMPOSE / "compose.yaml"
DEMO = COMPOSE / "compose.demo.yaml"


class Loader(yaml.SafeLoader):
    """A YAML loader that knows Compose's tag `!reset`, which removes a value of another file."""


Loader.add_constructor("!reset", lambda *_: None)


def load(path: Path) -> dict[str, Any]:
    """Parse a Compose file."""
    document: dict[str, Any] = yaml.load(path.read_text(), Loader)  # noqa: S506 # a safe loader
    return document


LOADER = "cmd"
"""The program with Docker Compose's own loader; Go named it after its directory."""
SERVICES: dict[str, Any] = load(FILE)["services"]
OWN_IMAGE = f"registry.example/cavatica-export-exporter:{__version__}"


def mounts(service: str) -> dict[Path, str]:
    """Return the files of this checkout that a service mounts: source and path in the container."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        source, target = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", volume).split(":")[:2]
        if source.startswith("."):
            found[(COMPOSE / source).resolve()] = target
    return found


def flags(server: type[Prometheus | Alertmanager]) -> list[str]:
    """Return the flags of a server's service that a test does not set itself."""
    own = {"--config.file", *(flag.partition("=")[0] for flag in server.flags)}
    command = SERVICES[server.name]["command"]
    return [flag for flag in command if flag.partition("=")[0] not in own]


def project(*files: Path) -> dict[str, Any]:
    """Return the project that Compose loads from files that override one another."""
    loaded: dict[str, Any] = yaml.safe_load(check(run_tool(LOADER, *files, directory=COMPOSE)))
    return loaded


@pytest.mark.deploy
def test_compose_loads_the_file() -> None:
    """Compose accepts every key and value, and both programs read the token where it is mounted."""
    loaded = project(FILE)
    assert loaded["secrets"]["token"]["file"] == str(COMPOSE / "token")
    for name in ("exporter", "discover"):
        service = loaded["services"][name]
        variable = service["environment"]["CAVATICA_EXPORTER_API_TOKEN_FILE"]
        assert [each["target"] for each in service["secrets"]] == [variable]


@pytest.mark.deploy
def test_demo_needs_no_token() -> None:
    """The files that `.env` names for the demo are a project without secrets."""
    [names] = re.findall(r"^COMPOSE_FILE=(.*)$", (COMPOSE / ".env").read_text(), re.MULTILINE)
    loaded = project(*(COMPOSE / name for name in names.split(":")))
    assert "secrets" not in loaded
    started = {
        name: service for name, service in loaded["services"].items() if "profiles" not in service
    }
    assert started.keys() == {"exporter", "prometheus", "alertmanager", "grafana"}
    assert all("secrets" not in service for service in started.values())


@pytest.mark.deploy
def test_compose_finds_a_wrong_key(tmp_path: Path) -> None:
    """A misspelt key is an error."""
    (tmp_path / "compose.yaml").write_text(FILE.read_text().replace("read_only:", "readonly:"))
    done = run_tool(LOADER, tmp_path / "compose.yaml")
    assert done.returncode == 1
    assert "readonly" in done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_hardened_and_pinned(name: str) -> None:
    """A service has no capability, no writable root, ports on loopback only, and a fixed image."""
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    image = service["image"]
    assert image == OWN_IMAGE or re.search(r":v?[\d.]+@sha256:\w{64}$", image)


def test_only_one_service_builds_the_image() -> None:
    """Compose would fail to build it for two services at once, and no registry has it."""
    policies = {
        name: ("build" in service, service["pull_policy"])
        for name, service in SERVICES.items()
        if service["image"] == OWN_IMAGE
    }
    assert policies == {"exporter": (True, "build"), "discover": (False, "never")}


@pytest.mark.parametrize("name", SERVICES)
def test_mounted_files_exist(name: str) -> None:
    """Every mounted file exists: Docker would create a missing one as an empty directory."""
    assert all(source.exists() for source in mounts(name))


def test_demo_changes_only_existing_services() -> None:
    """The demo's file changes existing services; `.env` names both files, so no flag is needed."""
    changed = load(DEMO)["services"]
    assert changed.keys() <= SERVICES.keys()
    assert "COMPOSE_FILE=compose.yaml:compose.demo.yaml\n" in (COMPOSE / ".env").read_text()


def test_grafana_fetches_nothing() -> None:
    """Grafana installs no plugins and checks for no updates, so only pinned software runs."""
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"
    for name in ("CHECK_FOR_PLUGIN_UPDATES", "CHECK_FOR_UPDATES", "REPORTING_ENABLED"):
        assert environment[f"GF_ANALYTICS_{name}"] == "false"


@pytest.mark.parametrize("demo", [False, True])
def test_exporter_accepts_its_environment(*, demo: bool) -> None:
    """The exporter's variables are flags, and the image's arguments name the ID files' volume."""
    given: list[Flags] = []

    def run(flags: Flags) -> int:
        given.append(flags)
        return 0

    variables = dict(SERVICES["exporter"]["environment"])
    if demo:
        variables |= load(DEMO)["services"]["exporter"]["environment"]
    result = CliRunner().invoke(make_command(run, ""), image_arguments(), env=variables)
    assert result.exit_code == 0, result.output
    [found] = given
    assert found.demo is demo
    assert found.api_token_file == Path("/run/secrets/token")
    known = {f"CAVATICA_EXPORTER_{each.name}".upper() for each in make_command(run, "").params}
    assert variables.keys() <= known
    targets = [volume.split(":")[1] for volume in SERVICES["exporter"]["volumes"]]
    assert str(found.exports_path) in targets


def test_discovery_accepts_its_arguments(tmp_path: Path) -> None:
    """Discovery runs repeatedly and writes to the directory that the exporter reads."""
    service = SERVICES["discover"]
    assert service["entrypoint"] == ["cavatica-exports"]
    assert parse_discover(service["command"], "/exports", tmp_path)["every"] == 300
    assert "exports:/exports" in service["volumes"]


def image_arguments() -> list[str]:
    """Return the image's arguments, which apply because Compose sets none."""
    text = (DEPLOY / "container/Dockerfile").read_text()
    found = re.findall(r'^CMD \["(.*)"\]$', text, re.MULTILINE)
    assert len(found) == 1
    return [str(each) for each in found]


@pytest.mark.servers
@pytest.mark.slow
def test_prometheus_and_alertmanager_run_with_the_mounted_files(tmp_path: Path) -> None:
    """Prometheus scrapes the exporter, loads every rule, and finds the Alertmanager."""
    directories: dict[type[Prometheus | Alertmanager], Path] = {}
    for server in (Prometheus, Alertmanager):
        for source, target in mounts(server.name).items():
            inside = tmp_path / server.name / target.lstrip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                inside.symlink_to(source)
            else:
                shutil.copy(source, inside)
            directories.setdefault(server, inside.parent)
    with (
        process(tmp_path / "log", "--demo", LOOPBACK) as exporter,
        Alertmanager(
            (directories[Alertmanager] / "alertmanager.yml").read_text(),
            directories[Alertmanager],
            arguments=flags(Alertmanager),
        ) as alertmanager,
    ):
        config = (directories[Prometheus] / "prometheus.yml").read_text()
        for name, value in {
            "exporter:10036": exporter.urls[0].removeprefix("http://"),
            "alertmanager:9093": alertmanager.address,
            "scrape_interval: 60s": "scrape_interval: 1s",
            "scrape_timeout: 30s": "scrape_timeout: 1s",
        }.items():
            assert name in config
            config = config.replace(name, value)
        with Prometheus(config, directories[Prometheus], arguments=flags(Prometheus)) as prometheus:
            wait_until(lambda: prometheus.query("cavatica_up == 1"), "it is scraped", 30)
            groups = prometheus.get("/api/v1/rules").json()["data"]["groups"]
            loaded = {rule["name"] for group in groups for rule in group["rules"]}
            rules = yaml.safe_load((ROOT / "alerts/cavatica-exports.rules.yml").read_text())
            assert loaded == {
                rule.get("alert") or rule["record"]
                for group in rules["groups"]
                for rule in group["rules"]
            }
            found = wait_until(
                lambda: prometheus.get("/api/v1/alertmanagers").json()["data"][
                    "activeAlertmanagers"
                ],
                "Alertmanager is known",
                30,
            )
            assert found == [{"url": f"{alertmanager.url}/api/v2/alerts"}]


def test_grafana_finds_the_dashboards_and_their_data() -> None:
    """Grafana's provisioned folder, home dashboard and data source are those of the services."""
    targets = mounts("grafana")
    provider = yaml.safe_load((ROOT / "dashboards/provisioning.example.yml").read_text())
    [folder] = [each["options"]["path"] for each in provider["providers"]]
    assert targets[ROOT / "dashboards"] == folder
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (ROOT / "dashboards" / os.path.relpath(home, folder)).is_file()
    [source] = yaml.safe_load((COMPOSE / "grafana-datasource.yml").read_text())["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert source["url"] == "http://prometheus:9090"
