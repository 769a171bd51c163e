"""HTTP/1.1 between a sandbox and one server: each request is read whole in its framing, judged, and written anew.

Framing is the library h11's. What two readers could understand differently is refused, since it could smuggle another
request. It must not connect anywhere: both streams are given.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import h11

from hostler.sandbox.edge.bodies import GROWTH, HELD_BYTES, Rewriting, coding_of, rewriting, value_of, without
from hostler.sandbox.edge.guard import Guard, Turn
from hostler.sandbox.edge.httpframing import HEADER_BYTES, BadMessage
from hostler.sandbox.edge.route import Refusal
from hostler.sandbox.edge.streams import Stream, beside, join
from hostler.sandbox.edge.substitution import Fields

_HOP = (b"upgrade", b"http2-settings")
_NO_BODY = (204, 304)
_LINGER_BYTES = 256 * 1024
LINGER_SECONDS = 2


class _Peer:
    """One side: a stream, and h11's idea of what is spoken on it."""

    def __init__(self, stream: Stream, role: Any) -> None:
        self.stream = stream
        self.http = h11.Connection(role, max_incomplete_event_size=HEADER_BYTES)

    async def next(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.stream.read())
        return event

    async def send(self, event: h11.Event) -> None:
        if data := self.http.send(event):
            await self.stream.write(data)

    @property
    def done(self) -> bool:
        return self.http.our_state is h11.DONE and self.http.their_state is h11.DONE


class Http1:
    """The relay of one connection. `once`: the client's first request is its only one."""

    def __init__(self, client: Stream, server: Stream, guard: Guard, *, once: bool = False) -> None:
        self._client = _Peer(client, h11.SERVER)
        self._server = _Peer(server, h11.CLIENT)
        self._guard = guard
        self._once = once

    async def run(self) -> None:
        """To the end of the connection. Raises OSError, or `BadMessage` when one side broke off."""
        try:
            while await self._next_request() and not self._once:
                self._client.http.start_next_cycle()
                self._server.http.start_next_cycle()
        except Refusal as e:
            self._guard.refused(e)
            await _refuse(self._client, e)
        except h11.ProtocolError as e:
            # Never in the library's words: they quote what was sent, which may be a secret that comes back.
            raise BadMessage(f"HTTP/1.1 was broken by the {_side(e)}") from None

    async def _next_request(self) -> bool:
        """Carry one request and its answer; False when the connection can't take another."""
        try:
            request = await self._await_request()
        except h11.RemoteProtocolError as e:
            raise Refusal(400, f"the request cannot be used: {e}") from None
        if not isinstance(request, h11.Request):
            return False
        fields: Fields = list(request.headers.raw_items())
        _check(request, fields)
        authority = value_of(fields, b"host")
        turn = await self._guard.begin(authority)
        try:
            return await self._exchange(request, fields, turn)
        finally:
            self._guard.ended(turn)

    async def _await_request(self) -> object:
        """The next request. None when the server hangs up first, which the client learns at once."""
        request = asyncio.ensure_future(self._client.next())
        hung_up = asyncio.ensure_future(self._server.stream.read())
        try:
            await asyncio.wait({request, hung_up}, return_when=asyncio.FIRST_COMPLETED)
            if hung_up.done():
                hung_up.result()
                return None
            return await request
        finally:
            for task in (request, hung_up):
                task.cancel()
            await asyncio.gather(request, hung_up, return_exceptions=True)

    # -- the request --

    async def _exchange(self, request: h11.Request, fields: Fields, turn: Turn) -> bool:
        if [value.strip().lower() for name, value in fields if name.lower() == b"upgrade"] != [b"websocket"]:
            fields = without(fields, *_HOP)
        fields = turn.request_fields(fields)
        body = rewriting(fields, turn.request_needles(fields), empty=False, may_hold=turn.may_hold)
        if value_of(fields, b"host") is None:
            fields = [(b"Host", self._guard.authority.encode()), *fields]
        async with beside(self._send(request, fields, body, turn)):
            switched = await self._answer(request, turn)
        if switched:
            await self._switch()
            return False
        left_over = self._server.http.trailing_data[0]  # it would be taken for the next answer
        return self._client.done and self._server.done and not left_over

    async def _send(self, request: h11.Request, fields: Fields, body: Rewriting, turn: Turn) -> None:
        with suppress(ConnectionError):  # a server may answer and hang up before the end of the body: it counts
            if body.held:
                await self._send_held(request, fields, body)
            else:
                if body.coder is not None and value_of(fields, b"content-length") is not None:
                    fields = [*without(fields, b"content-length"), (b"Transfer-Encoding", b"chunked")]
                await self._server.send(_request(request, fields))
                await _pass_body(self._client, self._server, body)
        if body.replacer is not None:
            turn.note_used(body.replacer.found)

    async def _send_held(self, request: h11.Request, fields: Fields, body: Rewriting) -> None:
        if self._client.http.they_are_waiting_for_100_continue:
            await self._client.send(h11.InformationalResponse(status_code=100, headers=[]))
        data = await _take_whole(self._client, body)
        fields = [*without(fields, b"content-length", b"expect"), (b"Content-Length", b"%d" % len(data))]
        await self._server.send(_request(request, fields))
        await self._server.send(h11.Data(data=data))
        await self._server.send(h11.EndOfMessage())

    # -- the answer --

    async def _answer(self, request: h11.Request, turn: Turn) -> bool:
        """Carry the answer back. True when both sides go on in another protocol."""
        try:
            response = await self._server.next()
            while isinstance(response, h11.InformationalResponse):
                fields = turn.response_fields(list(response.headers.raw_items()))
                await self._client.send(
                    h11.InformationalResponse(
                        status_code=response.status_code, headers=fields, reason=_phrase(response)
                    )
                )
                if response.status_code == 101:
                    return True
                response = await self._server.next()
        except ConnectionError as e:
            raise Refusal(502, f"the server gave no usable answer: {e}") from None
        except h11.RemoteProtocolError:
            raise Refusal(502, "the server gave no usable answer: it is no HTTP/1.1") from None
        if not isinstance(response, h11.Response):
            raise Refusal(502, "the server gave no usable answer: it closed the connection")
        await self._pass_response(request, response, turn)
        return False

    async def _pass_response(self, request: h11.Request, response: h11.Response, turn: Turn) -> None:
        fields = turn.response_fields(list(response.headers.raw_items()))
        empty = request.method == b"HEAD" or response.status_code in _NO_BODY
        needles = turn.response_needles(fields)
        body = rewriting(fields, needles, empty=empty, may_hold=turn.may_hold)
        unread = body.coder is None or (response.status_code == 206 and coding_of(fields) != b"identity")
        if needles and not empty and unread and value_of(fields, b"content-length") != b"0":
            raise Refusal(502, f"the server answered in the coding {coding_of(fields).decode('latin-1')}")
        if body.held:
            data = await _take_whole(self._server, body)
            fields = [*without(fields, b"content-length"), (b"Content-Length", b"%d" % len(data))]
            await self._client.send(_response(response, fields))
            await self._client.send(h11.Data(data=data))
            await self._client.send(h11.EndOfMessage())
            return
        if body.coder is not None:
            fields = without(fields, b"content-length")
        await self._client.send(_response(response, fields))
        await _pass_body(self._server, self._client, body, turn)

    async def _switch(self) -> None:
        """After `101`: what either side has sent behind its head, then bytes both ways."""
        early_client, early_server = self._client.http.trailing_data[0], self._server.http.trailing_data[0]
        if early_client:
            await self._server.stream.write(early_client)
        if early_server:
            await self._client.stream.write(early_server)
        await join(self._client.stream, self._server.stream)


