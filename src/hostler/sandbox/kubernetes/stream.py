"""A program's stdin and stdout through `pods/exec`: a WebSocket whose messages begin with the number of their stream.

The protocol is the `websockets` library's part without sockets, so that writing never waits. Knows no pod's meaning.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.kubernetes.access import Access
from hostler.sandbox.kubernetes.api import Api, Unreachable, refusal

V5, V4 = Subprotocol("v5.channel.k8s.io"), Subprotocol("v4.channel.k8s.io")  # Kubernetes 1.30; any other
_STDIN, _STDOUT, _STDERR, _ERROR, _CLOSE = 0, 1, 2, 3, 255
_PART = 32 * 1024
_QUEUED = 1024 * 1024
_MAX_MESSAGE = 4 * 1024 * 1024
_CONNECT_SECONDS, _ANSWER_SECONDS = 10.0, 30.0
_silent = logging.Logger("websocket", logging.WARNING)  # it would write down a request's headers, and so our token


class ExecStream:
    """The transport's `Stream`. `status` is the `Status` with which the API told the program's end."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, protocol: ClientProtocol, first: list[Any]
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._protocol = protocol
        self._got: deque[bytes] = deque()
        self._message = bytearray()
        self._said = bytearray()
        self.status: dict[str, Any] | None = None
        writer.transport.set_write_buffer_limits(high=_QUEUED)
        self._take_all(first)

    @property
    def said(self) -> str:
        """The last of stderr, and why the program ended."""
        why = str((self.status or {}).get("message") or "")
        return " ".join(part for part in (self._said.decode(errors="replace").strip(), why) if part)

    async def read(self) -> bytes:
        while not self._got:
            if self.status is not None:
                return b""
            if self._protocol.state is State.CLOSED:
                raise EOFError(f"the stream into the pod broke off: {self._protocol.close_reason or 'no word'}")
            await self._receive()
        return self._got.popleft()

    async def _receive(self) -> None:
        data = await self._reader.read(65536)
        if data:
            self._protocol.receive_data(data)
        else:
            self._protocol.receive_eof()
        self._take_all(self._protocol.events_received())
        self._flush()  # the answer to a ping, or to a close

    def _take_all(self, events: list[Any]) -> None:
        for event in events:
            if isinstance(event, Frame):
                self._take(event)

    def _take(self, frame: Frame) -> None:
        if frame.opcode not in (Opcode.BINARY, Opcode.TEXT, Opcode.CONT):
            return
        self._message += frame.data
        if not frame.fin:
            return
        message, self._message = bytes(self._message), bytearray()
        stream, data = (message[0], message[1:]) if message else (_STDOUT, b"")
        if stream == _STDOUT and data:
            self._got.append(data)
        elif stream == _STDERR:
            self._said = (self._said + data)[-2000:]
        elif stream == _ERROR:
            try:
                self.status = msgspec.json.decode(data, type=dict[str, Any])
            except msgspec.MsgspecError:
                self.status = {"status": "Failure", "message": data[:300].decode(errors="replace")}

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        for at in range(0, len(view), _PART):
            self._send(bytes([_STDIN]) + view[at : at + _PART])

    async def drain(self) -> None:
        await self._writer.drain()

    def close(self) -> None:
        """With version 5 the program is told; else it ends as its server finds the connection gone."""
        if self._protocol.subprotocol == V5:
            self._send(bytes([_CLOSE, _STDIN]))
        self._writer.transport.abort()

    def _send(self, message: bytes) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(message)
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._protocol.data_to_send())
        if data and not self._writer.is_closing():
            self._writer.write(data)


async def open_exec(api: Api, path: str, container: str, argv: Sequence[str]) -> ExecStream:
    """Start a program in a pod, `path` being the pod's. Raises `ApiError` and `Unreachable`."""
    access = api.access
    query = [("container", container), ("stdin", "true"), ("stdout", "true"), ("stderr", "true")]
    query += [("command", word) for word in argv]
    target = f"{access.path}{quote(path)}/exec?{urlencode(query)}"
    try:
        async with asyncio.timeout(_CONNECT_SECONDS):
            reader, writer = await _connect(access)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"the cluster's API at {access.url} does not answer: {_why(error)}") from None
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            protocol, first = await _shake_hands(api, target, reader, writer)
        return ExecStream(reader, writer, protocol, first)
    except (OSError, InvalidHandshake) as error:
        writer.transport.abort()
        raise Unreachable(f"no stream into the pod: {_why(error)}") from None
    except BaseException:
        writer.transport.abort()
        raise


async def _connect(access: Access) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if access.tls is None:
        return await asyncio.open_connection(access.host, access.port)
    name = access.server_name or access.host
    return await asyncio.open_connection(access.host, access.port, ssl=access.tls, server_hostname=name)


async def _shake_hands(
    api: Api, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[ClientProtocol, list[Any]]:
    """The open connection, and the frames that came with the answer."""
    access = api.access
    scheme = "wss" if access.tls is not None else "ws"
    host = f"[{access.host}]" if ":" in access.host else access.host
    uri = parse_uri(f"{scheme}://{host}:{access.port}{target}")
    protocol = ClientProtocol(uri, subprotocols=[V5, V4], max_size=_MAX_MESSAGE, logger=_silent)
    request: Request = protocol.connect()
    headers = Headers(request.headers)
    headers.update({name: value for name, value in (await api.headers()).items() if name == "Authorization"})
    protocol.send_request(Request(request.path, headers))
    writer.write(b"".join(protocol.data_to_send()))
    await writer.drain()
    while True:
        data = await reader.read(65536)
        protocol.receive_data(data) if data else protocol.receive_eof()
        if events := protocol.events_received():
            assert isinstance(events[0], Response)  # nothing else comes first
            _judge(api, events[0], protocol)
            return protocol, events[1:]
        if protocol.handshake_exc is not None:
            raise protocol.handshake_exc
        if not data:
            raise Unreachable("the cluster's API ended the connection at once")


def _judge(api: Api, response: Response, protocol: ClientProtocol) -> None:
    """Raises `ApiError` for a refusal."""
    if response.status_code != 101:
        if response.status_code == 401:
            api.access.token.refused()
        raise refusal(response.status_code, bytes(response.body or b""))
    if protocol.handshake_exc is not None:
        raise protocol.handshake_exc
    if protocol.subprotocol not in (V5, V4):
        raise SandboxUnavailable("the cluster does not speak a protocol of pods/exec that we know")


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
