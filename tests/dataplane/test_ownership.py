"""A database is one tenant's. The settings say where each one's is; what can't be used is refused with what to do."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from databases import Databases
from hostler.configuration import configuration
from hostler.ids import new_id
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.plane import MAX_OPEN, DataPlane
from hostler.runbooks.dataplane.problems import NotOpened, NotTheirs
from hostler.settings import BadSettings, load
from tenantdata import made, new_database

COUNT = "SELECT count(*) FROM ingest.submitted_documents"


def test_a_second_tenant_on_one_url_is_refused(postgres_url: str, tmp_path: Path) -> None:
    url = new_database(postgres_url)

    async def work() -> None:
        plane = await DataPlane.open(tmp_path, DataPlaneConfig(), url)
        document, path = made(tmp_path, b"x")
        await plane.insert_document("byng", document, path)
        for _ in range(2):
            with pytest.raises(
                NotTheirs, match=r"belongs to the tenant 'byng', so 'acme' can't have it too.*\{tenant\}"
            ):
                await plane.documents("acme")
        await plane.aclose()
        # Nor does another server, or a setting that names the database for the other tenant, change whose it is.
        plane = await DataPlane.open(tmp_path, DataPlaneConfig(tenants={"acme": url, "byng": url}))
        with pytest.raises(NotTheirs):
            await plane.insert_document("acme", document, path)
        assert len(await plane.documents("byng")) == 1
        await plane.aclose()

    asyncio.run(work())


def test_two_that_come_at_once_do_not_both_get_it(postgres_url: str, tmp_path: Path) -> None:
    url = new_database(postgres_url)

    async def work() -> None:
        plane = await DataPlane.open(tmp_path, DataPlaneConfig(), url)
        got = await asyncio.gather(*(plane.fetch(f"t{n}", COUNT) for n in range(6)), return_exceptions=True)
        assert sum(isinstance(each, list) for each in got) == 1
        assert sum(isinstance(each, NotTheirs) for each in got) == 5
        await plane.aclose()

    asyncio.run(work())


def test_a_database_for_each_tenant(postgres_url: str, tmp_path: Path) -> None:
    url = postgres_url.replace("/postgres?", f"/{new_id('d').lower()}_{{tenant}}?")
    own = new_database(postgres_url)

    async def work() -> None:
        plane = await DataPlane.open(tmp_path, DataPlaneConfig(tenants={"own": own}), url)
        document, path = made(tmp_path, b"x")
        tenants = ["byng", "ac-me", "ac_me", "own"]
        for tenant in tenants:
            await plane.insert_document(tenant, document, path)
        for tenant in tenants:
            assert await plane.fetch(tenant, COUNT) == [{"count": 1}]
        names = [await plane.fetchrow(tenant, "SELECT current_database() AS n") for tenant in tenants]
        assert len({str(name) for name in names}) == 4
        await plane.aclose()

    asyncio.run(work())


def test_the_servers_own_database_is_refused(postgres_url: str, tmp_path: Path) -> None:
    databases = Databases(tmp_path, postgres_url)
    url = databases.url(new_id("d").lower())
    assert url is not None

    async def work() -> None:
        from hostler.store.postgres import PostgresStore

        store = await PostgresStore.open(url, now=1)
        plane = await DataPlane.open(tmp_path, DataPlaneConfig(), url)
        with pytest.raises(NotOpened, match="the server's own database"):
            await plane.fetch("byng", COUNT)
        await plane.aclose()
        await store.close()

    asyncio.run(work())


def test_tables_that_are_there_are_left_as_they_are(postgres_url: str, tmp_path: Path) -> None:
    url = new_database(postgres_url)

    async def work() -> None:
        import asyncpg

        connection = await asyncpg.connect(url)
        await connection.execute("""CREATE SCHEMA ingest; CREATE TABLE ingest.submitted_documents (
            id uuid DEFAULT gen_random_uuid(), entity_slug text, period text, source text, filename text,
            content_type text, data_bytes bytea, uploaded_at timestamptz DEFAULT now(), task_id text,
            theirs integer DEFAULT 7)""")
        plane = await DataPlane.open(tmp_path, DataPlaneConfig(), url)
        document, path = made(tmp_path, b"x" * 2_000_000)
        stored = await asyncio.gather(*(plane.insert_document("byng", document, path) for _ in range(4)))
        assert len(set(map(repr, stored))) == 1
        rows = await plane.fetch("byng", "SELECT theirs, sha256 FROM ingest.submitted_documents")
        assert rows == [{"theirs": 7, "sha256": document.sha256}]
        await plane.aclose()
        await connection.close()

    asyncio.run(work())


def test_files_of_sqlite_are_for_the_server_alone(tmp_path: Path) -> None:
    async def work() -> None:
        plane = await DataPlane.open(tmp_path / "data-plane", DataPlaneConfig())
        document, path = made(tmp_path, b"x")
        await plane.insert_document("byng", document, path)
        folder = tmp_path / "data-plane" / "byng"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
        await plane.aclose()
        plain = sqlite3.connect(folder / "ingest.db")  # any SQLite can read it
        assert plain.execute("SELECT source, data_bytes FROM submitted_documents").fetchall() == [
            ("agent_output:a", b"x")
        ]
        plain.close()

    asyncio.run(work())


def test_more_tenants_than_are_kept_open(tmp_path: Path) -> None:
    async def work() -> None:
        plane = await DataPlane.open(tmp_path, DataPlaneConfig())
        tenants = [f"t{n}" for n in range(MAX_OPEN + 4)]
        for _ in range(2):
            for tenant in tenants:
                await plane.fetch(tenant, COUNT)
        assert len(plane._places) == MAX_OPEN
        await plane.aclose()

    asyncio.run(work())


def test_settings(tmp_path: Path) -> None:
    file = tmp_path / "hostler.toml"
    file.write_text(
        '[server]\ndata_plane = "postgres://from-file/x"\n[data_plane.tenants]\nbyng = "postgres://u:secret@h/b"\n'
    )
    said = load(config_file=file, environ={})
    assert said.data_plane == "postgres://from-file/x"
    assert configuration(said).data_plane.tenants == {"byng": "postgres://u:secret@h/b"}
    assert "secret" not in repr(configuration(said)) + repr(said)
    assert load(config_file=file, environ={"HOSTLER_DATA_PLANE": "postgres://v/x"}).data_plane == "postgres://v/x"
    assert (
        load(data_plane="postgres://o/x", environ={"HOSTLER_DATA_PLANE": "postgres://v/x"}).data_plane
        == "postgres://o/x"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[data_plane.tenants]\nbyng = "mysql://u:secret@h/b"', r"tenants\.byng must be a postgresql:// URL"),
        ("[data_plane]\nresult_mb = 61", "result_mb must be from 1 to 60"),
        ("[data_plane]\nstatement_seconds = 0", "statement_seconds must be from"),
        ("[data_plane]\nwait_seconds = -1", "wait_seconds must be from"),
        ("[data_plane]\ntenant_connections = 0", "tenant_connections must be from"),
        ("[data_plane]\nurl = 'x'", "unknown field `url`"),
        ("[server]\ndata_plane = 'sqlite:secret'", "--data-plane must be a postgresql:// URL"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "hostler.toml"
    file.write_text(text)
    with pytest.raises(BadSettings, match=message) as caught:
        configuration(load(config_file=file, environ={}))
    assert "secret" not in caught.value.message
