"""Bodies at the edge: replaced and scrubbed while they stream, whatever their framing and coding."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from asyncio import StreamReader, StreamWriter
from pathlib import Path
from typing import Any

import pytest
from edge_world import PLACEHOLDER, VALUE, Client, World, secret, world

from hostler.sandbox.edge.substitution import Replacer

P, V = PLACEHOLDER.encode(), VALUE.encode()


def echo_body(seen: list[bytes], *fields: bytes) -> Any:
    """A server that gives the body of each request back, and keeps the whole request."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await read_body(head, reader, writer)
            seen.append(head + body)
            writer.write(b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *fields, b"", body]))
            await writer.drain()

    return handle


async def read_body(head: bytes, reader: StreamReader, writer: StreamWriter) -> bytes:
    fields = dict(line.lower().split(b": ", 1) for line in head.strip().split(b"\r\n")[1:])
    if b"expect" in fields:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if b"content-length" in fields:
        return await reader.readexactly(int(fields[b"content-length"]))
    body = b""
    while fields.get(b"transfer-encoding") == b"chunked":
        size = int(await reader.readuntil(b"\r\n"), 16)
        body += (await reader.readexactly(size + 2))[:-2]
        if size == 0:
            break
    return body


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST / HTTP/1.1", b"Host: api.test", *fields, b"", body])


def chunked(*parts: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))


async def through(tmp_path: Path, request: bytes, *fields: bytes, **more: Any) -> tuple[bytes, bytes]:
    """What the server got, and what came back."""
    seen: list[bytes] = []
    async with world(tmp_path, [secret(body=True, **more)]) as w, w.serve(echo_body(seen, *fields)) as port:
        client = await w.tls("api.test", port)
        answer = await client.ask(request)
    return seen[0], answer


def test_a_body_with_a_length_gets_a_new_one_both_ways(tmp_path: Path) -> None:
    body = b"a" + P + b"b"
    got, answer = asyncio.run(through(tmp_path, post(b"Content-Length: %d" % len(body), body=body)))
    assert got.endswith(b"\r\n\r\na" + V + b"b")
    assert b"Content-Length: %d\r\n" % (len(V) + 2) in got
    assert answer.endswith(b"\r\n\r\n" + body)
    assert b"Content-Length: %d\r\n" % len(body) in answer


def test_chunks_that_cut_the_placeholder_anywhere(tmp_path: Path) -> None:
    async def main() -> None:
        for cut in (1, 17, len(P) - 1):
            request = post(b"Transfer-Encoding: chunked", body=chunked(b"x" + P[:cut], P[cut:] + b"y"))
            got, answer = await through(tmp_path, request)
            assert b"Transfer-Encoding: chunked" in got
            assert got.endswith(b"\r\n\r\nx" + V + b"y")
            assert answer.endswith(b"x" + P + b"y")

    asyncio.run(main())


def test_a_big_body_loses_its_length_and_nothing_else(tmp_path: Path) -> None:
    body = (b"z" * 99_991 + P) * 15
    got, answer = asyncio.run(through(tmp_path, post(b"Content-Length: %d" % len(body), body=body)))
    head, _, sent = got.partition(b"\r\n\r\n")
    assert sent == body.replace(P, V)
    assert b"Transfer-Encoding: chunked" in head
    assert b"Content-Length" not in head
    assert V not in answer


@pytest.mark.parametrize("coding", ["gzip", "deflate", "two members"])
def test_compressed_bodies(tmp_path: Path, coding: str) -> None:
    body = b"key=" + P + b"&" + b"filler " * 5000
    packed = {
        "gzip": gzip.compress(body),
        "deflate": zlib.compress(body),
        "two members": gzip.compress(body[:20]) + gzip.compress(body[20:]),
    }[coding]
    name = b"deflate" if coding == "deflate" else b"gzip"
    fields = (b"Content-Encoding: " + name, b"Content-Length: %d" % len(packed))
    got, answer = asyncio.run(through(tmp_path, post(*fields, body=packed), b"Content-Encoding: " + name))
    assert unpack(got.partition(b"\r\n\r\n")[2], coding) == body.replace(P, V)
    assert unpack(answer.partition(b"\r\n\r\n")[2], coding) == body


def unpack(data: bytes, coding: str) -> bytes:
    return zlib.decompress(data) if coding == "deflate" else gzip.decompress(data)


