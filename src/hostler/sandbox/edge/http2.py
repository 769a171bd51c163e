"""HTTP/2 between a sandbox and one server: every stream of the client becomes one of ours to the server.

Framing, header compression and flow control are the library h2's. What comes is acknowledged only once it was passed
on: a slow reader holds up its sender, and little piles up here.
"""

from __future__ import annotations

import h2.events as event
from h2.exceptions import H2Error

from hostler.sandbox.edge.bodies import coding_of, rewriting, value_of
from hostler.sandbox.edge.guard import Guard, Turn
from hostler.sandbox.edge.h2side import Ended, Flow, Side
from hostler.sandbox.edge.httpframing import BadMessage
from hostler.sandbox.edge.route import Refusal
from hostler.sandbox.edge.streams import Stream, together
from hostler.sandbox.edge.substitution import Fields

_NO_BODY = (b"204", b"304")


class _Exchange:
    """One request: its streams on both sides."""

    def __init__(self, turn: Turn, inner: int, method: bytes) -> None:
        self.turn = turn
        self.inner = inner
        self.outer = 0
        self.method = method
        self.answered = False
        self.open = 2  # directions that have not ended


class Http2:
    """The relay of one connection."""

    def __init__(self, client: Stream, server: Stream, guard: Guard) -> None:
        self._client = Side(client, client=False)
        self._server = Side(server, client=True)
        self._guard = guard
        self._inner: dict[int, _Exchange] = {}  # by the client's stream
        self._outer: dict[int, _Exchange] = {}  # by the server's
        self._leaving = False  # the server takes no more requests

    async def run(self) -> None:
        """To the end of the connection. Raises OSError, or `BadMessage` when one side broke the protocol."""
        try:
            await together(
                self._client.send_all(),
                self._server.send_all(),
                self._receive_client(),
                self._receive_server(),
            )
        except Ended:
            return
        except H2Error as e:
            raise BadMessage(f"HTTP/2 was broken ({type(e).__name__})") from None  # its words quote what was sent
        finally:
            for exchange in list(self._inner.values()):
                self._guard.ended(exchange.turn)

    async def _receive_client(self) -> None:
        while data := await self._client.stream.read():
            for happened in self._client.receive(data):
                await self._from_client(happened)
            self._wake()
        raise Ended

    async def _receive_server(self) -> None:
        while data := await self._server.stream.read():
            for happened in self._server.receive(data):
                await self._from_server(happened)
            self._wake()
        for exchange in list(self._inner.values()):
            self._client.reset(exchange.inner)
            self._forget(exchange)
        self._leaving = True
        self._client.leave()  # what waits for the client is still sent

    def _wake(self) -> None:
        self._client.wake()
        self._server.wake()

    # -- from the client --

    async def _from_client(self, happened: event.Event) -> None:
        match happened:
            case event.RequestReceived():
                await self._begin(happened.stream_id, list(happened.headers), ended=bool(happened.stream_ended))
            case event.DataReceived():
                await self._data(self._client, self._inner.get(happened.stream_id), happened)
            case event.TrailersReceived():
                if exchange := self._inner.get(happened.stream_id):
                    self._server.trailers(exchange.outer, list(happened.headers))
            case event.StreamEnded():
                if exchange := self._inner.get(happened.stream_id):
                    self._over(self._server, exchange.outer, exchange)
            case event.StreamReset():
                if exchange := self._inner.get(happened.stream_id):
                    self._server.reset(exchange.outer, happened.error_code)
                    self._forget(exchange)

    async def _begin(self, stream: int, fields: Fields, *, ended: bool) -> None:
        try:
            turn = await self._admit(fields)
            sent = turn.request_fields(fields)
            body = rewriting(sent, turn.request_needles(sent), empty=ended, may_hold=turn.may_hold)
        except Refusal as e:
            self._refuse(stream, e)
            return
        exchange = _Exchange(turn, stream, value_of(fields, b":method") or b"")
        outer = self._server.request(sent, Flow(stream, body), ended=ended) if not self._leaving else None
        if outer is None:  # the client may ask again on another connection
            self._client.decline(stream)
            self._guard.ended(turn)
            return
        exchange.outer = outer
        self._inner[stream] = self._outer[outer] = exchange

    def _refuse(self, stream: int, refusal: Refusal) -> None:
        self._guard.refused(refusal)
        self._client.refuse(stream, refusal)

    async def _admit(self, fields: Fields) -> Turn:
        authorities = [value for name, value in fields if name in (b":authority", b"host")]
        path = value_of(fields, b":path") or b""
        if value_of(fields, b":method") == b"CONNECT" or not (path.startswith(b"/") or path == b"*"):
            raise Refusal(400, "the request cannot be used: its target must be a path")
        turn = await self._guard.begin(authorities[0] if authorities else None)
        for further in authorities[1:]:
            await self._guard.begin(further)
        return turn

    # -- from the server --

    async def _from_server(self, happened: event.Event) -> None:
        match happened:
            case event.InformationalResponseReceived():
                if exchange := self._outer.get(happened.stream_id):
                    self._client.inform(exchange.inner, exchange.turn.response_fields(list(happened.headers)))
            case event.ResponseReceived():
                self._answer(happened.stream_id, list(happened.headers), ended=bool(happened.stream_ended))
            case event.DataReceived():
                await self._data(self._server, self._outer.get(happened.stream_id), happened)
            case event.TrailersReceived():
                if exchange := self._outer.get(happened.stream_id):
                    self._client.trailers(exchange.inner, exchange.turn.response_fields(list(happened.headers)))
            case event.StreamEnded():
                if exchange := self._outer.get(happened.stream_id):
                    self._over(self._client, exchange.inner, exchange)
            case event.StreamReset():
                if exchange := self._outer.get(happened.stream_id):
                    self._client.reset(exchange.inner, happened.error_code)
                    self._forget(exchange)
            case event.ConnectionTerminated():
                self._leave(happened.last_stream_id or 0)

    def _answer(self, stream: int, fields: Fields, *, ended: bool) -> None:
        exchange = self._outer.get(stream)
        if exchange is None:
            return
        status = value_of(fields, b":status") or b""
        sent = exchange.turn.response_fields(fields)
        empty = ended or exchange.method == b"HEAD" or status in _NO_BODY
        needles = exchange.turn.response_needles(sent)
        body = rewriting(sent, needles, empty=empty, may_hold=exchange.turn.may_hold)
        unread = body.coder is None or (status == b"206" and coding_of(fields) != b"identity")
        if needles and not empty and unread and value_of(fields, b"content-length") != b"0":
            self._server.reset(stream)
            self._refuse(exchange.inner, Refusal(502, "the server answered in a coding that cannot be read"))
            self._forget(exchange)
            return
        exchange.answered = True
        self._client.respond(exchange.inner, sent, Flow(stream, body), ended=ended)

    # -- both ways --

    async def _data(self, side: Side, exchange: _Exchange | None, data: event.DataReceived) -> None:
        other, stream = self._other(side, exchange)
        if exchange is None or not other.takes(stream):
            side.acknowledge(data.stream_id, data.flow_controlled_length)  # of a stream that was reset
            return
        try:
            await other.put(stream, data.data, data.flow_controlled_length, side)
        except BadMessage:
            side.reset(data.stream_id)
            other.reset(stream)
            self._forget(exchange)

    def _other(self, side: Side, exchange: _Exchange | None) -> tuple[Side, int]:
        if side is self._client:
            return self._server, exchange.outer if exchange is not None else 0
        return self._client, exchange.inner if exchange is not None else 0

    def _over(self, other: Side, stream: int, exchange: _Exchange) -> None:
        """One direction has ended. The exchange has when both have, or when the answer is whole."""
        try:
            found = other.finish(stream)
        except BadMessage:
            other.reset(stream)
            found = set()
        if other is self._server:
            exchange.turn.note_used(found)
        exchange.open -= 1
        if exchange.open == 0:
            self._forget(exchange)

    def _forget(self, exchange: _Exchange) -> None:
        self._guard.ended(exchange.turn)
        self._inner.pop(exchange.inner, None)
        self._outer.pop(exchange.outer, None)

    def _leave(self, last: int) -> None:
        """The server takes no more requests: the client is told so, and what is under way goes on."""
        self._leaving = True
        for exchange in [exchange for stream, exchange in self._outer.items() if stream > last]:
            self._client.decline(exchange.inner)
            self._forget(exchange)
        self._client.leave()
