"""The connections themselves, on an event loop of ours: bounds, credentials, redirects, and that nothing is left."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from hostler.mcp.config import McpConfig, StdioServer
from hostler.mcp.pool import Key, Pool
from hostler.mcp.problems import NotAuthorized, NotConnected, OutcomeUnknown, Unauthorized
from mcptools.conftest import Start
from mcptools.processes import HERE, Process


class Tokens:
    """An authority with a list of tokens: each one that is refused gives way to the next."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    async def token(self) -> str | None:
        return self.tokens[0] if self.tokens else None

    async def renewed(self, rejected: str) -> str | None:
        self.tokens.remove(rejected)
        return await self.token()


NONE = Tokens()


def on(work: Callable[[Pool], Awaitable[None]], **config: object) -> None:
    """Run with a pool; when it is closed, no task of it is left."""

    async def main() -> None:
        pool = Pool(McpConfig(**config), dict(os.environ))  # type: ignore[arg-type]
        try:
            await work(pool)
        finally:
            begun = time.monotonic()
            await pool.aclose()
            assert time.monotonic() - begun < 1.2
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("mcp-")] == []

    asyncio.run(main())


def key(process: Process, session: str = "s") -> Key:
    return Key(session, "real", process.url)


def hostile(start: Start, *arguments: str) -> Process:
    return start(*arguments, script="hostile_server.py")


def test_the_sdk_is_the_sdk_inside_a_room_of_the_same_name() -> None:
    import mcp

    from hostler.mcp import connection

    assert "site-packages" in str(mcp.__file__)
    assert connection.Client is mcp.Client


@pytest.mark.parametrize(
    ("how", "least", "most"), [("many", 10_000, 10_000), ("endless", 50, 50), ("same", 1, 1), ("odd", 9, 9)]
)
def test_listings_end(start: Start, how: str, least: int, most: int) -> None:
    at = key(hostile(start, how))

    async def work(pool: Pool) -> None:
        tools = await pool.tools(at, NONE, fresh=True)
        assert least <= len(tools) <= most
        assert [tool.name for tool in tools] == sorted(tool.name for tool in tools)

    on(work)


@pytest.mark.parametrize("how", ["broken", "html", "zipped", "list"])
def test_what_is_no_mcp(start: Start, how: str) -> None:
    at = key(hostile(start, how))

    async def work(pool: Pool) -> None:
        with pytest.raises(NotConnected):
            await pool.tools(at, NONE, fresh=True)

    on(work)


def test_a_token_goes_to_its_origin_only(start: Start) -> None:
    elsewhere = start()
    redirecting = hostile(start, "redirect", "--elsewhere", elsewhere.url)
    at = key(redirecting)

    async def work(pool: Pool) -> None:
        with pytest.raises(NotConnected):
            await pool.tools(at, Tokens("s3cret"), fresh=True)

    on(work)
    assert all(line.endswith("Bearer s3cret") for line in redirecting.noted())
    assert elsewhere.requests() == []


def test_a_refused_token_is_renewed_once(start: Start, tmp_path: Path) -> None:
    wanted = tmp_path / "token"
    wanted.write_text("two")
    real = start("http", "--token", str(wanted))

    async def work(pool: Pool) -> None:
        tokens = Tokens("one", "two", "three")
        connection = await pool.connection(key(real), tokens)
        assert len(await pool.tools(key(real), tokens, fresh=True)) == 9
        assert tokens.tokens == ["two", "three"]
        wanted.write_text("three")  # while it is connected
        await connection.call("add", {"a": 1, "b": 1})
        assert tokens.tokens == ["three"]
        wanted.write_text("four")
        with pytest.raises(Unauthorized):
            await connection.call("add", {"a": 1, "b": 1})
        with pytest.raises(NotAuthorized):
            await pool.connection(key(real, "other"), Tokens("five"))

    on(work)
    assert real.noted() == ["add 1 1"]


