"""The way in: what there is to look at. It must not show what its viewer may not open."""

from __future__ import annotations

from sqlalchemy import bindparam, select
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hostler.console import web
from hostler.console.access import Who
from hostler.console.parts import Parts
from hostler.services.reading import rows
from hostler.services.session_rows import Filter
from hostler.store.sql import Row
from hostler.store.tables import tasks
from hostler.wire.sessions import Session

SHOWN = 30
_c = tasks.c
_TASKS = (
    select(_c.id, _c.title, _c.runbook, _c.status, _c.created_at)
    .where(_c.parent_id.is_(None))
    .order_by(_c.created_at.desc(), _c.id)
    .limit(SHOWN)
)
_OF_TENANT = _TASKS.where(_c.tenant_id == bindparam("t"))


class Home:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        return [Route("/console", self.show), Route("/console/", self.show)]

    async def show(self, request: Request) -> Response:
        known = await web.lookers(request, self._parts.access)
        who = next((each for each in known if each.place is None), None)
        places = [each.place for each in known if each.place is not None]
        return web.page(
            "home.html",
            tasks=await self._tasks(who) if who else [],
            sessions=await self._sessions(who) if who else [],
            places=places,
            tenant=who.tenant_id if who else None,
            signed_in=who is not None,
        )

    async def _tasks(self, who: Who) -> list[Row]:
        if who.tenant_id is None:
            return await self._parts.store.read(lambda: rows(_TASKS))
        return await self._parts.store.read(lambda: rows(_OF_TENANT, {"t": who.tenant_id}))

    async def _sessions(self, who: Who) -> list[Session]:
        """A tenant's sessions are found from its tasks."""
        if who.tenant_id is not None:
            return []
        cut = await self._parts.sessions.list(Filter(archived=True), order="desc", limit=SHOWN, page=None)
        return cut.rows
