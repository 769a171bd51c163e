"""The way out of a sandbox: an HTTP proxy on the host that serves the sockets handed out of the sandboxes.

It must not be reachable but through such a socket, which is also the session's identity, and must not let an agent
reach this host or its networks.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
import resource
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

from msgspec import Struct

from hostler.sandbox.contract import Network
from hostler.sandbox.gateway import GATEWAY_HOST, Gateway, answer
from hostler.sandbox.httpframing import (
    CHUNK,
    HEADER_BYTES,
    BadMessage,
    Body,
    Head,
    Write,
    copy_body,
    encode,
    read_head,
    request_body,
    response_body,
)
from hostler.sandbox.route import (
    Connect,
    EgressPolicy,
    Refusal,
    Resolve,
    Route,
    Upstream,
    connect_to_address,
    system_resolver,
)

__all__ = ["EgressLimits", "EgressPolicy", "EgressProxy"]

log = logging.getLogger(__name__)

_TARGET = re.compile(r"http://([^/?#@]+)([/?][^#]*|)(?:#.*)?", re.IGNORECASE)
_RESOLVER_THREADS = 32
_LINGER_BYTES = 256 * 1024
_LINGER_SECONDS = 2
_BUSY = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class EgressLimits(Struct, frozen=True, kw_only=True):
    """Bounds for each sandbox, and `in_all` for the sum. Connections over the number wait in the socket's backlog."""

    connections: int = 256
    in_all: int = 4096
    header_seconds: float = 15
    connect_seconds: float = 10
    idle_seconds: float = 600


