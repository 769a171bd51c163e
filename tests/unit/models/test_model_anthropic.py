"""Both readers of the Anthropic protocol against a real local server, honest and lying."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import pytest
from model_servers import (
    SSE_HEAD,
    Handler,
    Seen,
    Server,
    answer,
    answering,
    ask,
    collect,
    failure,
    messages_stream,
    said,
    serving,
    sse,
    streaming,
)

from hostler.models.anthropic import build
from hostler.models.protocol import BlockStarted, Model, ModelFailure, ModelResponse, TextDelta
from hostler.models.provider import ProviderSettings

KEY = "sk-ant-secret-0123456789"
CLIENTS = ["http", "sdk"]


def run(client: str, handler: Handler, work: Callable[[Model, Server], Awaitable[Any]], **settings: Any) -> Any:
    async def main() -> Any:
        async with serving(handler) as server:
            given: dict[str, Any] = {"api_key": KEY, "base_url": server.url, "read_timeout": 5.0, "client": client}
            model = build(ProviderSettings(**(given | settings)))
            try:
                return await asyncio.wait_for(work(model, server), 60)
            finally:
                await model.aclose()

    return asyncio.run(main())


def failing(client: str, handler: Handler, **settings: Any) -> ModelFailure:
    return run(client, handler, lambda model, _: failure(model, ask()), **settings)


def played(*events: dict[str, Any], **how: Any) -> Handler:
    return streaming(*map(sse, events), **how)


BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "let me see", "signature": "c2ln"},
    {"type": "redacted_thinking", "data": "b3BhcXVl"},
    {"type": "text", "text": "héllo \u2028world"},
    {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": {"command": "ls", "n": [1, 2.5, None]}},
    {"type": "tool_use", "id": "toolu_2", "name": "bash", "input": {}},
]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_message_arrives_block_by_block_and_whole(client: str) -> None:
    usage = {
        "input_tokens": 3,
        "output_tokens": 42,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": 11,
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    }
    stream = messages_stream(BLOCKS, "tool_use", usage)
    stream[0]["message"]["usage"] |= {
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 7},
        "speed": "fast",
    }
    events = run(client, played(*stream), lambda model, _: collect(model, ask()))
    response = events[-1]
    assert isinstance(response, ModelResponse)
    got = [{k: v for k, v in block.items() if v is not None} for block in response.content]
    assert got == BLOCKS
    assert response.stop_reason == "tool_use"
    assert [e.kind for e in events if isinstance(e, BlockStarted)] == [b["type"] for b in BLOCKS]
    assert said(events) == "héllo \u2028world"
    assert {e.index for e in events if isinstance(e, TextDelta)} == {2}
    used = response.usage
    assert (used.input_tokens, used.output_tokens, used.cache_read_input_tokens) == (3, 42, 5)
    assert (used.cache_creation_5m_input_tokens, used.cache_creation_1h_input_tokens) == (4, 7)
    assert (used.web_search_requests, used.speed) == (2, "fast")


@pytest.mark.parametrize("client", CLIENTS)
def test_the_request_says_what_the_session_asked_for(client: str) -> None:
    request = ask(
        effort="high",
        speed="fast",
        inference_geo="us",
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        tools=[{"name": "bash", "description": "d", "input_schema": {"type": "object"}}],
    )

    async def work(model: Model, server: Server) -> Seen:
        await answer(model, request)
        return server.seen[0]

    seen = run(client, played(*messages_stream(BLOCKS[2:3])), work, model="renamed", headers={"X-Team": "a"})
    assert seen.path.split("?")[0] == "/v1/messages"
    assert seen.body == {
        "model": "renamed",
        "max_tokens": 1000,
        "messages": request.messages,
        "system": request.system,
        "tools": request.tools,
        "output_config": {"effort": "high"},
        "thinking": {"type": "adaptive"},
        "speed": "fast",
        "inference_geo": "us",
        "stream": True,
    }
    assert "fast-mode-2026-02-01" in seen.headers["anthropic-beta"]
    assert KEY in seen.headers.get("x-api-key", seen.headers.get("authorization", ""))
    assert seen.headers["x-team"] == "a"
    assert "sesn_1" not in str(seen)


def test_effort_and_thinking_go_only_to_models_that_take_them() -> None:
    async def work(model: Model, server: Server) -> Any:
        await answer(model, ask(model="claude-haiku-4-5", effort="high"))
        return server.seen[0].body

    body = run("http", played(*messages_stream(BLOCKS[2:3])), work)
    assert set(body) == {"model", "max_tokens", "messages", "stream"}


STATUSES = [
    (529, {"type": "overloaded_error", "message": "Overloaded"}, "overloaded", True),
    (503, {"type": "api_error", "message": "down"}, "overloaded", True),
    (429, {"type": "rate_limit_error", "message": "slow down"}, "rate_limited", True),
    (400, {"type": "invalid_request_error", "message": "max_tokens: wrong"}, "request_failed", False),
    (400, {"type": "invalid_request_error", "message": "prompt is too long: 9 > 8"}, "context_too_long", False),
    (413, {"type": "request_too_large", "message": "too big"}, "context_too_long", False),
    (401, {"type": "authentication_error", "message": f"invalid key {KEY}"}, "request_failed", False),
    (403, {"type": "permission_error", "message": "no"}, "request_failed", False),
    (402, {"type": "billing_error", "message": "pay"}, "billing", False),
    (400, {"type": "invalid_request_error", "message": "Your credit balance is too low"}, "billing", False),
    (404, {"type": "not_found_error", "message": "model: nope"}, "request_failed", False),
    (500, {"type": "api_error", "message": "oops"}, "request_failed", True),
    (408, {"type": "timeout_error", "message": "late"}, "request_failed", True),
]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("status", "error", "kind", "retryable"), STATUSES)
def test_statuses_are_classified(client: str, status: int, error: dict[str, str], kind: str, retryable: bool) -> None:
    body = {"type": "error", "error": error, "request_id": "req_1"}
    failed = failing(client, answering(status, body, {"retry-after": "7"}))
    assert (failed.kind, failed.retryable, failed.retry_after) == (kind, retryable, 7.0)
    assert str(status) in failed.message
    assert KEY not in failed.message
    if status in (401, 403):
        assert "HOSTLER_MODEL_API_KEY" in failed.message


@pytest.mark.parametrize("client", CLIENTS)
def test_a_storm_of_529_is_one_request_each(client: str) -> None:
    async def work(model: Model, server: Server) -> tuple[list[str], int]:
        return [(await failure(model, ask())).kind for _ in range(5)], len(server.seen)

    kinds, requests = run(client, answering(529, "busy", kind="text/plain"), work)
    assert (kinds, requests) == (["overloaded"] * 5, 5)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"type": "overloaded_error", "message": "Overloaded"}, "overloaded", True),
        ({"type": "api_error", "message": f"boom {KEY}"}, "request_failed", True),
        ({"type": "rate_limit_error", "message": "x"}, "rate_limited", True),
        ({"type": "invalid_request_error", "message": "bad"}, "request_failed", False),
    ],
)
def test_an_error_in_mid_stream(client: str, error: dict[str, str], kind: str, retryable: bool) -> None:
    events = messages_stream(BLOCKS[2:3])[:4]
    failed = failing(client, played(*events, {"type": "error", "error": error}))
    assert (failed.kind, failed.retryable) == (kind, retryable)
    assert KEY not in failed.message


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(played(*messages_stream(BLOCKS)[:-1]), id="no message_stop"),
        pytest.param(played(), id="nothing"),
        pytest.param(played(*messages_stream(BLOCKS)[:5], reset=True), id="reset"),
        pytest.param(streaming(sse(messages_stream([])[0]), b"event: ping\ndata: {nope\n\n"), id="wrong JSON ping"),
        pytest.param(streaming(b"event: message_start\ndata: {nope\n\n"), id="wrong JSON"),
        pytest.param(streaming(b'event: message_start\ndata: {"type": "message_start"}\n\n'), id="wrong shape"),
        pytest.param(streaming(b"event: message_start\ndata: []\n\n"), id="a list"),
        pytest.param(streaming(b"event: message_start\ndata: \xff\xfe\n\n"), id="no UTF-8"),
        pytest.param(played(*messages_stream(BLOCKS)[2:]), id="no start"),
        pytest.param(answering(200, "<html>hello</html>", kind="text/html"), id="HTML"),
        pytest.param(answering(200, {"type": "message"}), id="JSON"),
        pytest.param(answering(200, ""), id="empty"),
    ],
)
def test_a_lying_stream_is_a_retryable_failure(client: str, handler: Handler) -> None:
    failed = failing(client, handler)
    assert (failed.kind, failed.retryable) == ("request_failed", True)


@pytest.mark.parametrize("client", CLIENTS)
def test_broken_tool_input_fails_the_request(client: str) -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": '{"command": "ls'}
    failed = failing(client, played(*messages_stream([block], "tool_use")))
    assert (failed.kind, failed.retryable) == ("request_failed", True)


@pytest.mark.parametrize("client", CLIENTS)
def test_tool_input_cut_off_by_max_tokens_is_marked(client: str) -> None:
    block = {"type": "tool_use", "id": "toolu_1", "name": "bash", "input": '{"command": "rm -rf /'}
    handler = played(*messages_stream([block], "max_tokens"))
    response = run(client, handler, lambda model, _: answer(model, ask()))
    assert response.stop_reason == "max_tokens"
    assert response.content[0]["input"] == {}
    assert "max_tokens" in response.invalid_inputs["toolu_1"]


@pytest.mark.parametrize("client", CLIENTS)
def test_blocks_and_events_of_unknown_kinds_are_kept_or_ignored(client: str) -> None:
    block = {"type": "hologram", "id": "h1", "data": "a", "parts": [1]}
    events = messages_stream([block])
    index = next(i for i, e in enumerate(events) if e["type"] == "content_block_stop")
    delta = {"type": "hologram_delta", "data": "b", "parts": [2]}
    events.insert(index, {"type": "content_block_delta", "index": 0, "delta": delta})
    events.insert(1, {"type": "weather_report", "sky": "blue"})
    response = run(client, played(*events), lambda model, _: answer(model, ask()))
    assert response.content == [{"type": "hologram", "id": "h1", "data": "ab", "parts": [1, 2]}]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_keeps_its_details(client: str) -> None:
    events = messages_stream([], "refusal")
    events[-2]["delta"]["stop_details"] = {"type": "refusal", "category": "cyber", "explanation": "no"}
    response = run(client, played(*events), lambda model, _: answer(model, ask()))
    assert response.stop_reason == "refusal"
    assert response.stop_details["category"] == "cyber"


@pytest.mark.parametrize("client", CLIENTS)
def test_silence_is_bounded(client: str) -> None:
    failed = failing(client, played(*messages_stream(BLOCKS)[:4], hang=True), read_timeout=0.2)
    assert (failed.kind, failed.retryable) == ("request_failed", True)
    assert "0.2 seconds" in failed.message


@pytest.mark.parametrize("client", CLIENTS)
def test_a_slow_stream_whose_bytes_keep_coming_is_fine(client: str) -> None:
    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        for event in messages_stream([{"type": "text", "text": "slowly"}]):
            raw = sse(event)
            for part in (raw[:9], raw[9:]):  # frames split at any byte
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)

    response = run(client, handler, lambda model, _: answer(model, ask()), read_timeout=2.0)
    assert response.content[0]["text"] == "slowly"


@pytest.mark.parametrize("client", CLIENTS)
def test_an_unreachable_server(client: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        failed = failing(client, answering(200, ""), base_url=url)
    assert (failed.kind, failed.retryable) == ("request_failed", True)
    assert "can't be reached" in failed.message


@pytest.mark.parametrize("client", CLIENTS)
def test_closing_the_iterator_ends_the_request_at_the_vendor(client: str) -> None:
    async def work(model: Model, server: Server) -> bool:
        stream: Any = model.stream(ask())
        async with aclosing(stream) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        await asyncio.wait_for(server.hung_up.wait(), 5)
        return True

    assert run(client, played(*messages_stream(BLOCKS[2:3])[:5], hang=True), work)


@pytest.mark.parametrize("client", CLIENTS)
def test_cancelling_the_task_ends_the_request_at_the_vendor(client: str) -> None:
    async def work(model: Model, server: Server) -> bool:
        task = asyncio.ensure_future(collect(model, ask()))
        await asyncio.wait_for(server.asked.wait(), 5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.hung_up.wait(), 5)
        return True

    assert run(client, played(*messages_stream(BLOCKS[2:3])[:3], hang=True), work)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_missing_key_is_told_when_a_request_is_made(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-ours")
    failed = asyncio.run(failure(build(ProviderSettings(client=client)), ask()))  # type: ignore[arg-type]
    assert (failed.kind, failed.retryable) == ("request_failed", False)
    assert "no model key is configured: set HOSTLER_MODEL_API_KEY" in failed.message


def test_the_client_variable_never_redirects_us(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")

    async def work(model: Any, server: Server) -> None:
        await model.warm_up()
        assert str(model._client.base_url).startswith("https://api.anthropic.com")

    run("sdk", answering(200, ""), work, base_url="")


def test_a_redirect_is_not_followed() -> None:
    failed = failing("http", answering(307, "", {"location": "http://127.0.0.1:1/"}))
    assert not failed.retryable
    assert "redirect" in failed.message


def test_settings_never_show_the_key() -> None:
    assert KEY not in repr(ProviderSettings(api_key=KEY, headers={"x": KEY}, options={"k": KEY}))


@pytest.mark.parametrize("client", CLIENTS)
def test_connections_are_used_again(client: str) -> None:
    """A second request must not pay for a second handshake."""
    connections = 0
    gone: asyncio.Event

    async def on_connect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.split(b":")[1]))
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                for event in map(sse, messages_stream(BLOCKS)):
                    writer.write(b"%x\r\n%s\r\n" % (len(event), event))
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()
            gone.set()

    async def main() -> None:
        nonlocal gone
        gone = asyncio.Event()
        listener = await asyncio.start_server(on_connect, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        model = build(ProviderSettings(base_url=url, client=client))  # type: ignore[arg-type]
        for _ in range(3):
            await answer(model, ask())
        await model.aclose()
        await asyncio.wait_for(gone.wait(), 5)
        listener.close()

    asyncio.run(main())
    assert connections == 1


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(("limit", "value"), [("MAX_SECONDS", 0.2), ("MAX_BYTES", 2000)])
def test_an_answer_of_nothing_but_comments_is_bounded(
    client: str, limit: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"hostler.models.bounds.{limit}", value)

    async def handler(seen: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD)
        while True:
            writer.write(b": still here\n\n")
            await writer.drain()
            await asyncio.sleep(0.002)

    failed = failing(client, handler)
    assert (failed.kind, failed.retryable) == ("request_failed", True)
    assert "AnswerTooLong" in failed.message
