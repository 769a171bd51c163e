"""A coordinator and its workers on a stage, run by the real supervisor and told things through the real services."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert, select
from stage import AGENT, SESSION, THREAD, Stage

from hostler.harness.advisor import AdvisorTool
from hostler.harness.delegation import Delegation
from hostler.harness.ledger import EMPTY_LEDGER
from hostler.harness.supervisor import Supervisor
from hostler.log.entries import Entry
from hostler.models.protocol import ModelEvent, ModelRequest
from hostler.models.script import ScriptedModel
from hostler.services.events import Events
from hostler.services.threads import Threads
from hostler.store import tables
from hostler.store.sql import Tx
from hostler.wire.events import EventsSend

Json = dict[str, Any]
LOOKUP = {"type": "custom", "name": "lookup", "description": "d", "input_schema": {"type": "object"}}
WORKER = {key: value for key, value in AGENT.items() if key != "multiagent"} | {
    "id": "agent_2",
    "name": "worker",
    "tools": [*AGENT["tools"], LOOKUP],
}
TEAM = {"type": "coordinator", "agents": [WORKER, {"type": "advisor", "model": "wise"}]}
SECONDS = 20


def sending(*texts: str, **more: Any) -> Json:
    """A coordinator's message that opens one thread for each text."""
    calls = [{"name": "ant__send_to_agent", "input": {"agent": "worker", "message": text}} for text in texts]
    return {"tools": calls, **more}


def script(*rules: Json) -> Json:
    """Rules for what was said last, in the order given; whoever is asked for more says so."""
    return {"rules": list(rules), "otherwise": {"text": "Else: {{last_user_text}}"}}


def when(text: str, *turns: Json, **more: Any) -> Json:
    return {"when": {"user_text_contains": text}, "turns": list(turns), **more}


class Gated:
    """The scripted model, which waits at requests whose last words contain the key of a closed gate."""

    def __init__(self, inner: ScriptedModel) -> None:
        self.inner = inner
        self.requests: list[ModelRequest] = []
        self.gates: dict[str, tuple[asyncio.Event, asyncio.Event]] = {}

    def close(self, key: str) -> None:
        self.gates[key] = (asyncio.Event(), asyncio.Event())

    async def reached(self, key: str) -> None:
        await self.gates[key][0].wait()

    def open(self, key: str) -> None:
        self.gates.pop(key)[1].set()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        self.requests.append(request)
        last = str(request.messages[-1]["content"])
        for key, (reached, opened) in list(self.gates.items()):
            if key in last:
                reached.set()
                await opened.wait()
        async for event in self.inner.stream(request):
            yield event

    async def warm_up(self) -> None: ...

    async def aclose(self) -> None: ...


class Company:
    """One session of a coordinator while a supervisor works on it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        assert isinstance(stage.deps.model, ScriptedModel)
        self.model = Gated(stage.deps.model)
        stage.deps = msgspec.structs.replace(
            stage.deps, model=self.model, served=(Delegation(), AdvisorTool(self.model, stage.deps.catalogue))
        )
        self.supervisor = Supervisor(stage.deps, stage.dispatcher)
        self.events = Events(stage.log, stage.deps.blobs, stage.deps.catalogue, stage.dispatcher.wake, stage.deps.work)
        self.threads = Threads(stage.log, stage.dispatcher.wake)

    async def send(self, *events: Json) -> list[Json]:
        params = msgspec.convert({"events": list(events)}, EventsSend)
        return [msgspec.json.decode(raw) for raw in await self.events.send(SESSION, params)]

    async def say(self, text: str) -> None:
        await self.send({"type": "user.message", "content": [{"type": "text", "text": text}]})

    async def until(self, ready: Callable[[list[Entry]], Any]) -> Any:
        """Wait until something holds of the log; return what it gave."""
        async with await self.stage.log.tail(SESSION) as tail:
            while True:
                found = ready(await self.stage.log.read(SESSION))
                if found:
                    return found
                async for _ in tail.batches(0.05):
                    break

    async def idle(self, count: int = 1) -> Json:
        """The count-th idle event of the session, once nobody holds it."""
        entry = await self.until(lambda log: [e for e in log if e.type == "session.status_idle"][count - 1 : count])
        assert await self.stage.column("lease_owner") is None, "let go of in the same commit"
        idle: Json = entry[0].decode()
        return idle

    async def asked(self) -> str:
        """The id of a child's custom tool use that waits."""
        found = await self.until(lambda log: [e for e in log if e.type == "agent.custom_tool_use" and e.private])
        return str(found[-1].id)

    async def rows(self) -> list[Json]:
        """The threads' rows, the primary one first."""
        columns = [column.name for column in tables.threads.c]

        def tx() -> Tx[list[Any]]:
            return (yield select(tables.threads).order_by(tables.threads.c.created_at, tables.threads.c.id))

        return [dict(zip(columns, row, strict=True)) for row in await self.stage.store.read(tx)]

    async def child(self) -> str:
        """The id of the first child thread."""
        entry = await self.until(lambda log: [e for e in log if e.type == "session.thread_created"])
        return str(entry[0].decode()["session_thread_id"])

    async def of_thread(self, thread_id: str | None) -> list[Json]:
        """The events of a thread, or of the session's list."""
        log = await self.stage.log.read(SESSION)
        return [msgspec.json.decode(entry.wire()) for entry in log if entry.shown_on(thread_id)]

    async def types(self, thread_id: str | None = None) -> list[str]:
        return [event["type"] for event in await self.of_thread(thread_id)]

    async def last(self, thread_id: str | None = None) -> str:
        """The last message of an agent."""
        said = [event for event in await self.of_thread(thread_id) if event["type"] == "agent.message"]
        return str(said[-1]["content"][0]["text"])


