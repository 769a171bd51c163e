"""What is measured: one function for each row of the table, in the order in which it is printed.

Each gives figures of Hostler, and of the raw thing beside it where there is one. It must not print.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from client import Connection
from processes import Hostler, Mock, bare_asgi

MS = 1e6
now = time.monotonic_ns


class Row(msgspec.Struct, kw_only=True):
    """A line of the table. `value` is the figure compared with `target`, in `unit`; `raw` the same of the raw thing."""

    name: str
    unit: str
    value: float
    target: float | None = None
    p99: float | None = None
    raw: float | None = None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        return None if self.target is None else self.value <= self.target


class Bench(msgspec.Struct):
    """The running parts of one measurement."""

    server: Hostler
    mock: Mock
    folder: Path
    scale: float


async def fresh_session(link: Connection, tools: bool = False) -> str:
    agent = {"name": "bench", "model": "claude-sonnet-5-5"}
    if tools:
        agent["tools"] = [{"type": "agent_toolset_20260401"}]  # type: ignore[assignment]
    made = await link.call("POST", "/v1/agents", agent)
    environment = await link.call("POST", "/v1/environments", {"name": "bench"})
    body = {"agent": made["id"], "environment_id": environment["id"]}
    return str((await link.call("POST", "/v1/sessions", body))["id"])


def message(text: str) -> dict[str, Any]:
    return {"events": [{"type": "user.message", "content": [{"type": "text", "text": text}]}]}


async def timed(count: int, call: Callable[[], Awaitable[Any]]) -> list[float]:
    """Milliseconds of each of `count` calls after a few unmeasured ones."""
    for _ in range(min(20, count)):
        await call()
    spent = []
    for _ in range(count):
        start = now()
        await call()
        spent.append((now() - start) / MS)
    return spent


def p(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * part))], 3)


async def create_session(bench: Bench) -> list[Row]:
    link = bench.server.connect()
    agent = await link.call("POST", "/v1/agents", {"name": "bench", "model": "claude-sonnet-5-5"})
    environment = await link.call("POST", "/v1/environments", {"name": "bench"})
    body = {"agent": agent["id"], "environment_id": environment["id"]}
    spent = await timed(int(1000 * bench.scale), lambda: link.call("POST", "/v1/sessions", body))
    async with bare_asgi() as bare:
        raw = await timed(1000, lambda: bare.call("POST", "/v1/sessions", body))
    name = "POST /v1/sessions"
    return [
        Row(name=name + " p50", unit="ms", value=p(spent, 0.5), target=2, raw=p(raw, 0.5), note="raw: bare ASGI"),
        Row(name=name + " p99", unit="ms", value=p(spent, 0.99), target=10, raw=p(raw, 0.99)),
    ]


async def message_to_model(bench: Bench) -> list[Row]:
    """From the acceptance of a message (the 200 is there) to the running event, and to the model's request."""
    link, stream = bench.server.connect(), bench.server.connect()
    session = await fresh_session(link)
    events = stream.events(f"/v1/sessions/{session}/events/stream?event_deltas[]=agent.message")
    await anext(events)
    running, leaves, first, direct = [], [], [], []
    for turn in range(int(200 * bench.scale) + 10):
        sent = now()
        await link.call("POST", f"/v1/sessions/{session}/events", message("hello"))
        accepted = now()
        seen_running, seen_first, text = await _turn(events)
        if turn >= 10:
            arrived = int(text.split()[0])
            running.append(max(0.0, (seen_running - accepted) / MS))
            leaves.append(max(0.0, (arrived - accepted) / MS))
            first.append((seen_first - sent) / MS)
            direct.append(await bench.mock.first_token())
    added = statistics.median(first) - statistics.median(direct)
    return [
        Row(name="message accepted -> session.status_running", unit="ms", value=p(running, 0.5), p99=p(running, 0.99),
            target=5),
        Row(name="message accepted -> model request arrives", unit="ms", value=p(leaves, 0.5), p99=p(leaves, 0.99),
            target=10),
        Row(name="added to time to first token", unit="ms", value=round(added, 3), target=10,
            raw=p(direct, 0.5), note="raw: the model called directly; from the POST's start to the first delta"),
    ]  # fmt: skip


async def _turn(events: Any) -> tuple[int, int, str]:
    running = first = 0
    text = ""
    async for name, data in events:
        if name == b"session.status_running":
            running = now()
        elif name == b"event_delta" and not first:
            first = now()
        elif name == b"agent.message":
            text = msgspec.json.decode(data)["content"][0]["text"]
        elif name == b"session.status_idle":
            break
    return running, first, text


