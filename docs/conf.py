"""Sphinx configuration."""

import sys
from importlib.util import find_spec
from pathlib import Path

from pnsklearn import __version__

sys.path.insert(0, str(Path(__file__).parent))

project = "pnsklearn"
author = "The pnsklearn developers"
copyright = "The pnsklearn developers"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_templates", "examples"]
templates_path = ["_templates"]

autosummary_generate = True
numpydoc_show_class_members = False
autodoc_typehints = "none"  # the docstrings say it in words

# Formulas need no network: MathJax is one file among the pages, with its fonts in it.
MATHJAX = Path(find_spec("sphinx-mathjax-offline").origin).parent / "static/mathjax/tex-svg.js"
mathjax_path = MATHJAX.name

# Each reference to the package itself leads somewhere; those to other projects take a network.
nitpicky = True
nitpick_ignore_regex = [(".*", r"(?!pnsklearn).*")]

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "capture_repr": (),  # what is worth showing is printed or drawn
    "show_memory": False,
    "write_computation_times": False,
    "image_scrapers": ("pictures",),  # docs/pictures.py: with words for who cannot see them
    "parallel": True,  # as many as `sphinx -j` says
}

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static", str(MATHJAX)]
html_css_files = ["pnsklearn.css"]
# Pages without pages below them have nothing to show on the left.
html_sidebars = {
    name: []
    for name in ("getting_started", "install", "benchmarks", "faq", "development", "changes")
}
html_title = f"pnsklearn {release}"
html_logo = html_favicon = "_static/logo.svg"
html_show_sourcelink = False
html_domain_indices = False  # the API page lists the modules
html_theme_options = {
    "logo": {"text": html_title, "alt_text": "pnsklearn"},
    "show_toc_level": 2,
    "show_prev_next": False,
    "header_links_before_dropdown": 6,
}


def draw_cards(app):
    """Draw the pictures of the front page."""
    import overview

    overview.draw_cards(Path(app.confdir) / "generated/cards")


def setup(app):
    app.connect("builder-inited", draw_cards)
