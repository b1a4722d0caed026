"""The measures of the house, a part of lint: ``python -m tests.house`` prints each place over one.

A file holds one subject and a function one job; both can be seen by their size. What crosses them
is named: few positional arguments, imports that a reader (and a freezer) can follow, no circle.
The documentation's page on the architecture says why.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "pnsklearn"
MOST_LINES = 350  # of code in a file: docstrings, comments and blank lines are free
MOST_BODY_LINES = 45
MOST_POSITIONAL = 8
# At most five: place -> why it may be over a measure.
EXCEPTIONS: dict[str, str] = {}

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENDMARKER,
}  # fmt: skip


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines that hold code."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, *FUNCTIONS)) and ast.get_docstring(node):
            docstring = node.body[0]
            lines.difference_update(range(docstring.lineno, docstring.end_lineno + 1))
    return lines


def sizes(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (place, what is wrong) for a file, its functions and their arguments."""
    lines = code_lines(text)
    if len(lines) > MOST_LINES:
        yield name, f"has {len(lines)} lines of code, more than {MOST_LINES}"
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, FUNCTIONS):
            continue
        body = sum(node.body[0].lineno <= line <= node.end_lineno for line in lines)
        if body > MOST_BODY_LINES:
            yield f"{name}:{node.name}", f"has a body of {body} lines, more than {MOST_BODY_LINES}"
        # self and cls are not passed by the caller.
        named = [a.arg for a in node.args.posonlyargs + node.args.args]
        positional = [argument for argument in named if argument not in ("self", "cls")]
        if len(positional) > MOST_POSITIONAL:
            yield (
                f"{name}:{node.name}",
                f"takes {len(positional)} positional arguments, more than {MOST_POSITIONAL}",
            )


def hidden_calls(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield imports by a computed name, and warnings whose line is counted by hand."""
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        function = getattr(node.func, "attr", getattr(node.func, "id", ""))
        literal = bool(node.args) and isinstance(node.args[0], ast.Constant)
        if function in ("import_module", "__import__") and not literal:
            yield f"{name}:{node.lineno}", "imports a module by a computed name; name it"
        if any(keyword.arg == "stacklevel" for keyword in node.keywords) and name != "_fitting.py":
            yield f"{name}:{node.lineno}", "counts a stacklevel; call warn_user"


def imports(text: str, modules: set[str]) -> set[str]:
    """Return which of the modules a file imports at its top level."""
    found = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            found.update(name if name in modules else node.module for name in names)
    return found & modules


def circles(texts: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the first import circle, if there is one."""
    dotted = {
        ".".join(("pnsklearn", *Path(name).with_suffix("").parts)).removesuffix(".__init__"): text
        for name, text in texts.items()
    }
    graph = {name: imports(text, set(dotted)) - {name} for name, text in dotted.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield "pnsklearn", f"has an import circle: {' <- '.join(error.args[1])}"


def check(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Return every (place, what is wrong) of some files, given as {name: text}."""
    found = [
        place
        for name, text in texts.items()
        for rule in (sizes, hidden_calls)
        for place in rule(name, text)
    ]
    return found + list(circles(texts))


def main() -> int:
    """Print the places over a measure; return 1 if there is one without a reason."""
    files = sorted(PACKAGE.rglob("*.py"))
    texts = {str(path.relative_to(PACKAGE)): path.read_text() for path in files}
    found = check(texts)
    for place, what in found:
        print(f"{place} {what}{' (' + EXCEPTIONS[place] + ')' if place in EXCEPTIONS else ''}.")
    unused = set(EXCEPTIONS) - {place for place, _ in found}
    for place in sorted(unused):
        print(f"{place} is an exception, and needs none.")
    total = sum(len(code_lines(text)) for text in texts.values())
    print(f"{len(texts)} files, {total} lines of code.")
    return int(bool(unused) or any(place not in EXCEPTIONS for place, _ in found))


if __name__ == "__main__":
    sys.exit(main())
