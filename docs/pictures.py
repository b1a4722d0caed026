"""What the gallery says of its pictures: the comment ``# Picture: ...`` in the block that draws."""

import re

from sphinx_gallery.scrapers import matplotlib_scraper

COMMENT = r"^# Picture: (.*(?:\n#  .*)*)"  # further lines are indented


def described(code):
    """Return what a block of code says of its picture, or None."""
    found = re.search(COMMENT, code, flags=re.M)
    return found and re.sub(r"\s*\n#\s*", " ", found[1])


def scraper(block, block_vars, gallery_conf, **options):
    """Save the figures of a block as sphinx-gallery does, with its words for them."""
    rst = matplotlib_scraper(block, block_vars, gallery_conf, **options)
    words = described(block[1])
    return re.sub(r":alt: .*", lambda _: f":alt: {words}", rst) if words else rst


def _get_sg_image_scraper():
    return scraper
