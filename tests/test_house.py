"""The check of the measures finds what is over them."""

import pytest

from tests.house import EXCEPTIONS, check, code_lines

LONG_FILE = "x = 1\n" * 351
LONG_BODY = "def f():\n" + "    x = 1\n" * 46
MANY = "def f(a, b, c, d, e, g, h, i, j): pass\n"
COMPUTED = "import importlib\ndef f(name):\n    importlib.import_module(f'pnsklearn.{name}')\n"
COUNTED = "import warnings\nwarnings.warn('x', stacklevel=3)\n"


@pytest.mark.parametrize(
    "text, place, what",
    [
        (LONG_FILE, "a.py", "has 351 lines of code"),
        (LONG_BODY, "a.py:f", "a body of 46 lines"),
        (MANY, "a.py:f", "takes 9 positional arguments"),
        (COMPUTED, "a.py:3", "computed name"),
        (COUNTED, "a.py:2", "stacklevel"),
    ],
)
def test_what_is_over_a_measure_is_found(text, place, what):
    ((found, why),) = check({"a.py": text})
    assert found == place
    assert what in why


def test_what_is_at_a_measure_is_not_found():
    texts = {
        "a.py": "x = 1\n" * 350,
        "b.py": "def f():\n" + "    x = 1\n" * 45,
        "c.py": "class A:\n    def f(self, a, b, c, d, e, g, h, i, *, j, k): pass\n",
        "d.py": "import importlib\nimportlib.import_module('pnsklearn.a')\n",
    }
    assert check(texts) == []


def test_import_circles_are_found():
    texts = {
        "__init__.py": "",
        "a.py": "from pnsklearn import b\n",
        "b.py": "from pnsklearn.c.d import e\n",
        "c/__init__.py": "",
        "c/d.py": "def late():\n    import pnsklearn.b\nimport pnsklearn.a\n",
    }
    ((place, what),) = check(texts)
    assert place == "pnsklearn"
    assert all(name in what for name in ("pnsklearn.a", "pnsklearn.b", "pnsklearn.c.d"))
    texts["c/d.py"] = "def late():\n    import pnsklearn.a\n"
    assert check(texts) == []


def test_docstrings_comments_and_blank_lines_are_free():
    text = '"""One\n\nTwo"""\n\n# three\nx = """a\nb"""  # four\n\n\ndef f():\n    """Five."""\n'
    assert code_lines(text + "    return (\n        1\n    )\n") == {6, 7, 10, 12, 13, 14}


def test_exceptions_are_few_and_explained():
    assert len(EXCEPTIONS) <= 5
    assert all(len(reason) > 20 for reason in EXCEPTIONS.values())
