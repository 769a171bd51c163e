"""Runs a bundle from beginning to end without a server: real workers, a journal in memory, and a scenario for people.

Nothing is downloaded, nothing is kept. It must not know a database.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hostler.runbooks.contract import Bundle
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.scenarios import Expected, Scenario
from hostler.runbooks.stage import TENANT, Event, OwnData, Stage

_SCRIPT = "HOSTLER_REHEARSAL"
_NEVER_RAN = ("BundleError", "WorkerCrashed", "Stalled", "AskedAgain")


class Outcome(NamedTuple):
    """`faults` are what the scenario expected and did not get; `waits` is what the task waits for in vain."""

    scenario: str
    status: str
    result: Any
    error: str | None
    steps: list[dict[str, Any]]
    events: list[Event]
    faults: list[str]
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.faults


class Rehearsal:
    """`bundles` are by slug; the first is the one that is tried, the others are its children's."""

    def __init__(self, bundles: dict[str, Bundle], *, real: bool = False) -> None:
        self._bundles = bundles
        self._real = real

    async def run(self, scenario: Scenario, tell: Callable[[Event], None] = lambda _: None) -> Outcome:
        begun = time.monotonic()
        script = {"real": self._real or scenario.real, "activities": msgspec.to_builtins(scenario.activities)}
        with tempfile.TemporaryDirectory(prefix="hostler-rehearsal-") as home:
            file = Path(home) / "script.json"
            file.write_text(json.dumps(script))
            plane = await DataPlane.open(Path(home) / "data", DataPlaneConfig())
            stage = Stage(self._bundles, scenario, {_SCRIPT: str(file), "HOME": home}, OwnData(plane), tell)
            slug = next(iter(self._bundles))
            task_id = str(uuid.uuid4())
            try:
                async with asyncio.timeout(scenario.seconds):
                    await stage.play(task_id, slug, _context(scenario.input, task_id))
            except TimeoutError:
                pass
            finally:
                await plane.aclose()
        return _outcome(scenario, stage, task_id, time.monotonic() - begun)


def _context(given: dict[str, Any], task_id: str) -> dict[str, Any]:
    """What a server would add to it: who and where the task is. A scenario may play another tenant and entity."""
    made_up = {"tenant_slug": TENANT, "entity_slug": "entity"}
    ids = {f"{name}_id": str(uuid.uuid5(uuid.UUID(task_id), name)) for name in ("tenant", "entity", "workflow")}
    return {**made_up, **ids, **given, "task_id": task_id}


def _outcome(scenario: Scenario, stage: Stage, task_id: str, seconds: float) -> Outcome:
    acted = stage.tasks[task_id]
    steps = acted.view.get("current_steps") or []
    if acted.ended.done():
        body = acted.ended.result().body
        failed = body.get("error")
        status = "failed" if failed else "completed"
        error = f"{failed['type']}: {failed['message']}" if failed else None
    else:
        action = acted.view.get("current_pending_action") or {}
        body, status = {}, "timeout"
        error = f"it is not over after {scenario.seconds:g} seconds"
        if isinstance(action, dict) and action:
            error += f"; it waits for {action.get('kind')}: {action.get('reason') or 'no reason given'}"
    outcome = Outcome(scenario.name, status, body.get("result"), error, steps, stage.events, [], seconds)
    return outcome._replace(faults=_faults(scenario, outcome))


def _faults(scenario: Scenario, outcome: Outcome) -> list[str]:
    expected: Expected | None = scenario.expect
    if expected is None:  # whatever a rejection leads to is an end, but that it was never asked for is none
        rejected = scenario.default == "rejected" and not (outcome.error or "").startswith(_NEVER_RAN)
        fine = outcome.status == "completed" or (outcome.status == "failed" and rejected)
        return [] if fine else [outcome.error or outcome.status]
    faults = []
    if expected.status is not None and outcome.status != expected.status:
        faults.append(f"status: {outcome.status} instead of {expected.status}" + _because(outcome))
    if expected.result is not msgspec.UNSET and not _within(expected.result, outcome.result):
        faults.append(f"result: {json.dumps(outcome.result)[:500]} has not {json.dumps(expected.result)[:500]}")
    if expected.error is not None and expected.error not in (outcome.error or ""):
        faults.append(f"error: {outcome.error} has not {expected.error!r}")
    done = [str(step.get("id")) for step in outcome.steps if step.get("status") == "completed"]
    if expected.steps is not None and done != expected.steps:
        faults.append(f"steps: {', '.join(done) or 'none'} instead of {', '.join(expected.steps)}")
    return faults or ([outcome.error or ""] if outcome.status == "timeout" else [])


def _because(outcome: Outcome) -> str:
    return f" ({outcome.error})" if outcome.error else ""


def _within(wanted: Any, found: Any) -> bool:
    """Whether `found` has all that is wanted; objects may have more."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and _within(value, found[key]) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(map(_within, wanted, found))
    return bool(wanted == found)
