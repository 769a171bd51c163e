"""A harness on a real store with a scripted model and a sandbox in memory, for tests that need no process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import insert, select, update

from hostler import clock
from hostler.harness.contents import FileContents
from hostler.harness.deps import Deps, HarnessConfig
from hostler.harness.ledger import EMPTY_LEDGER
from hostler.harness.life import Life
from hostler.harness.recalling import row_tx
from hostler.harness.secrets import SessionSecrets
from hostler.harness.session_layers import SessionLayers
from hostler.harness.state import Session
from hostler.harness.wake import Wake
from hostler.ids import new_id
from hostler.log.entries import Draft, Entry
from hostler.log.hub import Hub
from hostler.log.log import Log
from hostler.models.catalogue import Catalogue
from hostler.models.script import ScriptedModel
from hostler.sandbox.contract import (
    Check,
    Command,
    CommandResult,
    Mount,
    OutputFile,
    Sandbox,
    SandboxSpec,
    SandboxUnavailable,
    Snapshot,
    UnknownCall,
)
from hostler.sandbox.layers.packages import NoLayers
from hostler.sandbox.toolset import TOOLS
from hostler.store import tables
from hostler.store.blobs import Blobs
from hostler.store.dispatch import EmbeddedDispatcher
from hostler.store.sql import Tx
from hostler.store.sqlite import SqliteStore
from hostler.vault.sealing import Key, Sealer
from hostler.vault.variables import Variables

SESSION, THREAD = "sesn_1", "sthr_1"
AGENT: dict[str, Any] = {
    "id": "agent_1",
    "type": "agent",
    "version": 1,
    "name": "a",
    "description": None,
    "model": {"id": "scripted"},
    "system": None,
    "tools": [
        {
            "type": "agent_toolset_20260401",
            "configs": [],
            "default_config": {"enabled": True, "permission_policy": {"type": "always_allow"}},
        }
    ],
    "mcp_servers": [],
    "skills": [],
    "execution_identity": {"type": "service_account"},
}


class FakeSandbox:
    """Keeps the contract's bookkeeping of calls; `answer` decides how each ends, and may block or raise."""

    def __init__(self, generation: str) -> None:
        self.generation = generation
        self.started: list[str] = []
        self.results: dict[str, CommandResult] = {}
        self.cancelled: list[str] = []
        self.acknowledged: list[str] = []
        self.dead = False
        self.begun = asyncio.Event()
        self.hold: asyncio.Event | None = None  # while unset, calls do not end

    async def run(self, call_id: str, command: Command) -> CommandResult:
        self._alive()
        if call_id in self.started:
            raise ValueError(call_id)
        self.started.append(call_id)
        return await self.attach(call_id)

    async def attach(self, call_id: str) -> CommandResult:
        self._alive()
        if call_id not in self.started or call_id in self.acknowledged:
            raise UnknownCall(call_id)
        self.begun.set()
        while self.hold is not None and not self.hold.is_set() and call_id not in self.cancelled:
            await self.hold.wait()
            self._alive()
        return CommandResult(exit_code=0, output=b"done", output_bytes=4)

    async def cancel(self, call_id: str) -> None:
        self._alive()
        self.cancelled.append(call_id)

    async def acknowledge(self, call_id: str) -> None:
        self._alive()
        self.acknowledged.append(call_id)

    async def set_mounts(self, mounts: list[Mount]) -> None: ...

    async def outputs(self) -> list[OutputFile]:
        self._alive()
        return []

    async def read_output(self, path: str) -> AsyncIterator[bytes]:
        raise FileNotFoundError(path)
        yield b""

    def _alive(self) -> None:
        if self.dead:
            raise SandboxUnavailable("the sandbox has ended")


class FakeBackend:
    """Gives one live sandbox at a time; a dead one is followed by the next generation."""

    def __init__(self) -> None:
        self.made: list[FakeSandbox] = []
        self.prepare: Callable[[FakeSandbox], None] = lambda _: None
        self._first: asyncio.Future[FakeSandbox] = asyncio.get_running_loop().create_future()

    async def working(self) -> FakeSandbox:
        """The first sandbox, once a call runs in it."""
        sandbox = await self._first
        await sandbox.begun.wait()
        return sandbox

    @property
    def live(self) -> FakeSandbox | None:
        return self.made[-1] if self.made and not self.made[-1].dead else None

    async def provision(self, spec: SandboxSpec) -> Sandbox:
        if self.live is None:
            self.made.append(FakeSandbox(f"g{len(self.made)}"))
            self.prepare(self.made[-1])
            if not self._first.done():
                self._first.set_result(self.made[-1])
        return self.made[-1]

    async def find(self, key: str) -> Sandbox | None:
        return self.live

    async def hibernate(self, key: str) -> None: ...

    async def snapshot(self, key: str, target: Path, *, limit_bytes: int | None = None) -> Snapshot | None:
        return None

    async def restore(self, key: str, source: Path, snapshot: Snapshot) -> None: ...

    async def destroy(self, key: str) -> None: ...

    async def reap(self, keep: set[str]) -> None: ...

    def probe(self) -> list[Check]:
        return []

    async def aclose(self, *, stop: bool) -> None: ...


