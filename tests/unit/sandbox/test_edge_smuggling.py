"""What is no plain request is refused before a byte of it reaches the server, in every place where HTTP is read."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from pathlib import Path

import pytest
from edge_world import PLACEHOLDER, VALUE, World, keeps, secret, world

from hostler.sandbox.contract import Network

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
P, V = PLACEHOLDER.encode(), VALUE.encode()
HOST = b"Host: api.test\r\n"
REFUSED = {
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    "length and chunks": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "hidden coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "odd length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +4\r\n\r\nabcd",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + b"Host: api.test\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "absolute target": b"GET https://other.test/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "authority target": b"CONNECT other.test:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "space in the name": b"GET / HTTP/1.1\r\n" + HOST + b"X Y: 1\r\n\r\n",
    "nul": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "endless head": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "http 2 in disguise": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "host with user": b"GET / HTTP/1.1\r\nHost: api.test@other.test\r\n\r\n",
    "host with space": b"GET / HTTP/1.1\r\nHost: api.test other.test\r\n\r\n",
}


@pytest.mark.parametrize("place", ["tls", "tunnel"])
@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED)
def test_requests_that_two_readers_could_take_differently(tmp_path: Path, request_bytes: bytes, place: str) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        tls = place == "tls"
        limited = Network(hosts=("api.test",))
        async with world(tmp_path, [secret()], limited) as w, w.serve(keeps(OK, seen), tls=tls) as port:
            answer = await _ask(w, port, request_bytes, tls=tls)
        assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), answer
        assert seen == []

    asyncio.run(main())


async def _ask(w: World, port: int, request: bytes, *, tls: bool) -> bytes:
    if tls:
        return await (await w.tls("api.test", port)).ask(request)
    reader, writer = await w.tunnel(f"api.test:{port}")
    writer.write(request)
    async with asyncio.timeout(10):
        return await reader.read()


@pytest.mark.parametrize("place", ["tls", "tunnel"])
def test_what_is_written_anew_holds_nothing_hidden(tmp_path: Path, place: str) -> None:
    """Folded lines and bare line feeds are h11's to take or refuse; what goes out is always one plain request."""

    async def main() -> None:
        for head in (
            b"X: a\r\n b\r\n",
            b"X: a\nHost: other.test\r\n",
            b"X: a\n\nGET /second HTTP/1.1\r\n",
            b"\tX: y\r\n",
        ):
            seen: list[bytes] = []
            limited = Network(hosts=("api.test",))
            tls = place == "tls"
            async with world(tmp_path, [secret()], limited) as w, w.serve(keeps(OK, seen), tls=tls) as port:
                asking = _ask(w, port, b"GET / HTTP/1.1\r\n" + HOST + head + b"Connection: close\r\n\r\n", tls=tls)
                await asking
            for request in seen:
                assert request.lower().count(b"host:") == 1
                assert b"\n" not in request.replace(b"\r\n", b"")
                assert not any(line.startswith((b" ", b"\t")) for line in request.split(b"\r\n"))
                assert b"other.test" not in request

    asyncio.run(main())


