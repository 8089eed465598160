"""Convert docs/runbooks.md to the page that the exporter serves at /runbooks.

The page is committed, so that users need no Markdown library; a test checks that it is up to date.
"""

import re
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs" / "runbooks.md"
PAGE = ROOT / "exporter" / "web" / "templates" / "runbooks-body.html"


def anchor(heading: str) -> str:
    """Return the anchor that GitHub generates for a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render(text: str) -> str:
    """Return the body of the page; headings have GitHub's anchors, which the alerts' links use."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(text)
    for heading, content in pairwise(tokens):
        # Only alerts have links; the names of the sections below them are not unique.
        if heading.type == "heading_open" and heading.tag == "h2":
            heading.attrSet("id", anchor(content.content))
        if content.type == "inline":
            content.children = [*_without_links_to_files(content.children or [])]
    # Wide blocks scroll; by keyboard this needs the focus.
    page = str(markdown.renderer.render(tokens, markdown.options, {}))
    return page.replace("<pre>", '<pre tabindex="0">')


def _without_links_to_files(children: list[Token]) -> list[Token]:
    """Remove links to files, which the exporter does not serve, but keep their text."""
    kept = []
    dropping = False
    for token in children:
        if token.type == "link_open":
            dropping = not str(token.attrGet("href")).startswith(("#", "https://"))
        if not (dropping and token.type in {"link_open", "link_close"}):
            kept.append(token)
    return kept


if __name__ == "__main__":
    PAGE.write_text(render(SOURCE.read_text(encoding="utf-8")), encoding="utf-8")
