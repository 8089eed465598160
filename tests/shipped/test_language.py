"""The English of the sources, as far as a program can check it.

ruff's D401 demands that docstrings are commands; these are the commands and the phrases that say
less than they seem to.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "dashboards", "exporter", "scripts", "tests")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
#: What users read: the exporter's messages and helps, and every page.
PUBLIC = [
    *(file for file in FILES if file.is_relative_to(ROOT / "exporter")),
    *sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.md")]),
]

#: Write "Return", "Log", "Set", "Check"...
OPENINGS = re.compile(
    r"(Give|However|Is told|Let|Nobody|Nor|Say|Somebody|Tell|Whatever|Wherever|Whether|Whichever"
    r"|Who|Whoever)\b"
)
#: With the usual words for them.
PHRASES = {
    r"\bfor the books\b": "for the exporter's own metrics",
    r"\bwhoever\b": "name the subject",
    r"\bwho has time\b": "name the subject",
    r"\bthat (is|are) none\b": "is not valid",
    r"\bis none of\b": "is not one of",
    r"\b(answer|token|URL) to use\b": "usable",
    r"\bas good as none\b": "is ignored",
    r"\bhas? had enough\b": "closes the connection",
    r"\bnobody (says|said|tells|told)\b": "is not documented",
    r"\bneeds? somebody\b": "needs attention",
    r"\b(is|are|was|were) told\b": "is logged, shown or reported",
    r"\btells? of\b": "reports",
    r"\bmade good\b": "superseded",
    r"\bthe other side\b": "the server, or the client",
    r"\btakes? over (an|the|these|this|what)\b": "records or updates",
    r"\bwhom\b": "name the subject",
    r"\bbe it\b": "or",
    r"\bpass(es|ed)? over an?\b|\bpassed over\b": "ignored",
    r"\breckon": "computed",
    r"\bnothing to say\b": "reports nothing",
    r"\bin force\b": "in effect",
    r"\bin words of ours\b": "name the words",
    r"\bside by side\b": "concurrently",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[tuple[Function, str]]:
    """Yield every function that has a docstring, with the docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, Function) and (text := ast.get_docstring(node)):
            yield node, text


def is_property(function: Function) -> bool:
    """Return whether a function is a property."""
    return any("property" in ast.unparse(each) for each in function.decorator_list)


def bad_openings(source: str) -> list[str]:
    """Return the first lines of docstrings with an opening that is not allowed."""
    return [
        f"{function.lineno}: {text.splitlines()[0]}"
        for function, text in functions(source)
        if (opening := OPENINGS.match(text))
        and not (opening[0] == "Whether" and is_property(function))
    ]


def bad_phrases(source: str) -> list[str]:
    """Return the phrases to replace, each with its line and its replacement."""
    # A phrase may go on in the next line of a comment or docstring.
    text = re.sub(r"\n[ \t]*(?:#:?[ \t]*)?", " ", source)
    return [
        f"{found[0]!r}: {instead}"
        for phrase, instead in PHRASES.items()
        for found in re.finditer(phrase, text, re.IGNORECASE)
    ]


def test_the_checked_files_exist() -> None:
    """The lists of files to check hold every folder with sources, and the pages."""
    assert {file.relative_to(ROOT).parts[0] for file in FILES} == set(FOLDERS)
    assert {ROOT / "README.md", ROOT / "docs/alerts.md", ROOT / "deploy/README.md"} <= {*PUBLIC}


def test_docstrings_of_functions_begin_with_a_plain_command() -> None:
    """No docstring of a function begins with a word such as "Give"."""
    bad = [f"{file.relative_to(ROOT)}:{at}" for file in FILES for at in bad_openings(text_of(file))]
    assert bad == []


def test_public_texts_use_standard_terms() -> None:
    """No message and no page has a phrase that readers of the field would not search for."""
    bad = [
        f"{file.relative_to(ROOT)}: {at}" for file in PUBLIC for at in bad_phrases(text_of(file))
    ]
    assert bad == []


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ('def f():\n    """Give it."""', ["1: Give it."]),
        ('async def f():\n    """Whether it is.\n\n    More.\n    """', ["1: Whether it is."]),
        ('@property\ndef f():\n    """Whether it is."""', []),
        ('@property\ndef f():\n    """Who it is."""', ["2: Who it is."]),
        ('def f():\n    """Letter by letter."""', []),
        ('class C:\n    """Whether it is."""', []),
    ],
)
def test_openings_are_found(source: str, bad: list[str]) -> None:
    """The rule reports bad openings and nothing else."""
    assert bad_openings(source) == bad


def test_phrases_are_found_across_lines() -> None:
    """A phrase that continues on the next line of a comment is found."""
    assert bad_phrases("x = 1\n    # One request, for\n    # the books.\n") == [
        "'for the books': for the exporter's own metrics"
    ]


def text_of(file: Path) -> str:
    """Return the source in a file."""
    return file.read_text(encoding="utf-8")
