"""A task and its worker: what comes in reaches it after its beginning, and what it takes back is its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest

from hostler.runbooks import messages as m
from hostler.runbooks import running as module
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.running import Running, Slot
from hostler.runbooks.workers import Worker
from hostler.store.dispatch import Lease

ECHO = """
import socket, struct
sock = socket.socket(fileno=0)
said = b""
while len(said) < 2:
    (size,) = struct.unpack("<I", sock.recv(4, socket.MSG_WAITALL))
    data = sock.recv(size, socket.MSG_WAITALL)
    said += b"B" if b"Begin" in data else b"S"
raise SystemExit(0 if said == b"BS" else 3)
"""


async def begun(worker: Worker) -> int:
    async def serve(_: Any) -> None:
        return None

    begin = m.Begin(task_id="t", folder="/", slug="s", workflow_class="W", modules=[], slugs=[], entries=[])
    early = asyncio.create_task(worker.send(m.Signal(entry=Entry(kind="signal", position=1, at=0))))
    await asyncio.sleep(0)  # it is under way before the worker was told to begin
    status = await worker.run(begin, serve, stall_seconds=60)
    await early
    return status


def test_a_signal_waits_for_the_beginning() -> None:
    async def whole() -> int:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-c", ECHO]
        with theirs:
            process = subprocess.Popen(  # noqa: ASYNC220 - it does not wait
                command, stdin=theirs.fileno(), stderr=subprocess.PIPE, start_new_session=True
            )
        reader, writer = await asyncio.open_connection(sock=ours)
        return await begun(Worker(process, reader, writer))

    assert asyncio.run(whole()) == 0


class Host:
    """A host whose agents never end."""

    def __init__(self) -> None:
        self.forgotten: list[str] = []
        self.ended: list[str] = []

    async def append(self, _: Lease, drafts: list[Draft], __: dict[str, Any]) -> list[Entry]:
        return [Entry(kind=each.kind, body=each.body, position=1, at=0) for each in drafts]

    async def end(self, _: Lease, kind: str, __: str) -> None:
        self.ended.append(kind)

    async def agent(self, *_: Any) -> Entry:
        await asyncio.Event().wait()
        raise AssertionError("unreached")

    async def forget_agent(self, _: Lease, key: str) -> None:
        self.forgotten.append(key)


def test_what_another_worker_asked_for_is_not_taken_back() -> None:
    """Each counts its messages from one."""

    async def whole() -> list[list[str]]:
        host: Any = Host()
        worker: Any = object()
        running = Running(host, Lease("t", 1), Slot(asyncio.Semaphore()))
        seen = []
        asked = []
        for _ in range(2):
            running.has(worker, [])
            await running.serve(m.Forget(asked=1))
            seen.append(list(host.forgotten))
            asked.append(asyncio.create_task(running.serve(m.RunAgent(id=1, key="draft", call={}))))
            await asyncio.sleep(0)
        await running.serve(m.Forget(asked=1))
        await asyncio.wait(asked)
        await running.aclose()
        return [*seen, host.forgotten]

    assert asyncio.run(whole()) == [[], [], ["draft"]]


def test_what_people_read_of_an_entry_counts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_BYTES", 1000)

    async def whole() -> list[list[str]]:
        host: Any = Host()
        worker: Any = Dead()
        running = Running(host, Lease("t", 1), Slot(asyncio.Semaphore()))
        running.has(worker, [])
        seen = []
        for number in range(3):
            draft = Draft(kind="log", body={"message": "x" * 400})
            await running.serve(m.Append(id=number, drafts=[draft]))
            seen.append(list(host.ended))
        return seen

    assert asyncio.run(whole()) == [[], [], ["JournalFull"]]


class Dead:
    def kill(self) -> None:
        pass
