"""One of the two HTTP/2 connections of a relay: what is to be sent on its streams, as far as the other side takes it.

It must not know the other connection but to tell it what has been passed on.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from h2.config import H2Configuration
from h2.connection import ConnectionInputs, H2Connection, H2ConnectionStateMachine
from h2.errors import ErrorCodes
from h2.events import Event
from h2.exceptions import ProtocolError, StreamClosedError, TooManyStreamsError
from h2.settings import SettingCodes, Settings

from hostler.sandbox.edge.bodies import GROWTH, HELD_BYTES, Rewriting, without
from hostler.sandbox.edge.httpframing import HEADER_BYTES, BadMessage
from hostler.sandbox.edge.route import Refusal
from hostler.sandbox.edge.streams import CHUNK, Stream
from hostler.sandbox.edge.substitution import Fields

STREAMS = 100
_STREAM_WINDOW = 256 * 1024
_WINDOW = 512 * 1024
_GROWN_BYTES = GROWTH * HELD_BYTES


class Ended(Exception):
    """One side has ended the connection in order."""


class _Lasting(H2ConnectionStateMachine):
    """h2 takes a GOAWAY, of either side, for the end at once; by the standard, what is under way goes on."""

    def process_input(self, input_: ConnectionInputs) -> list[Event]:
        if input_ in (ConnectionInputs.SEND_GOAWAY, ConnectionInputs.RECV_GOAWAY):
            return []
        return super().process_input(input_)


class Flow:
    """What goes out on one stream. `source` is the other side's stream that it comes from."""

    def __init__(self, source: int, body: Rewriting) -> None:
        self.source = source
        self.body = body
        self.head: Fields | None = None  # kept back with a held body
        self.waiting = bytearray()
        self.owed = 0  # bytes to acknowledge when what waits has gone
        self.owed_by: Side | None = None
        self.trailers: Fields | None = None
        self.ended = False


