"""A server with pages, and tasks whose runbook is a test: it sets what the task shows, and sees what people sent."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx2
import msgspec
from sqlalchemy import insert, update
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler import clock
from hostler.api.app import create_app
from hostler.console.access import Access
from hostler.console.app import create_console
from hostler.console.parts import Parts, Upload
from hostler.errors import NotFound
from hostler.front import Front
from hostler.runbooks import tasks
from hostler.runbooks.entries import Draft
from hostler.runbooks.invoking import rows
from hostler.runbooks.invoking.rows import Reply
from hostler.runbooks.journal import append_tx
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import registered_agents, tenants
from hostler.store.tables import tasks as task_table
from serving import KEY, Server

TENANT, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
AGENT = "33333333-3333-4333-8333-333333333333"


class Document(NamedTuple):
    id: str
    source: str
    filename: str
    content_type: str
    body: bytes
    task_id: str | None
    uploaded_at: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    @property
    def size(self) -> int:
        return len(self.body)


class Plane:
    def __init__(self) -> None:
        self.kept: dict[str, list[Document]] = {}
        self.trouble: Exception | None = None

    async def documents(self, tenant: str, *, task_id: str | None) -> Sequence[Document]:
        if self.trouble is not None:
            raise self.trouble
        return [each for each in self.kept.get(tenant, []) if each.task_id == task_id]

    async def document(self, tenant: str, document_id: str) -> Document:
        for each in self.kept.get(tenant, []):
            if each.id == document_id:
                return each
        raise NotFound(f"There is no document {document_id}.")

    async def content(self, tenant: str, document_id: str) -> AsyncGenerator[bytes, None]:
        yield (await self.document(tenant, document_id)).body


class People:
    """What people did, as it reached the journal; `then` is the runbook's answer to it."""

    def __init__(self, store: Store, plane: Plane) -> None:
        self._store = store
        self._plane = plane
        self.done: list[tuple[str, Any]] = []
        self.then: Callable[[str, Any], None] = lambda task_id, what: None

    async def decide(self, task_id: str, decision: str, *, comments: str | None, gate: str | None) -> None:
        await self._say(task_id, {"type": decision, "comments": comments}, gate)

    async def row_action(self, task_id: str, action: dict[str, Any], *, gate: str | None) -> None:
        await self._say(task_id, {"kind": "row_action", "payload": action}, gate)

    async def cancel(self, task_id: str) -> None:
        await self._store.write(lambda: tasks.cancel_tx(task_id))

    async def hand_in(self, task_id: str, upload: Upload, *, gate: str | None) -> None:
        body = b"".join([chunk async for chunk in upload.chunks])
        document = Document(str(uuid.uuid4()), "upload", upload.filename, upload.content_type, body, task_id)
        self._plane.kept.setdefault("acme", []).append(document)
        await self._say(task_id, {"document_ref": document.id, "filename": upload.filename}, gate)

    async def reply(self, task_id: str, key: str, reply: Reply) -> None:
        await self._store.write(lambda: rows.reply_tx(task_id, key, reply))
        self.done.append((task_id, reply))

    async def _say(self, task_id: str, what: dict[str, Any], gate: str | None) -> None:
        await self._store.write(lambda: tasks.signal_tx(task_id, "user_action", what))
        self.done.append((task_id, what))
        self.then(task_id, what)


