"""Reads the package as syntax trees: what each module imports at run time. It must not import the package."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"

# Architecture, floors. `log` stands on `store`; all other rooms of one floor don't know each other.
FLOORS = {
    "__init__": 0,
    "addresses": 1,
    "bodies": 2,
    "client": 2,
    "yamlfile": 2,
    "clock": 1,
    "errors": 1,
    "ids": 1,
    "transcript": 1,
    "settings": 1,
    "wire": 1,
    "log": 2,
    "store": 2,
    "git": 3,
    "mcp": 3,
    "models": 3,
    "sandbox": 3,
    "skills": 3,
    "vault": 3,
    "web": 3,
    "harness": 4,
    "runbooks": 5,
    "services": 5,
    "api": 6,
    "console": 6,
    "workspace": 6,
    "app": 7,
    "configuration": 7,
    "front": 7,
    "serving": 7,
    "applying": 7,
    "cli": 7,
    "commands": 7,
    "doctor": 7,
    "layering": 7,
    "preparing": 7,
    "recording": 7,
}
SIDEWAYS = {
    ("log", "store"), ("settings", "errors"), ("app", "configuration"), ("serving", "app"), ("cli", "app"),
    ("serving", "front"),
    ("cli", "configuration"), ("cli", "serving"), ("doctor", "configuration"), ("preparing", "configuration"),
    ("recording", "serving"), ("cli", "applying"), ("cli", "doctor"),
    ("cli", "preparing"), ("cli", "recording"), ("doctor", "preparing"),
    ("recording", "app"), ("cli", "commands"), ("commands", "app"), ("commands", "configuration"),
    ("commands", "layering"), ("layering", "configuration"),
}  # fmt: skip


class Import(NamedTuple):
    """`lazy`: it stands in a function, so it can't make a cycle at import time. `line` is for messages."""

    importer: str
    imported: str
    line: int
    lazy: bool


@cache
def modules() -> dict[str, ast.Module]:
    """Every module by its dotted name."""
    found = {}
    for path in sorted((SOURCE / "hostler").rglob("*.py")):
        name = ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        found[name] = ast.parse(path.read_text(), str(path))
    return found


def path_of(module: str) -> Path:
    stem = SOURCE.joinpath(*module.split("."))
    return stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")


def room(module: str) -> str:
    """The part of the package that a module belongs to."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


@cache
def imports() -> list[Import]:
    """All imports of the package's own modules, less those under TYPE_CHECKING."""
    return [found for module, tree in modules().items() for found in _imports(module, tree, lazy=False)]


def _imports(module: str, node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            for name in sorted(_names(child)):
                yield Import(module, name, child.lineno, lazy)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(module, child, lazy=lazy or inside)


def _names(node: ast.Import | ast.ImportFrom) -> set[str]:
    """The package's modules that a statement imports: `from a import b` names `a.b` where that is a module."""
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names if alias.name in modules()}
    assert node.level == 0, "relative imports are not used here"
    base = node.module or ""
    inside = [f"{base}.{alias.name}" for alias in node.names]
    return {name if name in modules() else base for name in inside if name in modules() or base in modules()}