def test_plain_http_in_a_tunnel_is_held_to_its_host_in_a_limited_network(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        limited = Network(hosts=("api.test",))
        async with world(tmp_path, [secret()], limited) as w, w.serve(keeps(OK, seen), tls=False) as port:
            reader, writer = await w.tunnel(f"api.test:{port}")
            writer.write(b"GET /1 HTTP/1.1\r\n" + HOST + b"X-Key: " + P + b"\r\n\r\n")
            assert (await reader.readexactly(len(OK))).endswith(b"ok")
            writer.write(b"GET /2 HTTP/1.1\r\nHost: other.test\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 421")
            for first, then in ((b"\r\n\r\nGET", b""), (b"get", b""), (b"G", b"ET"), (b"\nGE", b"T")):
                reader, writer = await w.tunnel(f"api.test:{port}")
                writer.write(first)
                await asyncio.sleep(0.02)
                writer.write(then + b" /3 HTTP/1.1\r\nHost: other.test\r\n\r\n")
                assert not (await reader.read()).startswith(b"HTTP/1.1 2"), first
        assert [request.split()[1] for request in seen] == [b"/1"]
        assert P in seen[0]  # in the clear, a secret goes to hosts of the operator's choice only

    asyncio.run(main())


def test_plain_http_to_a_private_host_gets_the_secret_both_ways_of_asking(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        trusted = frozenset({("api.test", None)})
        async with world(tmp_path, [secret()], trusted=trusted) as w, w.serve(keeps(OK, seen), tls=False) as port:
            request = b"GET / HTTP/1.1\r\n" + HOST + b"X-Key: " + P + b"\r\n\r\n"
            reader, writer = await w.tunnel(f"api.test:{port}")
            writer.write(request)
            assert (await reader.readexactly(len(OK))) == OK
            reader, writer = await asyncio.open_connection("127.0.0.1", w.port)
            w.writers.append(writer)
            writer.write(request.replace(b"GET /", b"GET http://api.test:%d/" % port))
            assert (await reader.read()).endswith(b"ok")
        assert [V in request for request in seen] == [True, True]

    asyncio.run(main())


def test_pipelined_requests_are_taken_one_by_one(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("api.test", port)
            one = b"GET / HTTP/1.1\r\n" + HOST + b"X-Key: " + P + b"\r\n\r\n"
            other = b"GET / HTTP/1.1\r\nHost: other.test\r\nX-Key: " + P + b"\r\n\r\n"
            await client.stream.write(one + one + other)
            got = b""
            async with asyncio.timeout(10):
                while data := await client.stream.read():
                    got += data
        assert got.count(b"HTTP/1.1 200") == 2
        assert got.count(b"HTTP/1.1 421") == 1
        assert len(seen) == 2

    asyncio.run(main())


def test_a_server_that_hangs_up_between_requests_is_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        async def once(reader: StreamReader, writer: StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK)
            await writer.drain()

        async with world(tmp_path, [secret()]) as w, w.serve(once) as port:
            client = await w.tls("api.test", port)
            assert await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"\r\n") == OK
            async with asyncio.timeout(10):
                assert await client.stream.read() == b""

    asyncio.run(main())


def test_a_websocket_gets_the_secret_in_its_handshake_and_is_left_alone_then(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []

        async def socket(reader: StreamReader, writer: StreamWriter) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nearly")
            while data := await reader.read(100):
                writer.write(b"<" + data + b">")
                await writer.drain()

        async with world(tmp_path, [secret(body=True)]) as w, w.serve(socket) as port:
            client = await w.tls("api.test", port)
            fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nAuthorization: Bearer " + P + b"\r\n"
            await client.stream.write(b"GET /ws HTTP/1.1\r\n" + HOST + fields + b"\r\n")
            got = b""
            async with asyncio.timeout(10):
                while not got.endswith(b"early"):
                    got += await client.stream.read()
                assert got.startswith(b"HTTP/1.1 101")
                await client.stream.write(P)
                while not got.endswith(b">"):
                    got += await client.stream.read()
        assert b"Bearer " + V in seen[0]
        assert got.endswith(b"<" + P + b">")

    asyncio.run(main())


def test_another_upgrade_is_not_offered_to_the_server(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("api.test", port)
            fields = b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\nConnection: Upgrade, HTTP2-Settings\r\n"
            assert await client.ask(b"GET / HTTP/1.1\r\n" + HOST + fields + b"\r\n") == OK
            both = b"Upgrade: websocket\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n"
            assert await client.ask(b"GET / HTTP/1.1\r\n" + HOST + both + b"\r\n") == OK
        assert b"h2c" not in seen[0] + seen[1]

    asyncio.run(main())


def test_a_secret_that_no_header_can_hold_stays_a_placeholder(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        odd = secret(value="one\r\nHost: other.test")
        async with world(tmp_path, [odd]) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("api.test", port)
            assert await client.ask(b"GET / HTTP/1.1\r\n" + HOST + b"X-Key: " + P + b"\r\n\r\n") == OK
        assert P in seen[0]
        assert b"other.test" not in seen[0]

    asyncio.run(main())


def test_a_server_that_speaks_first(tmp_path: Path) -> None:
    async def main() -> None:
        async def greet(reader: StreamReader, writer: StreamWriter) -> None:
            writer.write(b"SSH-2.0-test\r\n")
            writer.write(b"<" + await reader.readline() + b">")
            await writer.drain()

        for tls in (False, True):
            limited = Network(hosts=("api.test",))
            async with world(tmp_path, [secret()], limited) as w, w.serve(greet, tls=tls) as port:
                if tls:
                    client = await w.tls("api.test", port)
                    async with asyncio.timeout(10):
                        assert await client.stream.read() == b"SSH-2.0-test\r\n"
                        await client.stream.write(b"mine\n")
                        assert await client.stream.read() == b"<mine\n>"
                else:
                    reader, writer = await w.tunnel(f"api.test:{port}")
                    assert await reader.readline() == b"SSH-2.0-test\r\n"
                    writer.write(b"mine\n")
                    assert await reader.read() == b"<mine\n>"

    asyncio.run(main())


def test_an_answer_behind_the_answer_is_for_nobody(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        evil = OK.replace(b"ok", b"no")
        async with world(tmp_path, [secret()]) as w, w.serve(keeps(OK + evil, seen)) as port:
            client = await w.tls("api.test", port)
            request = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"
            await client.stream.write(request + request)
            got = b""
            async with asyncio.timeout(10):
                while data := await client.stream.read():
                    got += data
        assert got == OK

    asyncio.run(main())


def test_a_name_with_a_dot_behind_it_is_the_same_host(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        limited = Network(hosts=("api.test",))
        async with world(tmp_path, [secret()], limited) as w, w.serve(keeps(OK, seen)) as port:
            client = await w.tls("API.test.", port, name="api.test")
            assert await client.ask(b"GET / HTTP/1.1\r\nHost: api.test.\r\nX-Key: " + P + b"\r\n\r\n") == OK
        assert V in seen[0]

    asyncio.run(main())
