"""Stops a session at its budget: no model request goes out once the exact list cost has reached it.

It must not drop anything: what the turn had left to do stays in the log, and goes on when the budget is raised or
removed.
"""

from __future__ import annotations

from hostler.harness.deps import Deps
from hostler.harness.run import Run
from hostler.harness.settle import RELEASED, deliver, idling

BUDGET_REACHED = {"type": "budget_reached"}


def exhausted(run: Run, deps: Deps) -> bool:
    """Whether the budget allows no further model request: it is used up, or the model has no price to measure it by."""
    if run.budget is None:
        return False
    unpriced = deps.catalogue.price(run.row.agent.model.id) is None
    return unpriced or run.ledger.reaches(run.budget, run.paused()["active_us"])


async def pause(run: Run, deps: Deps) -> None:
    """Turn idle with `budget_reached`; a session that is paused already is only let go of.

    Raises NewInput when something came in meanwhile, a higher budget for one.
    """
    if run.session.settled and run.session.paused:
        await run.append([], patch=RELEASED, strict=True)
        return
    items = [] if run.session.settled else await deliver(run, deps)
    idle, patch = idling(run, BUDGET_REACHED)
    await run.append([*items, *idle], patch=patch, strict=True)
