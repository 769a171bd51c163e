"""A client of a running server for tests that break things: it knows only HTTP, and every wait of it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from running import Server

SECONDS = 30.0
IDLE = "session.status_idle"
OVER = object()
Json = dict[str, Any]


def message(text: str) -> Json:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


class Api:
    """The API of one server, and shorthands for what most tests need."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.http = httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=SECONDS, trust_env=False)

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str, **params: Any) -> Json:
        return ok(self.http.get(path, params=params))

    def post(self, path: str, body: Any = None) -> Json:
        return ok(self.http.post(path, json=body))

    def agent(self, **fields: Any) -> Json:
        tools = [{"type": "agent_toolset_20260401"}]
        return self.post("/v1/agents", {"name": "a", "model": "claude-opus-5-5", "tools": tools, **fields})

    def session(self, agent: Json | None = None, **fields: Any) -> str:
        """The id of a new session."""
        environment = self.post("/v1/environments", {"name": "e"})
        body = {"agent": (agent or self.agent())["id"], "environment_id": environment["id"], **fields}
        return str(self.post("/v1/sessions", body)["id"])

    def send(self, session: str, *events: Json) -> Json:
        return self.post(f"/v1/sessions/{session}/events", {"events": list(events)})

    def events(self, session: str) -> list[Json]:
        found: list[Json] = []
        page: Json = {}
        while True:
            listed = self.get(f"/v1/sessions/{session}/events", **page)
            found += listed["data"]
            if not listed.get("next_page"):
                return found
            page = {"page": listed["next_page"]}

    def turn(self, session: str, text: str, until: Callable[[Json], bool] | None = None) -> list[Json]:
        """Send a message and return what the stream says up to the next idle, or up to what `until` wants."""
        enough = until or (lambda event: event["type"] == IDLE)
        got: list[Json] = []
        for event in self.stream(session, lambda: self.send(session, message(text))):
            got.append(event)
            if enough(event):
                return got
        raise AssertionError(f"the stream ended after {types(got)}")

    def settle(self, session: str) -> None:
        """Wait until a session is idle. It looks once the stream is open, so that no idle slips through between."""

        def over() -> object:
            return OVER if self.get(f"/v1/sessions/{session}")["status"] == "idle" else None

        for event in self.stream(session, over):
            if event["type"] == IDLE and over():
                return

    def stream(self, session: str, once_open: Callable[[], object]) -> Iterator[Json]:
        """The events from the moment on in which `once_open` is called; none when it returns OVER. Silence but for
        pings ends in an error."""
        with self.http.stream("GET", f"/v1/sessions/{session}/events/stream") as response:
            assert response.status_code == 200, response.read()
            if once_open() is OVER:
                return
            silence = 0
            for frame in httpx2.EventSource(response):
                silence = silence + 1 if frame.event == "ping" else 0
                assert silence < 4, "nothing came any more"
                if frame.event != "ping":
                    yield json.loads(frame.data)


def ok(response: httpx2.Response) -> Json:
    assert response.status_code == 200, response.text
    body: Json = response.json()
    return body


def refused(response: httpx2.Response, status: int, kind: str = "invalid_request_error") -> str:
    """Check the whole envelope of a refusal and return its message."""
    assert response.status_code == status, response.text
    body = response.json()
    assert body["type"] == "error"
    assert body["error"]["type"] == kind
    assert body["request_id"] == response.headers["request-id"]
    assert body["error"]["message"]
    return str(body["error"]["message"])


def types(events: list[Json]) -> list[str]:
    return [event["type"] for event in events]


def errors(events: list[Json]) -> list[tuple[str, str]]:
    """The type and the retry status of every `session.error`."""
    return [
        (event["error"]["type"], event["error"]["retry_status"]["type"])
        for event in events
        if event["type"] == "session.error"
    ]


def said(events: list[Json]) -> list[str]:
    """What the agent said."""
    return [block["text"] for event in events if event["type"] == "agent.message" for block in event["content"]]


def results(events: list[Json]) -> list[Json]:
    return [event for event in events if event["type"] == "agent.tool_result"]


def memory_peak(pid: int) -> int:
    """The most memory in bytes that a process has ever held."""
    with open(f"/proc/{pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
