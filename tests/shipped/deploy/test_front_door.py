"""Workflows, forms and editor settings, each checked by its own program."""

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
def test_files_for_github_follow_their_schema(schema: str, files: list[Path]) -> None:
    """Forms and workflows are valid."""
    check(run_tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files))


def test_zizmor_has_nothing_to_say_about_the_workflows() -> None:
    """No template injection, no credentials left behind, no permission too many."""
    check(run_tool("zizmor", "--offline", "--no-progress", GITHUB))


def test_an_action_that_is_not_pinned_is_found_out(tmp_path: Path) -> None:
    """The same check fails when an action is named by a tag, which can be moved."""
    text = re.sub(r"(actions/checkout)@\w+ #", r"\1@v6 #", WORKFLOWS[0].read_text())
    (tmp_path / "ci.yml").write_text(text)
    done = run_tool("zizmor", "--offline", "--no-progress", tmp_path / "ci.yml")
    assert done.returncode != 0
    assert "unpinned-uses" in done.stdout


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_by_hash_and_named_by_version(workflow: Path) -> None:
    """The hash is what runs; the version is for readers."""
    uses = re.findall(r"uses: (.*)", workflow.read_text())
    assert uses
    for each in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)


def test_the_metadata_of_the_package_are_valid() -> None:
    """Registries accept pyproject.toml, classifiers included."""
    check(run_tool("validate-pyproject", ROOT / "pyproject.toml"))


def test_nothing_is_misspelt() -> None:
    """Codespell reads every file but the tests' data."""
    files = check(run(["git", "ls-files", ":!tests/data", ":!*.json"])).split()
    check(run_tool("codespell", *files))


def test_hooks_and_tests_use_the_same_versions() -> None:
    """The hooks run the same versions of tools as the tests."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    pinned = {each for hook in hooks for each in hook.get("additional_dependencies", [])}
    assert len(pinned) == 2
    tools = (ROOT / "scripts/get-deploy-tools").read_text()
    for each in pinned:
        assert f'"{each}"' in tools
