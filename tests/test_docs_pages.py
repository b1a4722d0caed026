"""How the pages of the documentation are run and looked at."""

import doctest
import re
import shutil
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from tests.pages import CHROMIUMS, broken_links, looked_at

DOCS = Path(__file__).parents[1] / "docs"
spec = spec_from_file_location("docs_conftest", DOCS / "conftest.py")
conftest = module_from_spec(spec)
spec.loader.exec_module(conftest)

PAGE = """\
Page
====

>>> import sys

First
-----

>>> from json import loads
>>> import no_such_package.part as part

Second
------

>>> import os
"""


def test_sections_end_where_the_next_begins():
    lines = PAGE.splitlines()
    found = list(conftest.sections(PAGE))
    assert [title for title, _, _ in found] == ["Page", "First", "Second"]
    assert [lines[start] for _, start, _ in found] == ["Page", "First", "Second"]
    assert [end for _, _, end in found][:2] == [start for _, start, _ in found][1:]


def test_only_what_is_not_installed_is_missing():
    examples = doctest.DocTestParser().get_examples(PAGE)
    assert conftest.missing(examples) == ["no_such_package"]
    assert conftest.missing(examples[:2]) == []


def test_each_block_that_draws_says_what():
    silent = [
        f"{path.name}: {block.splitlines()[0]}"
        for path in (DOCS / "examples").rglob("plot_*.py")
        for block in path.read_text(encoding="utf-8").split("# %%\n")
        if re.search(r"plt\.(subplots|figure)\(|Display\.from_|Display\(", block)
        and not re.search("^# Picture: ", block, flags=re.M)
    ]
    assert silent == []


def test_examples_stand_without_the_benchmarks():
    examples = list((DOCS / "examples").rglob("*.py"))
    assert len(examples) > 10
    using = [
        p.name for p in examples if re.search(r"\bimport benchmarks|from benchmarks", p.read_text())
    ]
    assert using == []


@pytest.fixture
def bad_pages(tmp_path):
    """A page with one of each mistake, and one without."""
    (tmp_path / "good.html").write_text(
        '<article id="there"><p>words</p><div style="overflow-x: auto"><pre style="width: 3000px">'
        'long</pre></div><a href="bad.html#here">link</a></article>'
    )
    (tmp_path / "bad.html").write_text(
        '<article><p id="here" style="color: #eee">pale</p><pre style="width: 900px">long</pre>'
        '<img src="none.png" alt="none"><img src="data:image/svg+xml,<svg xmlns=%22http://www.w3.org'
        '/2000/svg%22 width=%229%22 height=%229%22/>">'
        '<span class="math">\\(x\\)</span><p>See \\frac{1}{2}.</p>'
        '<a href="good.html#nowhere">a</a><a href="no.html">b</a>'
        '<script src="https://elsewhere.invalid/x.js"></script></article>'
    )
    return tmp_path


def test_broken_links_are_found(bad_pages):
    assert list(broken_links(bad_pages / "good.html")) == []
    assert list(broken_links(bad_pages / "bad.html")) == [
        "leads to good.html#nowhere, which has no such place",
        "leads to no.html, which is not there",
        "leads to none.png, which is not there",
    ]


def test_what_a_browser_shows_is_found(bad_pages):
    playwright = pytest.importorskip("playwright.sync_api")
    browser = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if browser is None:
        pytest.skip("There is no Chromium.")
    with playwright.sync_playwright() as running:
        page = running.chromium.launch(executable_path=browser).new_page()
        assert list(looked_at(page, bad_pages / "good.html", None)) == []
        found = "\n".join(looked_at(page, bad_pages / "bad.html", None))
    assert "at 1400: pre" not in found
    for what in (
        "at 400: is 9",
        "at 400: pre ends at 9",
        "has no picture none.png",
        "says nothing of the picture",
        "leaves TeX: \\(x\\)",
        "shows markup: See \\frac{1}{2}.",
        "in light: has a contrast of 1.2: pale",
        "asks the network for https://elsewhere.invalid/x.js",
    ):
        assert what in found


def test_numbers_of_the_front_page_are_those_of_the_readme():
    rows = (DOCS.parent / "README.md").read_text(encoding="utf-8").splitlines()
    claims = re.findall(r"Measured: (.*?)``([a-z_ ]+)``\.", (DOCS / "index.rst").read_text(), re.S)
    assert len(claims) == 4
    for text, command in claims:
        (row,) = [row for row in rows if row.endswith(f"| `{command}` |")]
        numbers = set(re.findall(r"\d+\.\d+|\d+", text))
        assert numbers <= set(re.findall(r"\d+\.\d+|\d+", row)), command
