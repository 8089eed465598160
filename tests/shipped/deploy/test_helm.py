"""The Helm chart: linted, rendered, and checked against the schemas of Kubernetes and operator."""

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
"""The files that the chart must contain, by name, with their sources."""

OLDEST, NEWEST = "1.25.0", "1.37.0"
"""The versions of Kubernetes for which the chart is rendered and checked."""

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
"""Values of the chart in each variant."""

Object = dict[str, Any]

pytestmark = pytest.mark.deploy


def settings(values: dict[str, str]) -> list[str]:
    """Return the arguments with which helm sets these values."""
    return [
        f"--set-string={name}={value}" if value == "made-up" else f"--set={name}={value}"
        for name, value in values.items()
    ]


def template(
    values: dict[str, str], *, version: str = NEWEST, chart: Path = CHART, release: str = "release"
) -> str:
    """Render the chart; for the values of OpenShift, as on a cluster with its API."""
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
def test_helm_lint_finds_no_problem(values: dict[str, str]) -> None:
    """`helm lint` reports no error and no warning."""
    arguments: list[str | Path] = [CHART, "--strict", f"--kube-version={NEWEST}", *settings(values)]
    check(run_tool("helm", "lint", *arguments))


def problems(text: str, version: str, directory: Path) -> str:
    """Return errors of rendered objects; the Prometheus operator's kinds have other schemas."""
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
def test_objects_follow_the_schemas_of_kubernetes(
    values: dict[str, str], version: str, tmp_path: Path
) -> None:
    """No field is unknown or missing in the oldest and the newest version of Kubernetes."""
    assert problems(template(values, version=version), version, tmp_path) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("readOnlyRootFilesystem", "readonlyRootFilesystem"),
        ("scrapeTimeout", "scrape_timeout"),
        ("        expr:", "        expression:"),
    ],
)
def test_schemas_find_a_wrong_field(right: str, wrong: str, tmp_path: Path) -> None:
    """A misspelt field is an error in Kubernetes' own kinds and in those of the operator."""
    text = template(VARIANTS["everything"])
    assert right in text
    assert wrong.strip(" :") in problems(text.replace(right, wrong), NEWEST, tmp_path)


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_pod_is_restricted(values: dict[str, str]) -> None:
    """The pod meets Kubernetes' strictest pod security standard, "restricted"."""
    found = pod(values)
    context = found["securityContext"]
    assert context["runAsNonRoot"] is True
    # OpenShift refuses a pod with a fixed user: each namespace has its own range of user IDs.
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
def test_mounted_volumes_and_their_sources_exist(values: dict[str, str]) -> None:
    """Containers mount exactly the pod's volumes, whose ConfigMaps and claims are rendered."""
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


def test_release_name_may_be_a_number(tmp_path: Path) -> None:
    """A release name such as "123" is quoted, because it is a label and labels are strings."""
    assert problems(template(VARIANTS["plain"], release="123"), NEWEST, tmp_path) == ""


def ports(rules: list[Object]) -> list[tuple[int, str]]:
    """Return the ports of a network policy's rules."""
    return [(each["port"], each.get("protocol", "TCP")) for rule in rules for each in rule["ports"]]


def test_network_policy_allows_dns_and_the_api() -> None:
    """DNS is always allowed, also on OpenShift's own port; the API, unless the values forbid it."""
    [plain] = objects(VARIANTS["plain"], "NetworkPolicy")
    dns = [(53, "UDP"), (53, "TCP")]
    assert ports(plain["spec"]["egress"]) == [*dns, (443, "TCP")]
    [closed] = objects(VARIANTS["OpenShift"], "NetworkPolicy")
    assert ports(closed["spec"]["egress"]) == [*dns, (5353, "UDP"), (5353, "TCP")]


def test_whole_secret_is_mounted() -> None:
    """Other keys of the Secret, such as an authority's certificate, are files beside the token."""
    found = pod({**VARIANTS["plain"], "environment.SSL_CERT_FILE": "/etc/cavatica/token/ca.pem"})
    [secret] = [each["secret"] for each in found["volumes"] if each["name"] == "token"]
    assert "items" not in secret
    for container in found["containers"]:
        variables = {each["name"]: each["value"] for each in container["env"]}
        mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
        assert mounts[str(Path(variables["SSL_CERT_FILE"]).parent)]["name"] == "token"


