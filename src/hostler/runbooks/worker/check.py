"""Imports a bundle as a worker would, looks at what is in it, and prints that as JSON: a process of its own, without
anything of a server's. It must not run a task.

    python -m hostler.runbooks.worker.check FOLDER SLUG WORKFLOW_CLASS SECONDS MODULE...
"""

from __future__ import annotations

import faulthandler
import inspect
import json
import os
import resource
import sys
import typing
from pathlib import Path
from typing import Any

from hostler.runbooks.worker import agents, bundle
from hostler.runbooks.worker.runtime import STEP, DurableRuntime

MEMORY = 4 * 1024**3
_TEMPORAL = "__temporal_workflow_definition"
_SAID = {"slug": ("SLUG", "RUNBOOK_SLUG"), "version": ("VERSION", "RUNBOOK_VERSION", "__version__")}


class Look:
    """What is found in one bundle. `problems` are (code, message, path)."""

    def __init__(self, folder: Path, slug: str, workflow_class: str) -> None:
        from ntro.workflow.runtime import set_runtime

        self.problems: list[tuple[str, str, str]] = []
        self.found: dict[str, Any] = {"steps": [], "activities": [], "says": {}, "input": None, "temporal": False}
        self._folder = folder
        self._class = workflow_class
        self._runtime = DurableRuntime(lambda cls: None)
        set_runtime(self._runtime)
        agents.stand_in()
        self._package = bundle.package(folder, slug)

    def all(self, modules: list[str]) -> None:
        for module in modules:
            self._module(module)
        workflow = self._module("workflow")
        self.found["activities"] = sorted(self._runtime.activities)
        if workflow is None:
            return
        self.found["says"] = {
            name: str(value)
            for name, names in _SAID.items()
            if (value := next((getattr(workflow, each) for each in names if hasattr(workflow, each)), None)) is not None
        }
        self._workflow(workflow)

    def _module(self, name: str) -> Any:
        try:
            return bundle.bring(self._package, name, self._folder)
        except bundle.NotLoaded as error:
            said = str(error)
            if "temporalio" in said and "No module named" in said:
                said += "; install temporalio to look at a runbook that uses it directly"
            if not any(said == message for _, message, _ in self.problems):  # one module's fault is met in all others
                self._problem(f"{name.upper().replace('.', '_')}_PY_IMPORT_ERROR", said, name)
            return None

    def _problem(self, code: str, message: str, module: str = "workflow") -> None:
        self.problems.append((code, message, f"templates/{module.replace('.', '/')}.py"))

    def _workflow(self, module: Any) -> None:
        cls = getattr(module, self._class, None)
        if not isinstance(cls, type):
            marked = [name for name, each in vars(module).items() if _is_marked(each)]
            there = f"; there is {', '.join(marked)}" if marked else ""
            self._problem("WORKFLOW_CLASS_NOT_FOUND", f"there is no class {self._class}, as the slug wants it{there}")
            return
        if not _is_marked(cls):
            self._problem("WORKFLOW_DEFN_MISSING", f"{self._class} is not decorated with @runbook.defn")
        self.found["temporal"] = hasattr(cls, _TEMPORAL) and "__hostler_defn__" not in vars(cls)
        self._run(cls)
        self._steps(cls)
        if not self.problems:
            try:
                cls()
            except Exception as error:
                self._problem("WORKFLOW_INIT_ERROR", f"{self._class}() raises {type(error).__name__}: {error}")

    def _run(self, cls: Any) -> None:
        run = getattr(cls, "run", None)
        if self.found["temporal"]:
            return
        if not callable(run):
            self._problem("WORKFLOW_RUN_MISSING", f"{self._class} has no method `run`")
        elif not inspect.iscoroutinefunction(run):
            self._problem("WORKFLOW_RUN_NOT_ASYNC", f"{self._class}.run has to be `async def`")
        else:
            if len(inspect.signature(run).parameters) > 2:
                self._problem("WORKFLOW_RUN_ARGUMENTS", f"{self._class}.run takes one argument, which is the context")
            self.found["marked_run"] = hasattr(run, "__hostler_run__")
            self.found["input"] = _schema(run)

    def _steps(self, cls: Any) -> None:
        names = []
        for each in cls.__mro__:
            for method in vars(each).values():
                if (said := getattr(method, STEP, None)) is not None:
                    names.append(str(said["name"]))
                    if not inspect.iscoroutinefunction(method):
                        self._problem("STEP_NOT_ASYNC", f"the step {said['name']} has to be `async def`")
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._problem("STEP_NAME_TWICE", f"two steps are called {name}")
        self.found["steps"] = list(dict.fromkeys(names))


def _is_marked(each: Any) -> bool:
    return isinstance(each, type) and ("__hostler_defn__" in vars(each) or hasattr(each, _TEMPORAL))


def _schema(run: Any) -> Any:
    """The JSON schema of what `run` takes, where it says so."""
    try:
        hints = typing.get_type_hints(run)
        hints.pop("return", None)
        wanted = next(iter(hints.values()), None)
        return wanted.model_json_schema() if wanted is not None else None
    except Exception:
        return None


def main() -> None:
    folder, slug, workflow_class, seconds, *modules = sys.argv[1:]
    answer = os.dup(1)
    os.dup2(2, 1)  # what the bundle prints is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    faulthandler.dump_traceback_later(float(seconds), exit=True)
    look = Look(Path(folder), slug, workflow_class)
    look.all(modules)
    faulthandler.cancel_dump_traceback_later()
    with os.fdopen(answer, "w") as out:
        json.dump({"problems": look.problems, **look.found}, out)
    os._exit(0)  # what it has started does not go on


if __name__ == "__main__":
    main()
