"""The line of the data, as imports: they point one way, and modules stay small."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "exporter"
MAXIMUM_LINES = 300

# Each module, or package as a whole, with those of ours that it may import, beside the version.
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "__main__": {"cli"},
    # The line of the data.
    "clock": set(),
    "document": set(),
    "smallfile": set(),
    "export": set(),
    "idfile": {"export", "document"},
    "watchlist": {"document", "idfile", "smallfile"},
    "transport": set(),
    "api": {"export", "transport"},
    "quota": {"api", "clock"},
    "snapshot": {"export", "watchlist", "api"},
    "knowledge": {"export", "watchlist", "snapshot"},
    "tracker": {"watchlist", "api", "quota", "snapshot", "knowledge", "clock"},
    "families": {"export", "snapshot"},
    "deflate": set(),
    "telemetry": {"api"},
    "exposition": {"snapshot", "families", "deflate", "telemetry"},
    "web": {"snapshot", "exposition"},
    # Beside it.
    "server": set(),
    "webconfig": {"document", "smallfile"},
    "duration": set(),
    "logs": set(),
    "revision": set(),
    "flags": {"duration", "logs", "server", "web"},
    "check": {"api", "quota", "watchlist"},
    "credentials": {"smallfile"},
    "simulator": set(),
    "demo": {"simulator"},
}
# The wiring: the only module that knows the others.
ALLOWED["cli"] = set(ALLOWED) - {"__main__"}

# The client is the one seam to the network.
CLIENT = {"api", "transport"}
HTTP_CLIENTS = {"requests", "urllib3", "urllib.request", "http.client.HTTPConnection"}

FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(file: Path) -> str:
    """The dotted name of a file of the package: `exporter`, `exporter.api`."""
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(file) for file in FILES}


def imported_names(file: Path) -> Iterator[str]:
    """Every dotted name that a file imports, wherever the statement stands."""
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
    """The modules of the package that a file imports; a submodule stands for its package."""
    found = NAMES.intersection(imported_names(file)) - {module_name(file)}
    return {name for name in found if not any(other.startswith(f"{name}.") for other in found)}


def part(name: str) -> str:
    """The entry of `ALLOWED` for a dotted name."""
    return [*name.split("."), "__init__"][1]


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_module_imports_only_what_its_place_in_the_line_allows(file: Path) -> None:
    """A stage knows the stages before it, as far as the table says, and no other."""
    own = part(module_name(file))
    assert own in ALLOWED, f"{own} is new: give it a place in ALLOWED"
    assert {part(name) for name in imported_modules(file)} - {own, "__init__"} <= ALLOWED[own]


def test_the_table_has_no_module_and_no_import_that_is_not_there() -> None:
    """Who reads it sees the line of the data as it is."""
    imported: dict[str, set[str]] = {}
    for file in FILES:
        own = part(module_name(file))
        parts = {part(name) for name in imported_modules(file)} - {own, "__init__"}
        imported[own] = imported.get(own, set()) | parts
    assert ALLOWED | {"cli": imported["cli"]} == imported


def test_the_architecture_page_has_every_module() -> None:
    """A row of the table, or a place in one."""
    page = (PACKAGE.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    rows = "".join(line for line in page.splitlines() if line.startswith("| `"))
    modules = {part(module_name(file)) for file in FILES} - {"__init__", "__main__"}
    assert {
        name for name in modules if f"`{name}`" not in rows and f"`{name}/`" not in rows
    } == set()


def test_imports_make_no_circle() -> None:
    """The modules can be put in an order in which each one only needs those before it."""
    graph = {module_name(file): imported_modules(file) for file in FILES}
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_only_the_client_speaks_to_the_network(file: Path) -> None:
    """There is one seam to the network: what replaces it in a test replaces all of it."""
    clients = HTTP_CLIENTS.intersection(imported_names(file))
    assert part(module_name(file)) in CLIENT or not clients


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_a_module_is_short(file: Path) -> None:
    """A module that outgrows its noun is cut."""
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAXIMUM_LINES
