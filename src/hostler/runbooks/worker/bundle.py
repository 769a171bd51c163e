"""Loads a runbook bundle: a package of its own, so that its modules find each other and its pickles their classes.

Importing runs the bundle's code, so this happens in a worker process only.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from pathlib import Path
from typing import Any

PACKAGE = "hostler_bundle"
TEMPLATES = "templates"


class NotLoaded(Exception):
    """The bundle can't be used, and why."""


def load(folder: Path, slug: str, workflow_class: str, modules: list[str]) -> type:
    """Import the bundle, and return its workflow class. Raises NotLoaded."""
    name = package(folder, slug)
    for module in ["workflow", *modules]:
        bring(name, module, folder)
    found = getattr(sys.modules[f"{name}.{TEMPLATES}.workflow"], workflow_class, None)
    if not isinstance(found, type):
        raise NotLoaded(f"{TEMPLATES}/workflow.py has no class {workflow_class}")
    if not hasattr(found, "__hostler_defn__"):
        raise NotLoaded(f"{workflow_class} is not decorated with @runbook.defn")
    if not callable(getattr(found, "run", None)):
        raise NotLoaded(f"{workflow_class} has no method `run`")
    return found


def package(folder: Path, slug: str) -> str:
    """Make the package that a bundle's modules are imported into, and return its name."""
    name = f"{PACKAGE}_{re.sub(r'[^a-z0-9]', '_', slug)}"
    made = types.ModuleType(name)
    made.__path__ = [str(folder)]
    sys.modules[name] = made
    sys.path.insert(0, str(folder))  # for what imports `templates.activities` by its whole name
    return name


def bring(package_name: str, module: str, folder: Path) -> Any:
    """Import one module of a bundle. Raises NotLoaded, which says where it went wrong."""
    name = f"{package_name}.{TEMPLATES}.{module}"
    try:
        return importlib.import_module(name)
    except SyntaxError as error:
        raise NotLoaded(f"{_place(error.filename, folder)}:{error.lineno}: {error.msg}") from error
    except Exception as error:
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        where = f"{_place(last.tb_frame.f_code.co_filename, folder)}:{last.tb_lineno}" if last is not None else name
        raise NotLoaded(f"{where}: {type(error).__name__}: {error}") from error


def _place(filename: str | None, folder: Path) -> str:
    path = Path(filename or "?")
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else path.name