def test_connections_are_of_one_session_and_opened_once(start: Start) -> None:
    real = start()

    async def work(pool: Pool) -> None:
        same = await asyncio.gather(*(pool.connection(key(real), NONE) for _ in range(5)))
        assert len({id(connection) for connection in same}) == 1
        assert await pool.connection(key(real, "other"), NONE) is not same[0]
        pool.forget("s")
        assert not same[0].alive or await pool.connection(key(real), NONE) is not same[0]

    on(work)


def test_the_number_of_connections_is_bounded(start: Start) -> None:
    real = start()

    async def work(pool: Pool) -> None:
        first = await pool.connection(key(real, "a"), NONE)
        second = await pool.connection(key(real, "b"), NONE)
        busy = asyncio.create_task(second.call("wait", {"seconds": 60}))
        await asyncio.to_thread(real.until_noted, "wait began")
        third = await pool.connection(key(real, "c"), NONE)
        assert not first.alive, "the one that was not used for longest"
        also = asyncio.create_task(third.call("wait", {"seconds": 60}))
        await asyncio.sleep(0)  # once round the loop, and it has begun
        assert third.busy
        with pytest.raises(NotConnected, match="2 MCP connections at work"):
            await pool.connection(key(real, "d"), NONE)
        pool.forget("b")
        with pytest.raises(OutcomeUnknown):
            await busy
        also.cancel()

    on(work, connections=2)


def test_an_idle_connection_is_closed(start: Start) -> None:
    real = start()

    async def work(pool: Pool) -> None:
        connection = await pool.connection(key(real), NONE)
        async with asyncio.timeout(10):
            await connection.closed.wait()
        assert (await pool.connection(key(real), NONE)).alive

    on(work, idle_seconds=0.2)


def test_a_program_ends_with_its_connection(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    arguments = [str(HERE / "real_server.py"), "stdio", "--stubborn", "--ledger", str(ledger)]
    program = StdioServer(command=sys.executable, args=arguments)

    async def work(pool: Pool) -> None:
        await pool.connection(Key("s", "real", "stdio:p"), NONE)

    on(work, stdio={"p": program})
    (line,) = ledger.read_text().splitlines()
    assert not Path(f"/proc/{line.split()[1]}").exists()


@pytest.mark.parametrize("command", ["/nowhere/program", "/bin/true", "/bin/cat"])
def test_programs_that_are_no_servers(command: str) -> None:
    async def work(pool: Pool) -> None:
        with pytest.raises(NotConnected):
            await pool.connection(Key("s", "real", "stdio:p"), NONE)

    on(work, stdio={"p": StdioServer(command=command)}, setup_seconds=2.0)


@pytest.mark.parametrize("url", ["http://\U0001f600/", "http://a..b/", "http://%/", "http://xn--/mcp"])
def test_urls_that_lead_nowhere(url: str) -> None:
    async def work(pool: Pool) -> None:
        with pytest.raises(NotConnected):
            await pool.connection(Key("s", "real", url), NONE)

    on(work)


def test_a_program_that_leaves_at_the_newer_protocol(tmp_path: Path) -> None:
    """Older servers may end at a first message that is not `initialize`."""
    ledger = tmp_path / "ledger"
    real = [sys.executable, str(HERE / "real_server.py"), "stdio", "--ledger", str(ledger)]
    picky = StdioServer(command="/bin/bash", args=[str(HERE / "picky.sh"), *real])

    async def work(pool: Pool) -> None:
        assert len(await pool.tools(Key("s", "real", "stdio:p"), NONE, fresh=True)) == 9

    on(work, stdio={"p": picky})


def test_a_line_without_an_end_is_not_read_for_ever() -> None:
    endless = StdioServer(command="/bin/sh", args=["-c", "exec yes no | tr -d '\\n'"])

    async def work(pool: Pool) -> None:
        with pytest.raises(NotConnected):
            await pool.connection(Key("s", "real", "stdio:p"), NONE)

    on(work, stdio={"p": endless}, result_bytes=100_000)
