"""Which URLs are this server's own: those are dialled where it listens, and they alone learn whose session calls."""

from __future__ import annotations

import asyncio

import pytest

from hostler.mcp.config import McpConfig
from hostler.mcp.own import OwnServer
from hostler.mcp.pool import Key, Pool
from hostler.mcp.problems import NotConnected
from hostler.settings import BadSettings, load

HERE = "http://127.0.0.1:8400/mcp"


def own(host: str = "127.0.0.1", public_url: str | None = "https://hostler.example.com/base") -> OwnServer:
    made = OwnServer(public_url)
    made.listens(host, 8400)
    return made


@pytest.mark.parametrize(
    "url",
    [
        HERE,
        "http://127.0.0.1:8400/mcp/",
        "HTTP://LOCALHOST:8400/mcp",
        "http://localhost.:8400/mcp",
        "https://hostler.example.com/base/mcp",
        "https://Hostler.Example.com:443/base/mcp/",
    ],
)
def test_its_own_urls(url: str) -> None:
    assert own().dialled(url) == HERE
    assert OwnServer("https://hostler.example.com/base").dialled(url) is None, "not before it is known where it listens"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8401/mcp",
        "http://127.0.0.1/mcp",
        "https://127.0.0.1:8400/mcp",
        "http://127.0.0.2:8400/mcp",
        "http://[::1]:8400/mcp",
        "http://127.0.0.1:8400/other",
        "http://127.0.0.1:8400/mcp/../v1/agents",
        "http://127.0.0.1:8400/mcp?session=1",
        "http://user:pw@127.0.0.1:8400/mcp",
        "http://127.0.0.1:8400@evil.example/mcp",
        "https://hostler.example.com/mcp",
        "https://hostler.example.com.evil.example/base/mcp",
        "http://evil.example:99999/mcp",
        "http://[/mcp",
        "stdio:files",
        "",
    ],
)
def test_others(url: str) -> None:
    assert own().dialled(url) is None


def test_one_that_listens_on_every_address_is_meant_by_each() -> None:
    made = own("0.0.0.0")
    assert made.dialled("http://127.0.0.1:8400/mcp") == HERE
    assert made.dialled("http://203.0.113.7:8400/mcp") is None
    assert made.dialled("http://other.example:8400/mcp") is None
    assert own("::").dialled("http://[::1]:8400/mcp") == "http://[::1]:8400/mcp"
    assert own("203.0.113.7").dialled("http://127.0.0.1:8400/mcp") is None


@pytest.mark.parametrize("is_own", [True, False])
def test_no_other_server_learns_the_session(is_own: bool) -> None:
    """Both are on this machine, and both answer with a redirect to elsewhere, which is not followed."""
    got: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append((await reader.readuntil(b"\r\n\r\n")).decode().lower())
        writer.write(
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://localhost:1/mcp\r\ncontent-length: 0\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        made = OwnServer()
        made.listens("127.0.0.1", port if is_own else 1)
        pool = Pool(McpConfig(), {}, made)
        with pytest.raises(NotConnected):
            await pool.connection(Key("sesn_1", "home", f"http://127.0.0.1:{port}/mcp"), _NoToken())
        await pool.aclose()
        server.close()

    asyncio.run(main())
    assert got
    assert all(("x-hostler-session: sesn_1" in each) == is_own for each in got)


class _NoToken:
    async def token(self) -> str | None:
        return None

    async def renewed(self, rejected: str) -> str | None:
        return None


@pytest.mark.parametrize(
    ("said", "meant"),
    [("https://h.example/", "https://h.example"), ("http://h.example:81/a", "http://h.example:81/a"), ("", None)],
)
def test_the_public_url(said: str, meant: str | None) -> None:
    assert load(environ={"HOSTLER_PUBLIC_URL": said}).public_url == meant


@pytest.mark.parametrize(
    "said",
    ["h.example", "ftp://h.example", "https://", "https://u:pw@h.example", "https://h/?a", "https://h:x", "http://[h"],
)
def test_what_is_no_public_url(said: str) -> None:
    with pytest.raises(BadSettings, match="public_url"):
        load(environ={"HOSTLER_PUBLIC_URL": said})
