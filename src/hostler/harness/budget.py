"""Stops a session at its budget: no model request goes out once the exact list cost has reached it.

It must not drop anything: what the turn had left to do stays in the log, and goes on when the budget is raised or
removed.
"""

from __future__ import annotations

from hostler.harness.deps import Deps
from hostler.harness.run import Idle, Run
from hostler.harness.settle import deliver
from hostler.harness.wake import BUDGET_REACHED
from hostler.models.catalogue import Catalogue


def exhausted(run: Run, catalogue: Catalogue) -> bool:
    """Whether the budget allows no further model request: it is used up, or the model has no price to measure it by."""
    budget = run.wake.budget
    if budget is None:
        return False
    unpriced = catalogue.price(run.agent.model.id) is None
    return unpriced or run.ledger.reaches(budget, run.wake.paused()["active_us"])


async def pause(run: Run, deps: Deps) -> None:
    """Turn idle with `budget_reached`; a thread that is paused already only lets go of the session.

    Raises NewInput when something came in meanwhile, a higher budget for one.
    """
    if run.thread.settled and run.thread.paused:
        await run.append([], strict=True, release=True)
        return
    items = [] if run.thread.settled else await deliver(run, deps)
    await run.append(items, strict=True, idle=Idle(BUDGET_REACHED))
