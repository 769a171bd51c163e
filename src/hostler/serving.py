"""Serves: listens, runs the house behind HTTP, and stops both in order. It must not know what a room is made of.

What a crash left behind is looked for at the start, what has expired is swept now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
from collections.abc import Callable, Iterable, Iterator

import uvicorn
from sqlalchemy import select
from starlette.types import ASGIApp

from hostler.api.app import create_app
from hostler.api.connection import Connection
from hostler.app import Rooms, rooms
from hostler.console.app import create_console
from hostler.console.parts import Parts
from hostler.front import Front
from hostler.models.protocol import Model
from hostler.runbooks.invoking.agents import Home
from hostler.settings import BadSettings, Settings
from hostler.store.rounds import survived
from hostler.store.sql import Tx
from hostler.store.tables import sessions
from hostler.workspace.app import create_workspace
from hostler.workspace.mcp.app import create_mcp

log = logging.getLogger("hostler")

DRAIN_SECONDS = 6.0
REST_SECONDS = 1.5
CLOSE_SECONDS = 1
DATE_SECONDS = 1.0
BACKLOG = 2048
SWEEP_FILES_SECONDS = 600.0


class Server(uvicorn.Server):
    """uvicorn without its own signal handling, and without looking ten times a second whether to stop: `serve` decides
    when to stop, and says so."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Stop in order, from now on. For the loop's own thread."""
        self.should_exit = True
        self._stopped.set()

    async def main_loop(self) -> None:
        while not await self.on_tick(0):  # which sets the time of the responses' `date`
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), DATE_SECONDS)

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        yield