class Side:
    """One connection. Whoever changes what is to be sent calls `wake`."""

    def __init__(self, stream: Stream, *, client: bool) -> None:
        self.stream = stream
        self.http = H2Connection(H2Configuration(client_side=client, header_encoding=None))
        self._flows: dict[int, Flow] = {}
        self._awake = asyncio.Event()
        self._pending = b""
        self._leaving = False
        self._open()

    def _open(self) -> None:
        settings = {
            SettingCodes.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
            SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
            SettingCodes.MAX_HEADER_LIST_SIZE: HEADER_BYTES,
        }
        client = bool(self.http.config.client_side)
        if client:
            settings[SettingCodes.ENABLE_PUSH] = 0
        self.http.local_settings = Settings(client=client, initial_values=settings)
        self.http.state_machine = _Lasting()
        self.http.initiate_connection()
        self.http.increment_flow_control_window(_WINDOW - self.http.inbound_flow_control_window)
        self.wake()

    def wake(self) -> None:
        self._awake.set()

    def receive(self, data: bytes) -> list[Event]:
        """What has happened. Raises `h2.exceptions.ProtocolError`."""
        self._pending += self.http.data_to_send()  # h2 drops it when it reads a GOAWAY
        return self.http.receive_data(data)

    def leave(self) -> None:
        """Say that no more requests are taken, and end when the flows that are open have."""
        if not self._leaving:
            self._leaving = True
            self.http.close_connection()
            self.wake()

    # -- heads --

    def request(self, fields: Fields, flow: Flow, *, ended: bool) -> int | None:
        """Begin a request; None when the other side takes no more at the moment."""
        try:
            if self.http.open_outbound_streams >= self.http.remote_settings.max_concurrent_streams:
                return None
            stream = self.http.get_next_available_stream_id()
            self._begin(stream, fields, flow, ended=ended)
        except (TooManyStreamsError, StreamClosedError):
            return None
        return stream

    def respond(self, stream: int, fields: Fields, flow: Flow, *, ended: bool) -> None:
        with suppress(StreamClosedError):
            self._begin(stream, fields, flow, ended=ended)

    def _begin(self, stream: int, fields: Fields, flow: Flow, *, ended: bool) -> None:
        if ended:
            self.http.send_headers(stream, fields, end_stream=True)
            return
        self._flows[stream] = flow
        if flow.body.held:
            flow.head = fields
            return
        self.http.send_headers(stream, without(fields, b"content-length") if flow.body.coder else fields)

    def inform(self, stream: int, fields: Fields) -> None:
        with suppress(StreamClosedError):
            self.http.send_headers(stream, fields)

    def refuse(self, stream: int, refusal: Refusal) -> None:
        text = f"hostler egress: {refusal.text}\n".encode()
        fields = [(b":status", str(refusal.status).encode()), (b"content-type", b"text/plain; charset=utf-8")]
        with suppress(ProtocolError):
            self.http.send_headers(stream, [*fields, (b"content-length", str(len(text)).encode())])
            self.http.send_data(stream, text, end_stream=True)
        with suppress(ProtocolError):  # also where the client has no room for the words
            self.http.reset_stream(stream, ErrorCodes.NO_ERROR)
        self.wake()

    def decline(self, stream: int) -> None:
        self.reset(stream, ErrorCodes.REFUSED_STREAM)

    def reset(self, stream: int, code: int | ErrorCodes | None = ErrorCodes.CANCEL) -> None:
        flow = self._flows.pop(stream, None)
        if flow is not None:
            self._settle(flow)
        with suppress(ProtocolError):
            self.http.reset_stream(stream, ErrorCodes.CANCEL if code is None else code)
        self.wake()

    # -- bodies --

    def takes(self, stream: int) -> bool:
        return stream in self._flows

    async def put(self, stream: int, data: bytes, size: int, source: Side) -> None:
        """Take what came on the other side, which is owed an acknowledgement of `size`. Raises `BadMessage`."""
        flow = self._flows[stream]
        flow.owed += size
        flow.owed_by = source
        if flow.body.coder is None:
            flow.waiting += data
        else:
            for piece in flow.body.coder.feed(data):
                flow.waiting += piece
                if len(flow.waiting) > _GROWN_BYTES + CHUNK:
                    raise BadMessage("its body grows too much")
                await asyncio.sleep(0)
        if flow.head is not None:
            self._settle(flow)  # a held body is taken at once: it is small
        self.wake()

    def trailers(self, stream: int, fields: Fields) -> None:
        if flow := self._flows.get(stream):
            flow.trailers = fields

    def finish(self, stream: int) -> set[bytes]:
        """The other side has ended this flow. Gives the needles that were found in it. Raises `BadMessage`."""
        flow = self._flows.get(stream)
        if flow is None:
            return set()
        if flow.body.coder is not None:
            for piece in flow.body.coder.finish():
                flow.waiting += piece
        if flow.head is not None:
            length = (b"content-length", str(len(flow.waiting)).encode())
            head, flow.head = [*without(flow.head, b"content-length", b"expect"), length], None
            with suppress(StreamClosedError):
                self.http.send_headers(stream, head)
        flow.ended = True
        self.wake()
        return flow.body.replacer.found if flow.body.replacer is not None else set()

    def acknowledge(self, stream: int, size: int) -> None:
        if size:
            with suppress(ProtocolError):
                self.http.acknowledge_received_data(size, stream)
            self.wake()

    def _settle(self, flow: Flow) -> None:
        if flow.owed_by is not None and flow.owed:
            flow.owed_by.acknowledge(flow.source, flow.owed)
            flow.owed = 0

    # -- sending --

    async def send_all(self) -> None:
        """Send whatever may be sent, until cancelled. Raises `Ended` when this side has left and all is sent."""
        while True:
            self._awake.clear()
            for stream in list(self._flows):
                self._advance(stream)
            data, self._pending = self._pending + self.http.data_to_send(), b""
            if data:
                await self.stream.write(data)
            elif self._leaving and not self._flows:
                raise Ended
            else:
                await self._awake.wait()

    def _advance(self, stream: int) -> None:
        """Hand over to h2 what the windows allow now, at most a chunk, so that streams take turns."""
        flow = self._flows[stream]
        if flow.head is not None:
            return
        try:
            if flow.waiting:
                self._send_some(stream, flow)
            if not flow.waiting:
                self._settle(flow)
            if flow.ended and not flow.waiting:
                if flow.trailers is not None:
                    self.http.send_headers(stream, flow.trailers, end_stream=True)
                else:
                    self.http.end_stream(stream)
                del self._flows[stream]
        except StreamClosedError:
            self._flows.pop(stream, None)
            self._settle(flow)

    def _send_some(self, stream: int, flow: Flow) -> None:
        room = min(self.http.local_flow_control_window(stream), CHUNK)
        while room > 0 and flow.waiting:
            part = bytes(flow.waiting[: min(room, self.http.max_outbound_frame_size)])
            self.http.send_data(stream, part)
            del flow.waiting[: len(part)]
            room -= len(part)
