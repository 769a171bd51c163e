"""The size budgets of the house: no long modules, no long functions."""

from __future__ import annotations

import ast
from statistics import median

from house_modules import modules, path_of

MODULE_LINES = 500
FUNCTION_LINES = 80
FUNCTION_P90 = 35
FUNCTION_MEDIAN = 10


def functions() -> dict[str, int]:
    """The length in lines of every function, its decorators left out, nested ones counted by themselves too."""
    return {
        f"{module}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for module, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_modules_are_short() -> None:
    lengths = {module: len(path_of(module).read_text().splitlines()) for module in modules()}
    assert {module: lines for module, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_no_function_is_long() -> None:
    assert {name: lines for name, lines in functions().items() if lines > FUNCTION_LINES} == {}


def test_most_functions_are_short() -> None:
    lengths = sorted(functions().values())
    assert median(lengths) <= FUNCTION_MEDIAN
    assert lengths[len(lengths) * 9 // 10] <= FUNCTION_P90


def test_every_module_says_why_it_exists() -> None:
    silent = [name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    assert silent == []
