"""The structure of the code stays as CONTRIBUTING describes it: short files, few parameters, typed values."""

import ast
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parents[1] / "pipeline"
FILES = sorted(PACKAGE.rglob("*.py"))

MOST_LINES = 400
MOST_PARAMETERS = 7
MEDIAN_LINES = 10
MOST_UNTYPED = 10
"""Uses of ``dict[str, Any]`` in comparison and report."""


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return the number of parameters without ``self`` and ``cls``."""
    every = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(argument.arg not in ("self", "cls") for argument in every)


def test_no_file_is_longer_than_a_reader_keeps_in_mind() -> None:
    long = {str(path): lines for path in FILES if (lines := len(path.read_text().splitlines())) >= MOST_LINES}
    assert not long


def test_functions_outside_the_command_line_take_few_parameters() -> None:
    many = {
        f"{path.name}:{function.name}": count
        for path in FILES
        if path.parent.name != "cli"  # there, parameters are the options of a command
        for function in functions(path)
        if (count := parameters(function)) > MOST_PARAMETERS
    }
    assert not many


def test_most_functions_are_short() -> None:
    lengths = [
        (function.end_lineno or function.lineno) - function.lineno + 1 for path in FILES for function in functions(path)
    ]
    assert median(lengths) < MEDIAN_LINES


def test_values_cross_comparison_and_report_as_types() -> None:
    texts = [path.read_text() for name in ("comparison", "report") for path in (PACKAGE / name).rglob("*.py")]
    assert sum(text.count("dict[str, Any]") for text in texts) < MOST_UNTYPED


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    public = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    missing = [node.name for node in public if not node.name.startswith("_") and not ast.get_docstring(node)]
    assert not missing


def test_the_package_has_runnable_examples() -> None:
    with_examples = [
        f"{path.name}:{node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ">>> " in (ast.get_docstring(node, clean=False) or "")
    ]
    assert len(with_examples) >= 20
