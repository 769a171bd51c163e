"""PostgreSQL goes away in mid-step: nothing is lost, nothing is done twice, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from hostler.errors import Unavailable
from hostler.ids import new_id
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.problems import InDoubt, NotOpened
from tenantdata import made

INSERT = "INSERT INTO ingest.submitted_records (entity_slug, data) VALUES ('e', '{}') RETURNING id"
COUNT = "SELECT count(*) FROM ingest.submitted_records"


class Line:
    """Stands between the data plane and PostgreSQL, and is cut when it is told to be."""

    def __init__(self, url: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-line-"))
        parts = urlsplit(url)
        self._there = Path(parse_qs(parts.query)["host"][0]) / ".s.PGSQL.5432"
        self.url = f"postgresql://postgres@/{new_id('d').lower()}_{{tenant}}?host={self.folder}"
        self.cut: str | None = None  # at a commit: "before" it is sent, or "after" it was done
        self.stays_down = False
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def up(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.folder / ".s.PGSQL.5432")

    async def down(self) -> None:
        assert self._server is not None
        self._server.close()
        (self.folder / ".s.PGSQL.5432").unlink(missing_ok=True)
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self._there)
        self._writers |= {writer, ours}
        ways = [asyncio.create_task(self._there_to(theirs, writer)), asyncio.create_task(self._to_there(reader, ours))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self._writers -= {writer, ours}
            writer.close()
            ours.close()

    async def _to_there(self, reader: asyncio.StreamReader, ours: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if b"COMMIT" in data and self.cut == "before":
                await self._cut()
                return
            ours.write(data)
            await ours.drain()

    async def _there_to(self, theirs: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await theirs.read(65536):
            if re.search(rb"C....COMMIT\x00", data, re.DOTALL) and self.cut == "after":
                await self._cut()
                return
            writer.write(data)
            await writer.drain()

    async def _cut(self) -> None:
        self.cut = None
        if self.stays_down:
            await self.down()


@contextlib.asynccontextmanager
async def connected(url: str, wait_seconds: float = 20.0) -> AsyncIterator[tuple[Line, DataPlane]]:
    line = Line(url)
    await line.up()
    plane = await DataPlane.open(line.folder, DataPlaneConfig(wait_seconds=wait_seconds), line.url)
    await plane.fetch("byng", "SELECT 1")
    try:
        yield line, plane
    finally:
        await plane.aclose()
        await line.down()


def run(url: str, work: Callable[[Line, DataPlane], Awaitable[None]], wait_seconds: float = 20.0) -> None:
    async def whole() -> None:
        async with connected(url, wait_seconds) as (line, plane):
            await work(line, plane)

    asyncio.run(whole())


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_connection_that_is_lost_at_the_commit_does_nothing_twice(
    postgres_url: str, tmp_path: Path, cut: str
) -> None:
    async def work(line: Line, plane: DataPlane) -> None:
        line.cut = cut
        row = await plane.fetchrow("byng", INSERT)
        assert line.cut is None
        assert await plane.fetch("byng", "SELECT id FROM ingest.submitted_records") == [row]
        document, path = made(tmp_path, b"x" * 3_000_000)
        line.cut = cut
        stored = await plane.insert_document("byng", document, path)
        assert line.cut is None
        assert await plane.documents("byng") == [stored]

    run(postgres_url, work)


def test_a_database_that_is_away_is_waited_for(postgres_url: str) -> None:
    async def work(line: Line, plane: DataPlane) -> None:
        await line.down()
        asking = [asyncio.create_task(plane.fetchrow("byng", INSERT)) for _ in range(6)]
        opening = asyncio.create_task(plane.fetch("acme", COUNT))
        await asyncio.sleep(1)
        assert not any(task.done() for task in asking)
        await line.up()
        rows = await asyncio.gather(*asking)
        assert len({str(row) for row in rows}) == 6
        assert await plane.fetch("byng", COUNT) == [{"count": 6}]
        assert await opening == [{"count": 0}]

    run(postgres_url, work)


def test_a_database_that_stays_away_is_an_error_in_time(postgres_url: str, tmp_path: Path) -> None:
    document, path = made(tmp_path, b"x")

    async def work(line: Line, plane: DataPlane) -> None:
        await line.down()
        for asking in (plane.fetchrow("byng", INSERT), plane.insert_document("byng", document, path)):
            with pytest.raises(Unavailable) as caught:
                async with asyncio.timeout(30):
                    await asking
            assert "password" not in caught.value.message
        await line.up()
        assert await plane.fetch("byng", COUNT) == [{"count": 0}]
        assert await plane.documents("byng") == []

    run(postgres_url, work, wait_seconds=1.0)


def test_where_nobody_can_tell_it_is_not_tried_again(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hostler.runbooks.dataplane.postgres._DOUBT_SECONDS", 1.0)

    async def work(line: Line, plane: DataPlane) -> None:
        line.cut, line.stays_down = "after", True
        with pytest.raises(InDoubt):
            await plane.fetchrow("byng", INSERT)
        await line.up()
        assert await plane.fetch("byng", COUNT) == [{"count": 1}]

    run(postgres_url, work, wait_seconds=1.0)


def test_what_waiting_does_not_mend_is_told_at_once(postgres_url: str, tmp_path: Path) -> None:
    async def work() -> None:
        missing = re.sub(r"/postgres\?", f"/{uuid.uuid4().hex}?", postgres_url)
        plane = await DataPlane.open(tmp_path, DataPlaneConfig(), missing)
        with pytest.raises(NotOpened, match="no such database"):
            async with asyncio.timeout(20):
                await plane.fetch("byng", "SELECT 1")

    asyncio.run(work())
