"""Files for GitHub and registries, and the spelling: each is checked by its own linter."""

import re
from pathlib import Path

import pytest
import yaml

from tests.support.deploy_tools import ROOT, check, run, run_tool

pytestmark = pytest.mark.deploy

GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", [*(GITHUB / "ISSUE_TEMPLATE").glob("[!c]*.yml")]),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE/config.yml"]),
    ],
)
def test_github_files_follow_their_schema(schema: str, files: list[Path]) -> None:
    """Workflows and issue forms are valid under GitHub's schemas."""
    check(run_tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files))


def test_zizmor_finds_no_problem_in_the_workflows() -> None:
    """Workflows have no template injection, no persisted credentials and no needless permission."""
    check(run_tool("zizmor", "--offline", "--no-progress", GITHUB))


def test_zizmor_finds_an_unpinned_action(tmp_path: Path) -> None:
    """An action that is named by a tag, which can be moved, is an error."""
    text = re.sub(r"(actions/checkout)@\w+ #", r"\1@v6 #", WORKFLOWS[0].read_text())
    (tmp_path / "ci.yml").write_text(text)
    done = run_tool("zizmor", "--offline", "--no-progress", tmp_path / "ci.yml")
    assert done.returncode != 0
    assert "unpinned-uses" in done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_hash_with_their_version(workflow: Path) -> None:
    """The hash decides what runs; the version in the comment is for readers."""
    uses = re.findall(r"uses: (.*)", workflow.read_text())
    assert uses
    for each in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)


def test_pyproject_toml_is_valid() -> None:
    """pyproject.toml follows the standard, so that registries accept it, classifiers included."""
    check(run_tool("validate-pyproject", ROOT / "pyproject.toml"))


def test_codespell_finds_no_misspelling() -> None:
    """No file has a misspelling, except the tests' data and JSON files, which are not checked."""
    files = check(run(["git", "ls-files", ":!tests/data", ":!*.json"])).split()
    check(run_tool("codespell", *files))


def test_hooks_and_tests_use_the_same_versions() -> None:
    """The pre-commit hooks pin the versions of tools that the tests use."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    pinned = {each for hook in hooks for each in hook.get("additional_dependencies", [])}
    assert len(pinned) == 2
    tools = (ROOT / "scripts/get-deploy-tools").read_text()
    for each in pinned:
        assert f'"{each}"' in tools
