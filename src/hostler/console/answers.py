"""What people send from a task's page: decisions, files, changed rows, answers to agents, a cancellation.

Each comes from a page of ours and says which gate it saw. What it does is done by `acting`; this only reads forms.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from hostler.console import pages, signing, task_rows, views, web
from hostler.console.access import Who
from hostler.console.parts import Parts, Upload
from hostler.errors import Conflict, InvalidRequest, RequestTooLarge
from hostler.runbooks.invoking.rows import Reply

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
            "decision": self.decide, "rows": self.change_row, "file": self.hand_in, "reply": self.reply,
            "cancel": self.cancel,
        }  # fmt: skip
        return [Route(f"{place}/{name}", handler, methods=["POST"]) for name, handler in verbs.items()]

    async def decide(self, request: Request) -> Response:
        task_id = await self._acting(request)
        given = await web.form(request, MAX_FORM)
        verb, comment = given.get("do"), given.get("comment", "").strip()
        if verb not in ("approve", "reject"):
            raise InvalidRequest("do: Input should be 'approve' or 'reject'")
        if len(comment) > MAX_COMMENT:
            raise InvalidRequest(f"comment: String should have at most {MAX_COMMENT} characters")
        await self._parts.acting.decide(
            task_id, "approved" if verb == "approve" else "rejected", comments=comment or None, gate=_gate(given)
        )
        return _done(request, task_id, given)

    async def change_row(self, request: Request) -> Response:
        """Edit the cells of a row that were changed, or reject it."""
        task_id = await self._acting(request)
        given = await web.form(request, MAX_FORM)
        token = _gate(given)
        row = await self._parts.store.read(lambda: task_rows.read_tx(task_id))
        gate = views.read(row.row, row.waited).gate
        if gate is None or gate.token != token:
            raise Conflict("This gate is not open any more: look at the task again.")
        table, found = views.find_row(gate, given.get("table", ""), given.get("row", ""), given.get("seen", ""))
        if given.get("do") == "reject":
            actions: list[dict[str, Any]] = [{"action": "reject_row", "row_id": found.id}]
        else:
            actions = views.edits(table, found, given)
        for action in actions:
            await self._parts.acting.row_action(task_id, action, gate=token)
        return _done(request, task_id, given)

    async def hand_in(self, request: Request) -> Response:
        task_id = await self._acting(request)
        most = self._parts.max_upload
        length = request.headers.get("content-length", "0")
        too_large = RequestTooLarge(f"The file exceeds the limit of {most} bytes.")
        if length.isdigit() and int(length) > most + MAX_FORM:
            raise too_large
        if request.headers.get("content-type", "").partition(";")[0] != "multipart/form-data":
            raise InvalidRequest("Content-Type: multipart/form-data is expected")
        bounded = Request(request.scope, web.limited(request.receive, most + MAX_FORM))
        async with bounded.form(max_files=1, max_fields=10, max_part_size=MAX_FORM) as form:
            file = form.get("file")
            given = {name: value for name, value in form.items() if isinstance(value, str)}
            if not isinstance(file, UploadFile) or not file.filename:
                raise InvalidRequest("file: choose a file")
            if (file.size or 0) > most:
                raise too_large
            upload = Upload(_name(file.filename), file.content_type or "", file.size or 0, _chunks(file))
            await self._parts.filing.hand_in(task_id, upload, gate=given.get("gate"))
        return _done(request, task_id, given)

    async def reply(self, request: Request) -> Response:
        """Answer what an agent asks: leave to use a tool, or the result of one that is the client's."""
        task_id = await self._acting(request)
        given = await web.form(request, MAX_FORM)
        text = given.get("text", "").strip()
        answer = Reply(event_id=given.get("event", ""), allow=given.get("do") == "allow", text=text or None)
        await self._parts.answering.reply(task_id, given.get("key", ""), answer)
        return _done(request, task_id, given)

    async def cancel(self, request: Request) -> Response:
        task_id = await self._acting(request)
        await self._parts.acting.cancel(task_id)
        return _done(request, task_id, {})

    async def _acting(self, request: Request) -> str:
        """The task, for somebody who may act on it, from a page of ours."""
        web.check_origin(request)
        task_id = web.parameter(request, "task_id")

        async def may(who: Who) -> None:
            await self._access.task(who, task_id)

        await web.allowed(request, self._access, may, acts=True)
        return task_id


def _gate(given: dict[str, str]) -> str:
    if not (token := given.get("gate")):
        raise InvalidRequest("gate: Field required")
    return token


def _done(request: Request, task_id: str, given: dict[str, str]) -> Response:
    """Back to the page, or a short word for the page's script."""
    if not web.wants_page(request):
        return JSONResponse({"ok": True})
    own = f"/console/tasks/{pages.segment(task_id)}"
    back = given.get("back", "")
    return RedirectResponse(signing.next_page(back) if back.startswith("/console/tasks/") else own, 303)


def _name(filename: str) -> str:
    """The last part of a path that some browsers send, without what no name has."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    return "".join(each for each in name if each.isprintable())[:255] or "unnamed"


async def _chunks(file: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await file.read(CHUNK):
        yield chunk
