"""A real Prometheus scrapes servers with TLS, certificates, passwords, headers and rate limits."""

import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from exporter.server import Server
from exporter.webconfig import WebConfigFile
from tests.support.servers import Prometheus
from tests.support.waits import wait_until

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

pytestmark = pytest.mark.servers

JOB = """
  - job_name: {name}
    scrape_interval: 1s
    scrape_timeout: 1s
    static_configs: [targets: ["127.0.0.1:{port}"]]
{settings}"""
TLS = """\
    scheme: https
    tls_config: {ca_file: ca.crt}
"""
CLIENT_CERTIFICATE = """\
    scheme: https
    tls_config: {ca_file: ca.crt, cert_file: client.crt, key_file: client.key}
"""
PASSWORD = "    basic_auth: {username: alice, password: correct-horse}\n"
WRONG_PASSWORD = "    basic_auth: {username: alice, password: wrong}\n"

SERVER_CERTIFICATE = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
CLIENTS_REQUIRED = (
    SERVER_CERTIFICATE
    + "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n"
)
ANY_CLIENT = SERVER_CERTIFICATE + "  client_auth_type: RequireAnyClientCert\n"
ALLOWED = "  client_allowed_sans: ['{}']\n"
CURVES = "  curve_preferences: [CurveP521, X25519]\n"
HEADERS_AND_RATE = """\
http_server_config: {headers: {X-Frame-Options: deny}}
rate_limit: {interval: 1ms, burst: 9}
"""
# Made by `htpasswd -nbBC 5 alice correct-horse`.
USERS = "basic_auth_users:\n  alice: $2y$05$b4NQLD0vgzawXl56ps3QfeKSlwyQs6zH4Nq1PIeDTI90XPnQi4oFe\n"


# The exporter's web configuration, and Prometheus' settings that fit it, or do not (BAD).
GOOD = {
    "plain": ("", ""),
    "tls": (SERVER_CERTIFICATE, TLS),
    "client certificate": (CLIENTS_REQUIRED, CLIENT_CERTIFICATE),
    "password": (USERS, PASSWORD),
    "everything": (CLIENTS_REQUIRED + USERS, CLIENT_CERTIFICATE + PASSWORD),
    "any certificate": (ANY_CLIENT, CLIENT_CERTIFICATE),
    "allowed name": (CLIENTS_REQUIRED + ALLOWED.format("127.0.0.1"), CLIENT_CERTIFICATE),
    "curves": (SERVER_CERTIFICATE + CURVES, TLS),
    "headers and rate": (HEADERS_AND_RATE, ""),
}
BAD = {
    "plain to tls": (SERVER_CERTIFICATE, ""),
    "no client certificate": (CLIENTS_REQUIRED, TLS),
    "no password": (USERS, ""),
    "wrong password": (USERS, WRONG_PASSWORD),
    "no certificate where any will do": (ANY_CLIENT, TLS),
    "another name": (CLIENTS_REQUIRED + ALLOWED.format("other"), CLIENT_CERTIFICATE),
    "rate": ("rate_limit: {interval: 1h}\n", ""),
}


def app(_environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer with one sample."""
    start_response("200 OK", [("Content-Type", "text/plain; version=0.0.4")])
    return [b"sample 42\n"]


def write_certificates(directory: Path) -> None:
    """Write certificates of server and client, with the file names of the settings above."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    for name in ("server", "client"):
        leaf = authority.issue_cert("127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(str(directory / f"{name}.crt"))
        leaf.private_key_pem.write_to_path(str(directory / f"{name}.key"))


@pytest.fixture(scope="module")
def prometheus(
    tmp_path_factory: pytest.TempPathFactory,
    server_version: str,  # noqa: ARG001 - it starts a Prometheus of this version
) -> Iterator[Prometheus]:
    """Run a server for each case, and a Prometheus that has scraped all of them."""
    directory = tmp_path_factory.mktemp("web")
    write_certificates(directory)
    jobs = "scrape_configs:"
    with ExitStack() as stack:
        for name, (web, settings) in {**GOOD, **BAD}.items():
            path = directory / f"{name}.yml"
            path.write_text(web, encoding="utf-8")
            config = WebConfigFile(path)
            server = Server(
                config.wrap(app),
                ("127.0.0.1", 0),
                tls=config.ssl_context,
                extra_headers=config.headers,
            )
            stack.callback(server.close)
            server.start()
            jobs += JOB.format(name=name, port=server.server_port, settings=settings)
        running = stack.enter_context(Prometheus(jobs, directory))
        wait_until(
            lambda: (
                {target["health"] for target in running.targets()} == {"up", "down"}
                and len(running.query("up")) == len(GOOD) + len(BAD)
            ),
            "everything was scraped once",
            20,
        )
        yield running


def target_of(prometheus: Prometheus, name: str) -> dict[str, Any]:
    """Return the target of a case, as Prometheus lists it."""
    return next(t for t in prometheus.targets() if t["labels"]["job"] == name)


@pytest.mark.parametrize("name", GOOD)
def test_prometheus_scrapes_with_fitting_settings(prometheus: Prometheus, name: str) -> None:
    """With the `tls_config` and `basic_auth` that the exporter requires, scrapes succeed."""
    target = target_of(prometheus, name)
    assert (target["health"], target["lastError"]) == ("up", "")
    assert [each.value for each in prometheus.query(f'sample{{job="{name}"}}')] == [42]


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("plain to tls", "server returned HTTP status 400 Bad Request"),
        ("no client certificate", "certificate required"),
        ("no password", "server returned HTTP status 401 Unauthorized"),
        ("wrong password", "server returned HTTP status 401 Unauthorized"),
        ("no certificate where any will do", "certificate required"),
        # Go's names for a connection that ends without an answer; which one depends on its threads.
        ("another name", "EOF|server closed idle connection"),
        ("rate", "server returned HTTP status 429 Too Many Requests"),
    ],
)
def test_failed_scrape_shows_its_cause(prometheus: Prometheus, name: str, error: str) -> None:
    """With other settings the target is down, and its last error in Prometheus has the cause."""
    target = target_of(prometheus, name)
    assert target["health"] == "down"
    assert re.search(error, target["lastError"])
