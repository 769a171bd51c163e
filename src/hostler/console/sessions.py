"""The session page: a timeline of one session, or of one of its threads. Read-only.

What it shows live is what the public stream gives, in the same order, from the event on that the page ended with.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import bindparam, select
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from hostler.console import downloads, pages, signing, timeline, web
from hostler.console.access import Who
from hostler.console.live import Frames, stream
from hostler.console.parts import Parts
from hostler.errors import NotFound
from hostler.log.entries import COLUMNS, NOTE, Entry
from hostler.log.log import Page
from hostler.services.reading import first
from hostler.store.tables import entries
from hostler.wire.files import File

SHOWN = 300
CATCH_UP = 200
CHECK_SECONDS = 3.0
MAX_FILES = 500
PREVIEWS = frozenset({"agent.message", "agent.thinking"})
# What may have changed the head of the page, its files or its threads.
_HEADS = ("session.status_", "session.updated", "span.model_request_end", "session.thread_")
_ENDS = ("session.deleted", "session.status_terminated")
_ONE = select(*COLUMNS).where(
    entries.c.session_id == bindparam("s"), entries.c.id == bindparam("e"), entries.c.private != NOTE
)


class SessionPages:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._access = parts.access

    def routes(self) -> list[Route]:
        place = "/console/sessions/{session_id}"
        return [
            Route(place, self.show),
            Route(f"{place}/stream", self.live),
            Route(place + "/events/{event_id}", self.event),
            Route(place + "/files/{file_id}", self.file),
        ]

    async def show(self, request: Request) -> Response:
        session_id = web.parameter(request, "session_id")
        if (answer := await signing.redeemed(request, self._access, ("sessions", session_id))) is not None:
            return answer
        who = await self._may(request, session_id)
        thread_id, before = request.query_params.get("thread"), web.number(request, "before")
        head = await self._head(session_id, thread_id)
        found = await self._parts.log.page(
            Page(session_id=session_id, thread_id=thread_id, limit=SHOWN + 1, descending=True, after=before)
        )
        shown = found[:SHOWN][::-1]
        rows = timeline.fold(shown)
        return web.page(
            "session.html",
            **head,
            who=who,
            rows=[made for made in rows if made.at is not None],
            queued=[made for made in rows if made.at is None],
            after=max((entry.position for entry in shown if not entry.queued), default=0),
            earlier=shown[0].position if len(found) > SHOWN else None,
            newest=before is None,
        )

    async def event(self, request: Request) -> Response:
        """One event with nothing left out."""
        session_id = web.parameter(request, "session_id")
        await self._may(request, session_id)
        entry = await self._entry(session_id, web.parameter(request, "event_id"))
        if entry is None:
            raise NotFound("This event was not found.")
        made = timeline.row(entry, full=True)
        return web.page("event.html", session_id=session_id, row=made, thread_id=None)

    async def file(self, request: Request) -> Response:
        session_id, file_id = web.parameter(request, "session_id"), web.parameter(request, "file_id")
        await self._may(request, session_id)
        known = await self._parts.files.retrieve(file_id)
        if not isinstance(known, File) or getattr(known.scope, "id", None) != session_id:
            raise NotFound(f"File {file_id} was not found.")
        found = await self._parts.files.download(file_id)
        return FileResponse(found.path, media_type=downloads.TYPE, headers=downloads.headers(found.filename))

    async def live(self, request: Request) -> Response:
        session_id = web.parameter(request, "session_id")
        who = await self._may(request, session_id)
        thread_id = request.query_params.get("thread")
        after = web.last_seen(request)
        followed = await self._parts.events.follow(session_id, previews=PREVIEWS, thread_id=thread_id)
        frames = Live(self._parts, session_id, thread_id, after)

        async def run() -> AsyncIterator[bytes]:
            async with followed.tail as tail:
                async for frame in frames.caught_up():
                    yield frame
                if followed.over:
                    yield Frames.end()
                    return
                async for batch in tail.batches(CHECK_SECONDS):
                    if not await self._access.holds(who):
                        yield Frames.gone()
                        return
                    async for frame in frames.of(batch):
                        yield frame
                    if any(isinstance(item, Entry) and item.type in _ENDS for item in batch):
                        break
                yield Frames.end()

        return stream(run())

    async def _may(self, request: Request, session_id: str) -> Who:
        async def may(who: Who) -> None:
            await self._access.session(who, session_id)

        return (await web.allowed(request, self._access, may))[0]

    async def _entry(self, session_id: str, event_id: str) -> Entry | None:
        found = await self._parts.store.read(lambda: first(_ONE, {"s": session_id, "e": event_id}))
        return Entry(*found) if found else None

    async def _head(self, session_id: str, thread_id: str | None) -> dict[str, Any]:
        return await head(self._parts, session_id, thread_id)


async def head(parts: Parts, session_id: str, thread_id: str | None) -> dict[str, Any]:
    """What stands around the timeline. Raises NotFound."""
    session = await parts.sessions.retrieve(session_id)
    threads = (await parts.threads.list(session_id, (), limit=200, page=None)).data
    thread = next((each for each in threads if each.id == thread_id), None)
    if thread_id is not None and thread is None:
        raise NotFound(f"Session thread {thread_id} was not found.")
    files = await parts.files.list(limit=MAX_FILES, page=None, scope_id=session_id, after=None, before=None)
    return {
        "session": session, "thread": thread, "thread_id": thread_id, "threads": threads, "files": files.rows[::-1],
        "session_id": session_id,
    }  # fmt: skip


class Live:
    """What one page is sent: it knows where that page is."""

    def __init__(self, parts: Parts, session_id: str, thread_id: str | None, after: int) -> None:
        self._parts = parts
        self._session_id = session_id
        self._thread_id = thread_id
        self._after = after
        self._starts: dict[str, int] = {}  # when the last rows began that another event may complete

    async def caught_up(self) -> AsyncIterator[bytes]:
        """What came since the page was made, from the log."""
        yield Frames.begin()
        place = self._after
        while True:
            found = await self._parts.log.page(
                Page(session_id=self._session_id, thread_id=self._thread_id, limit=CATCH_UP, after=place)
            )
            async for frame in self.of(found):
                yield frame
            if len(found) < CATCH_UP:
                return
            place = found[-1].position

    async def of(self, batch: list[Entry] | list[Entry | bytes]) -> AsyncIterator[bytes]:
        changed = False
        for item in batch:
            if isinstance(item, bytes):
                yield Frames.preview(item)
                continue
            if not item.queued and item.position <= self._after:
                continue  # the log had it already
            yield await self._row(item)
            changed = changed or item.type.startswith(_HEADS)
        if changed:
            yield await self._changed_head()
        if not batch:
            yield Frames.alive()

    async def _row(self, entry: Entry) -> bytes:
        made = timeline.row(entry)
        if not entry.queued:
            self._after = entry.position
            if made.shape in ("tool", "request"):
                self._starts[made.id] = entry.position
        if made.into is not None:
            made.since = await self._since(made.into)
        html = pages.part("_rows.html", "any_row", made, self._session_id, self._thread_id)
        return Frames.row(self._after, made.id, made.into, html, queued=entry.queued)

    async def _since(self, event_id: str) -> int | None:
        """When the row began that is now completed."""
        if len(self._starts) > CATCH_UP:
            self._starts.clear()
        if (known := self._starts.pop(event_id, None)) is not None:
            return known
        found = await self._parts.store.read(lambda: first(_ONE, {"s": self._session_id, "e": event_id}))
        return found[1] if found else None

    async def _changed_head(self) -> bytes:
        try:
            values = await head(self._parts, self._session_id, self._thread_id)
        except NotFound:  # it is deleted: the stream says so next
            return Frames.alive()
        return Frames.sections(
            {
                "head": pages.part("_session.html", "head", values["session"], values["thread"]),
                "threads": pages.part("_session.html", "threads", self._session_id, values["threads"], self._thread_id),
                "files": pages.part("_session.html", "files", self._session_id, values["files"]),
            }
        )
