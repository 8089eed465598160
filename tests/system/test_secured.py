"""The exporter's process behind TLS, client certificates and passwords."""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme

from tests.support.curl import curl
from tests.support.exporter_process import LOOPBACK, RunningExporter, process
from tests.support.servers import Prometheus
from tests.support.timing import within
from tests.support.waits import wait_until

# In the format that exporter-toolkit documents; the hash was made with
# `htpasswd -nbB alice correct-horse`.
WEB = """\
tls_server_config:{clients}
  cert_file: server.crt
  key_file: server.key
  min_version: TLS12
http_server_config:
  http2: true
basic_auth_users:
  alice: $2y$05$HxFHaYk8f4dAAYdEz3xOGuMte6L0BbQfFVInAdKpwEAoaKl.NwW1a
"""
CLIENTS = "\n  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt"
PASSWORD = "alice:correct-horse"
JOB = """
scrape_configs:
  - job_name: cavatica
    scrape_interval: 1s
    scrape_timeout: 1s
    scheme: https
    tls_config:
      ca_file: {directory}/ca.crt
      cert_file: {directory}/client.crt
      key_file: {directory}/client.key
    basic_auth: {{username: alice, password: correct-horse}}
    static_configs: [targets: ["{target}"]]
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with certificates of server and client, and two web configurations."""
    directory = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.crt"))
    for name in ("server", "client"):
        leaf = authority.issue_cert("127.0.0.1")
        leaf.cert_chain_pems[0].write_to_path(str(directory / f"{name}.crt"))
        leaf.private_key_pem.write_to_path(str(directory / f"{name}.key"))
    (directory / "password.yml").write_text(WEB.format(clients=""))
    (directory / "certificate.yml").write_text(WEB.format(clients=CLIENTS))
    return directory


@pytest.fixture(scope="module")
def password(directory: Path) -> Iterator[RunningExporter]:
    """Run a demo with TLS that requires a password."""
    web = f"--web.config.file={directory / 'password.yml'}"
    with process(directory / "password.log", "--demo", LOOPBACK, web) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(directory: Path) -> Iterator[RunningExporter]:
    """Run a demo with TLS that requires a client certificate and a password."""
    web = f"--web.config.file={directory / 'certificate.yml'}"
    with process(directory / "certificate.log", "--demo", LOOPBACK, web) as running:
        yield running


def ask(directory: Path, url: str, *arguments: str) -> str:
    """Return the output of curl for a URL; curl trusts the server's authority."""
    return curl(url, "--cacert", "ca.crt", *arguments, directory=directory)


def test_curl_scrapes_with_a_password(directory: Path, password: RunningExporter) -> None:
    """With the authority's certificate and the password, curl scrapes."""
    page = ask(directory, f"{password.urls[0]}/metrics", "--user", PASSWORD, "--compressed")
    assert "\ncavatica_up 1.0\n" in page
    assert page.endswith("\n200")


@pytest.mark.parametrize(
    "arguments", [(), ("--user", "alice:wrong"), ("--user", "bob:correct-horse")]
)
def test_curl_with_a_wrong_or_no_password_is_refused(
    directory: Path, password: RunningExporter, arguments: Sequence[str]
) -> None:
    """The answer is 401 without any metrics."""
    assert ask(directory, f"{password.urls[0]}/metrics", *arguments) == "Unauthorized\n\n401"


def test_curl_needs_a_client_certificate(directory: Path, certificate: RunningExporter) -> None:
    """A client certificate of the configured authority is accepted; without one, TLS fails."""
    url = f"{certificate.urls[0]}/metrics"
    own = ("--cert", "client.crt", "--key", "client.key")
    assert "\ncavatica_up 1.0\n" in ask(directory, url, "--user", PASSWORD, *own)
    assert "\n000curl: (" in ask(directory, url, "--user", PASSWORD)


@pytest.mark.servers
def test_prometheus_scrapes_with_certificate_and_password(
    directory: Path, certificate: RunningExporter, tmp_path: Path
) -> None:
    """Prometheus needs only its usual settings `tls_config` and `basic_auth`."""
    job = JOB.format(directory=directory, target=certificate.urls[0].removeprefix("https://"))
    with Prometheus(job, tmp_path) as prometheus:
        wait_until(lambda: prometheus.query("cavatica_up == 1"), "it has scraped")
        [target] = wait_until(prometheus.targets, "it lists its target")
        assert target["lastError"] == ""


@pytest.mark.parametrize("handshake", [False, True])
def test_200_idle_tls_clients_do_not_delay_a_scrape(
    directory: Path, password: RunningExporter, *, handshake: bool
) -> None:
    """A scrape takes less than a second beside idle clients, with and without TLS handshakes."""
    client_tls = ssl.create_default_context(cafile=directory / "ca.crt")
    host, port = password.urls[0].removeprefix("https://").split(":")
    with ExitStack() as stack:
        for _ in range(200):
            client = stack.enter_context(socket.create_connection((host, int(port)), 10))
            if handshake:
                stack.enter_context(client_tls.wrap_socket(client, server_hostname=host))
        with within(1):
            page = ask(directory, f"{password.urls[0]}/metrics", "--user", PASSWORD)
    assert page.endswith("\n200")


def test_200_idle_clients_do_not_delay_a_scrape(tmp_path: Path) -> None:
    """A scrape without TLS takes less than a second beside clients with unfinished requests."""
    with process(tmp_path / "log", "--demo", LOOPBACK) as running, ExitStack() as stack:
        host, port = running.urls[0].removeprefix("http://").split(":")
        for _ in range(200):
            client = stack.enter_context(socket.create_connection((host, int(port)), 10))
            client.sendall(b"GET /metrics HTTP/1.1\r\n")
        with within(1):
            assert running.scrape()("cavatica_up") == 1
