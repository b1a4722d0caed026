"""How the pages of the documentation are run and looked at."""

import doctest
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

spec = spec_from_file_location("docs_conftest", Path(__file__).parents[1] / "docs/conftest.py")
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
