"""Documents are stored once, whole or not at all, and read in pieces, on both databases."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from hostler.errors import InvalidRequest, NotFound
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.records import CHUNK
from hostler.runbooks.dataplane.schema import TABLES
from tenantdata import Planes, made

MORTAL = Path(__file__).with_name("mortal.py")


async def read(plane: DataPlane, document_id: str, tenant: str = "byng") -> list[bytes]:
    return [chunk async for chunk in plane.content(tenant, document_id)]


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1, 5 * CHUNK + 17])
def test_a_document_is_stored_and_read(plane: DataPlane, loop: asyncio.Runner, tmp_path: Path, size: int) -> None:
    data = bytes(n % 251 for n in range(1000)) * (size // 1000 + 1)
    document, path = made(tmp_path, data[:size], period="2026-04", filename="Übergabe 'x'.docx")

    async def work() -> None:
        stored = await plane.insert_document("byng", document, path)
        assert {name: getattr(stored, name) for name in document.__struct_fields__} == {
            name: getattr(document, name) for name in document.__struct_fields__
        }
        assert stored.uploaded_at.tzinfo is not None
        assert await plane.document("byng", document.id) == stored
        chunks = await read(plane, document.id)
        assert b"".join(chunks) == data[:size]
        assert max(map(len, chunks), default=0) <= CHUNK
        row = await plane.fetchrow(
            "byng", "SELECT sha256, source FROM ingest.submitted_documents WHERE id = $1", document.id
        )
        assert row == {"sha256": document.sha256, "source": "agent_output:a"}

    loop.run(work())


def test_room_for_a_document_is_made_without_its_bytes_in_memory() -> None:
    """SQLite has only those zeros not in memory that stand at the end of a row."""
    columns = TABLES["ingest.submitted_documents"].rstrip(" )\n").splitlines()
    assert columns[-1].split()[0] == "data_bytes"


def test_the_same_id_is_stored_once(plane: DataPlane, loop: asyncio.Runner, tmp_path: Path) -> None:
    document, path = made(tmp_path, b"x" * 2 * CHUNK)

    async def work() -> None:
        stored = await asyncio.gather(*(plane.insert_document("byng", document, path) for _ in range(5)))
        assert len(set(map(repr, stored))) == 1
        path.unlink()
        assert await plane.insert_document("byng", document, path) == stored[0]
        assert len(await plane.documents("byng")) == 1

    loop.run(work())


def test_a_file_that_is_not_what_was_said_is_not_stored(plane: DataPlane, loop: asyncio.Runner, tmp_path: Path) -> None:
    async def work() -> None:
        for size in (10, 3 * CHUNK):
            for wrong in ({"size": size - 1}, {"size": size + 1}, {"sha256": "0" * 64}):
                document, path = made(tmp_path, b"y" * size, **wrong)
                with pytest.raises(InvalidRequest):
                    await plane.insert_document("byng", document, path)
        document, path = made(tmp_path, b"z")
        with pytest.raises(InvalidRequest, match="No such file"):
            await plane.insert_document("byng", document, path.with_name("gone"))
        assert await plane.documents("byng") == []

    loop.run(work())


def test_documents_are_listed_the_newest_first(plane: DataPlane, loop: asyncio.Runner, tmp_path: Path) -> None:
    async def work() -> None:
        given = [
            {"task_id": "t1", "source": "agent_output:1", "period": "2026-01"},
            {"task_id": "t1", "source": "agent_output:2", "entity_slug": "other"},
            {"task_id": "t2", "source": "agentXoutput:3"},
            {"task_id": None, "source": "bank"},
        ]
        ids = []
        for each in given:
            document, path = made(tmp_path, b"x", **each)
            ids.append((await plane.insert_document("byng", document, path)).id)

        async def found(**wanted: Any) -> list[int]:
            return [ids.index(each.id) for each in await plane.documents("byng", **wanted)]

        assert await found() == [3, 2, 1, 0]
        assert await found(limit=2) == [3, 2]
        assert await found(task_id="t1") == [1, 0]
        assert await found(source_prefix="agent_output:") == [1, 0]
        assert await found(source_prefix="%") == []
        assert await found(entity_slug="spv", period="2026-01") == [0]
        assert await found(limit=-1) == []

    loop.run(work())


def test_what_is_not_there_is_not_found(plane: DataPlane, loop: asyncio.Runner) -> None:
    for document_id in (str(uuid.uuid4()), "no-uuid", "' OR 1=1", ""):
        for asked in (plane.document("byng", document_id), read(plane, document_id)):
            with pytest.raises(NotFound):
                loop.run(asked)


def test_tenants_do_not_see_each_other(plane: DataPlane, loop: asyncio.Runner, tmp_path: Path) -> None:
    document, path = made(tmp_path, b"x")

    async def work() -> None:
        await plane.insert_document("byng", document, path)
        assert await plane.documents("acme") == []
        with pytest.raises(NotFound):
            await plane.document("acme", document.id)
        with pytest.raises(NotFound):
            await read(plane, document.id, "acme")

    loop.run(work())


def test_a_reader_that_stops_early_holds_nothing(plane: DataPlane, loop: asyncio.Runner, tmp_path: Path) -> None:
    document, path = made(tmp_path, b"x" * 4 * CHUNK)

    async def work() -> None:
        await plane.insert_document("byng", document, path)
        for _ in range(40):  # more than may be read at once
            chunks = plane.content("byng", document.id)
            await anext(chunks)
            await chunks.aclose()

    loop.run(work())


@pytest.mark.parametrize("size", [1000, 2 * CHUNK + 5])
def test_killed_at_any_line_a_document_is_whole_or_not_there(planes: Planes, tmp_path: Path, size: int) -> None:
    content = tmp_path / "content"
    content.write_bytes(bytes(n % 256 for n in range(size)))
    step = "1" if planes.url is None else "3"
    done = subprocess.run(
        [sys.executable, str(MORTAL), str(planes.folder), planes.url or "", str(content), step],
        capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) > 20
