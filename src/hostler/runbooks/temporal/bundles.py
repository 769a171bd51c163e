"""Finds runbook bundles on disk and imports them as Temporal wants them: by a name that its sandbox can import again.

Importing runs a bundle's code. It must not talk to Temporal.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hostler.errors import InvalidRequest
from hostler.runbooks.bundlefolder import class_name
from hostler.runbooks.library import MANIFEST, front_matter

WORKFLOW = "__temporal_workflow_definition"
ACTIVITY = "__temporal_activity_definition"
TEMPLATES = "templates"


class Bundle(NamedTuple):
    slug: str
    workflows: list[type]
    activities: list[Callable[..., Any]]


class _Finder:
    """Makes a package of a bundle's folder, whatever its name is. A sandbox asks again."""

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if name not in self.folders:
            return None
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [str(self.folders[name])]
        return spec


_finder = _Finder()


def folders(places: Iterable[Path]) -> list[Path]:
    """The bundles that are, or are in, these folders. Raises InvalidRequest."""
    found = []
    for place in places:
        here = [place] if (place / MANIFEST).is_file() else sorted(each.parent for each in place.glob(f"*/{MANIFEST}"))
        if not here:
            raise InvalidRequest(f"{place}: there is no {MANIFEST} in it, nor in a folder of it")
        found += here
    return found


def load(places: Sequence[Path]) -> list[Bundle]:
    """Import them all. Raises InvalidRequest, and whatever a bundle's code raises."""
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)
    if len(places) == 1:
        sys.path.insert(0, str(places[0]))  # for what imports `templates.activities` by its whole name
    bundles = [_load(place) for place in places]
    _unlike([cls.__name__ for bundle in bundles for cls in bundle.workflows], "workflow class")
    _unlike([_name(each) for bundle in bundles for each in bundle.activities], "activity")
    return bundles


def _load(folder: Path) -> Bundle:
    slug = str(front_matter((folder / MANIFEST).read_text()).get("slug") or folder.name)
    package = "runbook_" + re.sub(r"[^a-z0-9]", "_", slug.lower())
    _finder.folders[package] = folder.resolve()
    for name in ("workflow", "activities"):
        if (folder / TEMPLATES / f"{name}.py").is_file():
            importlib.import_module(f"{package}.{TEMPLATES}.{name}")
    modules = [module for name, module in list(sys.modules.items()) if name.startswith(f"{package}.")]
    workflows = [each for each in _of(modules, WORKFLOW) if each.__module__.startswith(f"{package}.")]
    if not workflows:
        raise InvalidRequest(f"{folder}: no class of {TEMPLATES}/workflow.py is decorated with @runbook.defn")
    first = class_name(slug)
    return Bundle(slug, sorted(workflows, key=lambda each: each.__name__ != first), list(_of(modules, ACTIVITY)))


def _of(modules: list[ModuleType], mark: str) -> list[Any]:
    """What bears Temporal's mark, each once, in the order of definition."""
    found = (each for module in modules for each in vars(module).values() if mark in getattr(each, "__dict__", {}))
    return list(dict.fromkeys(found))


def _name(function: Any) -> str:
    return str(getattr(function, ACTIVITY).name or function.__name__)


def _unlike(names: list[str], what: str) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidRequest(
            f"There is more than one {what} {', '.join(twice)}: on one task queue names are unique. "
            "Give one of the bundles a worker and a NTRO_TASK_QUEUE of its own."
        )
