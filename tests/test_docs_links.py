"""The relative links of the Markdown files lead to files, and to headings, that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKDOWN = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


def prose(path):
    """Return the text of a file without its blocks of code."""
    return re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def links(path):
    """Return the targets of all links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(path))


def anchors(path):
    """Return the anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", prose(path), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links(path):
    broken = []
    for target in links(path):
        if re.match(r"[a-z]+:", target):
            continue  # elsewhere, which takes a network
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            broken.append(target)
    assert not broken


def test_links_are_found():
    found = set(links(ROOT / "README.md"))
    assert {"docs/overview.png", "docs/user_guide/auprc.rst", "LICENSE"} <= found
    assert {"two-commands", "which-one"} <= anchors(ROOT / "README.md")
