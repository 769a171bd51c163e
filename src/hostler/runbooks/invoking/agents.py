"""Runs registered agents for tasks: finds out whose and where, takes people's answers, ends what is left over.

It must not know the runbook that called, nor how an answer reaches it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from hostler.errors import NotFound
from hostler.runbooks.entries import Draft
from hostler.runbooks.invoking import rows
from hostler.runbooks.invoking.conversation import Call, Conversation, Target
from hostler.runbooks.invoking.environment import Environment
from hostler.runbooks.invoking.notes import Stored
from hostler.runbooks.invoking.passback import Destination, Documents, Passback
from hostler.runbooks.invoking.remote import Down, Http, Refused, Remote
from hostler.runbooks.registry.agent_rows import RegisteredAgent
from hostler.runbooks.tasks import asking_tx
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.wire.workspace import AgentTested

log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Whose task it is. `entity` and `period` are "" and None where the task has none."""

    tenant_id: str
    tenant: str
    entity: str
    period: str | None


class Directory(Protocol):
    async def target(self, agent_id: str) -> Target:
        """Raises NotFound."""
        ...

    async def place(self, task_id: str) -> Place:
        """Raises NotFound."""
        ...


class Home(NamedTuple):
    """This server, as its own client."""

    base_url: str
    api_key: str


class Agents:
    def __init__(
        self, store: Store, directory: Directory, documents: Documents, *, folder: Path, max_bytes: int
    ) -> None:
        self._store = store
        self._directory = directory
        self._http, self._near = Http(), Http(near=True)
        self._environment = Environment()
        self._passback = Passback(documents, folder, max_bytes)
        self._home: asyncio.Future[Home] | None = None
        self._running: dict[tuple[str, str], Conversation] = {}
        self._asking: dict[str, set[str]] = {}  # the calls of a task that wait for a person

    async def aclose(self) -> None:
        await self._http.aclose()
        await self._near.aclose()

    def at_home(self, home: Home) -> None:
        """Where this server can be reached; until it is known, calls wait."""
        self._reachable().set_result(home)

    def _reachable(self) -> asyncio.Future[Home]:
        if self._home is None:
            self._home = asyncio.get_running_loop().create_future()
        return self._home

    def asks(self, task_id: str) -> bool:
        """Whether an agent of this task waits for a person."""
        return bool(self._asking.get(task_id))

    async def reply(self, task_id: str, key: str, reply: rows.Reply) -> None:
        """Take a person's answer. Raises Conflict, NotFound."""
        await self._store.write(lambda: rows.reply_tx(task_id, key, reply))
        if (running := self._running.get((task_id, key))) is not None:
            running.nudge()

    async def look(self, agent: RegisteredAgent) -> AgentTested:
        """Whether an agent is there to be called; what is wrong is said in the answer."""
        begun = time.monotonic()
        try:
            remote = await self._remote(await self._directory.target(agent.id))
            found = await remote.get(f"/v1/agents/{agent.native_id}", **_version(agent))
        except (NotFound, Refused, Down, TimeoutError) as problem:
            where = agent.base_url or "this server"
            return AgentTested(success=False, message=f"{agent.native_id} at {where}: {problem or 'no answer in time'}")
        latency = int((time.monotonic() - begun) * 1000)
        return tested(agent, found, latency)

    # -- one call --

    async def run(self, task_id: str, key: str, asked: dict[str, Any] | None) -> Draft:
        """The entry that tells how it ended. Cancelled, it leaves the session at work for the next to adopt, who need
        not have `asked` it. Raises NotFound."""
        if asked is None:
            asked = await self._store.read(lambda: rows.asked_tx(task_id, key))
        call = msgspec.convert(asked, Call)
        place = await self._directory.place(task_id)
        target = await self._directory.target(call.agent_id)
        if target.tenant_id != place.tenant_id:
            raise NotFound(f"Agent {call.agent_id} was not found in tenant {place.tenant}.")
        if call.tenant_slug not in (None, "", place.tenant):
            raise NotFound(f"The task is of tenant {place.tenant}: it can't call an agent for {call.tenant_slug}.")
        run, fresh = await self._store.write(lambda: rows.begin_tx(task_id, key, call.agent_id, target.base_url, asked))
        remote = await self._remote(target)
        one = self._running[task_id, key] = Conversation(
            Stored(self._store), remote, self._environment, run, target, call
        )
        to = Destination(place.tenant, call.entity_slug or place.entity, place.period, task_id.partition(":")[0])
        try:
            return await one.to_the_end(self._passback, to, lambda questions: self._asks(run, questions), fresh=fresh)
        finally:
            del self._running[task_id, key]
            self._ask_no_more(task_id, key)

    async def abandon(self, task_id: str, key: str | None = None) -> None:
        """End the sessions of a task's calls that nobody waits for any more."""
        for run in await self._store.read(lambda: rows.of_task_tx(task_id)):
            if run.ended_at is None and key in (None, run.key):
                await self._end(run)

    def ended_tx(self, task_id: str, key: str) -> Tx[None]:
        """Belongs into the commit of the entry that `run` returned."""
        return rows.end_tx(task_id, key)

    async def abandon_left(self) -> None:
        """The same for tasks that are over, at the start: a crash may have come in between."""
        for run in await self._store.read(rows.left_tx):
            await self._end(run)

    async def _end(self, run: rows.AgentRun) -> None:
        try:
            target = await self._directory.target(run.agent_id)
            remote = await self._remote(target)
            call = Call(run.agent_id, "")
            await Conversation(Stored(self._store), remote, self._environment, run, target, call).give_up()
        except (NotFound, Refused, Down, TimeoutError) as problem:
            log.warning("the session of %s could not be ended: %s", run.task_id, problem)
        await self._store.write(lambda: rows.end_tx(run.task_id, run.key))

    async def _remote(self, target: Target) -> Remote:
        if target.base_url is not None:
            return Remote(self._http, target.base_url, target.api_key)
        home = await asyncio.shield(self._reachable())
        return Remote(self._near, home.base_url, home.api_key)

    async def _asks(self, run: rows.AgentRun, questions: list[rows.Question]) -> None:
        waiting = self._asking.setdefault(run.task_id, set())
        (waiting.add if questions else waiting.discard)(run.key)

        def tx() -> Tx[None]:
            yield from rows.ask_tx(run, questions)
            yield from asking_tx(run.task_id, bool(waiting))

        await self._store.write(tx)

    def _ask_no_more(self, task_id: str, key: str) -> None:
        self._asking.get(task_id, set()).discard(key)
        if not self._asking.get(task_id):
            self._asking.pop(task_id, None)


def tested(agent: RegisteredAgent, found: Any, latency_ms: int) -> AgentTested:
    """What a server says of an agent, in short."""
    said = found if isinstance(found, dict) else {}
    if said.get("id") != agent.native_id:
        return AgentTested(success=False, message="What answered is no agent of that id.", latency_ms=latency_ms)
    model, version = said.get("model"), said.get("version")
    name = model.get("id") if isinstance(model, dict) else model
    archived = said.get("archived_at") is not None
    return AgentTested(
        success=not archived,
        message=f"{said.get('name')} is {'archived: it can not be called' if archived else 'there'}.",
        latency_ms=latency_ms,
        model=str(name) if name else None,
        version=version if isinstance(version, int) else None,
    )


def _version(agent: RegisteredAgent) -> dict[str, int]:
    return {} if agent.agent_version is None else {"version": agent.agent_version}
