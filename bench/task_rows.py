"""What is measured of runbooks: how soon a task begins, what a step costs, how soon it hears a person, many at once.

Times are those of the journal: microseconds of the server's clock at each commit. Raw is a process that imports what a
worker imports, and a durable insert into SQLite.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from client import Connection
from rows import MS, Bench, Row, now, p

CALLS = 200
RUNBOOK = "---\nslug: bench\nname: Bench\nversion: 1.0.0\nstate: published\nauthor: Hostler\n---\n"
ACTIVITIES = """
from ntro.workflow import activity


@activity.defn
async def nothing(number: int) -> int:
    return number
"""
WORKFLOW = """
from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke

from .activities import nothing


@runbook.defn
class BenchWorkflow(NtroWorkflow):
    @ui_step(name="call", title="Call")
    async def _call(self, given):
        for number in range(given.get("calls", 1)):
            await runbook.execute_activity(nothing, number)

    @ui_step(name="ask", title="Ask")
    async def _ask(self, given):
        if given.get("agent"):
            await invoke(given["agent"], input=given["say"])

    @ui_step(name="gate", title="Gate")
    async def _gate(self, given):
        return (await self.wait_for_action(payload={}, reason="?"))["type"] if given.get("gate") else None

    @runbook.run
    async def run(self, given: dict):
        await self._call(given)
        await self._ask(given)
        return await self._gate(given)
