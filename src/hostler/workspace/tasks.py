"""Routes of tasks: started, looked at, decided on, given files, cancelled; and the lists of them.

Whoever sends a decision again because its answer got lost has not looked at the task in between. So it is remembered,
for a while and for each key, when it last looked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, get_args

import msgspec

from hostler.errors import InvalidRequest
from hostler.runbooks import gates, listing, showing
from hostler.runbooks.acting import Acted, Acting
from hostler.runbooks.starting import Starts
from hostler.runbooks.uploads import Uploads
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.wire.tasks import Links, Reason, RowAction, Signaled, Task, TaskCreate
from hostler.wire.workspace import TaskStatus
from hostler.workspace.call import Call
from hostler.workspace.gate import Route
from hostler.workspace.looks import Looks

_TASK = "/v1/workspace/tasks/{task}"
_HISTORY = "/v1/workspace/tenants/{tenant}/entities/{entity}/tasks"
T = TypeVar("T")
Ask = Callable[[str, str], Awaitable[Any]]


class Tasks:
    def __init__(self, store: Store, starts: Starts, acting: Acting, uploads: Uploads, ask: Ask) -> None:
        """`ask` puts a query to a task's runbook."""
        self._store = store
        self._starts = starts
        self._acting = acting
        self._uploads = uploads
        self._ask = ask
        self._looks = Looks()

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/v1/workspace/tasks", self._start, 201),
            Route("GET", "/v1/workspace/tasks", self._in_state),
            Route("GET", "/v1/workspace/schedule", self._schedule),
            Route("GET", "/v1/workspace/incoming", lambda call: self._of_state(call, "READY")),
            Route("GET", "/v1/workspace/pending", lambda call: self._of_state(call, "BLOCKED")),
            Route("GET", _HISTORY, self._history),
            Route("GET", _TASK, self._show),
            Route("GET", f"{_TASK}/next-step", self._next_step),
            Route("GET", f"{_TASK}/logs", self._logs),
            Route("GET", f"{_TASK}/queries/{{query}}", self._query),
            Route("POST", f"{_TASK}/approve", lambda call: self._decide(call, "approved")),
            Route("POST", f"{_TASK}/reject", lambda call: self._decide(call, "rejected")),
            Route("POST", f"{_TASK}/row-action", self._row_action),
            Route("POST", f"{_TASK}/files", self._hand_in),
            Route("POST", f"{_TASK}/cancel", self._cancel),
        ]

    # -- looking --

    async def _show(self, call: Call) -> Any:
        call.query()
        return await self._shown(call, call.params["task"])

    async def _next_step(self, call: Call) -> Any:
        call.query()
        task_id = call.params["task"]
        found = await self._read(lambda: showing.next_step_tx(task_id, call.scope))
        self._looks.note(call.caller.key_id, task_id)
        return found

    async def _logs(self, call: Call) -> Any:
        call.query()
        return await self._read(lambda: showing.logs_tx(call.params["task"], call.scope))

    async def _query(self, call: Call) -> Any:
        call.query()
        task_id, name = call.params["task"], call.params["query"]
        await self._read(lambda: gates.find_tx(task_id, call.scope))
        return {"name": name, "value": await self._ask(task_id, name)}

    async def _in_state(self, call: Call) -> Any:
        status = call.query("status")["status"]
        if status is not None and status not in get_args(TaskStatus):
            raise InvalidRequest(f"status: {status[:50]!r} is none; expected {', '.join(get_args(TaskStatus))}")
        return await self._listed(call, lambda: listing.in_state_tx(status, call.scope))

    async def _of_state(self, call: Call, status: str) -> Any:
        call.query()
        return await self._listed(call, lambda: listing.in_state_tx(status, call.scope))

    async def _schedule(self, call: Call) -> Any:
        workflow = call.query("workflowId")["workflowId"]
        return await self._listed(call, lambda: listing.schedule_tx(workflow, call.scope))

    async def _history(self, call: Call) -> Any:
        call.query()
        tenant, entity = call.params["tenant"], call.params["entity"]
        return await self._listed(call, lambda: listing.of_entity_tx(tenant, entity, call.scope))

    async def _listed(self, call: Call, tx: Callable[[], Tx[list[Task]]]) -> list[Task]:
        found = await self._read(tx)
        self._looks.note(call.caller.key_id)
        return [_linked(call, each) for each in found]

    async def _shown(self, call: Call, task_id: str) -> Task:
        found = await self._read(lambda: showing.task_tx(task_id, call.scope))
        self._looks.note(call.caller.key_id, task_id)
        return _linked(call, found)

    async def _read(self, tx: Callable[[], Tx[T]]) -> T:
        return await self._store.read(tx)

    # -- acting --

    async def _start(self, call: Call) -> Any:
        params = await call.body(TaskCreate)
        named = call.header("idempotency-key")
        if named is not None and not 0 < len(named) <= 255:
            raise InvalidRequest("Idempotency-Key: from 1 to 255 characters are expected")
        once = f"{call.caller.key_id}/{named}" if named is not None else None
        row = await self._starts.start(params, call.scope, once=once)
        return _linked(call, await self._read(lambda: showing.task_tx(row.id, call.scope)))

    async def _decide(self, call: Call, decision: Literal["approved", "rejected"]) -> Any:
        task_id, params = call.params["task"], await call.body(Reason)
        acted = await self._acting.decide(
            task_id,
            decision,
            scope=call.scope,
            comments=params.reason,
            corrections=params.corrections,
            gate=params.gate,
            looked_at=self._looks.last(call.caller.key_id, task_id),
            by=call.caller.name,
        )
        return await self._done(call, acted)

    async def _row_action(self, call: Call) -> Any:
        task_id, params = call.params["task"], await call.body(RowAction)
        said = {name: value for name, value in msgspec.structs.asdict(params).items() if value is not None}
        return await self._done(call, await self._acting.row_action(task_id, said, scope=call.scope))

    async def _hand_in(self, call: Call) -> Any:
        """The file is the request's body, as it is."""
        query = call.query("filename", "source", "gate")
        if query["filename"] is None or len(query["filename"]) > 255 or "/" in query["filename"]:
            raise InvalidRequest("filename: a plain name of up to 255 characters is expected in the query")
        acted = await self._uploads.hand_in(
            call.params["task"],
            call.chunks(),
            filename=query["filename"],
            content_type=call.header("content-type") or "application/octet-stream",
            scope=call.scope,
            source=query["source"],
            gate=query["gate"],
        )
        return await self._done(call, acted)

    async def _cancel(self, call: Call) -> Any:
        row = await self._acting.cancel(call.params["task"], scope=call.scope)
        return _linked(call, await self._read(lambda: showing.task_tx(row.id, call.scope)))

    async def _done(self, call: Call, acted: Acted) -> Any:
        """The task that was named, or which other one it went to."""
        if acted.below:
            return Signaled(workflow_id=acted.task.id, status="SIGNALED")
        return _linked(call, await self._read(lambda: showing.task_tx(acted.named.id, call.scope)))


def _linked(call: Call, task: Task) -> Task:
    """With the address of its page, once it is there."""
    if task.created_at is not None:
        root = task.id.partition(":")[0]
        task.links = Links(workflow_ui=f"{call.base_url}/console/tasks/{root}")
    return task