def notes(values: dict[str, str], directory: Path) -> str:
    """Return the notes that helm prints after an installation, which `helm template` omits."""
    chart = directory / "chart"
    shutil.copytree(CHART, chart)
    text = '{{ include (print .Template.BasePath "/NOTES.txt") . | quote }}'
    template_ = f"kind: Notes\napiVersion: v1\nmetadata: {{name: notes}}\ntext: {text}\n"
    (chart / "templates/shown.yaml").write_text(template_)
    rendered = yaml.safe_load_all(template(values, chart=chart))
    [found] = [each["text"] for each in rendered if each and each["kind"] == "Notes"]
    return str(found)


@pytest.mark.parametrize(
    ("values", "present", "absent"),
    [
        ("plain", ["deployment/release-", ">/exports/", "Nothing scrapes"], ["persistence"]),
        ("everything", [], ["Nothing scrapes", "No alert", "every scrape fails"]),
        ("no volume", ["persistence is off"], []),
        ("own ID files", ["https"], ["exec", "watches nothing"]),
    ],
)
def test_notes_name_only_what_is_missing(
    values: str, present: list[str], absent: list[str], tmp_path: Path
) -> None:
    """The notes name what is left to do, and nothing that is already done."""
    text = notes(VARIANTS[values], tmp_path)
    assert [each for each in present if each not in text] == []
    assert [each for each in absent if each in text] == []


@pytest.mark.parametrize("endpoint", [False, True])
def test_notes_warn_of_scrapes_without_a_password(*, endpoint: bool, tmp_path: Path) -> None:
    """The notes warn of a web configuration unless the ServiceMonitor has settings for it."""
    values = {**VARIANTS["everything"], "webConfigSecret": "web"}
    if endpoint:
        values["serviceMonitor.endpoint.scheme"] = "https"
    assert ("every scrape fails" in notes(values, tmp_path)) is not endpoint


@pytest.mark.parametrize("values", VARIANTS.values(), ids=VARIANTS)
def test_exporter_accepts_its_arguments(values: dict[str, str]) -> None:
    """The container's flags and variables are valid, and the token is mounted at its path."""
    exporter = pod(values)["containers"][0]
    variables = {each["name"]: each["value"] for each in exporter["env"]}
    command = make_command(lambda _: 0, "")
    known = {f"CAVATICA_EXPORTER_{each.name}".upper() for each in command.params}
    result = CliRunner().invoke(command, exporter["args"], env=variables)
    assert result.exit_code == 0, result.output
    assert variables.keys() <= known
    paths = [each["mountPath"] for each in exporter["volumeMounts"]]
    assert str(Path(variables["CAVATICA_EXPORTER_API_TOKEN_FILE"]).parent) in paths


def test_discovery_accepts_its_arguments(tmp_path: Path) -> None:
    """Discovery runs repeatedly and writes to the directory that the exporter reads."""
    values = {**VARIANTS["everything"], "discovery.arguments[0]": "--volume=research/genomes"}
    discovery = pod(values)["containers"][1]
    assert discovery["command"] == ["cavatica-exports"]
    flags = parse_discover(discovery["args"], "/exports", tmp_path)
    assert (flags["every"], flags["volume"]) == (300, ("research/genomes",))


def test_rules_and_dashboards_are_the_shipped_ones(tmp_path: Path) -> None:
    """The packed chart has the shipped files unchanged, and the rendered objects their content."""
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


def test_runbook_url_is_a_value() -> None:
    """With `prometheusRule.runbookUrl`, each alert links to its section of that page."""
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


def test_chart_has_the_version_of_the_exporter() -> None:
    """A chart installs the exporter of the same version."""
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
def test_invalid_values_are_refused(values: dict[str, str], message: str) -> None:
    """Rendering fails, and the error names the invalid value."""
    done = run_tool(
        "helm", "template", "release", CHART, f"--kube-version={NEWEST}", *settings(values)
    )
    assert done.returncode != 0
    assert message in done.stderr
