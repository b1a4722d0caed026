"""What an installer, an index page and the recipes read says the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest

import pnsklearn

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "file, pattern",
    [("CITATION.cff", r"^version: (.+)$"), ("conda/meta.yaml", r'set version = "(.+)"')],
)
def test_versions_agree(file, pattern):
    text = (ROOT / file).read_text(encoding="utf-8")
    assert re.findall(pattern, text, flags=re.M) == [pnsklearn.__version__]


def test_recipe_needs_what_the_package_needs():
    recipe = (ROOT / "conda/meta.yaml").read_text(encoding="utf-8")
    run = recipe.split("  run:")[1].split("\n\n")[0]
    needed = {line.replace(" ", "") for line in re.findall(r"- (.+)", run)}
    assert needed == {*PROJECT["project"]["dependencies"], "python>={{python_min}}"}


def test_readme_of_an_index_page_has_no_relative_link():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.findall(r"^```.*?^```", text, flags=re.M | re.S)
    assert code and "](docs/" in text
    for rule in PROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"], text)
    assert re.findall(r"\]\((?!https?:)", text) == []
    assert "`docs/user_guide/auprc.rst`" in text  # where a guide is
    assert re.findall(r"^```.*?^```", text, flags=re.M | re.S) == code


def test_marked_as_typed():
    assert (Path(pnsklearn.__file__).parent / "py.typed").exists()
    assert "Typing :: Typed" in PROJECT["project"]["classifiers"]
