"""Clients that never read their streams cost a bounded buffer each, and nobody else anything; a stop cuts them."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from failures.client import Api, memory_peak, said
from running import Server

MIB = 1024 * 1024
STREAMS = 40
TURNS = 40
TEXT = "x" * 20_000  # spoken and echoed: all streams together would be 64 MB and more


def deaf(server: Server, session: str) -> socket.socket:
    """Open a stream, read its head, and never read again."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    path = f"/v1/sessions/{session}/events/stream?event_deltas[]=agent.message"
    headers = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items())
    connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n".encode())
    assert connection.recv(64).startswith(b"HTTP/1.1 200")
    return connection


def test_clients_that_never_read(start: Callable[..., Server]) -> None:
    server = start()
    with Api(server) as api:
        session, other = api.session(), api.session()
        api.turn(session, "say: warm")
        sockets = [deaf(server, session) for _ in range(STREAMS)]
        try:
            before = memory_peak(server.pid)
            for turn in range(TURNS):
                assert said(api.turn(session, f"say: {turn} {TEXT}")) == [f"{turn} {TEXT}"]
            began = time.monotonic()
            assert said(api.turn(other, "say: not affected")) == ["not affected"]
            assert time.monotonic() - began < 5
            # Every event reached the reader that reads, and those that don't hold less than what was sent to them.
            assert memory_peak(server.pid) - before < 48 * MIB
        finally:
            for each in sockets:
                each.close()
        assert said(api.turn(session, "say: alive")) == ["alive"]


def test_sigterm_with_open_streams_and_running_sessions(start: Callable[..., Server]) -> None:
    server = start()
    with Api(server) as api:
        idle, busy = api.session(), api.session()
        sockets = [deaf(server, session) for session in (idle, busy) for _ in range(10)]
        began = 0.0

        def stop(event: dict[str, object]) -> bool:
            nonlocal began
            if event["type"] == "agent.tool_use":
                began = time.monotonic()
                return True
            return False

        api.turn(busy, "run: echo begun; sleep 2; echo ended", until=stop)
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        for each in sockets:
            each.close()
    assert "Traceback" not in server.log()
    server.start()
    with Api(server) as api:
        ended = [str(event) for event in api.events(busy) if event["type"] == "agent.tool_result"]
        assert "ended" in ended[0]


def test_what_does_not_end_goes_on_after_the_restart(start: Callable[..., Server]) -> None:
    server = start()
    with Api(server) as api:
        session = api.session()
        api.turn(session, "run: echo begun; sleep 9; echo ended", until=lambda event: event["type"] == "agent.tool_use")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        server.start()
    with Api(server) as api:
        api.settle(session)
        (result,) = [event for event in api.events(session) if event["type"] == "agent.tool_result"]
        assert "ended" in result["content"][0]["text"]
        assert not result["is_error"]
