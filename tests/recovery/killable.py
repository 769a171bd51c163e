"""The real server, which ends itself with SIGKILL at a named point of one session. It must change nothing else.

Run like the command line: `python killable.py serve ...`. The file `kill` in the folder HOSTLER_TEST_ORDERS names the
session (`*` is any) and its points, one `point count` a line: it dies where the first point is passed for the count-th
time, and has struck that line out before. Without the file nothing happens.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from killable_tasks import on_tasks

from hostler import cli
from hostler.harness import settle, supervisor
from hostler.harness.mcp_tools import McpTools
from hostler.harness.run import Run
from hostler.harness.web_tools import WebTools
from hostler.log.entries import Draft, Entry, Item
from hostler.log.hub import Hub
from hostler.log.log import Log
from hostler.models.protocol import ModelEvent, ModelRequest, ModelResponse, TextDelta
from hostler.models.script import ScriptedModel
from hostler.sandbox import launcher
from hostler.sandbox.bubblewrap import BubblewrapBackend, BubblewrapSandbox
from hostler.sandbox.snapshots import Sink
from hostler.sandbox.unpacking import Unpacker
from hostler.services.work import WorkQueue
from hostler.store.blobs import Blobs

ORDERS = Path(os.environ["HOSTLER_TEST_ORDERS"]) / "kill"
_passed: Counter[str] = Counter()
_collecting: list[str] = []
_session_of: dict[str, str] = {}


def passing(session_id: str, point: str) -> None:
    """Die here, if this is the point."""
    try:
        session, *lines = ORDERS.read_text().splitlines()
    except FileNotFoundError:
        return
    if session not in (session_id, "*") or not lines:
        return
    wanted, _, count = lines[0].rpartition(" ")
    if wanted != point:
        return
    _passed[point] += 1
    if _passed[point] == int(count):
        half = ORDERS.with_suffix(".half")
        half.write_text("\n".join([session, *lines[1:]]))
        half.replace(ORDERS)
        os.kill(os.getpid(), signal.SIGKILL)


def around(owner: Any, name: str, key: Callable[..., str], point: str) -> None:
    """Make an async method pass `before:POINT` and `after:POINT`."""
    whole = getattr(owner, name)

    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        passing(key(*args, **kwargs), f"before:{point}")
        result = await whole(*args, **kwargs)
        passing(key(*args, **kwargs), f"after:{point}")
        return result

    setattr(owner, name, wrapped)


def inside(owner: Any, name: str, key: Callable[..., str], point: str) -> None:
    """The same for a method that a thread runs."""
    whole = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        passing(key(*args, **kwargs), f"before:{point}")
        result = whole(*args, **kwargs)
        passing(key(*args, **kwargs), f"after:{point}")
        return result

    setattr(owner, name, wrapped)


def _types(items: Iterable[Item]) -> list[str]:
    return [item.type if isinstance(item, Draft) else item.entry.type for item in items]


def on_append() -> None:
    append = Log.append

    async def wrapped(self: Log, session_id: str, thread_id: str, items: Any, **more: Any) -> Any:
        for name in _types(items):
            passing(session_id, f"before:append:{name}")
        appended = await append(self, session_id, thread_id, items, **more)
        for name in _types(items):
            passing(session_id, f"after:append:{name}")
        return appended

    Log.append = wrapped  # type: ignore[method-assign]


def on_publish() -> None:
    """Committed, but nobody knows: no stream has it, and no request is answered."""
    publish = Hub.publish

    def wrapped(self: Hub, session_id: str, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        for entry in entries:
            passing(session_id, f"committed:{entry.type}")
        publish(self, session_id, entries)

    Hub.publish = wrapped  # type: ignore[method-assign]


def on_stream() -> None:
    stream = ScriptedModel.stream

    async def wrapped(self: ScriptedModel, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        asker, _, grader = request.session_id.partition("/")
        session_id = _session_of.get(asker, asker)  # a child asks in its thread's name
        point = "evaluation" if grader else "stream"
        passing(session_id, f"before:{point}")
        async for event in stream(self, request):
            yield event
            if isinstance(event, TextDelta):
                passing(session_id, f"mid:{point}")
            elif isinstance(event, ModelResponse):
                passing(session_id, f"end:{point}")

    ScriptedModel.stream = wrapped  # type: ignore[method-assign]


def on_threads() -> None:
    made = Run.__init__

    def wrapped(self: Run, wake: Any, row: Any) -> None:
        _session_of[row.id] = wake.session_id
        made(self, wake, row)

    Run.__init__ = wrapped  # type: ignore[method-assign]


def on_tools() -> None:
    run = BubblewrapSandbox.run

    async def wrapped(self: BubblewrapSandbox, call_id: str, command: Any) -> Any:
        session_id = self.layout.folder.name
        passing(session_id, "before:tool")
        work = asyncio.ensure_future(run(self, call_id, command))
        begun = self.layout.files / "workspace" / "begun"
        while not work.done():
            await asyncio.wait({work}, timeout=0.005)
            if begun.exists():
                passing(session_id, "during:tool")
        result = await work
        passing(session_id, "after:tool")
        return result

    BubblewrapSandbox.run = wrapped  # type: ignore[method-assign]
    around(BubblewrapSandbox, "attach", _of_sandbox, "attach")
    around(BubblewrapSandbox, "cancel", _of_sandbox, "cancel")
    around(BubblewrapSandbox, "acknowledge", _of_sandbox, "acknowledge")


def on_sandboxes() -> None:
    around(BubblewrapBackend, "provision", lambda _, spec: spec.key, "provision")
    around(BubblewrapBackend, "hibernate", lambda _, key: key, "hibernate")
    around(BubblewrapBackend, "snapshot", lambda _, key, *__, **___: key, "snapshot")
    around(BubblewrapBackend, "restore", lambda _, key, *__: key, "restore")
    around(BubblewrapBackend, "destroy", lambda _, key: key, "destroy")
    inside(Sink, "keep", lambda sink: sink._target.parent.name, "keep")
    inside(Unpacker, "finish", lambda _: "*", "unpack")
    around(BubblewrapBackend, "_end", lambda _, key, __: key, "end")
    around(BubblewrapBackend, "_meet", lambda _, layout, *__: layout.folder.name, "meet")
    around(launcher, "start", lambda _, layout, *__: layout.folder.name, "start")
    on_spawn()
    around(BubblewrapBackend, "_keep_shell_state", lambda _, sandbox: _of_sandbox(sandbox), "shell_state")


def on_spawn() -> None:
    """bwrap has been started, and what it is to be told has not."""
    spawn = launcher.spawn

    def wrapped(argv: list[str], log: Path, *more: Any) -> Any:
        child = spawn(argv, log, *more)
        if argv[1] == "launch":  # and not the raw network's process beside it
            passing(log.parent.name, "spawned")
        return child

    launcher.spawn = wrapped


def on_served() -> None:
    for tools in (McpTools, WebTools):
        around(tools, "perform", lambda _, run, __: run.session_id, "served")


def on_outputs() -> None:
    collect = settle.collect

    async def wrapped(run: Run, deps: Any) -> list[str]:
        passing(run.session_id, "before:outputs")
        _collecting.append(run.session_id)
        left = await collect(run, deps)
        _collecting.remove(run.session_id)
        passing(run.session_id, "after:outputs")
        return left

    settle.collect = wrapped
    _on_blob()


def _on_blob() -> None:
    write: Callable[..., Awaitable[Any]] = Blobs.write

    async def wrapped(self: Blobs, chunks: AsyncIterator[bytes], *, limit: int) -> Any:
        async def watched() -> AsyncIterator[bytes]:
            async for chunk in chunks:
                yield chunk
                for session_id in _collecting:
                    passing(session_id, "during:output")

        blob = await write(self, watched(), limit=limit)
        for session_id in _collecting:
            passing(session_id, "stored:output")
        return blob

    Blobs.write = wrapped  # type: ignore[assignment]


def on_work() -> None:
    """The calls of workers, of whichever session: order them for `*`."""
    for verb in ("ack", "heartbeat", "stop"):
        around(WorkQueue, verb, lambda *_, **__: "", f"work:{verb}")
    claim = WorkQueue._claim

    async def wrapped(self: WorkQueue, *args: Any) -> Any:
        item = await claim(self, *args)
        if item is not None:
            passing("", "after:work:claim")
        return item

    WorkQueue._claim = wrapped  # type: ignore[method-assign]


def _of_sandbox(sandbox: BubblewrapSandbox, *_: Any) -> str:
    return sandbox.layout.folder.name


if __name__ == "__main__":
    on_append()
    on_publish()
    on_threads()
    on_stream()
    on_tools()
    on_sandboxes()
    on_outputs()
    on_served()
    on_work()
    on_tasks(passing)
    supervisor.TIDY_SECONDS = 0.2
    cli.main()
