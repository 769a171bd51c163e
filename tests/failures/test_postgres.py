"""PostgreSQL that can't be reached, is taken, or dies in mid-use: clear words, nothing lost, and no restart needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from commands.command import complaint, hostler
from databases import Databases
from failures.client import Api, refused, said
from hostler.ids import new_id
from hostler.store.postgres import OWNER_LOCK
from running import Server


@pytest.fixture
def url(postgres_url: str, tmp_path: Path) -> Iterator[str]:
    """A database of the test's own."""
    name = new_id("t").lower()
    url = Databases(tmp_path, postgres_url).url(name)
    assert url is not None
    yield url
    asyncio.run(execute(postgres_url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'))


async def execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def cut(postgres_url: str, url: str, *, closed: bool) -> None:
    """End every connection to the database, and let none or all in from now on."""
    allow = f'ALTER DATABASE "{name_of(url)}" ALLOW_CONNECTIONS {"false" if closed else "true"}'
    end = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name_of(url)}'"
    asyncio.run(execute(postgres_url, allow, end))


def test_a_database_that_can_not_be_reached(tmp_path: Path) -> None:
    folder = ["--port", 0, "--data-dir", tmp_path / "data"]
    for url, word in (
        ("postgresql://127.0.0.1:1/x", "PostgreSQL"),
        ("postgresql://me:secret@127.0.0.1:x/x", "--database"),
        ("mysql://127.0.0.1/x", "'mysql'"),
        ("nonsense", "'nonsense'"),
    ):
        assert word in complaint(hostler("serve", *folder, "--database", url))


def test_a_second_server_on_one_database(start: Callable[..., Server], url: str, tmp_path: Path) -> None:
    first = start(database=url)
    why = complaint(hostler("serve", "--port", 0, "--data-dir", tmp_path / "other", "--database", url))
    assert "Another server" in why
    assert "database" in why
    first.kill()
    second = start("other", database=url)  # the lock is gone with its holder
    with Api(second) as api:
        assert said(api.turn(api.session(), "say: mine now")) == ["mine now"]


def test_a_database_that_goes_and_comes_back(start: Callable[..., Server], postgres_url: str, url: str) -> None:
    server = start(database=url)
    with Api(server) as api:
        session, busy = api.session(), api.session()
        api.turn(session, "say: before")
        api.turn(busy, "run: sleep 1; echo done", until=lambda event: event["type"] == "agent.tool_use")
        cut(postgres_url, url, closed=True)

        body = {"events": [{"type": "user.message", "content": [{"type": "text", "text": "say: lost?"}]}]}
        path = f"/v1/sessions/{session}/events"
        assert "PostgreSQL" in refused(api.http.post(path, json=body), 503, "api_error")
        assert "PostgreSQL" in refused(api.http.get(path), 503, "api_error")
        assert api.http.get("/healthz").status_code == 200

        cut(postgres_url, url, closed=False)
        while (response := api.http.post(path, json=body)).status_code == 503:
            refused(response, 503, "api_error")  # it waits a moment before it connects again
        assert response.status_code == 200
        for one in (session, busy):
            api.settle(one)
        assert [event["content"][0]["text"] for event in api.events(session) if event["type"] == "agent.message"] == [
            "before",
            "lost?",
        ]
        (result,) = [event for event in api.events(busy) if event["type"] == "agent.tool_result"]
        assert result["content"][0]["text"].strip() == "done"
        assert server.stop() == 0


def test_a_server_whose_database_was_taken_over_ends(start: Callable[..., Server], postgres_url: str, url: str) -> None:
    """It lost its connection and with it its lock, and another owner was faster: it must not write any more."""
    server = start(database=url)
    with Api(server) as api:
        session = api.session()

    async def take_over() -> int:
        other = await asyncpg.connect(url)
        end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
        taken = False
        while not taken:
            await other.execute(end.replace("$1", f"'{name_of(url)}'"))
            taken = await other.fetchval("SELECT pg_try_advisory_lock($1)", OWNER_LOCK)
        assert server.process is not None
        status = await asyncio.to_thread(server.process.wait, 30)
        written = await other.fetchval("SELECT count(*) FROM entries WHERE session_id = $1", session)
        assert written == 0
        await other.close()
        return status

    assert asyncio.run(take_over()) == 2
    assert "Another server uses this database" in server.log().splitlines()[-1]