def employ(folder: Path, work: Callable[[Company], Awaitable[None]], rules: Json, **more: Any) -> None:
    """Play with a coordinator; when all is done the rows, the pairs and the mail must be in order."""
    agent = more.pop("agent", {**AGENT, "multiagent": TEAM})

    async def main() -> None:
        stage = await Stage.open(folder, rules, **more)
        await stage.set(agent=msgspec.json.encode(agent))
        await stage.store.write(lambda: _thread_tx(agent))
        company = Company(stage)
        running = asyncio.create_task(company.supervisor.run())
        try:
            async with asyncio.timeout(SECONDS):
                await work(company)
                await orderly(company)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await stage.store.close()

    asyncio.run(main())


async def orderly(company: Company) -> None:
    """What holds of every session at rest: running and idle take turns, spans end, no mail waits for anybody who could
    take it up, and the rows say what the log does."""
    log = await company.stage.log.read(SESSION)
    assert await company.stage.column("status") == "idle"
    check_pairs([event["type"] for event in await company.of_thread(None)], "session.status_")
    for row in await company.rows():
        events = await company.of_thread(row["id"])
        own = [event for event in events if event.get("session_thread_id", row["id"]) == row["id"]]
        check_pairs([event["type"] for event in own], "session.thread_status_")
        assert row["running_since"] is None
        ended = "session.thread_status_terminated" in [event["type"] for event in own]
        assert row["status"] == ("terminated" if ended else "idle")
        starts = [event["id"] for event in events if event["type"] == "span.model_request_start"]
        ends = [event["model_request_start_id"] for event in events if event["type"] == "span.model_request_end"]
        assert ends == starts
    sent = [entry for entry in log if entry.type == "agent.thread_message_sent"]
    received = [entry for entry in log if entry.type == "agent.thread_message_received"]
    assert len({entry.id for entry in received}) == len(received) <= len(sent)


def check_pairs(types: list[str], kind: str) -> None:
    states = [name.removeprefix(kind) for name in types if name.startswith(kind)]
    states = [state for state in states if state != "terminated"]
    again = [at for at, state in enumerate(states) if state == "rescheduled"]
    states = [state for at, state in enumerate(states) if at not in again and at - 1 not in again]
    assert states == ["running", "idle"] * (len(states) // 2), types


def _thread_tx(agent: Json) -> Tx[None]:
    shown = {key: value for key, value in agent.items() if key != "multiagent"}
    row = {
        "session_id": SESSION, "id": THREAD, "parent_id": None, "name": agent["name"], "status": "idle",
        "agent": msgspec.json.encode(shown), "usage": EMPTY_LEDGER, "active_us": 0, "running_since": None,
        "created_at": 1, "updated_at": 1, "archived_at": None,
    }  # fmt: skip
    yield insert(tables.threads), row