class Stage:
    """One session, and the means to send it something and to work on it."""

    def __init__(self, store: SqliteStore, folder: Path, script: dict[str, Any], config: HarnessConfig) -> None:
        self.store = store
        self.log = Log(store, Hub())
        self.dispatcher = EmbeddedDispatcher(store)
        self.backend = FakeBackend()
        blobs = Blobs(folder / "files")
        blobs.open()
        self.deps = Deps(
            log=self.log,
            model=ScriptedModel(script),
            catalogue=Catalogue(),
            sandboxes=self.backend,
            contents=FileContents(store, blobs),
            blobs=blobs,
            builtins={tool["name"]: tool for tool in TOOLS},
            config=config,
            secrets=SessionSecrets(store, Variables(store, Sealer([Key.new()]))),
            life=Life(self.log, self.backend, folder / "snapshots", config),
            layers=SessionLayers(NoLayers("none here"), self.backend),
        )

    @classmethod
    async def open(cls, folder: Path, script: dict[str, Any], **config: Any) -> Stage:
        store = await SqliteStore.open(folder / "db", now=1)
        stage = cls(store, folder, script, HarnessConfig(retry_base=0.001, **config))
        await store.write(_session_tx)
        return stage

    async def send(self, *drafts: Draft) -> list[Entry]:
        """Append as the API does."""
        patch = {"wake_at": clock.now()}
        return (await self.log.append(SESSION, THREAD, drafts, patch=patch)).entries

    async def say(self, text: str) -> None:
        content = [{"type": "text", "text": text}]
        await self.send(Draft(type="user.message", fields={"content": content}, queued=True))

    async def interrupt(self) -> None:
        await self.send(Draft(type="user.interrupt", queued=True))

    async def wake(self) -> Wake:
        """Take the session as a process that knows nothing of it yet."""

        def void() -> Tx[None]:
            yield update(tables.sessions).values(lease_owner=None, lease_until=None)

        await self.store.write(void)
        lease = await self.dispatcher.claim(SESSION)
        assert lease is not None
        wake = Wake(self.log, lease, await self.store.read(lambda: row_tx(SESSION)), Session())
        await wake.refresh()
        return wake

    async def set(self, **columns: Any) -> None:
        """Set columns of the session's row, behind everybody's back."""

        def tx() -> Tx[None]:
            yield update(tables.sessions).values(**columns)

        await self.store.write(tx)

    async def events(self) -> list[dict[str, Any]]:
        return [msgspec.json.decode(entry.wire()) for entry in await self.log.read(SESSION) if not entry.private]

    async def types(self) -> list[str]:
        return [event["type"] for event in await self.events()]

    async def column(self, name: str) -> Any:
        def tx() -> Tx[Any]:
            rows = yield select(tables.sessions.c[name]).where(tables.sessions.c.id == SESSION)
            return rows[0][0]

        return await self.store.read(tx)


def _session_tx() -> Tx[None]:
    row = {
        "id": SESSION, "agent_id": "agent_1", "agent_version": 1, "environment_id": "env_1", "thread_id": THREAD,
        "status": "idle", "title": None, "metadata": b"{}", "agent": msgspec.json.encode(AGENT),
        "environment": b"{}", "vault_ids": b"[]", "budget": None, "usage": EMPTY_LEDGER, "pending": b"[]",
        "queued": 0, "active_us": 0, "running_since": None, "created_at": 1, "updated_at": 1, "archived_at": None,
        "next_seq": 0, "last_at": 1, "fence": 0, "lease_owner": None, "lease_until": None, "wake_at": None,
        "paused": 0,
        "sandbox": "none",
        "sandbox_at": None,
        "checkpoint_id": None,
        "first_agent": None,
    }  # fmt: skip
    yield insert(tables.sessions), row


def entry(seq: int, event_type: str, position: int | None = None, **fields: Any) -> Entry:
    """An entry as it is stored; without `position` it was consumed in order of receipt."""
    draft = Draft(type=event_type, fields=fields, id=fields.pop("id", None) or new_id("sevt"))
    return Entry(seq, seq if position is None else position, draft.id, THREAD, event_type, draft.private, draft.body())
