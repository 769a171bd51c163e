"""Takes what an agent wrote to the tenant's documents: each file once, whole, and only what is the session's output.

It must not know where documents are kept.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from hostler.errors import Unavailable
from hostler.runbooks.dataplane.records import Document
from hostler.runbooks.invoking.remote import Down, Refused, Remote, TooLarge, patiently
from hostler.runbooks.invoking.rows import AgentRun

log = logging.getLogger(__name__)

DOCUMENTS = uuid.UUID("5d0c1c1e-6c4b-5f0e-9a43-6d0f5f3f2f51")  # of the ids of documents that agents wrote
MAX_FILES = 100
LISTINGS = 5
LISTING_SECONDS = 1.0
_SHOWN_MB = 1024 * 1024


class Documents(Protocol):
    async def insert_document(self, tenant: str, document: Document, content: Path) -> Any:
        """Keep it, unless its id is there already. Raises Unavailable."""
        ...


class Destination(NamedTuple):
    """Whose documents they become."""

    tenant: str
    entity: str
    period: str | None
    task_id: str


class PassedBack(NamedTuple):
    """The fields of `AgentOutputFile`, and what could not be taken, in words."""

    files: list[dict[str, Any]]
    problems: list[str]


class Passback:
    def __init__(self, documents: Documents, folder: Path, max_bytes: int) -> None:
        """`folder` is for files on their way."""
        self._documents = documents
        self._folder = folder
        self._max_bytes = max_bytes

    async def take(
        self, remote: Remote, run: AgentRun, session: dict[str, Any], to: Destination, *, settled: bool
    ) -> PassedBack:
        """All that the session wrote. `settled` says that its list is complete once it is idle, as ours is. Raises
        Refused."""
        files = await _outputs(remote, session, settled=settled)
        taken, problems = [], []
        if len(files) > MAX_FILES:
            problems.append(f"The agent wrote {len(files)} files; the first {MAX_FILES} were taken.")
        for file in files[:MAX_FILES]:
            try:
                taken.append(await self._take(remote, run, file, to))
            except TooLarge:
                problems.append(_too_large(file, self._max_bytes))
            except Refused as problem:
                problems.append(f"{_name(file)} could not be taken: {problem}")
        return PassedBack(taken, problems)

    async def _take(self, remote: Remote, run: AgentRun, file: dict[str, Any], to: Destination) -> dict[str, Any]:
        if int(file.get("size_bytes") or 0) > self._max_bytes:
            raise TooLarge
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            path = Path(folder) / "content"
            fetched = await patiently(lambda: remote.fetch(str(file["id"]), path, self._max_bytes))
            name = _name(file)
            document = Document(
                id=str(uuid.uuid5(DOCUMENTS, f"{run.mark}/{name}/{fetched.sha256}")),
                entity_slug=to.entity,
                period=to.period,
                source=f"agent_output:{run.agent_id}",
                filename=name,
                content_type=str(file.get("mime_type") or "application/octet-stream"),
                task_id=to.task_id,
                size=fetched.size,
                sha256=fetched.sha256,
            )
            await patiently(lambda: self._keep(to.tenant, document, path))
        return {
            "document_ref": document.id,
            "filename": document.filename,
            "content_type": document.content_type,
            "size_bytes": document.size,
            "source": document.source,
        }

    async def _keep(self, tenant: str, document: Document, path: Path) -> None:
        try:
            await self._documents.insert_document(tenant, document, path)
        except Unavailable as problem:
            log.warning("the document %s waits: %s", document.id, problem)
            raise Down(str(problem)) from problem


async def _outputs(remote: Remote, session: dict[str, Any], *, settled: bool) -> list[dict[str, Any]]:
    """The session's files without what it was given. Elsewhere a file may show up a few seconds late: there the list
    counts once it was the same twice."""
    given = {str(each.get("file_id")) for each in session.get("resources") or () if isinstance(each, dict)}
    before: list[str] | None = None
    files: list[dict[str, Any]] = []
    for _ in range(LISTINGS):
        files = await patiently(lambda: _listed(remote, str(session["id"])))
        files = [each for each in files if str(each["id"]) not in given and each.get("downloadable") is not False]
        ids = sorted(str(each["id"]) for each in files)
        if settled or (ids and ids == before):
            break
        before = ids
        await asyncio.sleep(LISTING_SECONDS)
    return sorted(files, key=lambda each: (str(each.get("created_at")), _name(each)))


async def _listed(remote: Remote, session_id: str) -> list[dict[str, Any]]:
    return [each async for each in remote.pages("/v1/files", scope_id=session_id, limit=100)]


def _name(file: dict[str, Any]) -> str:
    """Without folders: it is shown to people, and they save it."""
    name = str(file.get("filename") or "file").replace("\\", "/").rpartition("/")[2]
    return "".join(letter for letter in name if letter.isprintable())[:255] or "file"


def _too_large(file: dict[str, Any], limit: int) -> str:
    size = int(file.get("size_bytes") or 0)
    said = f" has {size / _SHOWN_MB:.0f} MB" if size > limit else " is too large"
    return f"{_name(file)}{said}; a document may have {limit / _SHOWN_MB:.0f} MB at most. It is still in the session."
