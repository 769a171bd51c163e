"""One connection of a sandbox to the proxy: the request it makes, what is decided about it, and what becomes of it.

It must not be told who asks by anything but its caller: nothing in a request says whose it is.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import msgspec
from msgspec import Struct

from hostler.addresses import is_numeric
from hostler.sandbox.contract import Secret
from hostler.sandbox.edge.bodies import Budget
from hostler.sandbox.edge.gateway import GATEWAY_HOST, Gateway, answer
from hostler.sandbox.edge.guard import Guard
from hostler.sandbox.edge.http1 import Http1
from hostler.sandbox.edge.httpframing import (
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
from hostler.sandbox.edge.interception import Edge, Interception, first_words
from hostler.sandbox.edge.ledger import OverBytes, Record
from hostler.sandbox.edge.opening import BadHello, Hello
from hostler.sandbox.edge.route import Refusal, Route
from hostler.sandbox.edge.streams import CHUNK, Plain, beside, join

_TARGET = re.compile(r"http://([^/?#@]+)([/?][^#]*|)(?:#.*)?", re.IGNORECASE)
_LINGER_BYTES = 256 * 1024
LINGER_SECONDS = 2.0
_UNRECOGNIZED_NAME = b"\x15\x03\x03\x00\x02\x02\x70"  # the alert by which a TLS server refuses a name


class EgressLimits(Struct, frozen=True, kw_only=True):
    """Bounds for each sandbox, and `in_all` for the sum. Connections over the number wait in the socket's backlog.
    `bytes` is what a session may move in its life, in both directions together; 0 is no bound."""

    connections: int = 256
    in_all: int = 4096
    bytes: int = 0
    header_seconds: float = 15
    connect_seconds: float = 10
    idle_seconds: float = 600


class Way(Struct, frozen=True):
    """What the connections of one sandbox have in common."""

    key: str
    route: Route
    limits: EgressLimits
    gateway: Gateway | None = None
    edge: Edge | None = None
    held: Budget = msgspec.field(default_factory=Budget)


class Exchange:
    """One request of a client and what became of it, which `record` is told."""

    def __init__(self, reader: StreamReader, writer: StreamWriter, way: Way, record: Record) -> None:
        self._reader = reader
        self._writer = writer
        self._way = way
        self._limits = way.limits
        self._record = record
        self._answered = False  # a response has begun: it is too late for an error of ours

    async def run(self) -> None:
        try:
            await self._serve(await self._request())
        except Refusal as e:
            self._refused(e)
            if not self._answered:
                await self._refuse(e)
        except OverBytes as e:
            self._record.fail("refused", str(e))
        except (OSError, EOFError, BadMessage) as e:
            # One of the two ends went away, fell silent or broke off.
            self._record.fail("failed", _words(e))
        if self._answered:
            with suppress(OSError):
                async with asyncio.timeout(0):  # it has been taken already, or is not there
                    more = await self._reader.read(CHUNK)
                if more:
                    await self._take_rest()

    def _refused(self, refusal: Refusal) -> None:
        self._record.fail("refused" if refusal.status in (400, 403, 421) else "failed", refusal.text)

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
        if len([name for name, _ in head.fields if name.lower() == "host"]) > 1:
            raise Refusal(400, "the request cannot be used: it names two hosts")
        return head

    async def _serve(self, request: Head) -> None:
        method, target, _ = request.start
        if method == "CONNECT":
            await self._connect(*_authority(target, None))
            return
        url = _TARGET.fullmatch(target)
        if url is None:
            raise Refusal(400, "this is a proxy: it takes CONNECT host:port and absolute http:// targets only")
        if self._way.gateway is not None and url[1].lower() == GATEWAY_HOST:
            await self._ask_gateway(self._way.gateway, request, url[2])
        else:
            await self._forward(request, url[1], url[2])

    def _note(self, host: str, port: int, kind: str) -> None:
        self._record.host, self._record.port, self._record.kind = host, port, kind

    # -- tunnels --

    async def _connect(self, host: str, port: int) -> None:
        self._note(host, port, "tunnel")
        reader, writer = await self._way.route.open_tunnel(host, port)
        try:
            self._answered = True
            self._writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with self._idle_clock():
                client = Plain(self._reader, self._writer, self._record.moved)
                await self._tunnel(host, port, client, Plain(reader, writer))
        finally:
            await close(writer)

    async def _tunnel(self, host: str, port: int, client: Plain, server: Plain) -> None:
        """Look at what the client says first, before anything of it is passed on."""
        try:
            opening = await first_words(client, server, self._limits.header_seconds)
        except (BadHello, TimeoutError) as e:
            raise Refusal(403, f"the TLS greeting to {host} cannot be used: {_words(e)}") from None
        if opening is not None and opening.hello is not None:
            await self._tls(host, port, opening.hello, client, server)
        elif opening is not None and opening.http:
            await self._clear(host, port, client, server)
        else:
            await join(client, server)

    async def _tls(self, host: str, port: int, hello: Hello, client: Plain, server: Plain) -> None:
        self._record.kind = "tls"
        self._record.name = hello.name or ""
        try:
            self._check_name(host, hello.name)
        except Refusal:
            with suppress(OSError):
                await client.write(_UNRECOGNIZED_NAME)
            raise
        edge = self._way.edge
        if (
            edge is not None
            and _same(host, hello.name)
            and Interception.spoken(hello)
            and await self._gets_secrets(host)
        ):
            self._record.kind = "https"
            guard = self._guard(host, port)
            bare = host.lower().rstrip(".")
            await Interception(edge, guard, bare, self._limits.connect_seconds, client, server).run(hello)
        else:
            await join(client, server)

    def _check_name(self, host: str, name: str | None) -> None:
        policy = self._way.route.policy
        if name is not None and policy.blocks(name):
            raise Refusal(403, f"{name} is a host that this server does not let sandboxes reach")
        if policy.limited and not _same(host, name):
            wanted = f"asks for {name}" if name is not None else "names no server"
            raise Refusal(403, f"the TLS greeting to {host} {wanted}")

    async def _clear(self, host: str, port: int, client: Plain, server: Plain) -> None:
        """Plain HTTP in a tunnel. In a limited network each request is looked at: behind one address there may be many
        hosts. Secrets go this way to the operator's own hosts only."""
        policy = self._way.route.policy
        trusted = policy.is_trusted(host, port) and await self._gets_secrets(host)
        if not (policy.limited or trusted):
            await join(client, server)
            return
        self._record.kind = "http"
        await Http1(client, server, self._guard(host, port, secret=trusted)).run()

    # -- secrets --

    async def _gets_secrets(self, host: str) -> bool:
        return self._way.edge is not None and bool(await self._way.edge.secrets(self._way.key, host))

    def _guard(self, host: str, port: int, *, secret: bool = True) -> Guard:
        edge, key = self._way.edge, self._way.key

        async def ask() -> Sequence[Secret]:
            return await edge.secrets(key, host) if edge is not None and secret else ()

        return Guard(host, port, ask, self._record.credentials, self._way.held, self._refused)

    # -- the server's own --

    async def _ask_gateway(self, gateway: Gateway, request: Head, target: str) -> None:
        self._note(GATEWAY_HOST, 80, "gateway")

        async def write(data: bytes) -> None:
            self._answered = True
            async with asyncio.timeout(self._limits.idle_seconds):
                self._writer.write(data)
                await self._writer.drain()

        try:
            await answer(gateway, self._way.key, request, target, self._reader, write)
        except BadMessage as e:
            raise Refusal(400, f"the request cannot be used: {e}") from None

    # -- plain requests --

    async def _forward(self, request: Head, authority: str, path: str) -> None:
        host, port = _authority(authority, 80)
        self._note(host, port, "http")
        try:
            body = request_body(request)
        except BadMessage as e:
            raise Refusal(400, f"the request cannot be used: {e}") from None
        route = self._way.route
        remote, writer = await route.open_request(host, port)
        fields = [(key, value) for key, value in request.end_to_end() if key.lower() != "host"]
        fields = [("Host", authority), *fields, ("Connection", "close")]
        if route.upstream:
            path = f"http://{authority}{path}"
            fields += route.upstream.fields
        elif not path.startswith("/"):
            path = "/" + path
        head = encode(f"{request.start[0]} {path} HTTP/1.1", fields)
        try:
            async with self._idle_clock():
                if route.upstream is None and route.policy.is_trusted(host, port) and await self._gets_secrets(host):
                    await self._forward_with_secrets(host, port, head, Plain(remote, writer))
                    return
                send = self._counted(writer, sent=True)
                await send(head)
                async with beside(self._send_body(body, send)):
                    await self._respond(request.start[0], remote, self._counted(self._writer, sent=False))
        except TimeoutError:
            raise Refusal(504, f"{host}:{port} did not answer in time") from None
        finally:
            await close(writer)

    async def _forward_with_secrets(self, host: str, port: int, head: bytes, server: Plain) -> None:
        self._answered = True
        client = Plain(self._reader, self._writer, self._record.moved, first=head)
        await Http1(client, server, self._guard(host, port), once=True).run()

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

    @asynccontextmanager
    async def _idle_clock(self) -> AsyncIterator[None]:
        """Ends the block with TimeoutError when nothing has moved for long."""
        loop, most = asyncio.get_running_loop(), self._limits.idle_seconds
        async with asyncio.timeout(most) as clock:
            self._record.on_life = lambda: None if clock.expired() else clock.reschedule(loop.time() + most)
            try:
                yield
            finally:
                self._record.on_life = lambda: None

    def _counted(self, writer: StreamWriter, *, sent: bool) -> Write:
        """A write that waits for a slow reader, and that counts as a sign of life."""

        async def write(data: bytes) -> None:
            writer.write(data)
            await writer.drain()
            self._record.moved(*((len(data), 0) if sent else (0, len(data))))

        return write

    async def _refuse(self, refusal: Refusal) -> None:
        """Say why."""
        text = f"hostler egress: {refusal.text}\n".encode()
        fields = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(text))),
            ("Connection", "close"),
        ]
        phrase = HTTPStatus(refusal.status).phrase
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                self._writer.write(encode(f"HTTP/1.1 {refusal.status} {phrase}", fields) + text)
                await self._writer.drain()
                await self._take_rest()
        except OSError:
            pass

    async def _take_rest(self) -> None:
        """Take what the client still sends, for a moment: closing on unread bytes would lose the answer."""
        async with asyncio.timeout(LINGER_SECONDS):
            self._writer.write_eof()
            left = _LINGER_BYTES
            while left > 0 and (data := await self._reader.read(CHUNK)):
                left -= len(data)


