"""A server with pages, and tasks whose runbook is a test: it sets what the task shows, and sees what people sent."""

from __future__ import annotations

import contextlib
import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from sqlalchemy import insert
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler import clock
from hostler.api.app import create_app
from hostler.console.access import Access
from hostler.console.app import create_console
from hostler.console.parts import Parts
from hostler.front import Front
from hostler.log.entries import Consume
from hostler.runbooks import gates, tasks
from hostler.runbooks.acting import Acting
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.records import Document
from hostler.runbooks.entries import Draft
from hostler.runbooks.invoking import rows
from hostler.runbooks.invoking.directory import Registered
from hostler.runbooks.invoking.rows import Reply
from hostler.runbooks.journal import append_tx
from hostler.runbooks.uploads import Uploads
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import registered_agents, tenants
from serving import KEY, Server, ok
from tenantdata import QUICK

TENANT, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
AGENT = "33333333-3333-4333-8333-333333333333"


class Console(Server):
    """The server of the API's tests, with pages."""

    def app(self, store: Store) -> ASGIApp:
        self.store = store
        self.data = DataPlane(self._folder / "data", QUICK, None)
        self.then: Callable[[str], Any] = lambda task_id: None  # the runbook's answer to what people did
        self.replies: list[tuple[str, str, Reply]] = []
        self.access = Access(store, self.services.keys, self.vault.sealer)
        acting = Acting(store, lambda task_id: self.then(task_id), self._reply)
        directory = Registered(store, self.vault.sealer)
        uploads = Uploads(acting, self.data, directory.place, folder=self._folder / "incoming", max_bytes=5_000_000)
        services = self.services
        parts = Parts(
            store=store, log=self.log, sessions=services.sessions, events=services.events, threads=services.threads,
            files=services.files, access=self.access, acting=acting, uploads=uploads, data=self.data,
        )  # fmt: skip
        api = create_app(self.services)
        front = Front(api=api, workspace=api, mcp=api, console=create_console(parts))

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await front(scope, receive, send)

        return serve

    async def _reply(self, task_id: str, key: str, reply: Reply) -> None:
        await self.store.write(lambda: rows.reply_tx(task_id, key, reply))
        self.replies.append((task_id, key, reply))

    def stop(self) -> None:
        self.call(self.data.aclose())
        super().stop()

    # -- what there is --

    def tenant_key(self, tenant: str = "acme") -> str:
        """An API key of a tenant."""
        return self.call(self.services.keys.create("of a tenant", tenant=tenant))[1]

    def said(self, task_id: str) -> list[dict[str, Any]]:
        """What people sent to a task, as its journal has it."""
        return [sent.action for sent in self.call(self.store.read(lambda: gates.signals_tx(task_id, 0)))]

    def document(self, task_id: str | None, filename: str, body: bytes, *, source: str, tenant: str = "acme") -> str:
        file = self._folder / "document"
        file.write_bytes(body)
        document = Document(
            id=str(uuid.uuid4()), entity_slug="byng", source=source, filename=filename, content_type="text/html",
            size=len(body), sha256=hashlib.sha256(body).hexdigest(), task_id=task_id,
        )  # fmt: skip
        self.call(self.data.insert_document(tenant, document, file))
        return document.id

    async def _write(self, *requests: Any) -> None:
        def tx() -> Tx[None]:
            for request in requests:  # noqa: UP028 (a list can't be sent the rows)
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

    def session(self, **more: Any) -> str:
        agent = ok(self.client.post("/v1/agents", json={"name": "audit-handover", "model": "claude-opus-5-5", **more}))
        environment = ok(self.client.post("/v1/environments", json={"name": "e"}))
        body = {"agent": agent["id"], "environment_id": environment["id"], "title": "Handover, Byng Street"}
        return str(ok(self.client.post("/v1/sessions", json=body))["id"])

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
        """What a worker says when its runbook has gone on: a wait of it is over."""
        self._patch(task_id, view, [Draft(kind="waited", key=uuid.uuid4().hex)])

    def updates(self, task_id: str, view: dict[str, Any]) -> None:
        """The same gate shows something else."""
        self._patch(task_id, view, [])

    def _patch(self, task_id: str, view: dict[str, Any], drafts: list[Draft]) -> None:
        patch = {"view": msgspec.json.encode(view), "status": tasks.status_of(view, asks=False)}
        self.call(self.store.write(lambda: append_tx(task_id, drafts, now=clock.now(), patch=patch)))

    def consume(self, session_id: str, event_id: str) -> None:
        """As the harness takes up a message that waits."""
        entries = self.call(self.log.read(session_id))
        (waiting,) = [entry for entry in entries if entry.id == event_id]
        self.call(self.log.append(session_id, waiting.thread_id, [Consume(waiting)]))

    def ends(self, task_id: str, **body: Any) -> None:
        draft = Draft(kind="ended", body=body)
        now = clock.now()
        self.call(self.store.write(lambda: append_tx(task_id, [draft], now=now, patch=tasks.ending(draft, now))))

    def agent_run(self, task_id: str, session_id: str, *, base_url: str | None = None) -> rows.AgentRun:
        def tx() -> Tx[rows.AgentRun]:
            run, _ = yield from rows.begin_tx(task_id, f"agent:{session_id}", AGENT, base_url, {})
            yield from rows.session_tx(run, session_id)
            return run

        return self.call(self.store.write(tx))

    def asks(self, run: rows.AgentRun, *questions: rows.Question) -> None:
        def tx() -> Tx[None]:
            yield from rows.ask_tx(run, list(questions))
            yield from tasks.asking_tx(run.task_id, bool(questions))

        self.call(self.store.write(tx))

    def tells(self, run: rows.AgentRun, session_id: str, *said: tuple[str, str]) -> None:
        told = [rows.Told(uuid.uuid4().hex, clock.now(), kind, text) for kind, text in said]
        self.call(self.store.write(lambda: rows.tell_tx(run, session_id, told)))

    # -- who looks --

    @contextlib.contextmanager
    def browser(self, key: str | None = KEY) -> Iterator[httpx2.Client]:
        """A client as a browser is one: cookies, and headers that say where a request is from."""
        headers = {"accept": "text/html", "sec-fetch-site": "same-origin"}
        with httpx2.Client(base_url=self.url, headers=headers, timeout=10) as client:
            if key is not None:
                answer = client.post("/console/sign-in", data={"key": key, "next": ""})
                assert answer.status_code == 303, answer.text
            yield client


def server(folder: Path, database_url: str | None = None) -> Console:
    made = Console(folder, database_url)
    made.start()
    made.populate()
    return made
