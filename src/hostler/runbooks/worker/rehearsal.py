"""A worker's process whose activities answer what a scenario says, or what their types promise, and do nothing.

Everything else is the worker that a server starts. It must not be started by one.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hostler.runbooks.worker import fakes, process
from hostler.runbooks.worker.runtime import DurableRuntime

SCRIPT = "HOSTLER_REHEARSAL"  # the environment variable that names a file: {"real": bool, "activities": {...}}


class Scripted(Exception):
    """What a scenario lets an activity raise."""

    non_retryable = True


class RehearsalRuntime(DurableRuntime):
    """`activities` of the script: by name what each call returns or raises; the last of a list holds for the rest."""

    def __init__(self, slugs: Callable[[type], str | None]) -> None:
        super().__init__(slugs)
        script = json.loads(Path(os.environ[SCRIPT]).read_text())
        self._real = bool(script["real"])
        self._script: dict[str, Any] = script["activities"]
        self._calls: Counter[str] = Counter()

    async def execute_activity(self, fn: Callable[..., Any] | str, arg: Any = None, /, **kwargs: Any) -> Any:
        name = fn if isinstance(fn, str) else next((n for n, work in self.activities.items() if work is fn), None)
        work = self.activities.get(name) if name is not None else fn
        name = str(name or getattr(fn, "__name__", type(fn).__name__))
        if work is None or (self._real and name not in self._script):
            return await super().execute_activity(fn, arg, **kwargs)
        return await super().execute_activity(self._stand_in(name, work), arg, **kwargs)

    def _stand_in(self, name: str, work: Any) -> Callable[..., Any]:
        async def stand_in(*_: Any) -> Any:
            said = self._said(name)
            if said is None:
                return fakes.returned(work)
            if "raises" in said:
                raise Scripted(str(said["raises"]))
            return fakes.converted(work, said.get("returns"))

        stand_in.__name__ = name
        return stand_in

    def _said(self, name: str) -> dict[str, Any] | None:
        said = self._script.get(name)
        if isinstance(said, list):
            self._calls[name] += 1
            said = said[min(self._calls[name], len(said)) - 1] if said else None
        return said


if __name__ == "__main__":
    process.run(RehearsalRuntime)
