"""The published archives: they have all files and no secret, and the wheel works."""

import os
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SECRETS = (
    ".env",
    "deploy/compose/token",
    "exports/batch.json",
    "exports/.batch.json",
    "token",
    "venv/pyvenv.cfg",
)
"""Files that users create in a checkout when they follow the README."""

IGNORED = set(SECRETS) - {".env"}

pytestmark = pytest.mark.slow


def git(*arguments: str, directory: Path = ROOT) -> str:
    """Run git and return what it printed."""
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 # the git on PATH
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def in_a_checkout() -> bool:
    """Return whether the tests run in a git checkout, not in an unpacked archive."""
    return (ROOT / ".git").exists()


def copy_sources(target: Path) -> None:
    """Copy the project's current files, and create the files that must not be published."""
    names = git("ls-files", "--cached", "--others", "--exclude-standard").split("\n")
    for name in filter(None, names):
        if (source := ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(source.read_bytes())
            (target / name).chmod(source.stat().st_mode)
    for name in SECRETS:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("secret", encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Archives:
    """The archives of one build, in which the wheel is built from the source archive."""

    sdist: Path
    wheel: Path

    def names_in_sdist(self) -> set[str]:
        """Return the names of the files, without the archive's top folder."""
        with tarfile.open(self.sdist) as archive:
            return {each.name.partition("/")[2] for each in archive if each.isfile()}


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Build both archives from a copy of the sources."""
    if not in_a_checkout():
        pytest.skip("not a git checkout")
    directory = tmp_path_factory.mktemp("sources")
    copy_sources(directory)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    [sdist] = (directory / "dist").glob("*.tar.gz")
    [wheel] = (directory / "dist").glob("*.whl")
    return Archives(sdist, wheel)


def test_source_archive_has_no_secret(archives: Archives) -> None:
    """Tokens and ID files in the checkout are not packed."""
    assert archives.names_in_sdist().isdisjoint(SECRETS)


def test_source_archive_has_every_file_of_the_project(archives: Archives) -> None:
    """The archive has every tracked file, so that users can test and build from it."""
    tracked = {name for name in git("ls-files").split("\n") if name and (ROOT / name).is_file()}
    assert tracked - archives.names_in_sdist() == set()


def test_readme_in_the_wheel_has_absolute_links(archives: Archives) -> None:
    """In the wheel's metadata, links and pictures of the README lead to the repository."""
    with zipfile.ZipFile(archives.wheel) as wheel:
        [name] = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
        links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", wheel.read(name).decode())
    assert [link for _, link in links if not link.startswith("https://")] == []
    pictures = [link for picture, link in links if picture]
    assert len(pictures) == 2
    assert all("/raw/v" in link for link in pictures)


def test_git_ignores_tokens_and_id_files() -> None:
    """Git ignores the files that the README asks users to create."""
    if not in_a_checkout():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "check-ignore", *sorted(IGNORED)],  # noqa: S607 # the git on PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == IGNORED


def try_wheel(wheel: Path, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the release's check of a wheel, with this Python and the pinned versions.

    pip has no cache here: an index that is busy for a moment is asked again.
    """
    command = [ROOT / "scripts/try-wheel", wheel, directory]
    return subprocess.run(
        [*command, "--constraint", ROOT / "constraints.txt", "--retries=10", *options],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def test_wheel_works_in_an_empty_environment(archives: Archives, tmp_path: Path) -> None:
    """The installed wheel prints its version, scrapes the demo, and has dashboards and alerts."""
    done = try_wheel(archives.wheel, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" works\n")


def test_wheel_has_the_commit_of_its_source(tmp_path: Path) -> None:
    """The revision in the wheel is the commit from which the source archive was built."""
    if not in_a_checkout():
        pytest.skip("not a git checkout")
    git("clone", "--quiet", "--shared", str(ROOT), str(tmp_path / "clone"))
    (tmp_path / "clone" / "hatch_build.py").write_bytes((ROOT / "hatch_build.py").read_bytes())
    (tmp_path / "clone" / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    subprocess.run(command, cwd=tmp_path / "clone", capture_output=True, check=True)
    [wheel] = (tmp_path / "clone" / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        revision = archive.read("exporter/_revision").decode()
    assert revision.strip() == git("rev-parse", "HEAD", directory=tmp_path / "clone").strip()


def test_release_check_fails_for_a_wheel_without_alerts(archives: Archives, tmp_path: Path) -> None:
    """`try-wheel` fails for a wheel without the alert rules, and names the missing file."""
    broken = tmp_path / archives.wheel.name
    with zipfile.ZipFile(archives.wheel) as source, zipfile.ZipFile(broken, "w") as target:
        for each in source.infolist():
            content = source.read(each)
            if each.filename.endswith("/RECORD"):
                content = re.sub(rb".*\.rules\.yml,.*\n", b"", content)
            if not each.filename.endswith(".rules.yml"):
                target.writestr(each, content)
    done = try_wheel(broken, tmp_path / "try", "--no-deps")
    assert done.returncode == 1
    assert "alerts/cavatica-exports.rules.yml is not in" in done.stderr


def test_every_link_to_the_project_leads_to_its_url(tmp_path: Path) -> None:
    """No file names the project at another host, which a stranger may own."""
    if not in_a_checkout():
        pytest.skip("not a git checkout")
    copy_sources(tmp_path)
    [project] = re.findall(
        r'^Source = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE
    )
    links = {
        link
        for path in tmp_path.rglob("*")
        if path.is_file()
        for link in re.findall(
            r"https?://[\w./-]*cavatica-export-exporter", path.read_bytes().decode(errors="replace")
        )
    }
    assert links == {project}


def test_set_project_url_changes_every_file(tmp_path: Path) -> None:
    """The script replaces the project's URL in every file, also a second time."""
    if not in_a_checkout():
        pytest.skip("not a git checkout")
    copy_sources(tmp_path)
    [old] = re.findall(r'^Source = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    files = [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and tmp_path / "tests" not in path.parents
    ]
    for url in ("https://forge.example/group/exporter", "https://other.example/exporter"):
        subprocess.run([tmp_path / "scripts/set-project-url", url], check=True)
        named = {path for path in files if url.encode() in path.read_bytes()}
        left = {path for path in files if old.encode() in path.read_bytes()}
        assert tmp_path / "pyproject.toml" in named
        assert left == set()
        old = url


@pytest.mark.parametrize("url", ["http://git.example/x", "https://git.example/x/", "git.example"])
def test_set_project_url_refuses_invalid_urls(url: str, tmp_path: Path) -> None:
    """An invalid URL is an error with an example of a valid one."""
    copy_sources(tmp_path)
    done = subprocess.run(
        [tmp_path / "scripts/set-project-url", url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"not a usable URL: {url} (it must be like" in done.stderr
