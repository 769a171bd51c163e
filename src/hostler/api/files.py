"""Routes of files: streamed uploads, both generations of the list, downloads."""

from __future__ import annotations

from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp

from hostler.api.call import Call
from hostler.api.multipart import Form
from hostler.api.render import json
from hostler.api.router import Route
from hostler.errors import InvalidRequest, RequestTooLarge
from hostler.services.files import Files, Upload
from hostler.store.blobs import Blob
from hostler.wire.pages import FilePage

_FRAMING = 64 * 1024


def routes(files: Files) -> list[Route]:
    async def upload(call: Call) -> Response:
        call.query.end()
        length = call.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > files.max_bytes + _FRAMING:
            raise RequestTooLarge(f"The file exceeds the limit of {files.max_bytes} bytes.")
        blob, said = await _receive(call, files)
        return json(await files.create(blob, said))

    async def index(call: Call) -> Response:
        query = call.query
        ids = query.texts("ids")
        given, page = query.number("limit", 1, 1000), query.text("page")
        scope, after, before = query.text("scope_id"), query.text("after_id"), query.text("before_id")
        query.end()
        if ids:
            if given or page or scope or after or before:
                raise InvalidRequest("ids: can't be combined with other parameters")
            found, more = await files.some(ids), None
        else:
            cut = await files.list(limit=given or 20, page=page, scope_id=scope, after=after, before=before)
            found, more = cut.rows, cut.next_page
        ends = (found[0].id, found[-1].id) if found else (None, None)
        return json(FilePage(data=found, next_page=more, has_more=more is not None, first_id=ends[0], last_id=ends[1]))

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(await files.retrieve(call.params["file_id"]))

    async def download(call: Call) -> ASGIApp:
        call.query.end()
        found = await files.download(call.params["file_id"])
        # Bytes of an agent's making: a browser must not run them.
        headers = {"x-content-type-options": "nosniff"}
        return FileResponse(found.path, media_type=found.mime_type, filename=found.filename, headers=headers)

    async def delete(call: Call) -> Response:
        await call.no_body()
        return json(await files.delete(call.params["file_id"]))

    return [
        Route("POST", "/v1/files", upload, beta=False),
        Route("GET", "/v1/files", index, beta=False),
        Route("GET", "/v1/files/{file_id}", retrieve, beta=False),
        Route("GET", "/v1/files/{file_id}/content", download, beta=False),
        Route("DELETE", "/v1/files/{file_id}", delete, beta=False),
    ]


async def _receive(call: Call, files: Files) -> tuple[Blob, Upload]:
    """Read the form: the part `file` goes to disk as it comes, in any order with the text parts."""
    form = Form(call.headers.get(b"content-type", b"").decode("latin-1"), call.chunks())
    blob: Blob | None = None
    said = Upload(None, None)
    async for part in form.parts():
        if part.name == "file" and blob is None:
            said = said._replace(filename=part.filename, mime_type=part.content_type)
            blob = await files.store(form.chunks())
        elif part.name == "expires_in_seconds":
            said = said._replace(expires_in_seconds=_seconds(await form.text()))
        elif part.name == "purpose":
            _purpose(await form.text())
        else:
            raise InvalidRequest(f"{part.name[:100]}: Extra inputs are not permitted")
    if blob is None:
        raise InvalidRequest("file: Field required")
    return blob, said


def _purpose(text: str) -> None:
    """Published curl examples say what every file here is for; another purpose can't be honoured."""
    if text != "agent":
        raise InvalidRequest("purpose: Input should be 'agent'")


def _seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InvalidRequest("expires_in_seconds: Input should be a valid integer")
    return int(text)
