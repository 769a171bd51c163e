"""What a client may keep the server busy with before it has shown a key: a bounded head, for a bounded time."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from hostler.api import connection


async def _answer(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.5)
    config = uvicorn.Config(_answer, http=connection.Connection, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)


def _converse(port: int, *parts: bytes) -> bytes:
    """Send, and read all that comes until the server hangs up; a reset counts as hanging up."""
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        try:
            for part in parts:
                client.sendall(part)
            while data := client.recv(65536):
                got += data
        except ConnectionError:
            pass
    return got


@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nX: ", b"GET / HTTP/1.1\r\n"])
def test_a_head_without_end_is_refused(port: int, begin: bytes) -> None:
    piece = b"X-y: z\r\n" * 2048 if begin.endswith(b"\n") else b"a" * 16384
    got = _converse(port, begin, *[piece] * 5)
    assert got.startswith(b"HTTP/1.1 431 ") or got == b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(begin + piece)
        for _ in range(4):
            time.sleep(0.02)  # let each piece arrive by itself: the answer is not lost to a reset then
            client.sendall(piece)
        answer = client.recv(65536)
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b'"invalid_request_error"' in answer


@pytest.mark.parametrize("begin", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(port: int, begin: bytes) -> None:
    assert _converse(port, begin).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_upgrade_that_is_offered_is_not_taken(port: int, protocol: bytes, caplog: pytest.LogCaptureFixture) -> None:
    head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: " + protocol + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(head)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert "pgrade" not in caplog.text


def test_large_heads_and_slow_clients_between_requests_are_served(port: int) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000 + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(3):
            client.sendall(request)
            assert client.recv(65536).startswith(b"HTTP/1.1 200 ")
            time.sleep(0.6)  # longer than a head may take: between two requests none is due
