"""What people send from a task's page: decisions, files, changed rows, a cancellation.

Each comes from a page of ours and says which gate it saw. What it does is done by `acting`; this only reads forms.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hostler.console import pages, task_rows, views, web
from hostler.console.access import Who
from hostler.console.parts import Parts
from hostler.errors import Conflict, InvalidRequest, RequestTooLarge

MAX_COMMENT = 8000
MAX_FORM = 1024 * 1024
CHUNK = 256 * 1024


class TaskAnswers:
    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._access = parts.access

    def routes(self) -> list[Route]:
        place = "/console/tasks/{task_id}"
        verbs = {
            "decision": self.decide, "rows": self.change_row, "file": self.hand_in, "cancel": self.cancel,
        }  # fmt: skip
        return [Route(f"{place}/{name}", handler, methods=["POST"]) for name, handler in verbs.items()]

    async def decide(self, request: Request) -> Response:
        task_id, who = await self._acting(request)
        given = await web.form(request, MAX_FORM)
        verb, comment = given.get("do"), given.get("comment", "").strip()
        if verb not in ("approve", "reject"):
            raise InvalidRequest("do: Input should be 'approve' or 'reject'")
        if len(comment) > MAX_COMMENT:
            raise InvalidRequest(f"comment: String should have at most {MAX_COMMENT} characters")
        await self._parts.acting.decide(
            task_id,
            "approved" if verb == "approve" else "rejected",
            scope=who.tenant_id,
            comments=comment or None,
            gate=_gate(given),
            by=who.name,
        )
        return _done(request, task_id)

    async def change_row(self, request: Request) -> Response:
        """Edit the cells of a row that were changed, or reject it."""
        task_id, who = await self._acting(request)
        given = await web.form(request, MAX_FORM)
        token = _gate(given)
        row = await self._parts.store.read(lambda: task_rows.read_tx(task_id))
        gate = views.read(row.row, row.gates).gate
        if gate is None or gate.token != token:
            raise Conflict("This gate is not open any more: look at the task again.")
        table, found = views.find_row(gate, given.get("table", ""), given.get("row", ""), given.get("seen", ""))
        if given.get("do") == "reject":
            actions: list[dict[str, Any]] = [{"action": "reject_row", "row_id": found.id}]
        else:
            actions = views.edits(table, found, given)
        for action in actions:
            await self._parts.acting.row_action(task_id, action, scope=who.tenant_id, gate=token)
        return _done(request, task_id)

    async def hand_in(self, request: Request) -> Response:
        task_id, who = await self._acting(request)
        most = self._parts.uploads.max_bytes
        length = request.headers.get("content-length", "0")
        too_large = RequestTooLarge(f"The file exceeds the limit of {most} bytes.")
        if length.isdigit() and int(length) > most + MAX_FORM:
            raise too_large
        if request.headers.get("content-type", "").partition(";")[0] != "multipart/form-data":
            raise InvalidRequest("Content-Type: multipart/form-data is expected")
        bounded = Request(request.scope, web.limited(request.receive, most + MAX_FORM))
        try:
            await bounded.form(max_files=1, max_fields=10, max_part_size=MAX_FORM)
        except MultiPartException as error:
            raise InvalidRequest(f"multipart: {error.message}") from error
        async with bounded.form(max_files=1, max_fields=10, max_part_size=MAX_FORM) as form:
            file = form.get("file")
            given = {name: value for name, value in form.items() if isinstance(value, str)}
            if not isinstance(file, UploadFile) or not file.filename:
                raise InvalidRequest("file: choose a file")
            await self._parts.uploads.hand_in(
                task_id,
                _chunks(file),
                filename=_name(file.filename),
                content_type=file.content_type or "application/octet-stream",
                scope=who.tenant_id,
                source=given.get("source") or None,
                gate=given.get("gate") or None,
            )
        return _done(request, task_id)

    async def cancel(self, request: Request) -> Response:
        task_id, who = await self._acting(request)
        await self._parts.acting.cancel(task_id, scope=who.tenant_id)
        return _done(request, task_id)

    async def _acting(self, request: Request) -> tuple[str, Who]:
        """The task, and who acts on it: somebody who may, from a page of ours."""
        web.check_origin(request, self._access)
        task_id = web.parameter(request, "task_id")

        async def may(who: Who) -> None:
            await self._access.task(who, task_id)

        return task_id, (await web.allowed(request, self._access, may, acts=True))[0]


def _gate(given: dict[str, str]) -> str:
    if not (token := given.get("gate")):
        raise InvalidRequest("gate: Field required")
    return token


def _done(request: Request, task_id: str) -> Response:
    """Back to the page, or a short word for the page's script."""
    if not web.wants_page(request):
        return JSONResponse({"ok": True})
    return RedirectResponse(f"/console/tasks/{pages.segment(task_id)}", 303)


def _name(filename: str) -> str:
    """The last part of a path that some browsers send, without what no name has."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in name if each.isprintable())[:255] or "unnamed"


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK):
        yield chunk