async def tools(bench: Bench) -> list[Row]:
    """Cold and warm `bash` for `true`, from its use event to its result event; and from result to the next request."""
    link = bench.server.connect()
    cold, warm, following = [], [], []
    for _ in range(max(3, int(10 * bench.scale))):
        stream = bench.server.connect()
        session = await fresh_session(link, tools=True)
        events = stream.events(f"/v1/sessions/{session}/events/stream")
        await anext(events)
        await link.call("POST", f"/v1/sessions/{session}/events", message("plan: 21"))
        used = resulted = None
        trips: list[float] = []
        async for name, data in events:
            if name == b"agent.tool_use":
                used = now()
            elif name == b"agent.tool_result":
                resulted = _processed(data)
                trips.append((now() - (used or now())) / MS)
            elif name == b"span.model_request_start" and resulted:
                following.append((_processed(data) - resulted) / 1000)
            elif name == b"session.status_idle":
                break
        cold.append(trips[0])
        warm += trips[2:]
        stream.close()
    direct = await bench.server.sandbox_baseline(bench.folder)
    return [
        Row(name="warm bash `true`, use -> result", unit="ms", value=p(warm, 0.5), p99=p(warm, 0.99), target=8,
            raw=direct, note="raw: run() on the sandbox"),
        Row(name="first tool of a session, sandbox cold", unit="ms", value=p(cold, 0.5), p99=max(cold), target=60),
        Row(name="tool result -> next model request", unit="ms", value=p(following, 0.5), p99=p(following, 0.99),
            target=5, note="by the log's own times"),
    ]  # fmt: skip


def _processed(data: bytes) -> int:
    """Microseconds within the day, of an event."""
    stamp = msgspec.json.decode(data)["processed_at"]
    hours, minutes, seconds = stamp[11:-1].split(":")
    return int((int(hours) * 3600 + int(minutes) * 60 + float(seconds)) * 1e6)


async def many_sessions(bench: Bench) -> list[Row]:
    """Concurrent sessions, each one turn of three model requests and two tool calls."""
    count = int(1000 * bench.scale)
    link = bench.server.connect()
    agent = await link.call(
        "POST",
        "/v1/agents",
        {"name": "b", "model": "claude-sonnet-5-5", "tools": [{"type": "agent_toolset_20260401"}]},
    )
    environment = await link.call("POST", "/v1/environments", {"name": "b"})
    body = {"agent": agent["id"], "environment_id": environment["id"]}
    before, start = bench.server.cpu_seconds(), now()
    gate = asyncio.Semaphore(count)

    async def one() -> str:
        async with gate:
            own, stream = bench.server.connect(), bench.server.connect()
            session = (await own.call("POST", "/v1/sessions", body))["id"]
            events = stream.events(f"/v1/sessions/{session}/events/stream")
            await anext(events)
            await own.call("POST", f"/v1/sessions/{session}/events", message("plan: 2"))
            results = 0
            async for name, data in events:
                if name == b"agent.tool_result":
                    results += not msgspec.json.decode(data).get("is_error")
                if name == b"session.status_idle":
                    break
            listed = await own.call("GET", f"/v1/sessions/{session}/events?limit=1000")
            own.close()
            stream.close()
            if results == 2 and len(listed["data"]) == 17:
                return ""
            odd = [event for event in listed["data"] if event.get("is_error") or event["type"] == "session.error"]
            return f"{len(listed['data'])} events, {results} results, {str(odd)[:300]}"

    problems = [problem for problem in await asyncio.gather(*(one() for _ in range(count))) if problem]
    seconds = (now() - start) / 1e9
    cpu = (bench.server.cpu_seconds() - before) / count * 1000
    note = f"{count} sessions in {seconds:.1f} s {'; '.join(problems[:2])[:400]}"
    return [
        Row(name=f"{count} concurrent turns: failed", unit="", value=len(problems), target=0, note=note),
        Row(name="CPU of the server per such turn", unit="ms", value=round(cpu, 2)),
    ]


