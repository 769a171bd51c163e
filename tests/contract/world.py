"""What the contract tests share: clients of both kinds, both flavours of the official SDK, and streams with deadlines.

It must not know how the server works: it is written against the API, and the script that plays the model.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import queue
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx2
from anthropic import Anthropic
from anthropic._models import BaseModel
from anthropic._response import AsyncBinaryAPIResponse

from running import Server

MCP_SERVER = Path(__file__).parent.parent / "mcptools" / "real_server.py"
CONFIG = f"""
[mcp.stdio.real]
command = {json.dumps(sys.executable)}
args = [{json.dumps(str(MCP_SERVER))}, "stdio", "--ledger", "/dev/null"]

[harness]
model_attempts = 3

[models.model."test-small"]
max_input_tokens = 10000

[models.price."test-priced"]
input = 1
output = 1000

[web]
allow_private_hosts = ["127.0.0.1"]
"""
SCRIPT = Path(__file__).with_name("script.json")
DEADLINE = 20.0
IDLE = "session.status_idle"
WEATHER = {
    "type": "custom",
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
BUILTINS = {"type": "agent_toolset_20260401"}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def message(content: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [text(content)]}


def result(event_id: str, content: str, **more: Any) -> dict[str, Any]:
    return {"type": "user.custom_tool_result", "custom_tool_use_id": event_id, "content": [text(content)], **more}


def verdict(event_id: str, result: str, **more: Any) -> dict[str, Any]:
    return {"type": "user.tool_confirmation", "tool_use_id": event_id, "result": result, **more}


def cents(amount: int) -> dict[str, Any]:
    """A budget."""
    return {"type": "limit", "max_list_cost": {"amount": str(amount), "currency": "USD"}}


INTERRUPT = {"type": "user.interrupt"}


class Follower:
    """Reads a stream in a thread of its own, so that a test can act meanwhile and never waits for ever.

    The stream is open, and the server listens, once this is constructed.
    """

    def __init__(self, opened: Any, read: Callable[[Any], Iterable[Any]], kind: Callable[[Any], str]) -> None:
        self.opened = opened
        self.seen: list[Any] = []
        self.kind = kind
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._thread = threading.Thread(target=self._run, args=(read,), daemon=True)
        self._thread.start()

    def until(self, *kinds: str, where: Callable[[Any], bool] = lambda _: True, seconds: float = DEADLINE) -> list[Any]:
        """All events up to the next one of these types for which `where` holds; fails after so much silence."""
        got: list[Any] = []
        while True:
            event = self._next(got, f"waited for {kinds}", seconds)
            got.append(event)
            if self.kind(event) in kinds and where(event):
                return got

    def rest(self) -> list[Any]:
        """All events up to the stream's end, which the server must bring about."""
        got: list[Any] = []
        with contextlib.suppress(StreamEnded):
            while True:
                got.append(self._next(got, "waited for the end of the stream"))
        return got

    def _next(self, got: list[Any], why: str, seconds: float = DEADLINE) -> Any:
        try:
            what, value = self._queue.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{why}; got {[self.kind(event) for event in got]}") from None
        if what == "error":
            raise value
        if what == "end":
            raise StreamEnded(f"{why}; the stream ended after {[self.kind(event) for event in got]}")
        self.seen.append(value)
        return value

    def _run(self, read: Callable[[Any], Iterable[Any]]) -> None:
        try:
            for event in read(self.opened):
                self._queue.put(("event", event))
        except Exception as error:  # it belongs to the test that waits
            self._queue.put(("error", error))
        else:
            self._queue.put(("end", None))

    def close(self, response: httpx2.Response) -> None:
        """Cut the connection, which wakes the reader, whatever it waits for."""
        with contextlib.suppress(OSError, KeyError, AttributeError):
            response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        self._thread.join(DEADLINE)


class StreamEnded(Exception):
    """The server ended the stream while a test waited for more."""


class Blocking:
    """An async SDK object with the face of the sync one, so that one test judges both flavours."""

    def __init__(self, target: Any, run: Callable[[Any], Any]) -> None:
        self._target = target
        self._run = run

    def __getattr__(self, name: str) -> Any:
        return self._adapt(getattr(self._target, name))

    def __iter__(self) -> Iterator[Any]:
        iterator = self._target.__aiter__()
        while True:
            try:
                yield self._run(iterator.__anext__())
            except StopAsyncIteration:
                return

    def _adapt(self, value: Any) -> Any:
        if inspect.ismethod(value) or inspect.isfunction(value):
            return lambda *args, **named: self._result(value(*args, **named))
        return Blocking(value, self._run) if type(value).__module__.startswith("anthropic.resources") else value

    def _result(self, value: Any) -> Any:
        if inspect.isawaitable(value):
            value = self._run(value)
        adapted = hasattr(value, "__aiter__") or isinstance(value, AsyncBinaryAPIResponse)
        return Blocking(value, self._run) if adapted else value


