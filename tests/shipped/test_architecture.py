"""The architecture: imports point one way, as the table allows, and modules stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "exporter"
MAXIMUM_LINES = 300

# The folders and modules of the package that each folder or module may import.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    # The base of everything else.
    "background": set(),
    "clock": set(),
    "text": set(),
    "document": {"text"},
    "files": set(),
    # The stages of the data.
    "cavatica": {"background", "files", "text"},
    "watchlist": {"background", "cavatica", "document", "files", "text"},
    "tracker": {"background", "cavatica", "watchlist", "clock", "files"},
    "metrics": {"cavatica", "tracker"},
    "web": {"cavatica", "clock", "metrics", "text", "tracker", "watchlist"},
    # Independent of the stages.
    "server": {"background"},
    "webconfig": {"background", "document", "files", "text"},
    "simulator": set(),
}
# The wiring, which may import every folder.
ALLOWED["cli"] = set(ALLOWED) - {"__main__"} | {"tool"}
# The second program. `cli` imports it, too: the exporter's demo runs discovery.
ALLOWED["tool"] = set(ALLOWED) - {"__main__"}

# The only modules that may use the network.
CLIENT = {"exporter.cavatica.connection", "exporter.cavatica.transport"}
HTTP_CLIENTS = {"requests", "urllib3", "urllib.request", "http.client.HTTPConnection"}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    """Return the dotted name of a file of the package: `exporter`, `exporter.cavatica.client`."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(file) for file in FILES}


def imported_names(file: Path) -> Iterator[str]:
    """Return every dotted name that a file imports, anywhere in the file."""
    name = module_name(file)
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imported_modules(file: Path) -> set[str]:
    """Return the modules of the package that a file imports; a submodule stands for its package."""
    found = NAMES.intersection(imported_names(file)) - {module_name(file)}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def part(name: str) -> str:
    """Return the entry of `ALLOWED` for a dotted name."""
    return [*name.split("."), "__init__"][1]


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_module_imports_only_what_the_table_allows(file: Path) -> None:
    """A module imports only the folders that `ALLOWED` lists for its own folder."""
    own = part(module_name(file))
    assert own in ALLOWED, f"{own} is new: give it a place in ALLOWED"
    assert {part(name) for name in imported_modules(file)} - {own, "__init__"} <= ALLOWED[own]


def test_table_has_no_unused_entry() -> None:
    """The table lists no module and no import that does not exist."""
    imported: dict[str, set[str]] = {}
    for file in FILES:
        own = part(module_name(file))
        parts = {part(name) for name in imported_modules(file)} - {own, "__init__"}
        imported[own] = imported.get(own, set()) | parts
    assert ALLOWED | {folder: imported[folder] for folder in ("cli", "tool")} == imported


def test_architecture_page_has_every_module() -> None:
    """The picture of the package names each folder and each module in it."""
    page = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    picture = page.partition("```\nexporter/\n")[2].partition("```")[0]
    folders = {line.split()[0].rstrip("/"): line for line in picture.splitlines() if line.strip()}
    paths = [file.relative_to(PACKAGE).with_suffix("").parts for file in FILES]
    missing = {
        ".".join(path)
        for path in paths
        if path[-1] not in {"__init__", "__main__"}
        and path[-1] not in folders.get(path[0], "").replace("`", "").split()
    }
    assert missing == set()


@pytest.mark.parametrize("folder", ["tracker", "metrics"])
def test_folder_without_network_loads_no_http_client(folder: str) -> None:
    """Reading or rendering a snapshot does not import urllib3."""
    modules = [name for name in sorted(NAMES) if name.startswith(f"exporter.{folder}")]
    program = f"import sys, {', '.join(modules)}; sys.exit('urllib3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_imports_have_no_cycle() -> None:
    """The modules can be sorted so that each imports only earlier ones."""
    graph = {module_name(file): imported_modules(file) for file in FILES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_only_the_client_uses_an_http_library(file: Path) -> None:
    """Only the client's modules import HTTP libraries, so a test can replace all calls."""
    clients = HTTP_CLIENTS.intersection(imported_names(file))
    assert module_name(file) in CLIENT or not clients


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_module_is_short(file: Path) -> None:
    """A module has at most 300 lines."""
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAXIMUM_LINES
