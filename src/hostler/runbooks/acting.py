"""What people and agents do to a task: decide at its gate, change a row, hand in a file, cancel. It must not know HTTP.

A decision goes to the task whose gate is open, be it the one that was named or one below. A gate takes one decision;
the same one sent again changes nothing, whether its gate is still open or another is by now.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from hostler import clock
from hostler.errors import Conflict, InvalidRequest
from hostler.runbooks import gates, tasks
from hostler.runbooks.gates import FILE, REVIEW, Gate, Sent
from hostler.runbooks.invoking.rows import Question, Reply
from hostler.runbooks.registry.finding import sent_again
from hostler.runbooks.tasks import TaskRow
from hostler.store.sql import Tx
from hostler.store.store import Store

KNOWN_REPLIES = 1000
Replies = Callable[[str, str, Reply], Awaitable[None]]


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A document that lies on the data plane, as a runbook is told of it."""

    document_ref: str
    tenant_slug: str
    entity_slug: str
    source: str
    filename: str
    content_type: str


class Acted(msgspec.Struct, frozen=True):
    """The task that was named, and the one whose gate it was."""

    named: TaskRow
    task: TaskRow

    @property
    def below(self) -> bool:
        return self.named.id != self.task.id


class Acting:
    def __init__(self, store: Store, wake: Callable[[str], None], reply: Replies) -> None:
        """`reply` gives an agent's session the answer to its question."""
        self._store = store
        self._wake = wake
        self._reply = reply
        self._replied: dict[str, tuple[dict[str, Any], int]] = {}  # by the named task: what was said last, and when

    async def decide(
        self,
        task_id: str,
        decision: Literal["approved", "rejected"],
        *,
        scope: str | None = None,
        comments: str | None = None,
        corrections: Any = None,
        gate: str | None = None,
        looked_at: int = 0,
        by: str | None = None,
    ) -> Acted:
        """Approve or reject. `gate` is the token of the gate that is meant; without one, it is the first that is open.
        `looked_at` is when whoever decides last saw the task: a decision like the one before, without a look in
        between, is taken for that one. `by` names who decides. Raises NotFound, Conflict."""
        action: dict[str, Any] = {"type": decision}
        if comments:
            action["comments"] = comments
        if corrections is not None:
            action["corrections"] = corrections
        if by is not None:
            action["acted_by"] = by

        def tx() -> Tx[tuple[Acted, Gate | None]]:
            named = yield from gates.find_tx(task_id, scope)
            tree = yield from gates.tree_tx(named)
            before = yield from _decided_tx(tree, action)
            found = [each for each in (yield from gates.open_tx(tree)) if each.kind == REVIEW]
            meant = _meant(found, gate)
            if before is not None and (meant is None or (gate is None and before[1].at > looked_at)):
                return Acted(named, before[0]), None
            if meant is None:
                raise Conflict(_closed(named, gate))
            if meant.asked is not None:
                return Acted(named, meant.task), meant
            if meant.given is not None and meant.given.action != action:
                raise Conflict(f"The gate of task {meant.task.id} has been {meant.given.decision} already.")
            if meant.given is None:
                yield from tasks.signal_tx(meant.task.id, "user_action", action)
            return Acted(named, meant.task), None

        return await self._decide(tx, action, looked_at if gate is None else clock.now())

    async def _decide(
        self, tx: Callable[[], Tx[tuple[Acted, Gate | None]]], action: dict[str, Any], looked_at: int
    ) -> Acted:
        """An agent's question is answered to the agent, what a runbook asks to the runbook."""
        acted, asking = await self._store.write(tx)
        if asking is None or asking.asked is None:
            self._wake(acted.task.id)
            return acted
        same, at = self._replied.get(acted.named.id, ({}, 0))
        if same == action and at > looked_at and sent_again(at, clock.now()):
            return acted
        key, question = asking.asked
        await self._reply(asking.task.id, key, _reply(question, action))
        if len(self._replied) >= KNOWN_REPLIES:
            self._replied.clear()
        self._replied[acted.named.id] = action, clock.now()
        return acted

    async def row_action(
        self, task_id: str, action: dict[str, Any], *, scope: str | None = None, gate: str | None = None
    ) -> Acted:
        """Change a row of what is reviewed; the gate stays open. Raises NotFound, Conflict."""

        def tx() -> Tx[Acted]:
            named, meant = yield from self._open_tx(task_id, scope, REVIEW, gate)
            yield from tasks.signal_tx(meant.task.id, "user_action", {"kind": "row_action", "payload": action})
            return Acted(named, meant.task)

        return await self._act(tx)

    async def wanted_file(
        self, task_id: str, *, scope: str | None = None, source: str | None = None, gate: str | None = None
    ) -> Gate:
        """The gate that a file would be for. Raises NotFound, Conflict, and InvalidRequest where it has to be said."""

        def tx() -> Tx[Gate]:
            return (yield from self._open_tx(task_id, scope, FILE, gate, source))[1]

        return await self._store.read(tx)

    async def submit_file(
        self, task_id: str, document: Document, *, scope: str | None = None, gate: str | None = None
    ) -> Acted:
        """Tell a task that what it waits for is there. Raises NotFound, Conflict, InvalidRequest."""
        told = msgspec.to_builtins(document)

        def tx() -> Tx[Acted]:
            named, meant = yield from self._open_tx(task_id, scope, FILE, gate, document.source)
            wanted = meant.action.get("args") or {}
            to, name = str(wanted.get("signal_task_id") or meant.task.id), wanted.get("signal_name")
            if not isinstance(name, str):
                raise Conflict(f"Task {meant.task.id} does not say how it takes a file.")
            if meant.given is None or meant.given.action != told:
                yield from gates.find_tx(to, meant.task.tenant_id)  # the runbook says which: never another tenant's
                yield from tasks.signal_tx(to, name, told)
            return Acted(named, (yield from tasks.find_tx(to)))

        return await self._act(tx)

    async def cancel(self, task_id: str, *, scope: str | None = None) -> TaskRow:
        """End a task and all below it. One that is over stays as it is. Raises NotFound."""

        def tx() -> Tx[list[TaskRow]]:
            named = yield from gates.find_tx(task_id, scope)
            tree = yield from gates.tree_tx(named)
            for row in tree:
                yield from tasks.cancel_tx(row.id)
            return tree

        tree = await self._store.write(tx)
        for row in tree:
            self._wake(row.id)
        return tree[0]

    def _open_tx(
        self, task_id: str, scope: str | None, kind: str, gate: str | None, source: str | None = None
    ) -> Tx[tuple[TaskRow, Gate]]:
        named = yield from gates.find_tx(task_id, scope)
        tree = yield from gates.tree_tx(named)
        found = [each for each in (yield from gates.open_tx(tree)) if each.kind == kind]
        if kind == FILE:
            found = _fitting(found, source)
        meant = _meant(found, gate)
        if meant is None:
            raise Conflict(_closed(named, gate))
        return named, meant

    async def _act(self, tx: Callable[[], Tx[Acted]]) -> Acted:
        acted = await self._store.write(tx)
        self._wake(acted.task.id)
        return acted


