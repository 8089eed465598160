"""`make demo`: its links, its alerts, and what it does without servers."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from scripts import demo
from scripts.ports import reserved_port
from tests.support.exporter_process import environment
from tests.support.waits import wait_until

SECONDS = 180.0


@pytest.mark.servers
@pytest.mark.slow
def test_demo_shows_an_alert_within_three_minutes(tmp_path: Path) -> None:
    """The demo prints three links that work and a line for the alert; SIGTERM removes all files."""
    printed = tmp_path / "printed"
    directory = tmp_path / "tmp"
    directory.mkdir()
    with (
        printed.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "scripts.demo"],
            cwd=demo.ROOT,
            env=environment(TMPDIR=str(directory)),
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until(lambda: "Ctrl-C" in printed.read_text(), "the links are printed", SECONDS)
            links = re.findall(r"^(.+?)  +(http://\S+)$", printed.read_text(), re.MULTILINE)
            assert [name for name, _ in links[:3]] == ["Status page", "Alerts", "Alertmanager"]
            _, page = links[0]

            for _, link in links[:3]:
                assert requests.get(link, timeout=SECONDS).ok, link
            assert "CAVATICA exports" in requests.get(page, timeout=SECONDS).text
            failure = re.compile(r"^[\d:]+  CavaticaExportFailed  Export \w+ of", re.MULTILINE)
            wait_until(
                lambda: failure.search(printed.read_text()) is not None, "an alert fires", SECONDS
            )
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
    assert [*directory.iterdir()] == []


def test_server_that_does_not_start_is_an_error_with_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Prometheus on PATH may be too old for the configuration; the error shows its log."""
    monkeypatch.setattr(demo, "_START_SECONDS", 0.0)
    log = tmp_path / "prometheus.log"
    with reserved_port() as port, demo.running(["sleep", "60"], tmp_path, log) as child:
        page = f"http://127.0.0.1:{port}/alerts"
        log.write_text("field nonsense not found")
        problem = f"no answer within 0 s: {page}; the end of its log:\nfield nonsense"
        with pytest.raises(SystemExit, match=problem):
            demo.page_of(page, "", child)


def test_program_that_ends_is_an_error_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """If a program ends, the demo ends too; otherwise it would wait for alerts for ever."""
    monkeypatch.setattr(demo, "_LOOK_SECONDS", 0.05)
    program = ["sh", "-c", "seq 1 30; sleep 0.3; exit 5"]
    with (
        demo.running(["sleep", "60"], tmp_path, None) as other,
        demo.running(program, tmp_path, tmp_path / "prometheus.log") as child,
        reserved_port() as port,
    ):
        nowhere = f"http://127.0.0.1:{port}/"
        with pytest.raises(SystemExit) as caught:
            demo.print_alerts(nowhere, [other, child])
        lines = [str(number) for number in range(21, 31)]
        problem = "error: prometheus ended with status 5; the end of its log:"
        assert str(caught.value).splitlines() == [problem, *lines]
        # The same while it starts, without waiting for the timeout.
        with pytest.raises(SystemExit, match="prometheus ended with status 5"):
            demo.page_of(nowhere, "", child)


def test_find_prefers_the_newest_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs in `new` are preferred to those in `old`, and these to PATH, with Debian's names."""
    monkeypatch.setattr(demo, "SERVERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo.find("alertmanager") is None
    for place in ("prometheus-alertmanager", "old/bin/alertmanager", "new/bin/alertmanager"):
        program = tmp_path / place
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
        assert demo.find("alertmanager") == str(program)


def test_demo_without_servers_runs_the_exporter_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without Prometheus and Alertmanager, the demo runs only the exporter and prints a line."""
    monkeypatch.setattr(demo, "SERVERS", tmp_path)
    monkeypatch.setenv("PATH", "")

    def execv(_: str, arguments: list[str]) -> None:
        raise SystemExit(" ".join(arguments[1:]))

    monkeypatch.setattr("os.execv", execv)
    with pytest.raises(SystemExit, match="-m exporter --demo"):
        demo.main()
    assert "the exporter runs alone" in capsys.readouterr().out


def test_missing_temporary_directory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a writable directory, as in a read-only container, the demo prints one error line."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(SystemExit, match="2"), demo.scratch():
        pass
    printed = "error: no directory for temporary files: No such file or directory\n"
    assert capsys.readouterr().err == printed
