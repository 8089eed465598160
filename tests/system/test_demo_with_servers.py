"""`make demo`: what a newcomer sees within three minutes."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from scripts import demo
from tests.support.exporter_process import environment
from tests.support.servers import wait_until

SECONDS = 180.0


@pytest.mark.servers
@pytest.mark.slow
def test_an_alert_is_there_within_three_minutes(tmp_path: Path) -> None:
    """Three links that lead somewhere, and a line for the alert; SIGTERM leaves nothing."""
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
            wait_until(lambda: "Ctrl-C" in printed.read_text(), SECONDS, "the links are printed")
            links = re.findall(r"^(.+?)  +(http://\S+)$", printed.read_text(), re.MULTILINE)
            assert [name for name, _ in links[:3]] == ["Status page", "Alerts", "Alertmanager"]
            _, page = links[0]

            for _, link in links[:3]:
                assert requests.get(link, timeout=SECONDS).ok, link
            assert "CAVATICA exports" in requests.get(page, timeout=SECONDS).text
            failure = re.compile(r"^[\d:]+  CavaticaExportFailed  Export \w+ of", re.MULTILINE)
            wait_until(
                lambda: failure.search(printed.read_text()) is not None, SECONDS, "an alert fires"
            )
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(SECONDS) == 0
    assert [*directory.iterdir()] == []


def test_a_server_that_does_not_start_is_an_error_with_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A Prometheus of PATH may be one that cannot read the configuration."""
    monkeypatch.setattr(demo, "_START_SECONDS", 0.0)
    log = tmp_path / "prometheus.log"
    page = f"http://127.0.0.1:{demo.free_port()}/alerts"
    with demo.running(["sleep", "60"], tmp_path, log) as child:
        log.write_text("field nonsense not found")
        problem = f"no answer within 0 s: {page}; the end of its log:\nfield nonsense"
        with pytest.raises(SystemExit, match=problem):
            demo.page_of(page, "", child)


def test_a_program_that_ends_is_an_error_with_the_end_of_its_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without Prometheus the demo would wait for alerts for ever."""
    monkeypatch.setattr(demo, "_LOOK_SECONDS", 0.05)
    nowhere = f"http://127.0.0.1:{demo.free_port()}/"
    program = ["sh", "-c", "seq 1 30; sleep 0.3; exit 5"]
    with (
        demo.running(["sleep", "60"], tmp_path, None) as other,
        demo.running(program, tmp_path, tmp_path / "prometheus.log") as child,
        pytest.raises(SystemExit) as caught,
    ):
        demo.print_alerts(nowhere, [other, child])
    lines = [str(number) for number in range(21, 31)]
    problem = "error: prometheus ended with status 5; the end of its log:"
    assert str(caught.value).splitlines() == [problem, *lines]
    # While it starts, too, and without waiting.
    with pytest.raises(SystemExit, match="prometheus ended with status 5"):
        demo.page_of(nowhere, "", child)


def test_the_newest_servers_are_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs come from PATH, also under Debian's name, then the old ones, then the new ones."""
    monkeypatch.setattr(demo, "SERVERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo.find("alertmanager") is None
    for place in ("prometheus-alertmanager", "old/bin/alertmanager", "new/bin/alertmanager"):
        program = tmp_path / place
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
        assert demo.find("alertmanager") == str(program)


def test_without_servers_the_exporter_runs_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Without servers the exporter runs alone, and says so."""
    monkeypatch.setattr(demo, "SERVERS", tmp_path)
    monkeypatch.setenv("PATH", "")

    def become(_: str, arguments: list[str]) -> None:
        raise SystemExit(" ".join(arguments[1:]))

    monkeypatch.setattr("os.execv", become)
    with pytest.raises(SystemExit, match="-m exporter --demo"):
        demo.main()
    assert "the exporter runs alone" in capsys.readouterr().out


def test_without_a_place_for_files_there_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A read-only root needs a `/tmp`."""
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(SystemExit, match="2"), demo.scratch():
        pass
    printed = "error: no directory for temporary files: No such file or directory\n"
    assert capsys.readouterr().err == printed
