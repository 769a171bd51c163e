"""Streams: the head at once, a named frame for every event, previews on request, and how they end."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socket import create_connection, socket
from typing import Any

import httpx2
import msgspec
import pytest
from anthropic import Anthropic

from hostler.api import sse
from hostler.log.entries import Draft
from hostler.wire.events import Preview
from serving import HEADERS, KEY, Server, ok, refused

Json = dict[str, Any]


class Frames:
    """The frames of one open stream, read one at a time."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def next(self) -> tuple[str, Json]:
        lines: list[str] = []
        for line in self._lines:
            if not line:
                break
            lines.append(line)
        assert len(lines) == 2, lines
        assert lines[0].startswith("event: ")
        assert lines[1].startswith("data: ")
        return lines[0][7:], json.loads(lines[1][6:])

    def ended(self) -> bool:
        return list(self._lines) == []


@contextmanager
def stream(http: httpx2.Client, path: str, **query: Any) -> Iterator[Frames]:
    with http.stream("GET", path, params=query) as response:
        assert response.status_code == 200, response.read()
        yield Frames(response)


def path(session: Json) -> str:
    return f"/v1/sessions/{session['id']}/events/stream"


def message() -> Json:
    return {"events": [{"type": "user.message", "content": [{"type": "text", "text": "hi"}]}]}


def test_the_head_comes_before_any_event(server: Server, http: httpx2.Client, session: Json) -> None:
    with stream(http, path(session)) as frames:
        assert frames.response.headers["content-type"].startswith("text/event-stream")
        assert frames.response.headers["request-id"]
        (sent,) = ok(http.post(f"/v1/sessions/{session['id']}/events", json=message()))["data"]
        assert frames.next() == ("user.message", sent)
        server.append(session["id"], Draft(type="agent.message", fields={"content": []}))
        name, event = frames.next()
        assert (name, event["type"], event["content"]) == ("agent.message", "agent.message", [])
        assert event["processed_at"].endswith("Z")


def test_only_what_comes_after_opening_is_streamed_to_all(server: Server, http: httpx2.Client, session: Json) -> None:
    server.append(session["id"], Draft(type="session.status_running"))
    with stream(http, path(session)) as one, stream(http, path(session)) as two:
        server.append(session["id"], Draft(type="hostler.private"), Draft(type="session.status_rescheduled"))
        assert one.next()[0] == two.next()[0] == "session.status_rescheduled"


def test_the_short_path_of_published_examples(server: Server, http: httpx2.Client, session: Json) -> None:
    with stream(http, f"/v1/sessions/{session['id']}/stream") as frames:
        server.append(session["id"], Draft(type="session.status_rescheduled"))
        assert frames.next()[0] == "session.status_rescheduled"


def test_pings_keep_a_silent_stream_alive(http: httpx2.Client, session: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.05)
    with stream(http, path(session)) as frames:
        assert [frames.next()[0] for _ in range(3)] == ["ping"] * 3


@pytest.mark.parametrize("how", ["delete", "archive"])
def test_the_end_of_a_session_ends_its_streams(http: httpx2.Client, session: Json, how: str) -> None:
    with stream(http, path(session)) as frames:
        if how == "delete":
            ok(http.delete(f"/v1/sessions/{session['id']}"))
            assert frames.next()[0] == "session.deleted"
        else:
            ok(http.post(f"/v1/sessions/{session['id']}/archive"))
            names = [frames.next()[0], frames.next()[0]]
            assert names == ["session.thread_status_terminated", "session.status_terminated"]
        assert frames.ended()
    if how == "archive":
        with stream(http, path(session)) as late:
            assert late.ended()