"""


class Office:
    """A tenant with one runbook."""

    def __init__(self, link: Connection) -> None:
        self.link = link
        self.workflow = ""

    async def post(self, path: str, body: Any = None) -> Any:
        status, payload = await self.link.raw("POST", path, msgspec.json.encode(body) if body is not None else b"")
        if status not in (200, 201):
            raise RuntimeError(f"POST {path}: {status} {payload[:500]!r}")
        return msgspec.json.decode(payload)

    async def open(self, name: str) -> Office:
        await self.post("/v1/workspace/tenants", {"name": name, "slug": name, "dataPlatform": "managed-postgres"})
        entity = await self.post(f"/v1/workspace/tenants/{name}/entities", {"name": "one", "slug": "one"})
        templates = {"__init__": "", "activities": ACTIVITIES, "workflow": WORKFLOW}
        files = {"runbook.md": RUNBOOK, **{f"templates/{name}.py": text for name, text in templates.items()}}
        deployed = {"tenantSlug": name, "version": "1.0.0", "workflowClass": "BenchWorkflow", "files": files}
        await self.post("/v1/runbooks/bench/deploy", deployed)
        bound = {"runbookSlug": "bench", "entityId": entity["id"], "name": f"bench-{name}"}
        self.workflow = (await self.post("/v1/workspace/registry/workflows", bound))["id"]
        self.tenant = name
        return self

    async def start(self, **context: Any) -> str:
        body = {"tenantId": self.tenant, "workflowId": self.workflow, "context": context}
        return str((await self.post("/v1/workspace/tasks", body))["id"])

    async def wait(self, task_id: str, *statuses: str) -> None:
        while True:
            status = (await self.link.call("GET", f"/v1/workspace/tasks/{task_id}"))["status"]
            if status in statuses:
                return
            if status == "FAILED":
                raise RuntimeError(f"task {task_id} has failed")
            await asyncio.sleep(0.01)

    async def rest(self, task_id: str) -> None:
        """Until it has given its process up."""
        while True:
            if "resting" in dict(await self.journal(task_id)):
                return
            await asyncio.sleep(0.1)

    async def journal(self, task_id: str) -> list[tuple[str, float]]:
        """Kinds and times, in milliseconds."""
        logs = await self.link.call("GET", f"/v1/workspace/tasks/{task_id}/logs")
        return [(each["type"], datetime.fromisoformat(each["createdAt"]).timestamp() * 1000) for each in logs]


async def imported() -> float:
    """Milliseconds of a process that imports what a worker imports."""
    start = now()
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import ntro.workflow, msgspec")
    assert await process.wait() == 0
    return (now() - start) / MS


def inserted(folder: Path) -> float:
    """Milliseconds of a durable insert."""
    with sqlite3.connect(folder / "raw.db", isolation_level=None) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute("CREATE TABLE entries (position INTEGER PRIMARY KEY, body BLOB)")
        start = now()
        for _ in range(CALLS):
            database.execute("INSERT INTO entries (body) VALUES (?)", (b"x" * 200,))
        return (now() - start) / MS / CALLS


async def tasks(bench: Bench) -> list[Row]:
    """One after the other, then many at once."""
    link = bench.server.connect()
    office = await Office(link).open("bench")
    rounds = max(3, int(10 * bench.scale))
    begun, each, heard, raw = [], [], [], []
    for number in range(rounds):
        task_id = await office.start(calls=CALLS, number=number)
        await office.wait(task_id, "COMPLETED")
        entries = await office.journal(task_id)
        times = [at for kind, at in entries if kind == "activity"]
        begun.append(times[0] - entries[0][1])
        each.append((times[-1] - times[0]) / (len(times) - 1))
        task_id = await office.start(gate=True, number=number)
        await office.wait(task_id, "BLOCKED")
        await office.post(f"/v1/workspace/tasks/{task_id}/approve", {})
        await office.wait(task_id, "COMPLETED")
        entries = await office.journal(task_id)
        (signal,) = [at for kind, at in entries if kind == "signal"]
        heard.append(next(at for kind, at in entries if kind == "waited") - signal)
        raw.append(await imported())
    crowd = max(10, int(100 * bench.scale))
    start = now()
    ids = [await office.start(calls=3, number=number) for number in range(crowd)]
    for task_id in ids:
        await office.wait(task_id, "COMPLETED")
    seconds = (now() - start) / 1e9
    link.close()
    return [
        Row(name="POST task -> its first activity is journalled", unit="ms", value=p(begun, 0.5), p99=p(begun, 0.99),
            raw=p(raw, 0.5), note="raw: a process that imports ntro"),
        Row(name="an activity, journalled", unit="ms", value=p(each, 0.5), p99=p(each, 0.99), target=5,
            raw=inserted(bench.folder), note="raw: a durable insert into SQLite"),
        Row(name="approved -> the runbook goes on, journalled", unit="ms", value=p(heard, 0.5), p99=p(heard, 0.99),
            target=20),
        Row(name=f"{crowd} tasks at once, done", unit="s", value=round(seconds, 2), note="3 activities each, 0 failed"),
    ]  # fmt: skip


async def waiting_tasks(bench: Bench) -> list[Row]:
    """Tasks whose agents wait for a person: their processes have gone, and none comes back for that after a kill."""
    config = bench.folder / "hostler.toml"
    config.write_text("[runbooks]\nrest_seconds = 2\nspare_seconds = 0\n")
    await bench.server.stop()
    await bench.server.start()
    office = await Office(bench.server.connect()).open("waiting")
    asks = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}
    made = await office.post("/v1/agents", {"name": "asks", "model": "claude-sonnet-5-5", "tools": [asks]})
    named = {"tenantId": "waiting", "name": "asks", "kind": "claude_managed"}
    named["externalRef"] = f"anthropic://agents/{made['id']}"
    agent = (await office.post("/v1/workspace/registry/agents", named))["id"]
    crowd = max(10, int(100 * bench.scale))
    before = bench.server.memory()
    ids = [await office.start(agent=agent, say="plan: 1", number=number) for number in range(crowd)]
    for task_id in ids:
        await office.wait(task_id, "BLOCKED")
        await office.rest(task_id)
    each = (bench.server.memory() - before) / crowd / 1024
    office.link.close()
    bench.server.kill()
    await bench.server.start()
    office.link = bench.server.connect()
    start = now()
    for task_id in ids:
        await office.post(f"/v1/workspace/tasks/{task_id}/approve", {})
        await office.wait(task_id, "COMPLETED")
    seconds = (now() - start) / 1e9
    office.link.close()
    config.unlink()
    await bench.server.stop()
    await bench.server.start()
    return [
        Row(name=f"memory per task that waits for an agent, {crowd} of them", unit="KiB", value=round(each, 1),
            note="without a process; one takes 45 MB"),
        Row(name="such a task after a kill: approved -> done", unit="s", value=round(seconds / crowd, 2),
            note="one after the other, each in a new process"),
    ]  # fmt: skip


ROWS = [tasks, waiting_tasks]