async def many_streams(bench: Bench) -> list[Row]:
    count = int(1000 * bench.scale)
    link = bench.server.connect()
    session = await fresh_session(link)
    connections = [bench.server.connect() for _ in range(count)]
    streams = [connection.events(f"/v1/sessions/{session}/events/stream") for connection in connections]
    tenth = max(1, count // 10)
    for at in range(0, count, tenth):  # what a burst of requests needs for a moment is no stream's memory
        await asyncio.gather(*(anext(stream) for stream in streams[at : at + tenth]))
        if at == 0:
            before = bench.server.memory()
    each = (bench.server.memory() - before) / (count - tenth) / 1024

    async def follow(stream: Any) -> int:
        seen = 0
        async for name, _ in stream:
            seen += name != b"ping"
            if name == b"session.status_idle":
                break
        return seen

    readers = [asyncio.create_task(follow(stream)) for stream in streams]
    start = now()
    await link.call("POST", f"/v1/sessions/{session}/events", message("hello"))
    seen = await asyncio.gather(*readers)
    seconds = (now() - start) / 1e9
    for connection in connections:
        connection.close()
    lost = sum(events < 10 for events in seen)
    note = f"{count} streams x {seen[0]} events in {seconds:.2f} s"
    return [
        Row(name=f"{count} streams: with a lost event", unit="", value=lost, target=0, note=note),
        Row(name="memory per idle stream", unit="KiB", value=round(each, 1), target=16),
    ]


async def idle_sessions(bench: Bench) -> list[Row]:
    count = int(100_000 * bench.scale)
    link = bench.server.connect()
    agent = await link.call("POST", "/v1/agents", {"name": "b", "model": "claude-sonnet-5-5"})
    environment = await link.call("POST", "/v1/environments", {"name": "b"})
    body = {"agent": agent["id"], "environment_id": environment["id"]}
    connections = [bench.server.connect() for _ in range(32)]
    before, start = bench.server.memory(), now()

    async def make(connection: Connection, number: int) -> None:
        for _ in range(number):
            await connection.call("POST", "/v1/sessions", body)

    await asyncio.gather(*(make(connection, count // 32) for connection in connections))
    seconds = (now() - start) / 1e9
    each = (bench.server.memory() - before) / count
    page = await timed(50, lambda: link.call("GET", "/v1/sessions?limit=20"))
    return [
        Row(name=f"memory per idle session, {count} of them", unit="bytes", value=round(each, 1), target=64,
            note=f"made at {count / seconds:.0f}/s; target: noise"),
        Row(name="GET /v1/sessions among them", unit="ms", value=p(page, 0.5), p99=p(page, 0.99)),
    ]  # fmt: skip


async def long_log(bench: Bench) -> list[Row]:
    """Paging through a session of 10,000 events: the first page against the last."""
    link = bench.server.connect()
    session = await fresh_session(link)
    await bench.server.fill(bench.folder, session, 10_000)
    times, cursor, seen = [], "", 0
    while cursor is not None:
        start = now()
        page = await link.call(
            "GET", f"/v1/sessions/{session}/events?limit=500" + (f"&page={cursor}" if cursor else "")
        )
        times.append((now() - start) / MS)
        seen += len(page["data"])
        cursor = page["next_page"]
    note = f"{seen} events in {len(times)} pages"
    return [
        Row(name="10,000 events: last page / first page", unit="x", value=round(times[-2] / times[0], 2), target=2,
            note=note),
    ]  # fmt: skip


async def crew(bench: Bench) -> list[Row]:
    """A coordinator that sends eight agents a message each, until all have answered and it has taken the answers up."""
    count, link = 8, bench.server.connect()
    helper = await link.call("POST", "/v1/agents", {"name": "helper", "model": "claude-sonnet-5-5"})
    roster = {"type": "coordinator", "agents": [helper["id"]]}
    lead = {"name": "lead", "model": "claude-sonnet-5-5", "multiagent": roster}
    agent = await link.call("POST", "/v1/agents", lead)
    environment = await link.call("POST", "/v1/environments", {"name": "b"})
    spent = []
    for _ in range(max(3, int(20 * bench.scale))):
        stream = bench.server.connect()
        body = {"agent": agent["id"], "environment_id": environment["id"]}
        session = (await link.call("POST", "/v1/sessions", body))["id"]
        events = stream.events(f"/v1/sessions/{session}/events/stream")
        await anext(events)
        start = now()
        await link.call("POST", f"/v1/sessions/{session}/events", message(f"crew: {count}"))
        async for name, _ in events:
            if name == b"session.status_idle":
                break
        spent.append((now() - start) / MS)
        stream.close()
        threads = await link.call("GET", f"/v1/sessions/{session}/threads")
        assert len(threads["data"]) == count + 1
    return [
        Row(name=f"a coordinator and {count} agents: message -> all answered", unit="ms", value=round(p(spent, 0.5), 1))
    ]


async def restart(bench: Bench) -> list[Row]:
    """kill -9 in mid-turn, restart, next progress."""
    spent, ready = [], []
    for _ in range(3):
        link, stream = bench.server.connect(), bench.server.connect()
        session = await fresh_session(link, tools=True)
        events = stream.events(f"/v1/sessions/{session}/events/stream")
        await anext(events)
        await link.call("POST", f"/v1/sessions/{session}/events", message("plan: 1000"))
        async for name, _ in events:
            if name == b"agent.tool_result":
                break
        bench.server.kill()
        link, before = bench.server.connect(), await bench.server.count_entries(session)
        start = now()
        await bench.server.start()
        ready.append((now() - start) / 1e9)
        await bench.server.progress(session, before)
        spent.append((now() - start) / 1e9)
        await link.call("POST", f"/v1/sessions/{session}/events", {"events": [{"type": "user.interrupt"}]})
    return [
        Row(name="kill -9 -> next progress, start of the process included", unit="s", value=round(max(spent), 2),
            target=2),
        Row(name="`hostler serve` to ready, warm disk", unit="s", value=round(statistics.median(ready), 2), target=1),
    ]  # fmt: skip


async def idle_memory(bench: Bench) -> list[Row]:
    await bench.server.stop()
    await bench.server.start()
    await asyncio.sleep(3)
    value = round(bench.server.memory() / 1024 / 1024, 1)
    return [Row(name="idle server, resident memory", unit="MiB", value=value, target=120)]


ROWS = [
    create_session, message_to_model, tools, crew, many_streams, long_log, many_sessions, idle_sessions, restart,
    idle_memory,
]  # fmt: skip
PAGE = os.sysconf("SC_PAGE_SIZE")