def _meant(found: list[Gate], token: str | None) -> Gate | None:
    """The gate with this token; without one, the first that has no answer yet."""
    if token is not None:
        return next((each for each in found if each.token == token), None)
    return next((each for each in found if each.given is None), found[0] if found else None)


def _fitting(found: list[Gate], source: str | None) -> list[Gate]:
    """The gates for files of this source. Raises InvalidRequest where several are open and none is named."""
    sources = [str((each.action.get("args") or {}).get("source")) for each in found]
    if source is None and len(found) > 1:
        raise InvalidRequest(f"source: several files are waited for; say which: {', '.join(sorted(sources))}")
    return [each for each, its in zip(found, sources, strict=True) if source in (None, its)]


def _reply(question: Question, action: dict[str, Any]) -> Reply:
    """Raises InvalidRequest."""
    allow, text = action["type"] == "approved", action.get("comments")
    if question.asked == "result" and allow and not text:
        raise InvalidRequest(f"reason: the agent waits for what {question.name} gives; say it here")
    return Reply(event_id=question.event_id, allow=allow, text=text)


def _closed(named: TaskRow, gate: str | None) -> str:
    if named.closed_at is not None:
        return f"Task {named.id} is over ({named.status})."
    return f"{'That' if gate else 'No'} gate of task {named.id} is open; it is {named.status}."


def _decided_tx(tree: list[TaskRow], action: dict[str, Any]) -> Tx[tuple[TaskRow, Sent] | None]:
    """The same decision as it was sent a moment ago, when it was the last one there was."""
    last: tuple[TaskRow, Sent] | None = None
    for row in tree:
        for sent in (yield from gates.signals_tx(row.id, 0)):
            if sent.decision is not None and (last is None or sent.at >= last[1].at):
                last = (row, sent)
    if last is None or last[1].action != action or not sent_again(last[1].at, clock.now()):
        return None
    return last