def _same(host: str, name: str | None) -> bool:
    """Whether the name in a TLS greeting is the host of the tunnel. To an address, there is none to name."""
    bare = host.lower().rstrip(".")
    return name == bare if name is not None else is_numeric(bare.strip("[]"))


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or 'failed'}"
    if isinstance(error, TimeoutError):
        return "nothing came in time"
    if isinstance(error, OSError):
        return (error.strerror or str(error) or "the connection broke").lower()
    return str(error) or "it closed the connection"


def _authority(text: str, default_port: int | None) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port or "")
    if not (port.isascii() and port.isdigit()) or len(port) > 5:
        raise Refusal(400, "the request names no valid host and port")
    return host, int(port)


async def close(writer: StreamWriter, seconds: float = LINGER_SECONDS) -> None:
    """Close after what is still to be sent, but wait for a slow reader only so long. Raises nothing of its own."""
    writer.close()
    try:
        async with asyncio.timeout(seconds):
            await writer.wait_closed()
    except TimeoutError:
        _abort(writer)
    except OSError:
        pass  # it is closed
    except asyncio.CancelledError:
        _abort(writer)
        raise


def _abort(writer: StreamWriter) -> None:
    with suppress(AttributeError):  # asyncio (3.11 to 3.13) fails on a transport that was closed with its last write
        writer.transport.abort()
