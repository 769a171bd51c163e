"""A worker's process: one task, from the message that begins it to the entry that ends it. Without its server it ends.

Whoever starts it gives it one end of a socket as its stdin and nothing else of the server's: no key, no database.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import logging
import os
import socket
import sys
import typing
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from hostler.runbooks import messages as m
from hostler.runbooks.entries import Draft, Entry
from hostler.runbooks.worker import agents, bundle, data, failures, values
from hostler.runbooks.worker.port import Refused
from hostler.runbooks.worker.quiet import Loop, ours
from hostler.runbooks.worker.run import MAX_SEEN, Run, current
from hostler.runbooks.worker.runtime import DurableRuntime, Elsewhere

SOCKET = 0  # its stdin
OOM_SCORE = "500"


class Link:
    """The worker's `Port`, and what comes in between."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, loop: Loop) -> None:
        self._loop = loop
        self._reader = reader
        self._writer = writer
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[m.Reply]] = {}
        self._long: set[int] = set()  # of these, those that another process may ask for again
        self.run: Run | None = None
        self.work: asyncio.Task[Any] | None = None
        self.tasks: set[asyncio.Task[Any] | None] = set()  # of the process itself

    async def receive(self) -> m.OfServer | None:
        data = await m.read(self._reader, m.MAX_OF_SERVER)
        return None if data is None else m.decode_of_server(data)

    def send(self, message: m.Message) -> None:
        self._writer.write(m.framed(message))

    async def serve(self) -> None:
        """Take what comes until the server is gone."""
        ours.set(True)
        while (message := await self.receive()) is not None:
            if isinstance(message, m.Reply):
                waiting = self._waiting.pop(message.id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            elif isinstance(message, m.Ping):
                self.send(m.Pong(id=message.id))
            elif isinstance(message, m.Signal) and self.run is not None:
                self.run.signal(message.entry)
            elif isinstance(message, m.Query):
                answering = asyncio.create_task(self._answer(message))
                self.tasks.add(answering)
                answering.add_done_callback(self.tasks.discard)
            elif isinstance(message, m.Cancel) and self.work is not None:
                self.work.cancel()

    async def _answer(self, query: m.Query) -> None:
        try:
            if self.run is None:
                raise LookupError("The runbook has not begun.")
            value = values.whole(await self.run.query(query.name), MAX_SEEN)
            self.send(m.Answer(id=query.id, value=value))
        except Exception as error:
            self.send(m.Answer(id=query.id, error=str(error) or type(error).__name__))

    def quiet(self) -> bool:
        """Whether the code waits for the server alone, and there for nothing but ends of agents and children."""
        return set(self._waiting) == self._long and self._loop.quiet()

    async def _ask(self, message: Any) -> list[Entry]:
        return (await self._reply(message)).entries

    async def _await(self, message: Any) -> Entry:
        self._long.add(message.id)
        try:
            return (await self._ask(message))[-1]
        finally:
            self._long.discard(message.id)

    async def _reply(self, message: Any) -> m.Reply:
        waiting: asyncio.Future[m.Reply] = asyncio.get_running_loop().create_future()
        self._waiting[message.id] = waiting
        self.send(message)
        await self._writer.drain()
        try:
            reply = await waiting
        except asyncio.CancelledError:
            self._waiting.pop(message.id, None)
            self.send(m.Forget(asked=message.id))
            raise
        if reply.refused is not None:
            raise Refused(reply.refused)
        return reply

    # -- the port --

    async def append(self, drafts: list[Draft], view: dict[str, Any] | None) -> list[Entry]:
        return await self._ask(m.Append(id=next(self._ids), drafts=drafts, view=view))

    async def start_child(self, key: str, task_id: str, slug: str, value: bytes) -> Entry:
        return (await self._ask(m.StartChild(id=next(self._ids), key=key, task_id=task_id, slug=slug, value=value)))[-1]

    def show(self, view: dict[str, Any]) -> None:
        self.send(m.Show(view=view))

    def rest(self, position: int, heard: int, until: float | None) -> None:
        self.send(m.Rest(position=position, heard=heard, until=until))

    async def ended(self, task_id: str) -> Entry:
        return await self._await(m.AwaitChild(id=next(self._ids), task_id=task_id))

    async def agent(self, key: str, call: dict[str, Any]) -> Entry:
        return await self._await(m.RunAgent(id=next(self._ids), key=key, call=call))

    async def sql(self, tenant: str, how: data.How, sql: str, args: bytes) -> bytes:
        reply = await self._reply(m.Sql(id=next(self._ids), tenant=tenant, how=how, sql=sql, args=args))
        return reply.data or b""


async def work(link: Link, begin: m.Begin, runtime: type[DurableRuntime] = DurableRuntime) -> None:
    """Run the task, and write down how it ended."""
    run = None
    try:
        instance, argument = _prepared(begin, link, runtime)
        run = link.run = Run(begin.task_id, instance, begin.entries, link, attempt=begin.attempt)
        run.resting.seconds, run.resting.own_tasks = begin.rest_seconds, link.tasks
        link.tasks.add(asyncio.create_task(run.resting.watch(link.quiet, run.rest)))
        current.set(run)
        result = await (instance.run(argument) if _takes_one(instance.run) else instance.run())
        draft = failures.returned("ended", "", values.portable(result), begin.slug)
    except asyncio.CancelledError:
        draft = Draft(kind="ended", body={"error": {"type": "Cancelled", "message": "The task was cancelled."}})
    except bundle.NotLoaded as error:
        draft = Draft(kind="ended", body={"error": {"type": "BundleError", "message": str(error)}})
    except Exception as error:
        draft = failures.raised("ended", "", error, begin.slug)
    await (run.write(draft) if run is not None else link.append([draft], None))


def _prepared(begin: m.Begin, link: Link, kind: type[DurableRuntime]) -> tuple[Any, Any]:
    """The runbook's instance and its argument. Raises NotLoaded."""
    from ntro.workflow import registry
    from ntro.workflow.runtime import set_runtime

    runtime = kind(lambda cls: next((s for s, c in registry._registry.items() if c is cls), None))
    set_runtime(runtime)
    agents.stand_in()
    data.stand_in(link.sql, begin.tenant)
    for slug in begin.slugs:
        registry.register_workflow(slug, Elsewhere(slug))
    found = bundle.load(Path(begin.folder), begin.slug, begin.workflow_class, begin.modules)
    registry.register_workflow(begin.slug, found)
    given = values.load(begin.value) if begin.value is not None else begin.input
    return found(), _argument(found, given) if begin.value is None or isinstance(given, dict) else given


def _argument(found: type, given: Any) -> Any:
    """The JSON that was given, as what `run` says it takes. Raises NotLoaded."""
    try:
        hints = typing.get_type_hints(found.run)  # type: ignore[attr-defined]
    except Exception:
        hints = {}
    hints.pop("return", None)
    wanted = next(iter(hints.values()), None)
    if wanted is None or not hasattr(wanted, "model_validate"):
        return given
    try:
        return wanted.model_validate(given)
    except ValueError as error:
        faults: list[Any] = error.errors() if hasattr(error, "errors") else [{"loc": (), "msg": error}]  # no values
        told = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'all of it'}: {each['msg']}" for each in faults)
        raise bundle.NotLoaded(f"the task's context does not fit {wanted.__name__}: {told}") from error