class EgressProxy:
    """One instance serves all sandboxes that share a policy. `resolve` and `connect` are replaced in tests only."""

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        limits: EgressLimits | None = None,
        resolve: Resolve | None = None,
        connect: Connect = connect_to_address,
        gateway: Gateway | None = None,
    ) -> None:
        if policy.upstream:
            Upstream.of(policy.upstream)  # refuse a wrong one at the start of the server
        self._policy = policy
        self._limits = limits or EgressLimits()
        # Each takes two descriptors, of which agents shall never have more than half.
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._seats = asyncio.Semaphore(max(1, min(self._limits.in_all, descriptors // 4)))
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, "egress-resolver")
        self._resolve = resolve or system_resolver(self._threads)
        self._connect = connect
        self._gateway = gateway

    def close(self) -> None:
        """Let go of the threads. Every `serve` must have ended."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def serve(self, listener: socket.socket, key: str, network: Network) -> None:
        """Serve one sandbox until cancelled, which also ends its connections; the listener stays the caller's.
        `network` confines it further than the policy of all; the gateway is in reach of each."""
        listener.setblocking(False)
        seats = asyncio.Semaphore(self._limits.connections)
        route = Route(
            self._policy.confined(network),
            resolve=self._resolve,
            connect=self._connect,
            connect_seconds=self._limits.connect_seconds,
        )
        async with asyncio.TaskGroup() as connections:
            while True:
                await seats.acquire()
                client = await _accept(listener)
                if client is None:
                    return
                task = connections.create_task(self._handle(client, route, key))
                task.add_done_callback(lambda _: seats.release())

    @asynccontextmanager
    async def _seat(self, client: socket.socket) -> AsyncIterator[None]:
        try:
            await self._seats.acquire()
        except asyncio.CancelledError:
            client.close()
            raise
        try:
            yield
        finally:
            self._seats.release()

    async def _handle(self, client: socket.socket, route: Route, key: str) -> None:
        """One connection, whose every failure is its own."""
        async with self._seat(client):
            try:
                reader, writer = await asyncio.open_connection(sock=client, limit=HEADER_BYTES)
            except OSError:
                client.close()
                return
            try:
                await _Exchange(reader, writer, route, self._limits, self._gateway, key).run()
            except Exception:
                log.exception("egress of %s: a connection failed", key)
            finally:
                await _close(writer)


class _Exchange:
    """One request of a client and what became of it."""

    def __init__(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        route: Route,
        limits: EgressLimits,
        gateway: Gateway | None,
        key: str,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._route = route
        self._limits = limits
        self._gateway = gateway
        self._key = key
        self._answered = False  # a response has begun: it is too late for an error of ours

    async def run(self) -> None:
        try:
            await self._serve(await self._request())
        except Refusal as e:
            if not self._answered:
                await self._refuse(e)
        except (OSError, EOFError, BadMessage):
            pass  # one of the two ends went away, fell silent or broke off

    async def _request(self) -> Head:
        try:
            async with asyncio.timeout(self._limits.header_seconds):
                head = await read_head(self._reader)
        except TimeoutError:
            raise Refusal(408, "the request did not arrive in time") from None
        except BadMessage as e:
            raise Refusal(400, f"the request cannot be used: {e}") from None
        if head.start[2] not in ("HTTP/1.1", "HTTP/1.0"):
            raise Refusal(505, "this proxy speaks HTTP/1.1")
        return head

    async def _serve(self, request: Head) -> None:
        method, target, _ = request.start
        if method == "CONNECT":
            host, port = _authority(target, None)
            await self._tunnel(*await self._route.open_tunnel(host, port))
            return
        url = _TARGET.fullmatch(target)
        if url is None:
            raise Refusal(400, "this is a proxy: it takes CONNECT host:port and absolute http:// targets only")
        if self._gateway is not None and url[1].lower() == GATEWAY_HOST:
            await self._ask_gateway(self._gateway, request, url[2])
        else:
            await self._forward(request, url[1], url[2])

    async def _tunnel(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Carry bytes both ways; the end of one direction is passed on and leaves the other open.

        The first bytes of the client are where a check of the TLS server name belongs, before they are passed on.
        """
        self._answered = True
        try:
            self._writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.timeout(self._limits.idle_seconds) as clock:
                await _together(
                    _pump(self._reader, self._patient(writer, clock), writer),
                    _pump(reader, self._patient(self._writer, clock), self._writer),
                )
        finally:
            await _close(writer)

    async def _ask_gateway(self, gateway: Gateway, request: Head, target: str) -> None:
        async def write(data: bytes) -> None:
            self._answered = True
            async with asyncio.timeout(self._limits.idle_seconds):
                self._writer.write(data)
                await self._writer.drain()

        try:
            await answer(gateway, self._key, request, target, self._reader, write)
        except BadMessage as e:
            raise Refusal(400, f"the request cannot be used: {e}") from None

    async def _forward(self, request: Head, authority: str, path: str) -> None:
        host, port = _authority(authority, 80)
        try:
            body = request_body(request)
        except BadMessage as e:
            raise Refusal(400, f"the request cannot be used: {e}") from None
        remote, writer = await self._route.open_request(host, port)
        fields = [(key, value) for key, value in request.end_to_end() if key.lower() != "host"]
        fields = [("Host", authority), *fields, ("Connection", "close")]
        if self._route.upstream:
            path = f"http://{authority}{path}"
            fields += self._route.upstream.fields
        elif not path.startswith("/"):
            path = "/" + path
        try:
            async with asyncio.timeout(self._limits.idle_seconds) as clock:
                send = self._patient(writer, clock)
                await send(encode(f"{request.start[0]} {path} HTTP/1.1", fields))
                async with _background(self._send_body(body, send)):
                    await self._respond(request.start[0], remote, self._patient(self._writer, clock))
        except TimeoutError:
            raise Refusal(504, f"{host}:{port} did not answer in time") from None
        finally:
            await _close(writer)

    async def _send_body(self, body: Body, send: Write) -> None:
        with suppress(ConnectionError):  # a server may answer and hang up before the end of the body: it counts
            await copy_body(body, self._reader, send)

    async def _respond(self, method: str, remote: StreamReader, write: Write) -> None:
        try:
            head = await read_head(remote)
            while head.start[1].startswith("1"):
                await write(encode(" ".join(head.start), head.end_to_end()))
                head = await read_head(remote)
            body = response_body(method, head.start[1], head)
        except (EOFError, BadMessage, ConnectionError) as e:
            raise Refusal(502, f"the server gave no usable answer: {str(e) or 'it closed the connection'}") from None
        self._answered = True
        _, status, phrase = head.start
        await write(encode(f"HTTP/1.1 {status} {phrase}", [*head.end_to_end(), ("Connection", "close")]))
        await copy_body(body, remote, write)

    def _patient(self, writer: StreamWriter, clock: asyncio.Timeout) -> Write:
        """A write that waits for a slow reader, and that counts as a sign of life."""
        loop = asyncio.get_running_loop()

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()
            clock.reschedule(loop.time() + self._limits.idle_seconds)

        return write

    async def _refuse(self, refusal: Refusal) -> None:
        """Say why, and take what the client still sends: closing on unread bytes would lose the answer."""
        text = f"hostler egress: {refusal.text}\n".encode()
        fields = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(text))),
            ("Connection", "close"),
        ]
        phrase = HTTPStatus(refusal.status).phrase
        try:
            async with asyncio.timeout(_LINGER_SECONDS):
                self._writer.write(encode(f"HTTP/1.1 {refusal.status} {phrase}", fields) + text)
                await self._writer.drain()
                self._writer.write_eof()
                left = _LINGER_BYTES
                while left > 0 and (data := await self._reader.read(CHUNK)):
                    left -= len(data)
        except OSError:
            pass


def _authority(text: str, default_port: int | None) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port or "")
    if not (port.isascii() and port.isdigit()) or len(port) > 5:
        raise Refusal(400, "the request names no valid host and port")
    return host, int(port)


async def _pump(reader: StreamReader, write: Write, writer: StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        await write(data)
    if writer.can_write_eof():
        writer.write_eof()


async def _together(*works: Coroutine[None, None, None]) -> None:
    """Run to the end of all, or to the first failure, which is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


@asynccontextmanager
async def _background(work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Run `work` beside the block: its failure ends the block, the end of the block ends it."""
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(work)
            yield
            task.cancel()
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def _accept(listener: socket.socket) -> socket.socket | None:
    """The next connection, or None when the listener is no longer one."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return (await loop.sock_accept(listener))[0]
        except OSError as e:
            if e.errno in (errno.EBADF, errno.EINVAL, errno.ENOTSOCK):
                return None
            if e.errno in _BUSY:
                await asyncio.sleep(0.1)


async def _close(writer: StreamWriter) -> None:
    """Close after what is still to be sent, but wait for a slow reader only so long."""
    writer.close()
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            await writer.wait_closed()
    except OSError:
        pass
    finally:
        writer.transport.abort()
