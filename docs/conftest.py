"""The pages run as doctests: ``pytest --doctest-modules docs/*.rst docs/user_guide/*.rst``.

A section that imports a package that is not installed is skipped, and named in the report; the
rest of its page runs. A deprecation in a companion package is no error of the page that shows it.
"""

import doctest
import re
from importlib.util import find_spec

import pytest

COMPANIONS = "bring_your_own.rst"
skipped: list[str] = []


def sections(text):
    """Yield (title, first line, line after the last) of each section of a page."""
    titles = [
        (match[1], text.count("\n", 0, match.start()))
        for match in re.finditer(r"^(\S.*)\n([=\-^])\2{2,}$", text, flags=re.M)
    ]
    ends = [line for _, line in titles[1:]] + [text.count("\n") + 1]
    for (title, start), end in zip(titles, ends, strict=True):
        yield title, start, end


def missing(examples):
    """Return the packages that some examples import and that are not installed."""
    source = "".join(example.source for example in examples)
    imported = re.findall(r"^ *(?:import|from) (\w+)", source, flags=re.M)
    return sorted({name for name in imported if find_spec(name) is None})


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.suffix != ".rst":
            continue
        for title, start, end in sections(item.path.read_text(encoding="utf-8")):
            examples = [e for e in item.dtest.examples if start <= e.lineno < end]
            if absent := missing(examples):
                skipped.append(f"{item.path.name}, {title}: needs {', '.join(absent)}")
                for example in examples:
                    example.options[doctest.SKIP] = True
        if item.path.name == COMPANIONS:
            for kind in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{kind}"))


def pytest_report_collectionfinish():
    return [f"skipped: {reason}" for reason in skipped]
