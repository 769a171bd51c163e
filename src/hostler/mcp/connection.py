"""One connection to one MCP server. A task of its own enters and leaves all of the SDK's scopes; others only ask.

It must not retry or reconnect: it says whether a call may have run, and its owner decides. It imports the SDK (50 MB, a
second), so it must itself only be imported once a connection is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import httpx2
import mcp_types as types
from mcp import Client, MCPError
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import SubscriptionLost
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import ValidationError

import hostler
from hostler.mcp.config import McpConfig, Target
from hostler.mcp.http import SENDING, Authority, Sending, Wire, tls
from hostler.mcp.listing import RemoteTool, remote_tool
from hostler.mcp.problems import (
    NotAuthorized,
    NotConnected,
    NotSent,
    NotStarted,
    OutcomeUnknown,
    Refused,
    Unauthorized,
)
from hostler.mcp.program import program
from hostler.mcp.reasons import clipped, why
from hostler.mcp.watched import Watched

PAGES = 50
LISTED_TOOLS = 10_000
_CLOSED = (anyio.ClosedResourceError, anyio.BrokenResourceError, anyio.EndOfStream)

tls()  # now, while this is loaded in a thread

# What a server sends is not ours to write into our log, be it broken or hostile.
logging.getLogger("mcp").setLevel(logging.CRITICAL)
logging.getLogger("client").setLevel(logging.CRITICAL)

Streams = AbstractAsyncContextManager[Any]


async def connect(target: Target, authority: Authority, config: McpConfig, session_id: str | None = None) -> Connection:
    """Connect and negotiate: streamable HTTP, then the older SSE transport where the server turns that away.

    `session_id` is for this very server alone, and not given to any other. Raises NotConnected and NotAuthorized.
    """
    if target.program is not None:
        return await _run(target, config)
    try:
        wire = Wire(target.url, authority, config, session_id)
    except httpx2.InvalidURL:
        raise NotConnected("its URL can't be used") from None
    try:
        return await Connection(lambda: _streamable(target.url, wire, config), wire, config).start()
    except NotAuthorized:
        raise
    except NotConnected:
        if wire.status is None or not 400 <= wire.status < 500 or wire.status in (408, 429):
            raise
    return await Connection(lambda: _sse(target.url, wire), wire, config).start()


async def _run(target: Target, config: McpConfig) -> Connection:
    """Start a program. Some that know only the older protocol leave at its successor's first message."""
    try:
        return await Connection(lambda: program(target, config.result_bytes), None, config).start()
    except NotStarted:
        raise
    except NotConnected:
        return await Connection(lambda: program(target, config.result_bytes), None, config, mode="legacy").start()


@asynccontextmanager
async def _streamable(url: str, wire: Wire, config: McpConfig) -> AsyncGenerator[Any]:
    async with (
        wire.client() as client,
        streamable_http_client(url, http_client=client, max_sse_event_size=config.result_bytes) as streams,
    ):
        yield streams


def _sse(url: str, wire: Wire) -> Streams:
    return sse_client(url, httpx_client_factory=wire.client, auth=wire)


