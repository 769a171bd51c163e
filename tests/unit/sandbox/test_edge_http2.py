"""Secrets at the edge over HTTP/2: streams, flow control, trailers and the end of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from edge_world import PLACEHOLDER, VALUE, World, secret, world
from h2.config import H2Configuration
from h2.connection import ConnectionState, H2Connection
from h2.events import Event, ResponseReceived, StreamReset
from h2.settings import SettingCodes, Settings
from h2world import H2Client, Lasting, Request, h2_server, say

from hostler.sandbox.edge.h2side import Side
from hostler.sandbox.edge.route import Refusal
from hostler.sandbox.edge.streams import Plain

P, V = PLACEHOLDER.encode(), VALUE.encode()


@asynccontextmanager
async def h2_client(w: World, port: int) -> AsyncIterator[H2Client]:
    client = await w.tls("api.test", port, ["h2", "http/1.1"])
    assert client.protocol == "h2"
    made = H2Client(client)
    try:
        yield made
    finally:
        await made.close()


def run(tmp_path: Path, work: Any, answering: Any, *secrets: Any) -> list[Request]:
    seen: list[Request] = []

    async def main() -> None:
        async with (
            world(tmp_path, secrets or [secret()]) as w,
            w.serve(h2_server(answering, seen), ["h2"]) as port,
            h2_client(w, port) as client,
        ):
            await work(client)

    asyncio.run(main())
    return seen


def test_streams_side_by_side(tmp_path: Path) -> None:
    async def work(client: H2Client) -> None:
        streams = [await client.begin("api.test", (b"x-key", b"%d " % n + P)) for n in range(50)]
        for stream in streams:
            answer = await client.answer(stream)
            assert (answer.fields[b":status"], answer.body) == (b"200", b"ok")

    seen = run(tmp_path, work, say())
    assert sorted(request.fields[b"x-key"] for request in seen) == sorted(b"%d " % n + V for n in range(50))
    assert {request.fields[b":path"] for request in seen} == {b"/"}


def test_a_big_body_and_trailers_both_ways(tmp_path: Path) -> None:
    body = (b"x" * 70_001 + P) * 40

    def answering(http: H2Connection, stream: int, request: Request) -> None:
        http.send_headers(stream, [(b":status", b"200")])
        http.send_data(stream, request.body[-1000:])
        http.send_headers(stream, [(b"grpc-status", b"0"), (b"x-echo", V)], end_stream=True)

    async def work(client: H2Client) -> None:
        stream = await client.begin("api.test", (b"content-length", b"%d" % len(body)), method=b"POST", ended=False)
        await client.send(stream, body)
        client.http.send_headers(stream, [(b"x-sum", b"1")], end_stream=True)
        await client.flush()
        answer = await client.answer(stream)
        assert answer.body == body[-len(answer.body) :]
        assert answer.body.endswith(P)
        assert answer.trailers == {b"grpc-status": b"0", b"x-echo": P}

    (request,) = run(tmp_path, work, answering, secret(body=True))
    assert request.body == body.replace(P, V)
    assert b"content-length" not in request.fields
    assert request.trailers == {b"x-sum": b"1"}


def test_a_small_body_keeps_a_length(tmp_path: Path) -> None:
    async def work(client: H2Client) -> None:
        body = b'{"key": "' + P + b'"}'
        length = (b"content-length", b"%d" % len(body))
        stream = await client.begin(
            "api.test", length, (b"content-type", b"application/json"), method=b"POST", ended=False
        )
        await client.send(stream, body, ended=True)
        answer = await client.answer(stream)
        assert answer.body == b"<" + P + b">"
        assert answer.fields[b"content-length"] == str(len(answer.body)).encode()

    echo = b"<" + V + b">"
    answering = say((b"content-length", str(len(echo)).encode()), body=echo)
    (request,) = run(tmp_path, work, answering, secret(body=True))
    assert request.body == b'{"key": "' + V + b'"}'
    assert request.fields[b"content-length"] == str(len(request.body)).encode()


def test_another_authority_is_refused_and_the_connection_goes_on(tmp_path: Path) -> None:
    async def work(client: H2Client) -> None:
        stream = await client.begin("other.test", (b"x-key", P))
        answer = await client.answer(stream)
        assert answer.fields[b":status"] == b"421"
        assert b"names another host" in answer.body
        stream = await client.begin("api.test")
        assert (await client.answer(stream)).body == b"ok"

    seen = run(tmp_path, work, say())
    assert len(seen) == 1


def test_a_server_that_leaves_finishes_what_it_has(tmp_path: Path) -> None:
    waiting: list[int] = []

    def answering(http: H2Connection, stream: int, request: Request) -> None:
        waiting.append(stream)
        if len(waiting) == 2:
            http.state_machine = Lasting()
            http.state_machine.state = ConnectionState.SERVER_OPEN
            http.close_connection(last_stream_id=stream)
            for each in waiting:
                http.send_headers(each, [(b":status", b"200")])
                http.send_data(each, b"late", end_stream=True)

    async def work(client: H2Client) -> None:
        streams = [await client.begin("api.test", (b"x-key", P)) for _ in range(2)]
        for stream in streams:
            assert (await client.answer(stream)).body == b"late"
        async with asyncio.timeout(10):
            await client.reading  # the proxy ends the connection, so that the next request takes another

    run(tmp_path, work, answering)


def test_a_reset_goes_through(tmp_path: Path) -> None:
    def answering(http: H2Connection, stream: int, request: Request) -> None:
        http.reset_stream(stream, 11)

    async def work(client: H2Client) -> None:
        answer = await client.answer(await client.begin("api.test"))
        assert answer.reset == 11

    run(tmp_path, work, answering)


def test_a_refusal_ends_the_request_also_of_a_client_that_takes_no_body() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: 0})
    client.initiate_connection()
    request = [(":method", "GET"), (":scheme", "https"), (":authority", "other.test"), (":path", "/")]
    client.send_headers(1, request, end_stream=True)

    async def main() -> list[Event]:
        side = Side(Plain(None, None), client=False)  # type: ignore[arg-type]  # nothing is sent here
        side.receive(client.data_to_send())
        side.refuse(1, Refusal(421, "another host"))
        return client.receive_data(side.http.data_to_send())

    happened = asyncio.run(main())
    assert any(isinstance(each, ResponseReceived) for each in happened)
    assert any(isinstance(each, StreamReset) for each in happened)
