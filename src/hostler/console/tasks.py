"""The task page: where a task stands, what it waits for, what came of it. What people do goes through `acting`.

The page is made of sections; while it is open it is sent those that have changed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from hostler.console import downloads, pages, signing, task_rows, web
from hostler.console.access import Access, Who
from hostler.console.live import Frames, stream
from hostler.console.parts import Parts
from hostler.console.task_rows import TaskPage
from hostler.errors import NotFound
from hostler.runbooks.invoking.rows import Line, lines_tx

POLL_SECONDS = 0.7
DOCUMENTS_SECONDS = 5.0
ALIVE_SECONDS = 10.0
LINES = 1000
SECTIONS = ("head", "ladder", "gate", "questions", "end", "children", "snapshots", "runs", "documents")


class Rendered(NamedTuple):
    sections: dict[str, str]
    digests: dict[str, str]
    holds: dict[str, str]


class TaskPages:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._access: Access = parts.access

    def routes(self) -> list[Route]:
        place = "/console/tasks/{task_id}"
        return [
            Route(place, self.show),
            Route(f"{place}/stream", self.live),
            Route(place + "/documents/{document_id}", self.document),
        ]

    async def show(self, request: Request) -> Response:
        task_id = web.parameter(request, "task_id")
        root = task_id.partition(":")[0]
        for place in dict.fromkeys((("tasks", task_id), ("tasks", root))):
            if (answer := await signing.redeemed(request, self._access, place)) is not None:
                return answer
        who = await self._may(request, task_id)
        read = task_rows.Reader(self._parts, task_id)
        page = await read.page(who, editing=request.query_params.get("edit"))
        lines = await self._lines(task_id, 0)
        made = rendered(page)
        return web.page(
            "task.html", t=page, lines=lines, after=lines[-1].position if lines else 0, **made._asdict(),
            live=page.row.closed_at is None or len(lines) == LINES,
        )  # fmt: skip

    async def document(self, request: Request) -> Response:
        task_id, document_id = web.parameter(request, "task_id"), web.parameter(request, "document_id")
        who = await self._may(request, task_id)
        tenant = await task_rows.Reader(self._parts, task_id).tenant(who)
        found = await self._parts.data.document(tenant, document_id)
        if found.task_id is None or found.task_id.partition(":")[0] != task_id.partition(":")[0]:
            raise NotFound(f"There is no document {document_id} of this task.")
        chunks = self._parts.data.content(tenant, document_id)
        headers = {**downloads.headers(found.filename), "content-length": str(found.size)}
        return StreamingResponse(chunks, media_type=downloads.TYPE, headers=headers)

    async def live(self, request: Request) -> Response:
        task_id = web.parameter(request, "task_id")
        who = await self._may(request, task_id)
        return stream(self._frames(who, task_id, web.last_seen(request)))

    async def _frames(self, who: Who, task_id: str, place: int) -> AsyncIterator[bytes]:
        yield Frames.begin()
        read = task_rows.Reader(self._parts, task_id)
        told: Mapping[str, str] = {}
        last = asyncio.get_running_loop().time()
        while True:
            try:
                if not await self._access.holds(who):
                    raise NotFound
                page = await read.changed(who, documents_every=DOCUMENTS_SECONDS)
            except NotFound:
                yield Frames.gone()
                return
            lines = await self._lines(task_id, place)
            if page is not None:
                made = rendered(page)
                new = {name: html for name, html in made.sections.items() if told.get(name) != made.digests[name]}
                told = made.digests
                if new:
                    yield Frames.sections(new, made.holds, {name: told[name] for name in new})
            if lines:
                place = lines[-1].position
                yield Frames.lines(place, pages.part("_task.html", "lines", lines, read.agents))
            if page is not None and page.row.closed_at is not None and not lines:
                yield Frames.end()
                return
            now = asyncio.get_running_loop().time()
            if now - last > ALIVE_SECONDS:
                yield Frames.alive()
                last = now
            await asyncio.sleep(POLL_SECONDS)

    async def _lines(self, task_id: str, after: int) -> list[Line]:
        return await self._parts.store.read(lambda: lines_tx(task_id, after, LINES))

    async def _may(self, request: Request, task_id: str) -> Who:
        async def may(who: Who) -> None:
            await self._access.task(who, task_id)

        return (await web.allowed(request, self._access, may))[0]


def rendered(page: TaskPage) -> Rendered:
    sections = {name: pages.part("_task.html", name, page) for name in SECTIONS}
    digests = {name: hashlib.sha256(html.encode()).hexdigest()[:12] for name, html in sections.items()}
    return Rendered(sections, digests, {"gate": page.view.gate.token if page.view.gate else ""})