class Connection:
    """See the module. `changed` says that the server's tools are to be listed again, `closed` that it is over."""

    def __init__(
        self, streams: Callable[[], Streams], wire: Wire | None, config: McpConfig, *, mode: str = "auto"
    ) -> None:
        """`streams` makes the transport, which has a `wire` when it is HTTP; `mode` is the SDK's."""
        self._streams = streams
        self._wire = wire
        self._config = config
        self._mode = mode
        self._client: Client | None = None
        self.closed = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[dict[str, Any]]] = set()
        self._tools: list[RemoteTool] = []
        self._listing = asyncio.Lock()
        self._told = False  # of changes, by the server
        self.changed = True

    @property
    def alive(self) -> bool:
        return self._client is not None and not self.closed.is_set()

    @property
    def _status(self) -> int | None:
        """Of the last HTTP answer."""
        return self._wire.status if self._wire is not None else None

    @property
    def busy(self) -> bool:
        return bool(self._calls)

    async def start(self) -> Connection:
        """Raises NotConnected and NotAuthorized. Cancelling it leaves nothing behind."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._own(ready), name="mcp-connection")
        try:
            await ready
        except asyncio.CancelledError:
            self._owner.cancel()
            raise
        return self

    async def close(self) -> None:
        """End what still runs and leave the server. Cancelling it makes that abrupt."""
        self.closed.set()
        assert self._owner is not None
        try:
            await asyncio.wait({self._owner})
        except asyncio.CancelledError:
            self._owner.cancel()
            await asyncio.wait({self._owner}, timeout=0.2)
            raise

    # -- the task that owns the SDK's scopes

    async def _own(self, ready: asyncio.Future[None]) -> None:
        try:
            async with Client(
                Watched(self._streams(), self.closed.set),
                message_handler=self._noticed,
                client_info=types.Implementation(name="hostler", version=hostler.__version__),
                cache=None,
                mode=self._mode,
            ) as client:
                self._client = client
                watching = asyncio.create_task(self._watch(client), name="mcp-watch")
                try:
                    if not ready.done():
                        ready.set_result(None)
                    await self.closed.wait()
                    await self._end_calls()
                finally:
                    watching.cancel()
                    await asyncio.wait({watching})
        except Exception as problem:
            if not ready.done():
                ready.set_exception(why(problem, self._status, self._redacted))
        finally:
            self._client = None
            self.closed.set()
            if not ready.done():
                ready.cancel()
            await self._end_calls()

    async def _end_calls(self) -> None:
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(set(self._calls), timeout=0.5)

    async def _noticed(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.changed = True

    async def _watch(self, client: Client) -> None:
        """Find out whether the server will tell of changed tools; newer ones do so only for who listens."""
        offered = client.server_capabilities.tools
        if offered is None or not offered.list_changed:
            return
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            self._told = True
            return
        with contextlib.suppress(MCPError, SubscriptionLost, TimeoutError, ValidationError, *_CLOSED):
            async with client.listen(tools_list_changed=True) as events:
                self._told = True
                async for _ in events:
                    self.changed = True
        self._told = False

    # -- what others ask

    async def tools(self, *, fresh: bool) -> list[RemoteTool]:
        """All tools that can be shown, sorted by name. They are asked for when they have changed; with `fresh` also
        when the server would not tell. Raises NotConnected and NotAuthorized.
        """
        async with self._listing:
            if self.changed or (fresh and not self._told):
                if self._client is None:
                    raise NotConnected("the connection was closed")
                self.changed = False
                listed = False
                try:
                    self._tools = await self._listed(self._client)
                    listed = True
                except Exception as problem:  # whatever a hostile listing makes of the SDK
                    raise why(problem, self._status, self._redacted) from None
                finally:
                    self.changed = self.changed or not listed
            return self._tools

    async def _listed(self, client: Client) -> list[RemoteTool]:
        if client.server_capabilities.tools is None:
            return []
        found: dict[str, RemoteTool] = {}
        cursors: set[str | None] = set()
        cursor: str | None = None
        while cursor not in cursors and len(cursors) < PAGES and len(found) < LISTED_TOOLS:
            cursors.add(cursor)
            page = await client.list_tools(cursor=cursor)
            for listed in page.tools[: LISTED_TOOLS - len(found)]:
                shown = [listed.description or listed.title or "", listed.input_schema]
                tool = remote_tool(listed.name, *self._cleaned(shown))
                if tool is not None:
                    found.setdefault(tool.name, tool)
            cursor = page.next_cursor
            if cursor is None:
                break
        return [found[name] for name in sorted(found)]

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Call a tool; the result is as it goes over the wire. Cancelling it tells the server, and returns at once.

        Raises NotSent, Unauthorized, Refused and OutcomeUnknown.
        """
        client = self._client
        if client is None or self.closed.is_set():
            raise NotSent("the connection was closed")
        task = asyncio.create_task(self._send(client, name, arguments), name="mcp-call")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            task.cancel()  # it ends by itself, once the server is told; at the latest with the connection
            task.add_done_callback(_forget)
            raise
        if task.cancelled():
            raise OutcomeUnknown("the connection was closed in mid-call")
        return task.result()

    async def _send(self, client: Client, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        sending = Sending(sent=self._wire is None)
        SENDING.set(sending)
        end = anyio.current_time() + self._config.call_limit_seconds
        with anyio.CancelScope(deadline=self._deadline(end)) as scope:

            async def progressed(progress: float, total: float | None, message: str | None) -> None:
                scope.deadline = self._deadline(end)

            request = types.CallToolRequest(params=types.CallToolRequestParams(name=name, arguments=arguments))
            try:
                # Not call_tool(): it runs the server's own output schema, whose patterns may take for ever.
                result = await client.session.send_request(request, types.CallToolResult, progress_callback=progressed)
            except Exception as problem:  # whatever a hostile answer makes of the SDK
                raise self._failed(problem, sending) from None
            cleaned: dict[str, Any] = self._cleaned(result.model_dump(by_alias=True, mode="json", exclude_none=True))
            return cleaned
        raise OutcomeUnknown(f"no answer within {self._config.call_seconds:g} seconds; the call was cancelled")

    def _deadline(self, end: float) -> float:
        return min(anyio.current_time() + self._config.call_seconds, end)

    def _failed(self, problem: Exception, sending: Sending) -> Exception:
        """What a failed call means. What is not known for sure is unknown."""
        if not sending.sent:
            return NotSent("no connection could be made")
        status = sending.status
        if status in (401, 403):
            return Unauthorized(f"it answered with HTTP {status}")
        if isinstance(problem, MCPError) and problem.code != types.CONNECTION_CLOSED:
            if status == 404 and problem.message == "Session terminated":
                self.closed.set()
                return NotSent("the server has forgotten the session")
            if status is not None and status >= 500:
                return OutcomeUnknown(f"it answered with HTTP {status}")
            return Refused(clipped(self._redacted(problem.message)))
        if isinstance(problem, ValidationError):
            return Refused("its answer is not a valid tool result")
        return OutcomeUnknown("the connection was lost before an answer came")

    def _redacted(self, text: str) -> str:
        """What a server says in an error becomes part of a message of ours: without the credential that we sent."""
        return text if self._wire is None else self._wire.redact(text)

    def _cleaned(self, value: Any) -> Any:
        """What a server says goes to the model and into the log: without the credential that we sent."""
        return value if self._wire is None else self._wire.redacted(value)


def _forget(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