def _check(request: h11.Request, fields: Fields) -> None:
    if request.http_version not in (b"1.0", b"1.1"):
        raise Refusal(505, "this proxy speaks HTTP/1.1")
    names = [name.lower() for name, _ in fields]
    if names.count(b"host") > 1 or (b"content-length" in names and b"transfer-encoding" in names):
        raise Refusal(400, "the request cannot be used: its Host or its length is given twice")
    if request.method == b"CONNECT" or not (request.target.startswith(b"/") or request.target == b"*"):
        raise Refusal(400, "the request cannot be used: its target must be a path")


def _request(request: h11.Request, fields: Fields) -> h11.Request:
    return h11.Request(method=request.method, target=request.target, headers=fields)


def _response(response: h11.Response, fields: Fields) -> h11.Response:
    return h11.Response(status_code=response.status_code, headers=fields, reason=_phrase(response))


def _phrase(response: h11.Response | h11.InformationalResponse) -> bytes:
    """The usual words for a status: the server's own could hold anything."""
    try:
        return HTTPStatus(response.status_code).phrase.encode()
    except ValueError:
        return b""


def _side(error: h11.ProtocolError) -> str:
    return "other side" if isinstance(error, h11.RemoteProtocolError) else "proxy"


async def _pass_body(source: _Peer, sink: _Peer, body: Rewriting, turn: Turn | None = None) -> None:
    while not isinstance(event := await source.next(), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            raise BadMessage("its body breaks off")
        if body.coder is None:
            await sink.send(h11.Data(data=event.data))
            continue
        for piece in body.coder.feed(bytes(event.data)):
            await (sink.send(h11.Data(data=piece)) if piece else asyncio.sleep(0))
    for piece in body.coder.finish() if body.coder is not None else ():
        if piece:
            await sink.send(h11.Data(data=piece))
    trailers: Fields = list(event.headers.raw_items())
    if sink.http.their_http_version == b"1.0":
        trailers = []
    await sink.send(h11.EndOfMessage(headers=turn.response_fields(trailers) if turn is not None else trailers))


async def _take_whole(source: _Peer, body: Rewriting) -> bytes:
    assert body.coder is not None
    taken = bytearray()
    while not isinstance(event := await source.next(), h11.EndOfMessage):
        if not isinstance(event, h11.Data):
            raise BadMessage("its body breaks off")
        for piece in body.coder.feed(bytes(event.data)):
            taken += piece
            if len(taken) > GROWTH * HELD_BYTES:
                raise BadMessage("its body grows too much")
            await asyncio.sleep(0)
    for piece in body.coder.finish():
        taken += piece
    return bytes(taken)


async def refuse(client: Stream, refusal: Refusal) -> None:
    """Read a request in a stream, and say why it is not carried out."""
    peer = _Peer(client, h11.SERVER)
    with suppress(h11.ProtocolError):
        await peer.next()
    await _refuse(peer, refusal)


async def _refuse(client: _Peer, refusal: Refusal) -> None:
    """Say why, and take what the client still sends: closing on unread bytes would lose the answer."""
    if client.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    text = f"hostler egress: {refusal.text}\n".encode()
    fields = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(text))),
        ("Connection", "close"),
    ]
    reason = HTTPStatus(refusal.status).phrase.encode()
    with suppress(OSError, h11.ProtocolError):
        async with asyncio.timeout(LINGER_SECONDS):
            await client.send(h11.Response(status_code=refusal.status, headers=fields, reason=reason))
            await client.send(h11.Data(data=text))
            await client.send(h11.EndOfMessage())
            await client.stream.end()
            left = _LINGER_BYTES
            while left > 0 and (data := await client.stream.read()):
                left -= len(data)
