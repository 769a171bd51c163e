"""A real server for a test: uvicorn in a thread, a store, no harness (tests append its events), and how to read it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import uvicorn
from starlette.types import ASGIApp

from hostler import clock, serving
from hostler.api.app import Services, create_app
from hostler.git.hosts import Hosts
from hostler.harness.deps import HarnessConfig
from hostler.harness.life import Life
from hostler.harness.workqueue import WorkHints
from hostler.log.entries import Draft
from hostler.log.hub import Hub
from hostler.log.log import Log
from hostler.models.catalogue import BUILTIN
from hostler.sandbox.unusable import UnusableBackend
from hostler.services.agents import Agents
from hostler.services.callers import Callers
from hostler.services.checkpoints import Checkpoints
from hostler.services.credentials import Credentials
from hostler.services.environment_keys import EnvironmentKeys
from hostler.services.environments import Environments
from hostler.services.events import Events
from hostler.services.exports import Exports
from hostler.services.files import Files
from hostler.services.forks import Forks
from hostler.services.imports import Imports
from hostler.services.keys import Keys
from hostler.services.models import Models
from hostler.services.repositories import Repositories
from hostler.services.resources import Resources
from hostler.services.sessions import Hooks, Sessions
from hostler.services.skills import Skills
from hostler.services.threads import Threads
from hostler.services.validation import Validation
from hostler.services.vaults import Vaults
from hostler.services.work import WorkConfig, WorkQueue
from hostler.store.blobs import Blobs
from hostler.store.postgres import PostgresStore
from hostler.store.sqlite import SqliteStore
from hostler.store.store import Store
from hostler.vault.room import Vault
from hostler.vault.sealing import Key, Sealer

T = TypeVar("T")
KEY = "sk-test-key"
HEADERS = {
    "authorization": f"Bearer {KEY}",
    "anthropic-version": "2026-10-21",
    "anthropic-beta": "managed-agents-2026-04-01",
}


class _Listening(serving.Server):
    """The product's, without uvicorn's pause of a tenth of a second for connections: most tests leave none open."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await asyncio.sleep(0)  # a transport tells of its end in the loop's next round
        await self._wait_tasks_to_complete()


class Server:
    """The server under test, and the inside of it for what a harness would do."""

    def __init__(self, folder: Path, database_url: str | None = None) -> None:
        self._folder = folder
        self._database_url = database_url
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)
        self.woken: list[str] = []
        self.ended: list[str] = []
        self.changed: list[str] = []
        self.failure: BaseException | None = None

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(10)
        if self.failure is not None:
            raise self.failure

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self._uvicorn.stop)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    def append(self, session_id: str, *drafts: Draft, **patch: Any) -> list[str]:
        """Append events as the harness would; returns their ids."""
        thread_id = self.client.get(f"/v1/sessions/{session_id}/threads").json()["data"][0]["id"]
        work = self.log.append(session_id, thread_id, drafts, patch=patch or None)
        return [entry.id for entry in self.call(work).entries]

    async def _main(self) -> None:
        try:
            await self._serve()
        except BaseException as error:
            self.failure = error
            self._ready.set()
            raise

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        store: Store
        if self._database_url is None:
            store = await SqliteStore.open(self._folder / "hostler.db", now=clock.now())
        else:
            store = await PostgresStore.open(self._database_url, now=clock.now())
        blobs = Blobs(self._folder / "files")
        blobs.open()
        self.blobs = blobs
        self.log = Log(store, Hub())
        self.vault = Vault(store, Sealer([Key.new()]))
        self.services = self._services(store, blobs)
        await self.services.keys.create("test", KEY)
        config = uvicorn.Config(self.app(store), port=0, log_level="warning", lifespan="off")
        listener = config.bind_socket()
        # Inherited by accepted connections: asyncio sets it only on sockets that name their protocol.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.listen(64)
        self.host, self.port = listener.getsockname()
        self.url = f"http://{self.host}:{self.port}"
        self._uvicorn = _Listening(config)
        self.client = httpx2.Client(base_url=self.url, headers=HEADERS, timeout=10)
        self._ready.set()
        try:
            await self._uvicorn.serve(sockets=[listener])
        finally:
            self.client.close()
            listener.close()
            await self.vault.aclose()
            await store.close()

    def app(self, store: Store) -> ASGIApp:
        """What is served."""
        return create_app(self.services)

    def _services(self, store: Store, blobs: Blobs) -> Services:
        work = WorkQueue(self.log, WorkHints(), WorkConfig())
        hooks = Hooks(wake=self.woken.append, ended=self.ended.append, work=work.hints)
        events = Events(self.log, blobs, BUILTIN, hooks.wake, hooks.work)
        keys = Keys(store)
        hosts = Hosts(["github.com", "git.example.com:8443", "http://127.0.0.1:3000"])
        repositories = Repositories(hosts, Sealer([Key.new()]))
        sandboxes = UnusableBackend("There is no harness here.", "none")
        life = Life(self.log, sandboxes, self._folder / "snapshots", HarnessConfig())
        exports = Exports(store, blobs, life, self._folder / "exports")
        exports.open()
        return Services(
            keys=keys,
            agents=Agents(store, BUILTIN),
            environments=Environments(store),
            sessions=Sessions(self.log, blobs, BUILTIN, hooks, repositories),
            events=events,
            threads=Threads(self.log, hooks.wake),
            resources=Resources(store, self.changed.append, repositories),
            files=Files(store, blobs),
            models=Models(BUILTIN),
            skills=Skills(store, blobs),
            vaults=Vaults(store),
            credentials=Credentials(store, self.vault.sealer),
            validation=Validation(store, self.vault.sealer, self.vault.outward, self.vault.renewer),
            checkpoints=Checkpoints(store, life),
            forks=Forks(store, life, self.vault.sealer),
            exports=exports,
            imports=Imports(store, blobs, life, self._folder / "exports", 100_000_000),
            callers=Callers(store, keys),
            work=work,
            environment_keys=EnvironmentKeys(store),
        )


def ok(response: httpx2.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def refused(response: httpx2.Response, status: int = 400) -> str:
    """Check the whole envelope and return the message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["type"] == "error"
    assert body["request_id"] == response.headers["request-id"]
    message: str = body["error"]["message"]
    return message
