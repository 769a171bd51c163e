"""A Temporal worker's surroundings for tests: a real server that has agents, a tenant's PostgreSQL, processes that run
attempts of activities. There is no Temporal server."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from running import SOURCE, Server
from workspaces import Workspace

Json = dict[str, Any]
DRIVER = Path(__file__).with_name("driver.py")
# As another's data plane may have it: without a key, and without what is ours.
TABLE = """
CREATE SCHEMA ingest;
CREATE TABLE ingest.submitted_documents (
    id uuid DEFAULT gen_random_uuid(), entity_slug text, period text, source text, filename text, content_type text,
    data_bytes bytea, uploaded_at timestamptz DEFAULT now(), task_id text
)
"""


def packages() -> str:
    """Where Temporal's SDK is."""
    python = os.environ.get("HOSTLER_TEMPORAL_PYTHON") or str(SOURCE.parent / ".venv-temporal" / "bin" / "python")
    (found,) = Path(python).parents[1].glob("lib/python3*/site-packages")
    return str(found)


def environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": f"{SOURCE}{os.pathsep}{packages()}", "TEMPORAL_HOST": "127.0.0.1:9", **more}


class Attempt:
    """A process that runs one."""

    def __init__(self, asked: Json, env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", str(DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            text=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.close()

    def _said(self) -> Iterator[Json]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            yield json.loads(line)

    def until_it_waits(self) -> Json:
        """The heartbeat that says so."""
        said = next(each for each in self._said() if each.get("heartbeat", {}).get("waits_for"))
        return dict(said["heartbeat"])

    def end(self) -> Json:
        """What came of it: {"result": ...} or {"error": ...}."""
        return next(each for each in self._said() if "heartbeat" not in each)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Activities:
    """Activities of a worker whose tenant is `byng`."""

    def __init__(self, server: Server, workspace: Workspace, database: str) -> None:
        self.workspace = workspace
        self.database = database
        self.env = environment(
            NTRO_HOST=f"{server.base_url}/v1",
            NTRO_API_KEY=server.key,
            ANTHROPIC_BASE_URL=server.base_url,
            ANTHROPIC_API_KEY=server.key,
            NTRO_TENANT_SLUG=workspace.tenant,
            NTRO_TENANT_POSTGRES_URL=database,
        )

    @contextmanager
    def attempt(self, agent: str, say: str, workflow: str, *, number: int = 1, **more: Any) -> Iterator[Attempt]:
        info = {"workflow_id": workflow, "workflow_run_id": "r1", "activity_id": "1", "attempt": number}
        cancel, env = more.pop("cancel", None), {**self.env, **more.pop("env", {})}
        call = {"agent_id": agent, "message": say, "seconds": 60.0}
        running = Attempt(
            {"info": info, "cancel": cancel, "twice": more.pop("twice", False), "call": {**call, **more}}, env
        )
        try:
            yield running
        finally:
            running.kill()

    def run(self, agent: str, say: str, workflow: str, **more: Any) -> Json:
        with self.attempt(agent, say, workflow, **more) as running:
            return running.end()

    def rows(self, workflow: str) -> list[Json]:
        query = "SELECT * FROM ingest.submitted_documents WHERE task_id = $1 ORDER BY filename"
        return [dict(row) for row in asyncio.run(sql(self.database, query, workflow))]

    def answer(self, session_id: str) -> None:
        """Give leave to the tool that the session asks for, through its own API."""
        (use,) = self.workspace.events(session_id, "agent.tool_use")
        event = {"type": "user.tool_confirmation", "tool_use_id": use["id"], "result": "allow"}
        self.workspace.post(f"/v1/sessions/{session_id}/events", {"events": [event]})


async def sql(url: str, statement: str, *args: Any) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await (connection.fetch(statement, *args) if args else connection.execute(statement))
    finally:
        await connection.close()


def new_database(url: str) -> str:
    """A tenant's database; its URL."""
    name = f"tenant_{uuid.uuid4().hex[:12]}"
    asyncio.run(sql(url, f'CREATE DATABASE "{name}"'))
    made = url.replace("/postgres?", f"/{name}?")
    asyncio.run(sql(made, TABLE))
    return made
