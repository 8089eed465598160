"""What is published: the archives hold what they must and no secret, and the wheel works."""

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
"""Files that users make in a checkout when they follow the README."""

IGNORED = set(SECRETS) - {".env"}

pytestmark = pytest.mark.slow


def git(*arguments: str, directory: Path = ROOT) -> str:
    """Run git and return what it printed."""
    return subprocess.run(
        ["git", *arguments],  # noqa: S607 # whichever git made the checkout
        cwd=directory,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def in_a_checkout() -> bool:
    """Return whether the tests run in a clone, not in an unpacked archive."""
    return (ROOT / ".git").exists()


def copy_sources(target: Path) -> None:
    """Copy the project's files as they are now, and make the files that must not be published."""
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
    """The archives of one build; the wheel is built from the source archive."""

    sdist: Path
    wheel: Path

    def names_in_sdist(self) -> set[str]:
        """Return the names of the files, without the archive's own folder."""
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


def test_no_secret_is_in_the_source_archive(archives: Archives) -> None:
    """A token or an ID file beside the sources stays where it is."""
    assert archives.names_in_sdist().isdisjoint(SECRETS)


def test_the_source_archive_holds_every_file_of_the_project(archives: Archives) -> None:
    """Check that everything can be tested and built from the archive."""
    tracked = {name for name in git("ls-files").split("\n") if name and (ROOT / name).is_file()}
    assert tracked - archives.names_in_sdist() == set()


def test_the_readme_on_a_package_index_has_absolute_links(archives: Archives) -> None:
    """Links in the published README lead to the repository, pictures included."""
    with zipfile.ZipFile(archives.wheel) as wheel:
        [name] = [each for each in wheel.namelist() if each.endswith(".dist-info/METADATA")]
        links = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", wheel.read(name).decode())
    assert [link for _, link in links if not link.startswith("https://")] == []
    pictures = [link for picture, link in links if picture]
    assert len(pictures) == 2
    assert all("/raw/v" in link for link in pictures)


def test_git_ignores_what_the_readme_tells_users_to_make() -> None:
    """Git ignores tokens and ID files."""
    if not in_a_checkout():
        pytest.skip("not a git checkout")
    done = subprocess.run(
        ["git", "check-ignore", *sorted(IGNORED)],  # noqa: S607 # whichever git made the checkout
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == IGNORED


def try_wheel(wheel: Path, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script that releases use, with this Python and the pinned versions."""
    command = [ROOT / "scripts/try-wheel", wheel, directory]
    return subprocess.run(
        [*command, "--constraint", ROOT / "constraints.txt", *options],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_wheel_works_in_an_empty_environment(archives: Archives, tmp_path: Path) -> None:
    """The installed wheel prints its version, scrapes the demo, and has dashboards and alerts."""
    done = try_wheel(archives.wheel, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(" works\n")


def test_the_archives_name_their_commit(tmp_path: Path) -> None:
    """The revision comes from git; a wheel has that of its source archive."""
    if not in_a_checkout():
        pytest.skip("not a git checkout")
    git("clone", "--quiet", "--shared", str(ROOT), str(tmp_path / "clone"))
    (tmp_path / "clone" / "hatch_build.py").write_bytes((ROOT / "hatch_build.py").read_bytes())
    (tmp_path / "clone" / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist"]
    subprocess.run(command, cwd=tmp_path / "clone", capture_output=True, check=True)
    [wheel] = (tmp_path / "clone" / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert (
            archive.read("exporter/_revision").decode().strip() == git("rev-parse", "HEAD").strip()
        )


def test_a_wheel_without_alerts_is_found_out(archives: Archives, tmp_path: Path) -> None:
    """The release check fails for a broken wheel."""
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


def test_the_projects_address_is_set_everywhere(tmp_path: Path) -> None:
    """One command sets the project's URL, repeatedly."""
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
def test_an_unusable_address_is_refused(url: str, tmp_path: Path) -> None:
    """An invalid URL is refused with a hint."""
    copy_sources(tmp_path)
    done = subprocess.run(
        [tmp_path / "scripts/set-project-url", url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"not a usable URL: {url} (it must be like" in done.stderr
