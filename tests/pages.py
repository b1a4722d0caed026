"""Look at the built pages as a reader does: ``python -m tests.pages docs/_build/html``.

Every page is opened in a headless Chromium without a network, in a wide and in a narrow window, in
light and in dark, and every link is followed to its file and its anchor. What is found is printed,
a line each; the exit status is 1 if there is anything. ``--shots DIR`` also keeps pictures.

It needs ``pip install '.[pages]'`` and a Chromium: the one of ``playwright install chromium``, or
one that is installed already.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

WIDTHS = (1400, 400)
HEIGHT = 900
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# What is wrong with the page as it stands in its window: a list of sentences.
LOOK = r"""
() => {
  const found = [];
  const name = element => element.tagName.toLowerCase()
    + (element.id ? "#" + element.id : "")
    + [...element.classList].map(c => "." + c).join("");
  const seen = element => element.checkVisibility() && element.getClientRects().length;
  const scrolls = element => {
    for (let e = element; e && e !== document.body; e = e.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return true;
    return false;
  };
  const width = document.documentElement.scrollWidth;
  if (width > innerWidth) found.push(`is ${width} pixels wide`);
  for (const e of document.querySelectorAll("article *")) {
    const end = e.getBoundingClientRect().right;
    if (seen(e) && end > innerWidth + 1 && !scrolls(e))
      found.push(`${name(e)} ends at ${Math.round(end)} and does not scroll`);
  }
  for (const e of document.images) {
    const file = e.src.split("/").pop();
    if (!e.complete || !e.naturalWidth) found.push(`has no picture ${file}`);
    // A thumbnail is decoration beside its title.
    // Without words, the gallery says "plot" and the name of the file.
    const described = e.alt && !e.alt.endsWith(file) && !e.alt.startsWith("plot ");
    if (!described && !(e.alt === "" && e.closest(".sphx-glr-thumbcontainer")))
      found.push(`says nothing of the picture ${file}`);
  }
  for (const e of document.querySelectorAll(".math"))
    if (!e.querySelector("mjx-container")) found.push(`leaves TeX: ${e.textContent.slice(0, 60)}`);
  for (const e of document.querySelectorAll("mjx-merror, [data-mjx-error]"))
    found.push(`has a formula with an error: ${e.title || e.textContent}`);
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode;
    if (text.parentElement.closest("code, pre, script, style, mjx-container")) continue;
    if (/\\[([a-zA-Z]{2}|\$\$/.test(text.data) || /:(ref|doc|class|func|math):`/.test(text.data))
      found.push(`shows markup: ${text.data.trim().slice(0, 60)}`);
  }
  return found;
}
"""

# Words that can hardly be told from what is behind them: at most one, to keep it short.
CONTRAST = r"""
() => {
  const channels = color => (color.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = channels(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0.9) return color;
    }
    return [255, 255, 255];
  };
  for (const e of document.querySelectorAll("article :is(p, li, td, th, h1, h2, h3, code)")) {
    if (!e.checkVisibility() || !e.textContent.trim()) continue;
    const [a, b] = [light(channels(getComputedStyle(e).color)), light(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const words = e.textContent.trim().slice(0, 40);
    if (contrast < 3) return [`has a contrast of ${contrast.toFixed(1)}: ${words}`];
  }
  return [];
}
"""


class Targets(HTMLParser):
    """The links of a page, and the anchors that it has."""

    def __init__(self):
        super().__init__()
        self.links, self.anchors = [], {"", "top"}

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.anchors.update(filter(None, (values.get("id"), values.get("name"))))
        for attribute in ("href", "src"):
            if value := values.get(attribute):
                self.links.append(value)


@cache
def targets(path: Path) -> Targets:
    """Return the links and anchors of a file."""
    parser = Targets()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


def broken_links(path: Path) -> Iterator[str]:
    """Yield what the links of a page lead to that is not there; other hosts are not asked."""
    for link in sorted(set(targets(path).links)):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        linked = path.parent / unquote(parts.path) if parts.path else path
        if linked.is_dir():
            linked /= "index.html"
        if not linked.exists():
            yield f"leads to {link}, which is not there"
        elif linked.suffix == ".html" and unquote(parts.fragment) not in targets(linked).anchors:
            yield f"leads to {link}, which has no such place"


def looked_at(page, path: Path, shots: Path | None) -> Iterator[str]:
    """Yield what is wrong with a page in each window and each scheme."""
    asked: list[str] = []

    def refuse(route):
        asked.append(route.request.url)
        route.abort()

    page.route(re.compile("^(http|ws)s?:"), refuse)
    page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})
    page.goto(path.resolve().as_uri())
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate("() => document.querySelectorAll('details').forEach(e => e.open = true)")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": HEIGHT})
            for what in page.evaluate(LOOK) if scheme == "light" else ():
                yield f"at {width}: {what}"
            if shots:
                page.screenshot(path=shots / f"{path.stem}_{width}_{scheme}.png", full_page=True)
        for what in page.evaluate(CONTRAST):
            yield f"in {scheme}: {what}"
    page.unroute_all()
    yield from (f"asks the network for {url}" for url in asked)


def main() -> int:
    """Look at all pages; print what is wrong, and return 1 if anything is."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="the built pages")
    parser.add_argument("--only", default="*", help="pattern of the names of pages")
    parser.add_argument("--browser", help="a Chromium; else one that is found, or playwright's")
    parser.add_argument("--shots", type=Path, help="a folder for pictures of each page")
    options = parser.parse_args()
    pages = sorted(
        path
        for path in options.folder.rglob("*.html")
        if "_static" not in path.parts and path.match(options.only)
    )
    if options.shots:
        options.shots.mkdir(parents=True, exist_ok=True)
    browser = options.browser or next(filter(None, map(shutil.which, CHROMIUMS)), None)
    wrong = 0
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser)
        page = chromium.new_page()
        page.on("pageerror", lambda error: errors.append(f"has an error in a script: {error}"))
        for path in pages:
            errors: list[str] = []
            found = [*broken_links(path), *looked_at(page, path, options.shots), *errors]
            for what in dict.fromkeys(found):
                print(f"{path.relative_to(options.folder)} {what}")
            wrong += bool(found)
        chromium.close()
    print(f"{len(pages)} pages, {wrong} with something wrong.")
    return int(wrong > 0 or not pages)


if __name__ == "__main__":
    sys.exit(main())
