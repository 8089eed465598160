"""The chart: linted, rendered, and each object read as Kubernetes and the operator read it."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from exporter import __version__
from exporter.cli.flags import make_command
from tests.support.deploy_tools import DEPLOY, DIRECTORY, ROOT, check, parse_discover, run_tool

CHART = DEPLOY / "helm/cavatica-export-exporter"
SHIPPED = {
    "cavatica-exports.rules.yml": ROOT / "alerts/cavatica-exports.rules.yml",
    **{path.name: path for path in (ROOT / "dashboards").glob("*.json")},
}
"""The files that belong into the chart, where they really are."""

OLDEST, NEWEST = "1.25.0", "1.37.0"
"""The versions of Kubernetes that the chart is rendered and checked for."""

EVERYTHING = {
    "serviceMonitor.enabled": "true",
    "serviceMonitor.labels.release": "prometheus",
    "prometheusRule.enabled": "true",
    "dashboards.enabled": "true",
    "podAnnotations.a": "b",
    "environment.CAVATICA_EXPORTER_LOG_LEVEL": "debug",
    "arguments[0]": "--exports.completed-retention=30d",
}
VARIANTS: dict[str, dict[str, str]] = {
    "plain": {"token.existingSecret": "token"},
    "everything": {"token.existingSecret": "token", **EVERYTHING},
    "own ID files": {
        "token.value": "made-up",
        "discovery.enabled": "false",
        r"idFiles.a\.yml": "[]",
        "webConfigSecret": "web",
    },
    "no volume": {"token.existingSecret": "token", "persistence.enabled": "false"},
    "OpenShift": {"token.existingSecret": "token", "networkPolicy.egress": "null"},
}
"""Names to values that are set."""

Object = dict[str, Any]

pytestmark = pytest.mark.deploy


def settings(values: dict[str, str]) -> list[str]:
    """Return values as arguments of helm."""
    return [
        f"--set-string={name}={value}" if value == "made-up" else f"--set={name}={value}"
        for name, value in values.items()
    ]


def template(
    values: dict[str, str], *, version: str = NEWEST, chart: Path = CHART, release: str = "release"
) -> str:
    """Render the chart; the values of OpenShift, for a cluster that has its kinds."""
    arguments: list[str | Path] = [release, chart, f"--kube-version={version}", *settings(values)]
    if values == VARIANTS["OpenShift"]:
        arguments.append("--api-versions=security.openshift.io/v1")
    return check(run_tool("helm", "template", *arguments))


def objects(values: dict[str, str], kind: str) -> list[Object]:
    """Return the rendered objects of a kind."""
    rendered = filter(None, yaml.safe_load_all(template(values)))
    return [each for each in rendered if each["kind"] == kind]


def pod(values: dict[str, str]) -> Object:
    """Return the pod of the deployment."""
    [deployment] = objects(values, "Deployment")
    found: Object = deployment["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_helm_has_nothing_to_say(values: dict[str, str]) -> None:
    """Lint passes, warnings included."""
    arguments: list[str | Path] = [CHART, "--strict", f"--kube-version={NEWEST}", *settings(values)]
    check(run_tool("helm", "lint", *arguments))


def problems(text: str, version: str, directory: Path) -> str:
    """Return what is wrong with rendered objects; the operator's kinds have their own schemas."""
    documents = [each for each in yaml.safe_load_all(text) if each]
    operators = [each for each in documents if each["apiVersion"].startswith("monitoring.")]
    others = [each for each in documents if each not in operators]
    (directory / "operators.yaml").write_text(yaml.safe_dump_all(operators))
    (directory / "others.yaml").write_text(yaml.safe_dump_all(others))
    schemas = f"{DIRECTORY}/schemas/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
    for done in (
        run_tool(
            *("kubernetes-validate", "--strict", "--no-warn", f"--kubernetes-version={version}"),
            directory / "others.yaml",
        ),
        run_tool(
            *("kubeconform", "-strict", "-schema-location", schemas), directory / "operators.yaml"
        ),
    ):
        if done.returncode:
            return done.stdout + done.stderr
    return ""


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_kubernetes_understands_every_object(
    values: dict[str, str], version: str, tmp_path: Path
) -> None:
    """No field is unknown, none is missing, in the oldest and the newest version."""
    assert problems(template(values, version=version), version, tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("readOnlyRootFilesystem", "readonlyRootFilesystem"),
        ("scrapeTimeout", "scrape_timeout"),
        ("        expr:", "        expression:"),
    ],
)
def test_a_wrong_field_is_found_out(right: str, wrong: str, tmp_path: Path) -> None:
    """The same check fails for Kubernetes' own kinds and for the operator's."""
    text = template(VARIANTS["everything"])
    assert right in text
    assert wrong.strip(" :") in problems(text.replace(right, wrong), NEWEST, tmp_path)


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_the_pod_is_restricted(values: dict[str, str]) -> None:
    """The pod meets the strictest of Kubernetes' pod security standards."""
    found = pod(values)
    context = found["securityContext"]
    assert context["runAsNonRoot"] is True
    # OpenShift refuses a pod that names its user: it has a range for each namespace.
    user = None if values == VARIANTS["OpenShift"] else 65532
    assert [context.get(key) for key in ("runAsUser", "runAsGroup", "fsGroup")] == [user] * 3
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert found["automountServiceAccountToken"] is False
    for container in found["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        assert container["resources"]["limits"]["memory"]
    for volume in found["volumes"]:
        assert volume.keys() & {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_what_is_mounted_and_named_is_there(values: dict[str, str]) -> None:
    """Every volume of a container is one of the pod, and every ConfigMap and claim is rendered."""
    found = pod(values)
    volumes = {each["name"]: each for each in found["volumes"]}
    mounted = {
        each["name"] for container in found["containers"] for each in container["volumeMounts"]
    }
    assert mounted == volumes.keys()
    for kind, source, name in (
        ("ConfigMap", "configMap", "name"),
        ("PersistentVolumeClaim", "persistentVolumeClaim", "claimName"),
    ):
        rendered = {each["metadata"]["name"] for each in objects(values, kind)}
        assert {each[source][name] for each in volumes.values() if source in each} <= rendered


def test_a_release_may_have_a_number_as_its_name(tmp_path: Path) -> None:
    """Its name is a label, and labels are text."""
    assert problems(template(VARIANTS["plain"], release="123"), NEWEST, tmp_path) == ""


def ports(rules: list[Object]) -> list[tuple[int, str]]:
    """Return the ports of a network policy's rules."""
    return [(each["port"], each.get("protocol", "TCP")) for rule in rules for each in rule["ports"]]


def test_names_and_the_api_can_be_reached() -> None:
    """DNS is always open, at OpenShift's own port, too; the API, unless the values close it."""
    [plain] = objects(VARIANTS["plain"], "NetworkPolicy")
    dns = [(53, "UDP"), (53, "TCP")]
    assert ports(plain["spec"]["egress"]) == [*dns, (443, "TCP")]
    [closed] = objects(VARIANTS["OpenShift"], "NetworkPolicy")
    assert ports(closed["spec"]["egress"]) == [*dns, (5353, "UDP"), (5353, "TCP")]


def test_the_whole_secret_is_mounted() -> None:
    """Another key of it, such as an authority's certificate, is a file beside the token."""
    found = pod({**VARIANTS["plain"], "environment.SSL_CERT_FILE": "/etc/cavatica/token/ca.pem"})
    [secret] = [each["secret"] for each in found["volumes"] if each["name"] == "token"]
    assert "items" not in secret
    for container in found["containers"]:
        variables = {each["name"]: each["value"] for each in container["env"]}
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert mounts[str(Path(variables["SSL_CERT_FILE"]).parent)]["name"] == "token"


def notes(values: dict[str, str], directory: Path) -> str:
    """Return what helm prints after an installation, which `helm template` leaves out."""
    chart = directory / "chart"
    shutil.copytree(CHART, chart)
    text = '{{ include (print .Template.BasePath "/NOTES.txt") . | quote }}'
    template_ = f"kind: Notes\napiVersion: v1\nmetadata: {{name: notes}}\ntext: {text}\n"
    (chart / "templates/shown.yaml").write_text(template_)
    rendered = yaml.safe_load_all(template(values, chart=chart))
    [found] = [each["text"] for each in rendered if each and each["kind"] == "Notes"]
    return str(found)


@pytest.mark.parametrize(
    ("values", "told", "not_told"),
    [
        ("plain", ["deployment/release-", ">/exports/", "Nothing scrapes"], ["persistence"]),
        ("everything", [], ["Nothing scrapes", "No alert", "every scrape fails"]),
        ("no volume", ["persistence is off"], []),
        ("own ID files", ["https"], ["exec", "watches nothing"]),
    ],
)
def test_the_notes_say_what_is_left_to_do(
    values: str, told: list[str], not_told: list[str], tmp_path: Path
) -> None:
    """Only what is missing is named."""
    text = notes(VARIANTS[values], tmp_path)
    assert [each for each in told if each not in text] == []
    assert [each for each in not_told if each in text] == []


@pytest.mark.parametrize("endpoint", [False, True])
def test_a_scrape_without_the_password_is_foreseen(*, endpoint: bool, tmp_path: Path) -> None:
    """A web configuration without an endpoint's settings is named; with them it is not."""
    values = {**VARIANTS["everything"], "webConfigSecret": "web"}
    if endpoint:
        values["serviceMonitor.endpoint.scheme"] = "https"
    assert ("every scrape fails" in notes(values, tmp_path)) is not endpoint


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_the_exporter_understands_its_arguments(values: dict[str, str]) -> None:
    """Flags and variables of the container are valid, and its token is mounted where it is read."""
    exporter = pod(values)["containers"][0]
    variables = {each["name"]: each["value"] for each in exporter["env"]}
    command = make_command(lambda _: 0, "")
    known = {f"CAVATICA_EXPORTER_{each.name}".upper() for each in command.params}
    result = CliRunner().invoke(command, exporter["args"], env=variables)
    assert result.exit_code == 0, result.output
    assert variables.keys() <= known
    paths = [each["mountPath"] for each in exporter["volumeMounts"]]
    assert str(Path(variables["CAVATICA_EXPORTER_API_TOKEN_FILE"]).parent) in paths


def test_discovery_understands_its_arguments(tmp_path: Path) -> None:
    """Discovery runs repeatedly and writes to the directory that the exporter reads."""
    values = {**VARIANTS["everything"], "discovery.arguments[0]": "--volume=research/genomes"}
    discovery = pod(values)["containers"][1]
    assert discovery["command"] == ["cavatica-exports"]
    flags = parse_discover(discovery["args"], "/exports", tmp_path)
    assert (flags["every"], flags["volume"]) == (300, ("research/genomes",))


def test_rules_and_dashboards_are_the_shipped_ones(tmp_path: Path) -> None:
    """A package of the chart holds the files themselves, and the objects hold their content."""
    check(run_tool("helm", "package", CHART, "--destination", tmp_path))
    [package] = tmp_path.glob("*.tgz")
    with tarfile.open(package) as archive:
        packed = {
            Path(each.name).name: file.read()
            for each in archive
            if "/files/" in each.name and (file := archive.extractfile(each))
        }
    assert packed == {name: path.read_bytes() for name, path in SHIPPED.items()}
    values = VARIANTS["everything"]
    [rule] = objects(values, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load(packed["cavatica-exports.rules.yml"])
    maps = [
        each
        for each in objects(values, "ConfigMap")
        if each["metadata"]["labels"].get("grafana_dashboard") == "1"
    ]
    assert {name: json.loads(text) for each in maps for name, text in each["data"].items()} == {
        name: json.loads(text) for name, text in packed.items() if name.endswith(".json")
    }


def test_the_runbooks_address_is_a_value() -> None:
    """Every alert links to the operator's own page, at the section of the alert."""
    base = "https://wiki.example.org/runbooks"
    [rule] = objects(
        {**VARIANTS["everything"], "prometheusRule.runbookUrl": base}, "PrometheusRule"
    )
    alerts = [
        rule for group in rule["spec"]["groups"] for rule in group["rules"] if "alert" in rule
    ]
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"{base}#{alert['alert'].lower()}"


def test_the_version_is_the_exporters() -> None:
    """A chart installs the exporter it was made with."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
    assert chart["kubeVersion"] == f">={OLDEST}-0"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "token.existingSecret is missing"),
        ({"token.existingSecret": "x", "tokens": "x"}, "tokens"),
        ({"token.existingSecret": "x", "image.digest": "latest"}, "digest"),
        ({"token.existingSecret": "x", r"idFiles.a\.yml": "[]"}, "exclude each other"),
        ({"token.existingSecret": "x", "serviceMonitor.interval": "often"}, "interval"),
    ],
)
def test_wrong_values_are_refused(values: dict[str, str], message: str) -> None:
    """The error names the invalid value."""
    done = run_tool(
        "helm", "template", "release", CHART, f"--kube-version={NEWEST}", *settings(values)
    )
    assert done.returncode != 0
    assert message in done.stderr
