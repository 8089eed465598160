"""Fixtures for all tests: no network but loopback, none of the developer's own settings."""

import functools
import gc
import ipaddress
import os
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import settings

from tests.grafana.node import require_libraries
from tests.support.servers import VERSIONS, programs_of, require_programs

# No deadline: shared machines pause, and a slow property still holds. Under CI examples are the
# same in every run, so that a change is never blamed for an old bug.
settings.register_profile("exporter", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.register_profile("check", deadline=None, max_examples=10)
settings.register_profile("fuzz", deadline=None, max_examples=5000)
settings.load_profile("exporter")


def on_loopback(connect: Callable[[socket.socket, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a method of sockets that raises an error rather than leave the machine.

    This is not an audit hook: before Python 3.12, a thread that starts while such a hook runs can
    die under coverage (CPython's issue 98257), and code that waits for the thread hangs.
    """

    @functools.wraps(connect)
    def checked(self: socket.socket, address: Any) -> Any:  # noqa: ANN401 # as the original
        match address:
            case (str(host), int(), *_):
                if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
                    message = f"a test wants to connect to {host}: tests stay on loopback"
                    raise AssertionError(message)
        return connect(self, address)

    return checked


def pytest_configure() -> None:
    """Forbid connections beyond loopback, and set umask and signals for all tests."""
    for name in ("connect", "connect_ex"):
        setattr(socket.socket, name, on_loopback(getattr(socket.socket, name)))
    # Files that tests create are readable by their user only, as token files should be.
    os.umask(0o077)
    # A script's background jobs ignore these signals, and so would the processes that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Run twice as many tests at once as this process has processors: most wait half the time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_finish() -> None:
    """Freeze the collected tests, which stay until the end, for the garbage collector."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test marked `servers` on every version of the servers."""
    if metafunc.definition.get_closest_marker("servers"):
        metafunc.parametrize("server_version", VERSIONS, indirect=True, scope="session")


@pytest.fixture(scope="session", autouse=True)
def server_version(request: pytest.FixtureRequest) -> Iterator[str]:
    """Use the servers of one version in tests marked `servers`; under CI they must be there.

    A fixture that starts servers and outlives a test requests this one.
    """
    version: str = getattr(request, "param", "")
    if not version:
        yield version
        return
    require_programs(version, ci=os.environ.get("CI") == "true")
    with programs_of(version):
        yield version


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `grafana` without Grafana's libraries; fail them under CI."""
    if item.get_closest_marker("grafana"):
        require_libraries(ci=os.environ.get("CI") == "true")


@pytest.fixture(autouse=True)
def _clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Hide the developer's own token, profile, flags, proxy and certificates from tests."""
    for name in os.environ:
        if name.startswith(("CAVATICA_EXPORTER_", "SB_", "SSL_CERT_")) or name.lower().endswith(
            ("_proxy", "_ca_bundle")
        ):
            monkeypatch.delenv(name)
    home = tmp_path_factory.getbasetemp() / "home"
    home.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