async def serve(
    settings: Settings,
    ready: Callable[[Rooms, str, str | None], None],
    wrap: Callable[[Model], Model] = lambda model: model,
    stop: asyncio.Event | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until `stop` is set by a caller that handles signals itself.

    `ready` is told the rooms, the base URL, and the first API key when one was made.
    On a stop no new session is started, running ones get a few seconds, then streams are cut and the process ends,
    within ten seconds in all. What still ran goes on at the next start.
    """
    raise_file_limit()
    with bound(settings.host, settings.port) as listener:
        async with rooms(settings, wrap) as house:
            first_key = await _first_key(house)
            house.own.listens(*listener.getsockname()[:2])
            config = uvicorn.Config(
                _front(house, listener),
                http=Connection,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                lifespan="off",
                timeout_keep_alive=75,
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
            server = Server(config)
            stop = stop or _stop_on_signals()
            work = asyncio.create_task(house.supervisor.run(), name="supervisor")
            sweep = asyncio.create_task(_sweep_files(house), name="sweep-files")
            home = Home(base_url(listener), house.services.keys.own())
            tasks = asyncio.create_task(house.runbooks.run(home), name="runbooks")
            leases = asyncio.create_task(house.services.work.run(), name="work-leases")
            once = [
                asyncio.create_task(_reap(house), name="reap"),
                asyncio.create_task(house.router.warm_up(), name="warm-up"),
            ]
            http = asyncio.create_task(server.serve(sockets=[listener]), name="http")
            stopped = asyncio.create_task(stop.wait())
            _listen(listener)  # before the announcement: whoever reads it may connect at once
            ready(house, base_url(listener), first_key)
            await asyncio.wait({stopped, work, http, sweep, leases, tasks}, return_when=asyncio.FIRST_COMPLETED)
            await house.supervisor.drain(DRAIN_SECONDS if stopped.done() else 0)
            await house.supervisor.rest(REST_SECONDS)
            tasks.cancel()  # while its agents can still be reached: they end no session, the next start goes on
            await asyncio.wait({tasks})
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # the streams that are now cut are no errors
            server.stop()
            await asyncio.wait({http})
            for task in (work, sweep, leases, tasks, stopped, *once):
                task.cancel()
            outcomes = await asyncio.gather(work, sweep, leases, tasks, http, stopped, *once, return_exceptions=True)
    _raise_first(outcomes)


def _front(house: Rooms, listener: socket.socket) -> ASGIApp:
    api = create_app(house.services)
    workspace = create_workspace(house.runbooks, house.services.keys, house.settings.public_url)
    host, port = listener.getsockname()[:2]
    mcp = create_mcp(house.runbooks, house.services.keys, house.settings.public_url, host, port)
    return Front(api=api, workspace=workspace, mcp=mcp, console=create_console(_of_pages(house)))


def _of_pages(house: Rooms) -> Parts:
    services, runbooks = house.services, house.runbooks
    return Parts(
        store=house.store,
        log=house.log,
        sessions=services.sessions,
        events=services.events,
        threads=services.threads,
        files=services.files,
        access=house.access,
        acting=runbooks.acting,
        uploads=runbooks.uploads,
        data=runbooks.data,
    )


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def raise_file_limit() -> None:
    """Take all the descriptors that the system grants: streams, sandboxes and what agents fetch share them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """The listening socket, or an error that says what to do."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. Without it a response's body waits 40 ms for the client to acknowledge its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise _unusable(host, port, error) from error
        yield listener


def _listen(listener: socket.socket) -> None:
    try:
        listener.listen(BACKLOG)
    except OSError as error:  # another server has bound it at the same moment, and was first
        host, port = listener.getsockname()[:2]
        raise _unusable(host, port, error) from error


def _unusable(host: str, port: int, error: OSError) -> BadSettings:
    return BadSettings(
        f"Can't listen on {host} port {port}: {error.strerror}. Stop what uses it, or choose another --port."
    )


def base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


async def _first_key(house: Rooms) -> str | None:
    """Make the first API key, unless there is one or the environment fixes it; return it to be shown once."""
    keys = house.services.keys
    if house.settings.api_key:
        await keys.ensure("HOSTLER_API_KEY", house.settings.api_key)
        return None
    if await keys.list():
        return None
    return (await keys.create("first"))[1]


async def _reap(house: Rooms) -> None:
    """End the sandboxes of sessions that are not running any more; those of running ones are attached to again."""

    def tx() -> Tx[set[str]]:
        rows = yield select(sessions.c.id).where(sessions.c.wake_at.is_not(None))
        return {row[0] for row in rows}

    async def end() -> None:
        await house.sandboxes.reap(await house.store.read(tx))

    await survived(end(), log, "sandboxes of an earlier start may still run")
    await survived(_forget_ended(house), log, "sandboxes of sessions that have ended may still have files")


async def _forget_ended(house: Rooms) -> None:
    """Delete the files of sessions that were archived or deleted when an earlier process had no time left for it."""
    folder = house.settings.data_dir / "sandboxes"
    names = await asyncio.to_thread(lambda: os.listdir(folder) if folder.is_dir() else [])
    for start in range(0, len(names), 500):
        some = names[start : start + 500]

        def tx(some: list[str] = some) -> Tx[set[str]]:
            known = select(sessions.c.id).where(sessions.c.id.in_(some), sessions.c.archived_at.is_(None))
            rows = yield known
            return {row[0] for row in rows}

        for name in set(some) - await house.store.read(tx):
            if name.startswith("sesn_"):
                house.supervisor.ended(name)
    await house.life.clear(names)


async def _sweep_files(house: Rooms) -> None:
    """Remove expired files, and contents that nothing names."""
    while True:
        for sweep in (house.services.skills.sweep, house.services.files.sweep):
            await survived(sweep(), log, "could not sweep the files")
        await asyncio.sleep(SWEEP_FILES_SECONDS)


def _raise_first(outcomes: Iterable[object]) -> None:
    for outcome in outcomes:
        while isinstance(outcome, ExceptionGroup) and len(outcome.exceptions) == 1:
            outcome = outcome.exceptions[0]
        if isinstance(outcome, Exception) and not isinstance(outcome, asyncio.CancelledError):
            raise outcome