def _takes_one(method: Any) -> bool:
    return bool(method.__code__.co_argcount > 1)


def _warm_up() -> None:
    """What every task needs, before one is there: this takes longer than all the rest of a start."""
    for name in ("ntro.data", "ntro.workflow.agents", "ntro.workflow.registry", "ntro.workflow.runtime"):
        importlib.import_module(name)


async def main(runtime: type[DurableRuntime] = DurableRuntime) -> None:
    sock = socket.socket(fileno=SOCKET)
    reader, writer = await asyncio.open_connection(sock=sock, limit=m.MAX_MESSAGE)
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    link = Link(reader, writer, loop)
    loop.settle()
    _warm_up()
    begin = await link.receive()
    if not isinstance(begin, m.Begin):
        return
    link.work = asyncio.create_task(work(link, begin, runtime))
    serving = asyncio.create_task(link.serve())
    link.tasks = {asyncio.current_task(), serving}
    await asyncio.wait([link.work, serving], return_when=asyncio.FIRST_COMPLETED)
    if link.work.done():
        link.work.result()
    writer.close()


def run(runtime: type[DurableRuntime] = DurableRuntime) -> NoReturn:
    """The whole process. Where memory runs out, it goes before the server does."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(name)s: %(message)s")
    try:
        with asyncio.Runner(loop_factory=Loop) as runner:
            runner.run(main(runtime))
    except (OSError, msgspec.MsgspecError) as problem:
        logging.getLogger("hostler.runbook").error("the server is gone: %s", problem)
    os._exit(0)  # threads of activities may still run; the server is who decides


if __name__ == "__main__":
    run()
