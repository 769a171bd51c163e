"""Which tasks a caller sees, and which one it means when it names none. It must not change any.

An agent sees the tasks that it works on now, each with all of its tree. From a session of this server it sees the task
of that session alone, so that two sessions of one agent never see each other's.
"""

from __future__ import annotations

from hostler.errors import Conflict, InvalidRequest, NotFound, PermissionDenied
from hostler.runbooks import gates
from hostler.runbooks.invoking.rows import AgentRun, live_tx
from hostler.runbooks.tasks import TaskRow
from hostler.store.sql import Tx
from hostler.workspace.mcp.callers import Caller

NO_TASK = "You work on no task at the moment: your key opens the tasks that have called you, while they wait for you."
NOT_THIS_SESSION = "No task waits for this session: it was not begun by a task, or that call of you is over."


def root_of(task_id: str) -> str:
    return task_id.partition(":")[0]


def runs_tx(caller: Caller) -> Tx[list[AgentRun]]:
    """The calls that an agent works on and that its caller may know of; none for other keys."""
    if caller.agent_id is None:
        return []
    live = yield from live_tx(caller.agent_id)
    return [run for run in live if caller.session_id in (None, run.session_id)]


def task_tx(caller: Caller, task_id: str | None) -> Tx[TaskRow]:
    """The task that is meant. Raises NotFound, and InvalidRequest or Conflict where that can't be said."""
    if caller.agent_id is None:
        if task_id is None:
            raise InvalidRequest("task_id: Field required: only an agent's key has a task of its own")
        return (yield from gates.find_tx(task_id, caller.scope))
    runs = yield from runs_tx(caller)
    meant = _default(caller, runs) if task_id is None else task_id
    if root_of(meant) not in {root_of(run.task_id) for run in runs}:
        raise NotFound(f"Task {meant} was not found.")
    return (yield from gates.find_tx(meant, caller.scope))


def run_tx(caller: Caller, task_id: str | None) -> Tx[AgentRun]:
    """The call that an agent works on for a task. Raises PermissionDenied, NotFound, Conflict."""
    if caller.agent_id is None:
        raise PermissionDenied("Only an agent that a task has called reports its own steps.")
    row = yield from task_tx(caller, task_id)
    runs = yield from runs_tx(caller)
    its = [run for run in runs if run.task_id == row.id]
    return (its or [run for run in runs if root_of(run.task_id) == root_of(row.id)])[0]


def _default(caller: Caller, runs: list[AgentRun]) -> str:
    ids = sorted({run.task_id for run in runs})
    if not ids:
        raise NotFound(NO_TASK if caller.session_id is None else NOT_THIS_SESSION)
    if len(ids) > 1:
        raise Conflict(f"You work on several tasks: give task_id, one of {', '.join(ids)}.")
    return ids[0]