def test_json_and_forms_get_the_secret_as_they_write_it(tmp_path: Path) -> None:
    odd = 'a"b\\c&d é'

    async def main() -> None:
        for kind, sent in ((b"application/json", b'a\\"b\\\\c&d \xc3\xa9'), (b"text/plain", odd.encode())):
            body = b"<" + P + b">"
            request = post(b"Content-Type: " + kind, b"Content-Length: %d" % len(body), body=body)
            got, answer = await through(tmp_path, request, value=odd)
            assert got.endswith(b"<" + sent + b">")
            assert answer.endswith(b"<" + P + b">")

    asyncio.run(main())


def test_where_only_headers_are_meant_bodies_stay(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []
        async with world(tmp_path, [secret()]) as w, w.serve(echo_body(seen)) as port:
            client = await w.tls("api.test", port)
            await client.ask(post(b"Content-Length: %d" % len(P), b"X-Key: " + P, body=P))
        assert seen[0].endswith(b"\r\n\r\n" + P)
        assert b"X-Key: " + V in seen[0]

    asyncio.run(main())


def test_expect_100_continue(tmp_path: Path) -> None:
    """Held or not, the client is told to go on and the body arrives."""

    async def main() -> None:
        for size in (10, 2_000_000):
            seen: list[bytes] = []
            async with world(tmp_path, [secret(body=True)]) as w, w.serve(echo_body(seen)) as port:
                client = await w.tls("api.test", port)
                await client.stream.write(post(b"Expect: 100-continue", b"Content-Length: %d" % size))
                assert (await client.stream.read()).startswith(b"HTTP/1.1 100")
                sending = asyncio.create_task(client.stream.write(b"q" * size))
                answer = await client.answer()
                await sending
                assert answer.startswith(b"HTTP/1.1 200")
                assert len(seen[0].partition(b"\r\n\r\n")[2]) == size

    asyncio.run(main())


async def _asked(w: World, port: int, *fields: bytes) -> tuple[Client, bytes]:
    client = await w.tls("api.test", port)
    request = b"\r\n".join([b"GET / HTTP/1.1", b"Host: api.test", *fields, b"", b""])
    return client, await client.ask(request)


def test_a_stream_comes_as_it_is_sent_and_a_secret_over_two_events_is_scrubbed(tmp_path: Path) -> None:
    async def main() -> None:
        go_on = asyncio.Event()

        async def events(reader: StreamReader, writer: StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            first = b"data: one\n\ndata: " + V[:7]
            writer.write(head + b"%x\r\n%s\r\n" % (len(first), first))
            await go_on.wait()
            writer.write(chunked(V[7:] + b"\n\n"))
            await writer.drain()

        async with world(tmp_path, [secret()]) as w, w.serve(events) as port:
            client = await w.tls("api.test", port)
            await client.stream.write(b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n")
            got = b""
            async with asyncio.timeout(10):
                while b"data: one\n\n" not in got:
                    got += await client.stream.read()
            assert V[:7] not in got
            go_on.set()
            got += await client.answer_end()
            assert P in got.replace(b"\r\n", b"")
            assert V not in got

    asyncio.run(main())


def test_an_answer_in_a_coding_that_can_not_be_read_is_refused(tmp_path: Path) -> None:
    async def main() -> None:
        seen: list[bytes] = []

        async def brotli(reader: StreamReader, writer: StreamWriter) -> None:
            seen.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 3\r\n\r\nabc")
            await writer.drain()

        async with world(tmp_path, [secret()]) as w, w.serve(brotli) as port:
            _, answer = await _asked(w, port, b"Accept-Encoding: br, gzip;q=0.5, zstd")
        assert b"Accept-Encoding: gzip;q=0.5\r\n" in seen[0]
        assert answer.startswith(b"HTTP/1.1 502")
        assert b"abc" not in answer

    asyncio.run(main())


def test_a_bomb_of_gzip_is_no_burden(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(200_000_000), 9)

    async def main() -> None:
        async def explode(reader: StreamReader, writer: StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
            writer.write(head + bomb)
            await writer.drain()

        async with world(tmp_path, [secret()]) as w, w.serve(explode) as port:
            _, answer = await _asked(w, port)
        packed = answer.partition(b"\r\n\r\n")[2]
        assert len(packed) < 8 * len(bomb)

    asyncio.run(main())


def test_the_replacer_finds_needles_however_they_are_cut() -> None:
    needles = {b"abc": b"1", b"abcabd": b"2", b"cab": b"3"}
    text = b"xabcabdabcabcab-abcab" * 3
    whole = Replacer(needles).whole(text)
    for size in range(1, len(text)):
        replacer = Replacer(needles)
        got = b"".join(replacer.feed(text[at : at + size]) for at in range(0, len(text), size)) + replacer.finish()
        assert got == whole, size
