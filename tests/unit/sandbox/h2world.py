"""An HTTP/2 client and server of few words, on the library h2."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from typing import Any

from edge_world import Client
from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset, TrailersReceived

Fields = list[tuple[bytes, bytes]]


class Lasting(H2ConnectionStateMachine):
    """Lets streams go on after a GOAWAY."""

    def process_input(self, input_: ConnectionInputs) -> list[Any]:
        if input_ in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY):
            return []
        return super().process_input(input_)


class Answer:
    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.body = b""
        self.trailers: dict[bytes, bytes] = {}
        self.reset: int | None = None
        self.done = asyncio.Event()


class H2Client:
    """Over a TLS connection of a program inside."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.http = H2Connection(H2Configuration(client_side=True, header_encoding=None))
        self.http.state_machine = Lasting()
        self.answers: dict[int, Answer] = {}
        self.http.initiate_connection()
        self.reading = asyncio.create_task(self._read())

    async def flush(self) -> None:
        await self.client.stream.write(self.http.data_to_send())

    async def begin(self, host: str, *fields: tuple[bytes, bytes], method: bytes = b"GET", ended: bool = True) -> int:
        stream = self.http.get_next_available_stream_id()
        head = [(b":method", method), (b":scheme", b"https"), (b":authority", host.encode()), (b":path", b"/")]
        self.answers[stream] = Answer()
        self.http.send_headers(stream, [*head, *fields], end_stream=ended)
        await self.flush()
        return stream

    async def answer(self, stream: int) -> Answer:
        async with asyncio.timeout(15):
            await self.answers[stream].done.wait()
        return self.answers[stream]

    async def send(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        """Send as the windows allow."""
        async with asyncio.timeout(15):
            while data:
                room = min(self.http.local_flow_control_window(stream), self.http.max_outbound_frame_size)
                if room:
                    self.http.send_data(stream, data[:room])
                    data = data[room:]
                    await self.flush()
                else:
                    await asyncio.sleep(0.002)
            if ended:
                self.http.end_stream(stream)
                await self.flush()

    async def close(self) -> None:
        self.reading.cancel()
        await asyncio.gather(self.reading, return_exceptions=True)

    async def _read(self) -> None:
        while data := await self.client.stream.read():
            for event in self.http.receive_data(data):
                self._take(event)
            await self.flush()

    def _take(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, ResponseReceived) and answer:
            answer.fields = dict(event.headers)
        elif isinstance(event, TrailersReceived) and answer:
            answer.trailers = dict(event.headers)
        elif isinstance(event, DataReceived) and answer:
            answer.body += event.data
            self.http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamReset) and answer:
            answer.reset = event.error_code
            answer.done.set()
        elif isinstance(event, StreamEnded) and answer:
            answer.done.set()


class Request:
    def __init__(self, fields: Fields) -> None:
        self.fields = dict(fields)
        self.body = b""
        self.trailers: dict[bytes, bytes] = {}


Answering = Callable[[H2Connection, int, Request], None]


def h2_server(answering: Answering, seen: list[Request]) -> Callable[[StreamReader, StreamWriter], Awaitable[None]]:
    """Answers each request when it is whole."""

    async def handle(reader: StreamReader, writer: StreamWriter) -> None:
        http = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        http.initiate_connection()
        open_requests: dict[int, Request] = {}
        writer.write(http.data_to_send())
        while data := await reader.read(65536):
            for event in http.receive_data(data):
                _serve(http, event, open_requests, seen, answering)
            writer.write(http.data_to_send())
            await writer.drain()

    return handle


def _serve(http: H2Connection, event: Any, requests: dict[int, Request], seen: list[Request], do: Answering) -> None:
    name = type(event).__name__
    if name == "RequestReceived":
        requests[event.stream_id] = Request(event.headers)
    elif name == "DataReceived":
        requests[event.stream_id].body += event.data
        http.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif name == "TrailersReceived":
        requests[event.stream_id].trailers = dict(event.headers)
    elif name == "StreamEnded":
        seen.append(requests[event.stream_id])
        do(http, event.stream_id, requests[event.stream_id])


def say(*fields: tuple[bytes, bytes], body: bytes = b"ok", status: bytes = b"200") -> Answering:
    def answering(http: H2Connection, stream: int, request: Request) -> None:
        http.send_headers(stream, [(b":status", status), *fields])
        http.send_data(stream, body, end_stream=True)

    return answering