def test_previews_are_asked_for_per_connection(server: Server, http: httpx2.Client, session: Json) -> None:
    hub = server.log.hub
    thread_id = ok(http.get(f"/v1/sessions/{session['id']}/threads"))["data"][0]["id"]
    start = {"type": "event_start", "event": {"type": "agent.message", "id": "sevt_1"}}
    content = {"type": "text", "text": "He"}
    delta = {
        "type": "event_delta",
        "event_id": "sevt_1",
        "delta": {"type": "content_delta", "index": 0, "content": content},
    }

    async def preview() -> None:
        event = Preview(type="agent.message", id="sevt_1")
        hub.start_preview(session["id"], (thread_id, None), event, msgspec.json.encode(start))
        hub.preview(session["id"], "sevt_1", msgspec.json.encode(delta))

    thread_path = f"/v1/sessions/{session['id']}/threads/{thread_id}/stream"
    wanted = {"event_deltas[]": "agent.message"}
    with (
        stream(http, path(session)) as plain,
        stream(http, path(session), **wanted) as asked,
        stream(http, thread_path, **wanted) as thread,
    ):
        server.call(preview())
        server.append(session["id"], Draft(type="agent.message", id="sevt_1", fields={"content": []}))
        assert plain.next()[0] == "agent.message"
        for frames in (asked, thread):
            assert frames.next() == ("event_start", start)
            assert frames.next() == ("event_delta", delta)
            assert frames.next()[0] == "agent.message"
    assert "event_deltas" in refused(http.get(path(session), params={"event_deltas[]": "agent.tool_use"}))
    refused(http.get(path({"id": "sesn_no"})), 404)


def open_raw(server: Server, session: Json) -> socket:
    lines = [f"GET {path(session)} HTTP/1.1", "host: x", *(f"{k}: {v}" for k, v in HEADERS.items()), "", ""]
    connection = create_connection((server.host, server.port), timeout=10)
    connection.sendall("\r\n".join(lines).encode())
    assert connection.recv(64).startswith(b"HTTP/1.1 200")
    return connection


def test_a_client_that_goes_away_is_forgotten_at_once(server: Server, session: Json) -> None:
    async def followers() -> int:
        return len(server.log.hub._followers)

    async def forgotten() -> None:
        async with asyncio.timeout(5):
            while await followers():  # noqa: ASYNC110 - the hub tells nobody of those who leave
                await asyncio.sleep(0.01)

    connection = open_raw(server, session)
    assert server.call(followers()) == 1
    connection.close()
    server.call(forgotten())


def test_a_client_that_never_reads_holds_nobody_up(server: Server, http: httpx2.Client, session: Json) -> None:
    connection = open_raw(server, session)
    big = {"content": [{"type": "text", "text": "x" * 10_000}]}
    with stream(http, path(session)) as frames:
        for _ in range(15):
            server.append(session["id"], *(Draft(type="agent.message", fields=big) for _ in range(100)))
            for _ in range(100):
                assert frames.next()[0] == "agent.message"
    # It reads late, and gets every event once: those its buffer lost come from the log.
    ok(http.post(f"/v1/sessions/{session['id']}/archive"))
    received = b""
    while chunk := connection.recv(1 << 20):
        received += chunk
        if b"session.status_terminated" in chunk:
            break
    connection.close()
    assert received.count(b"event: agent.message\n") == 1500


def test_the_official_sdk_reads_a_stream_strictly(server: Server, http: httpx2.Client, session: Json) -> None:
    client = Anthropic(base_url=server.url, api_key=KEY, _strict_response_validation=True, max_retries=0)
    got: list[str] = []
    opened = threading.Event()

    def read() -> None:
        with client.beta.sessions.events.stream(session["id"]) as events:
            opened.set()
            got.extend(event.type for event in events)

    reader = threading.Thread(target=read)
    reader.start()
    assert opened.wait(10)
    ok(http.post(f"/v1/sessions/{session['id']}/events", json=message()))
    server.append(session["id"], Draft(type="session.status_running"), wake_at=None)
    ok(http.delete(f"/v1/sessions/{session['id']}"))
    reader.join(10)
    assert got == ["user.message", "session.status_running", "session.deleted"]
    client.close()
