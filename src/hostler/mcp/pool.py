"""The MCP connections of this process: one for each session and server, opened when wanted and closed when idle.

It must not share one between sessions: their credentials and the server's state differ. It loads the SDK in a thread,
with the first connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from hostler.mcp.config import McpConfig, Target, target
from hostler.mcp.listing import RemoteTool
from hostler.mcp.own import OwnServer
from hostler.mcp.problems import NotConnected

if TYPE_CHECKING:
    from hostler.mcp.connection import Connection
    from hostler.mcp.http import Authority

log = logging.getLogger(__name__)

CLOSE_SECONDS = 0.8
TIDY_SECONDS = 5.0


class Key(NamedTuple):
    session_id: str
    server: str
    url: str


class Pool:
    """Not to be used after `aclose`."""

    def __init__(self, config: McpConfig, environ: Mapping[str, str], own: OwnServer | None = None) -> None:
        """`own` says which URLs are this very server's."""
        self.config = config
        self._environ = environ
        self._own = own or OwnServer()
        self._open: dict[Key, Connection] = {}
        self._used: dict[Key, float] = {}
        self._opening: dict[Key, asyncio.Task[Connection]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._tidying: asyncio.Task[None] | None = None
        self._loading = asyncio.Lock()

    async def connection(self, key: Key, authority: Authority) -> Connection:
        """The living connection, or a new one. Raises NotConnected and NotAuthorized.

        Whoever is cancelled in here leaves the set-up running for who asks next; it is bounded anyway.
        """
        found = self._open.get(key)
        if found is not None and found.alive:
            self._used[key] = asyncio.get_running_loop().time()
            return found
        task = self._opening.get(key)
        if task is None:
            task = asyncio.create_task(self._connect(key, authority), name="mcp-connect")
            self._opening[key] = task
            task.add_done_callback(lambda done: self._opened(key, done))
        return await asyncio.shield(task)

    def changed(self, key: Key) -> bool:
        """Whether a server has said that its tools are not what they were."""
        found = self._open.get(key)
        return found is not None and found.alive and found.changed

    async def tools(self, key: Key, authority: Authority, *, fresh: bool) -> list[RemoteTool]:
        """The tools of a server; `fresh` as in `Connection.tools`.

        Raises NotConnected and NotAuthorized.
        """
        connection = await self.connection(key, authority)
        try:
            async with asyncio.timeout(self.config.setup_seconds):
                return await connection.tools(fresh=fresh)
        except TimeoutError:
            raise NotConnected(f"it did not list its tools within {self.config.setup_seconds:g} seconds") from None

    def forget(self, session_id: str) -> None:
        """The session has ended: close what it had."""
        for key in [key for key in self._open if key.session_id == session_id]:
            self._close(key)

    async def aclose(self) -> None:
        """Close everything, within a second."""
        for setup in self._opening.values():
            setup.cancel()
        if self._tidying is not None:
            self._tidying.cancel()
        for key in list(self._open):
            self._close(key)
        tasks: set[asyncio.Task[Any]] = {*self._closing, *self._opening.values()}
        tasks |= {self._tidying} if self._tidying is not None else set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _connect(self, key: Key, authority: Authority) -> Connection:
        goal = target(self.config, key.url, self._environ)
        if goal is None:
            raise NotConnected("no stdio server of this name is configured")
        near = self._own.dialled(key.url)
        session_id = key.session_id if near is not None else None
        self._make_room()
        module = await self._library()
        try:
            async with asyncio.timeout(self.config.setup_seconds):
                made: Connection = await module.connect(
                    Target(near) if near is not None else goal, authority, self.config, session_id
                )
        except TimeoutError:
            raise NotConnected(f"it did not answer within {self.config.setup_seconds:g} seconds") from None
        self._open[key] = made
        self._used[key] = asyncio.get_running_loop().time()
        if self._tidying is None:
            self._tidying = asyncio.create_task(self._tidy(), name="mcp-tidy")
        return made

    def _opened(self, key: Key, task: asyncio.Task[Connection]) -> None:
        del self._opening[key]
        if not task.cancelled():
            task.exception()  # seen, also when nobody waits any more

    async def _library(self) -> Any:
        async with self._loading:
            return await asyncio.to_thread(importlib.import_module, "hostler.mcp.connection")

    def _make_room(self) -> None:
        """Close the connection that was unused for longest when there are too many."""
        if len(self._open) + len(self._opening) <= self.config.connections:
            return
        unused = [key for key, connection in self._open.items() if not connection.busy]
        if not unused:
            raise NotConnected(f"the server has {self.config.connections} MCP connections at work already")
        self._close(min(unused, key=lambda key: self._used[key]))

    def _close(self, key: Key) -> None:
        connection = self._open.pop(key)
        self._used.pop(key, None)
        task = asyncio.create_task(connection.close(), name="mcp-close")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _tidy(self) -> None:
        """Close what is idle, and let go of what has died."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(TIDY_SECONDS, self.config.idle_seconds))
            before = loop.time() - self.config.idle_seconds
            for key, connection in list(self._open.items()):
                if connection.busy:
                    self._used[key] = loop.time()
                elif not connection.alive or self._used[key] < before:
                    with contextlib.suppress(KeyError):
                        self._close(key)
