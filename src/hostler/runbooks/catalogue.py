"""Deployed runbooks as clients read them, and what people say about one. It must not run any.

The published command line deploys a bundle without its runbook.md: such a one has its slug for a name.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, select

from hostler import clock
from hostler.runbooks.library import MANIFEST, Deployed, Library
from hostler.runbooks.registry import tenants
from hostler.runbooks.registry.finding import new_id, sent_again
from hostler.runbooks.showing import QUEUE
from hostler.store.sql import Tx
from hostler.store.store import Store
from hostler.store.tables import runbook_feedback as table
from hostler.wire.base import UNSET, timestamp
from hostler.wire.runbooks import (
    Deployment,
    Feedback,
    FeedbackCreate,
    Runbook,
    RunbookDeploy,
    RunbookDetail,
    RunbookSkill,
    RunbookStep,
    RunbookTemplates,
    Template,
)

_c = table.c
_COLUMNS = (_c.id, _c.runbook, _c.feedback, _c.created_at, _c.task_id, _c.tenant_id)
_SAID = select(*_COLUMNS).where(_c.runbook == bindparam("r")).order_by(_c.created_at.desc(), _c.id)
_LAST = _SAID.limit(1)
_SAY = insert(table)
_LANGUAGES = {".py": "python", ".md": "markdown", ".sql": "sql", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}
_USUAL = ["activities"]


class Catalogue:
    def __init__(self, store: Store, library: Library) -> None:
        self._store = store
        self._library = library

    async def deploy(self, slug: str, params: RunbookDeploy) -> Deployment:
        """Make a bundle what new tasks run. Raises NotFound for the tenant, InvalidRequest, RequestTooLarge."""
        await self._store.read(lambda: tenants.find_active_tx(params.tenant_slug))
        modules = params.activity_modules if params.activity_modules is not None else _present(params.files)
        found = await self._library.deploy(slug, params.version, params.workflow_class, modules, params.files)
        return Deployment(
            workflow_id=f"deploy:{found.slug}:{found.digest}",
            task_queue=QUEUE,
            runbook=found.slug,
            version=found.version,
            result={"status": "deployed", "digest": found.digest, "deployed_at": timestamp(found.deployed_at)},
        )

    async def all(self, wanted: dict[str, str | None]) -> list[Runbook]:
        """Those that fit what is wanted: `state`, `classification`, `tags`, `jurisdiction`, `search`."""
        found = [shown(each) for each in await self._library.newest()]
        return [each for each in found if _fits(each, wanted)]

    async def get(self, slug: str, version: str | None = None) -> RunbookDetail:
        return detail(await self._library.get(slug, version))

    async def templates(self, slug: str) -> RunbookTemplates:
        found = await self._library.get(slug)
        return RunbookTemplates(slug=slug, templates=_templates(found, content=True))

    async def skill(self, slug: str) -> RunbookSkill:
        """What agents read to know a runbook: its runbook.md. Raises NotFound."""
        found = await self._library.get(slug)
        return RunbookSkill(slug=slug, name=_word(found, "name") or slug, content=found.files.get(MANIFEST, ""))

    async def say(self, slug: str, params: FeedbackCreate, scope: str | None = None) -> Feedback:
        now, made = clock.now(), new_id()
        row = {
            "id": made,
            "runbook": slug,
            "task_id": params.task_id,
            "tenant_id": scope,
            "feedback": params.feedback,
            "created_at": now,
        }

        def tx() -> Tx[Feedback]:
            yield from self._library.deployed_tx(slug)
            last = yield _LAST, {"r": slug}
            if last and _same(last[0], params, scope) and sent_again(last[0][3], now):
                return _feedback(last[0])
            yield _SAY, row
            return _feedback([made, slug, params.feedback, now, params.task_id, scope])

        return await self._store.write(tx)

    async def said(self, slug: str, scope: str | None = None) -> list[Feedback]:
        def tx() -> Tx[list[Feedback]]:
            yield from self._library.deployed_tx(slug)
            rows = yield _SAID, {"r": slug}
            return [_feedback(row) for row in rows if scope in (None, row[5])]

        return await self._store.read(tx)


def shown(found: Deployed) -> Runbook:
    return msgspec.convert(_said(found), Runbook)


def detail(found: Deployed) -> RunbookDetail:
    front = found.front
    said = _said(found) | {
        "author": _word(found, "author"),
        "content": found.files.get(MANIFEST, ""),
        "templateCount": len(_templates(found)),
    }
    made = msgspec.convert(said, RunbookDetail)
    made.steps = _steps(found) or UNSET
    made.templates = _templates(found) or UNSET
    made.config_schema = front["config_schema"] if isinstance(front.get("config_schema"), dict) else UNSET
    return made


def _said(found: Deployed) -> dict[str, Any]:
    front = found.front
    return {
        "id": found.digest,
        "slug": found.slug,
        "name": _word(found, "name") or found.slug,
        "description": _word(found, "description"),
        "classification": _word(found, "classification"),
        "version": found.version,
        "state": _word(found, "state") or "deployed",
        "stepCount": len(_steps(found)),
        "templateCount": len(_items(front.get("templates"))),
        "tags": [str(each) for each in _items(front.get("tags"))],
        "jurisdictions": [str(each) for each in _items(front.get("jurisdictions"))],
        "deployedAt": timestamp(found.deployed_at),
    }


def _steps(found: Deployed) -> list[RunbookStep]:
    told = [each for each in _items(found.front.get("steps")) if isinstance(each, dict)]
    return [
        RunbookStep(
            id=str(each.get("id") or index),
            label=str(each.get("label") or each.get("id") or index),
            description=str(each.get("description") or ""),
        )
        for index, each in enumerate(told, start=1)
    ]


def _templates(found: Deployed, *, content: bool = False) -> list[Template]:
    """Its files, with what its front matter says of them."""
    told = {str(each.get("path")): each for each in _items(found.front.get("templates")) if isinstance(each, dict)}
    return [
        Template(
            path=path,
            description=str(told.get(path, {}).get("description") or ""),
            language=next((name for ending, name in _LANGUAGES.items() if path.endswith(ending)), "text"),
            content=text if content else None,
        )
        for path, text in sorted(found.files.items())
        if path != MANIFEST
    ]


def _fits(each: Runbook, wanted: dict[str, str | None]) -> bool:
    tags, search = wanted.get("tags"), wanted.get("search")
    said = f"{each.slug} {each.name} {each.description}".casefold()
    return (
        wanted.get("state") in (None, each.state)
        and wanted.get("classification") in (None, each.classification)
        and (tags is None or {tag.strip() for tag in tags.split(",")} <= set(each.tags or ()))
        and (wanted.get("jurisdiction") is None or wanted["jurisdiction"] in (each.jurisdictions or ()))
        and (search is None or search.casefold() in said)
    )


def _present(files: dict[str, str]) -> list[str]:
    return [name for name in _USUAL if f"templates/{name}.py" in files]


def _word(found: Deployed, name: str) -> str:
    said = found.front.get(name)
    return str(said) if said is not None else ""


def _items(said: Any) -> list[Any]:
    return said if isinstance(said, list) else []


def _same(row: Any, params: FeedbackCreate, scope: str | None) -> bool:
    return (row[2], row[4], row[5]) == (params.feedback, params.task_id, scope)


def _feedback(row: Any) -> Feedback:
    made, runbook, feedback, created_at, task_id, _ = row
    return Feedback(id=made, runbook=runbook, feedback=feedback, created_at=timestamp(created_at), task_id=task_id)