class Console(Server):
    """The server of the API's tests, with pages."""

    def app(self, store: Store) -> ASGIApp:
        self.store = store
        self.plane = Plane()
        self.people = People(store, self.plane)
        self.access = Access(store, self.services.keys, self.vault.sealer)
        services = self.services
        parts = Parts(
            store=store, log=self.log, sessions=services.sessions, events=services.events, threads=services.threads,
            files=services.files, access=self.access, acting=self.people, filing=self.people, answering=self.people,
            documents=self.plane, max_upload=5_000_000,
        )  # fmt: skip
        api = create_app(self.services)
        return _http_only(Front(api=api, workspace=api, mcp=api, console=create_console(parts)))

    # -- what there is --

    def tenant_key(self, tenant_id: str = TENANT) -> str:
        """An API key of a tenant."""
        from hostler.store.tables import api_keys

        async def make() -> str:
            key, secret = await self.services.keys.create("of a tenant")
            change = update(api_keys).where(api_keys.c.id == key.id).values(tenant_id=tenant_id)
            await self._write(change)
            return secret

        return self.call(make())

    async def _write(self, *requests: Any) -> None:
        def tx() -> Tx[None]:
            for request in requests:
                yield request

        await self.store.write(tx)

    def populate(self) -> None:
        """Two tenants, and an agent of the first."""
        now = clock.now()
        both = [
            (insert(tenants), {"id": id_, "slug": slug, "name": slug.title(), "status": "ACTIVE", "body": b"{}",
                               "created_at": now, "updated_at": now})
            for id_, slug in ((TENANT, "acme"), (OTHER, "other"))
        ]  # fmt: skip
        agent = {
            "id": AGENT, "tenant_id": TENANT, "name": "audit-handover", "kind": "claude_managed", "external_ref": "x",
            "key_hash": "h", "key_hint": "hint", "body": b"{}", "secret": None, "created_at": now, "updated_at": now,
        }  # fmt: skip
        self.call(self._write(*both, (insert(registered_agents), agent)))

    def task(
        self, view: dict[str, Any] | None = None, *, tenant: str = TENANT, task_id: str | None = None, **more: Any
    ) -> str:
        task_id = task_id or str(uuid.uuid4())
        made = {
            "tenant_id": tenant, "workflow_id": "w", "runbook": "nav-monthly-pack", "version": "1.2.0", "digest": "d",
            "title": "NAV pack, Byng Street", "context": {"period": "2026-10"}, **more,
        }  # fmt: skip
        self.call(self.store.write(lambda: tasks.create_tx(task_id, **made)))
        if view is not None:
            self.shows(task_id, view)
        return task_id

    def shows(self, task_id: str, view: dict[str, Any]) -> None:
        """As a worker says it after each step of its runbook."""
        self.call(self.ashows(task_id, view))

    async def ashows(self, task_id: str, view: dict[str, Any]) -> None:
        patch = {"view": msgspec.json.encode(view), "status": tasks.status_of(view, asks=False)}
        draft = Draft(kind="waited", key=uuid.uuid4().hex)
        await self.store.write(lambda: append_tx(task_id, [draft], now=clock.now(), patch=patch))

    def ends(self, task_id: str, **body: Any) -> None:
        draft = Draft(kind="ended", body=body)
        now = clock.now()
        self.call(self.store.write(lambda: append_tx(task_id, [draft], now=now, patch=tasks.ending(draft, now))))

    def agent_run(self, task_id: str, session_id: str, *, base_url: str | None = None) -> rows.AgentRun:
        def tx() -> Tx[rows.AgentRun]:
            run, _ = yield from rows.begin_tx(task_id, f"agent:{session_id}", AGENT, base_url)
            yield from rows.session_tx(run, session_id)
            return run

        return self.call(self.store.write(tx))

    def asks(self, run: rows.AgentRun, *questions: rows.Question) -> None:
        self.call(self.store.write(lambda: rows.ask_tx(run, list(questions))))

    def tells(self, run: rows.AgentRun, session_id: str, *said: tuple[str, str]) -> None:
        told = [rows.Told(uuid.uuid4().hex, clock.now(), kind, text) for kind, text in said]
        self.call(self.store.write(lambda: rows.tell_tx(run, session_id, told)))

    # -- who looks --

    def browser(self, key: str | None = KEY) -> httpx2.Client:
        """A client as a browser is one: cookies, and headers that say where a request is from."""
        headers = {"accept": "text/html", "sec-fetch-site": "same-origin"}
        client = httpx2.Client(base_url=self.url, headers=headers, timeout=10)
        if key is not None:
            answer = client.post("/console/sign-in", data={"key": key, "next": ""})
            assert answer.status_code == 303, answer.text
        return client


def _http_only(app: Front) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)

    return serve


def server(folder: Path, database_url: str | None = None) -> Console:
    made = Console(folder, database_url)
    made.start()
    made.populate()
    return made
