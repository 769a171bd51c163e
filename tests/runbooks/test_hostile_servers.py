"""Another server that agents live on may answer anything: it is bounded, and told as what can't be had."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import pytest

from hostler.runbooks.invoking import remote
from hostler.runbooks.invoking.remote import Down, Http, Refused, Remote

ENDLESS = b'{"data": [{"id": "a"}], "next_page": "again"}'


def ask(answer: bytes, *, packed: bool = False) -> Exception:
    """What comes of a list that is answered with this."""
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = gzip.compress(answer) if packed else answer
        how = "content-encoding: gzip\r\n" if packed else ""
        with contextlib.suppress(OSError):
            await reader.readuntil(b"\r\n\r\n")
            head = f"HTTP/1.1 200 OK\r\n{how}connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        served.set()

    async def main() -> Exception:
        http = Http(near=True)
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises((Refused, Down)) as caught:
                _ = [each async for each in Remote(http, f"http://127.0.0.1:{port}", "k").pages("/v1/files")]
            await http.aclose()
            await served.wait()
        return caught.value

    return asyncio.run(main())


def test_a_list_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "MAX_PAGES", 5)
    assert str(ask(ENDLESS)) == "/v1/files: the list has no end"


@pytest.mark.parametrize("answer", [b"[]", b"1", b'"x"', b'{"data": {"a": 1}}', b'{"data": [1]}', b"{}"])
def test_what_is_no_list_is_refused(answer: bytes) -> None:
    assert str(ask(answer)) == "/v1/files: the answer is no list"


@pytest.mark.parametrize("answer", [b"<html>", b"[" * 100_000, b'"\xff"'])
def test_what_is_no_json_may_be_another_time(answer: bytes) -> None:
    assert isinstance(ask(answer), Down)


@pytest.mark.parametrize("packed", [False, True])
def test_no_answer_is_too_long_for_memory(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(remote, "MAX_ANSWER", 100_000)
    assert "more than 100000 bytes" in str(ask(b" " * 1_000_000, packed=packed))
