"""Routes of skills, in the shapes of both SDK generations. It must not judge what is in an upload."""

from __future__ import annotations

from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from hostler.api.call import Call
from hostler.api.multipart import Form
from hostler.api.render import json
from hostler.api.router import Route
from hostler.errors import InvalidRequest
from hostler.services.skills import Skill, Skills, Version
from hostler.skills.bundle import MAX_BYTES, MAX_FILES, Sent, too_large
from hostler.wire import skills as wire
from hostler.wire.base import timestamp

# The GA shape came with this date. Clients of the date before it get it too, unless they ask for the skills beta.
NEW = b"2026-10-21"
OLD_BETA = b"skills-2025-10-02"
_FRAMING = 1024 * 1024  # of the parts around the files
_LABELS = ("display_name", "display_title")


def routes(skills: Skills) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        files, label = await _receive(call, labels=True)
        return json(_skill(call, await skills.create(files, label)))

    async def index(call: Call) -> Response:
        query = call.query
        limit, page = query.limit(20, 1000), query.text("page")
        source = query.one_of("source", ("custom", "anthropic", ""), "") or None
        query.end()
        cut = await skills.list(limit=limit, page=page, source=source)
        return _page([_skill(call, skill) for skill in cut.rows], cut.next_page)

    async def retrieve(call: Call) -> Response:
        call.query.end()
        return json(_skill(call, await skills.retrieve(call.params["skill_id"])))

    async def delete(call: Call) -> Response:
        await call.no_body()
        await skills.delete(call.params["skill_id"])
        return json(wire.SkillDeleted(id=call.params["skill_id"]))

    return [
        Route("POST", "/v1/skills", create, beta=False),
        Route("GET", "/v1/skills", index, beta=False),
        Route("GET", "/v1/skills/{skill_id}", retrieve, beta=False),
        Route("DELETE", "/v1/skills/{skill_id}", delete, beta=False),
        *_version_routes(skills),
    ]


def _version_routes(skills: Skills) -> list[Route]:
    async def create(call: Call) -> Response:
        call.query.end()
        files, _ = await _receive(call, labels=False)
        return json(_version(call, await skills.add_version(call.params["skill_id"], files)))

    async def index(call: Call) -> Response:
        limit, page = call.query.limit(20, 1000), call.query.text("page")
        call.query.end()
        cut = await skills.versions(call.params["skill_id"], limit=limit, page=page)
        return _page([_version(call, version) for version in cut.rows], cut.next_page)

    async def retrieve(call: Call) -> Response:
        call.query.end()
        skill_id, version = call.params["skill_id"], call.params["version"]
        return json(_version(call, await skills.version(skill_id, version, pinned=call.caller.limited)))

    async def download(call: Call) -> ASGIApp:
        call.query.end()
        name, pieces = await skills.content(call.params["skill_id"], call.params["version"], pinned=call.caller.limited)
        headers = {"content-disposition": f'attachment; filename="{name}.zip"', "x-content-type-options": "nosniff"}
        return StreamingResponse(pieces, media_type="application/zip", headers=headers)

    async def delete(call: Call) -> Response:
        await call.no_body()
        await skills.delete_version(call.params["skill_id"], call.params["version"])
        return json(wire.SkillVersionDeleted(id=call.params["version"]))

    return [
        Route("POST", "/v1/skills/{skill_id}/versions", create, beta=False),
        Route("GET", "/v1/skills/{skill_id}/versions", index, beta=False),
        Route("GET", "/v1/skills/{skill_id}/versions/{version}", retrieve, beta=False),
        Route("GET", "/v1/skills/{skill_id}/versions/{version}/content", download, beta=False),
        Route("DELETE", "/v1/skills/{skill_id}/versions/{version}", delete, beta=False),
    ]


async def _receive(call: Call, *, labels: bool) -> tuple[list[Sent], str | None]:
    """Read the form into memory, bounded: the files, and the label where one may be given."""
    length = call.headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BYTES + _FRAMING:
        raise too_large()
    content_type = call.headers.get(b"content-type", b"").decode("latin-1")
    form = Form(content_type, call.chunks(), max_parts=MAX_FILES + len(_LABELS), max_headers=_FRAMING)
    files: list[Sent] = []
    label, left = None, MAX_BYTES
    async for part in form.parts():
        if part.name == "files[]":
            content = await _content(form, left)
            left -= len(content)
            files.append(Sent(part.filename or "", content))
        elif labels and part.name in _LABELS:
            if label is not None:
                raise InvalidRequest(f"{part.name}: is given twice")
            label = await form.text()
        else:
            raise InvalidRequest(f"{part.name[:100]}: Extra inputs are not permitted")
    return files, label


async def _content(form: Form, limit: int) -> bytes:
    pieces, size = [], 0
    async for piece in form.chunks():
        size += len(piece)
        if size > limit:
            raise too_large()
        pieces.append(piece)
    return b"".join(pieces)


def _old(call: Call) -> bool:
    """Whether the client is of the older generation, whose skills are a beta of their own."""
    betas = b",".join(value for name, value in call.scope["headers"] if name == b"anthropic-beta").split(b",")
    return call.headers.get(b"anthropic-version", NEW) < NEW and OLD_BETA in (beta.strip() for beta in betas)


def _page(data: list[object], next_page: str | None) -> Response:
    return json(wire.SkillPage(data=data, has_more=next_page is not None, next_page=next_page))


def _skill(call: Call, skill: Skill) -> wire.Skill | wire.OldSkill:
    created, updated = timestamp(skill.created_at), timestamp(skill.updated_at)
    if _old(call):
        return wire.OldSkill(
            id=skill.id,
            display_title=skill.display_name,
            latest_version=skill.latest,
            source=skill.source,
            created_at=created,
            updated_at=updated,
        )
    return wire.Skill(
        id=skill.id,
        display_name=skill.display_name,
        latest_version_id=skill.latest or "",
        source=wire.SkillSource(type=skill.source),
        created_at=created,
        updated_at=updated,
    )


def _version(call: Call, version: Version) -> wire.SkillVersion:
    shown = wire.SkillVersion(
        id=version.version,
        skill_id=version.skill_id,
        name=version.name,
        description=version.description,
        created_at=timestamp(version.created_at),
    )
    if not _old(call):
        return shown
    return wire.OldSkillVersion(
        id=shown.id,
        skill_id=shown.skill_id,
        name=shown.name,
        description=shown.description,
        created_at=shown.created_at,
        version=version.version,
        directory=version.directory,
    )