class Loop:
    """An event loop in a thread, for the async SDK."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Any) -> Any:
        async def awaited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(DEADLINE * 2)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(DEADLINE)
        self._loop.close()


class World:
    """A server and a client: `sdk` the official one, sync or async, with strict validation; `http` without any."""

    def __init__(self, server: Server, sdk: Any, http: httpx2.Client) -> None:
        self.server = server
        self.sdk = sdk
        self.http = http
        self.beta = sdk.beta
        self._environment: str | None = None

    # -- what a session needs

    @property
    def environment(self) -> str:
        if self._environment is None:
            self._environment = self.beta.environments.create(name="contract").id
        return self._environment

    def agent(self, *tools: dict[str, Any], **fields: Any) -> Any:
        return self.beta.agents.create(**{"name": "Judge", "model": "claude-opus-5-5", **fields}, tools=list(tools))

    def session(self, *tools: dict[str, Any], agent: Any = None, model: str | None = None, **fields: Any) -> str:
        agent = agent or self.agent(*tools, **({"model": model} if model else {})).id
        return str(self.beta.sessions.create(agent=agent, **{"environment_id": self.environment, **fields}).id)

    # -- events

    def send(self, session_id: str, *events: dict[str, Any]) -> list[Any]:
        return list(self.beta.sessions.events.send(session_id, events=list(events)).data)

    def listed(self, session_id: str, **query: Any) -> list[Any]:
        return list(self.beta.sessions.events.list(session_id, **query))

    def types(self, session_id: str) -> list[str]:
        return [event["type"] for event in self.raw(session_id)]

    def raw(self, session_id: str, **query: Any) -> list[dict[str, Any]]:
        """The first page of the events, undecoded."""
        answer = self.http.get(f"/v1/sessions/{session_id}/events", params=query)
        assert answer.status_code == 200, answer.text
        data: list[dict[str, Any]] = answer.json()["data"]
        return data

    @contextlib.contextmanager
    def stream(self, session_id: str, **query: Any) -> Iterator[Follower]:
        """Follow through the SDK."""
        opened = self.beta.sessions.events.stream(session_id, **query)
        with following(opened) as follower:
            yield follower

    @contextlib.contextmanager
    def frames(self, path: str, **query: Any) -> Iterator[Follower]:
        """Follow without the SDK: (event name, data) of every frame, pings included."""
        with self.http.stream("GET", path, params=query, timeout=DEADLINE) as response:
            assert response.status_code == 200
            follower = Follower(response, _frames, lambda frame: str(frame[0]))
            try:
                yield follower
            finally:
                follower.close(response)

    def turn(self, session_id: str, *events: dict[str, Any] | str) -> list[Any]:
        """Send, and return what the stream brought up to the idle event."""
        with self.stream(session_id) as follower:
            self.send(session_id, *(message(event) if isinstance(event, str) else event for event in events))
            return follower.until(IDLE)

    def last_text(self, session_id: str) -> str:
        said = [event for event in self.raw(session_id) if event["type"] == "agent.message"]
        return "".join(block["text"] for block in said[-1]["content"])


@contextlib.contextmanager
def sync_world(server: Server) -> Iterator[World]:
    """The sync SDK with strict validation."""
    named: Any = {"base_url": server.base_url, "api_key": server.key, "timeout": DEADLINE}
    with (
        httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=DEADLINE) as http,
        Anthropic(**named, _strict_response_validation=True) as sdk,
    ):
        yield World(server, sdk, http)


@contextlib.contextmanager
def following(opened: Any) -> Iterator[Follower]:
    follower = Follower(opened, iter, lambda event: str(event.type))
    try:
        yield follower
    finally:
        follower.close(opened.response)
        opened.close()


def _frames(response: httpx2.Response) -> Iterator[tuple[str, Any]]:
    name, data = "", ""
    for line in response.iter_lines():
        if line.startswith("event: "):
            name = line[7:]
        elif line.startswith("data: "):
            data = line[6:]
        elif not line:
            yield name, json.loads(data)
            name = data = ""


def only(events: Iterable[Any], kind: str) -> list[Any]:
    """The events of one type, of the SDK's objects or of dicts."""
    return [event for event in events if kind_of(event) == kind]


def kind_of(event: Any) -> str:
    return str(event["type"] if isinstance(event, dict) else event.type)


def unknown_fields(value: Any, at: str = "") -> list[str]:
    """Paths of what the server says beyond the SDK's types, which even strict validation lets pass: a misspelt optional
    field, or a private one."""
    if isinstance(value, list):
        return [path for index, item in enumerate(value) for path in unknown_fields(item, f"{at}[{index}]")]
    if not isinstance(value, BaseModel):
        return []
    found = [f"{at}.{name}" for name in value.model_extra or {}]
    for name in type(value).model_fields:
        found += unknown_fields(getattr(value, name), f"{at}.{name}")
    return found
