"""The chat-completions provider against a real local server: mapping both ways, and servers with bad manners."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from model_servers import Handler, Server, answer, answering, ask, chunk, collect, failure, said, serving, streaming

from hostler.models.openai import build
from hostler.models.protocol import BlockStarted, Model, ModelFailure, ModelResponse, ModelUsage
from hostler.models.provider import ModelConfigError, ProviderSettings

KEY = "sk-proj-secret-0123456789"
USAGE = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 60}}


def run(handler: Handler, work: Callable[[Model, Server], Awaitable[Any]], **settings: Any) -> Any:
    async def main() -> Any:
        async with serving(handler) as server:
            given: dict[str, Any] = {"api_key": KEY, "base_url": f"{server.url}/v1", "read_timeout": 5.0}
            model = build(ProviderSettings(**(given | settings)))
            try:
                return await asyncio.wait_for(work(model, server), 60)
            finally:
                await model.aclose()

    return asyncio.run(main())


def failing(handler: Handler, **settings: Any) -> ModelFailure:
    return run(handler, lambda model, _: failure(model, ask()), **settings)


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"model": "llama", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(index: int | None, name: str | None = None, arguments: Any = None, id: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "function", "function": {}}
    if index is not None:
        made["index"] = index
    if id is not None:
        made["id"] = id
    if name is not None:
        made["function"]["name"] = name
    if arguments is not None:
        made["function"]["arguments"] = arguments
    return made


def played(*chunks: dict[str, Any] | str, **how: Any) -> Handler:
    return streaming(*map(chunk, chunks), **how)


def responded(*chunks: dict[str, Any] | str, **how: Any) -> ModelResponse:
    return run(played(*chunks, **how), lambda model, _: answer(model, ask()))


def test_text_and_parallel_calls_are_put_together() -> None:
    handler = played(
        delta(role="assistant", content=""),
        delta(reasoning_content="hm"),
        delta(reasoning_content="hm"),
        delta(content="Hel"),
        delta(content="lo"),
        delta(tool_calls=[call(0, "bash", "", "call_a")]),
        delta(tool_calls=[call(1, "read", '{"file', "call_b"), call(0, None, '{"command":')]),
        delta(tool_calls=[call(0, None, ' "ls"}'), call(1, None, '_path": "a"}')]),
        delta("tool_calls"),
        {"model": "llama", "choices": [], "usage": USAGE},
        "[DONE]",
    )
    events = run(handler, lambda model, _: collect(model, ask()))
    response = events[-1]
    assert [event.kind for event in events if isinstance(event, BlockStarted)] == [
        "thinking",
        "text",
        "tool_use",
        "tool_use",
    ]
    assert said(events) == "Hello"
    assert response.content == [
        {"type": "text", "text": "Hello"},
        {"type": "tool_use", "id": "call_a", "name": "bash", "input": {"command": "ls"}},
        {"type": "tool_use", "id": "call_b", "name": "read", "input": {"file_path": "a"}},
    ]
    assert response.stop_reason == "tool_use"
    assert response.usage == ModelUsage(input_tokens=40, cache_read_input_tokens=60, output_tokens=7)


@pytest.mark.parametrize(
    ("finish", "stop"),
    [("stop", "end_turn"), ("length", "max_tokens"), ("content_filter", "refusal"), ("x", "end_turn")],
)
def test_finish_reasons(finish: str, stop: str) -> None:
    assert responded(delta(content="a"), delta(finish), "[DONE]").stop_reason == stop


def test_calls_without_id_index_or_right_finish_reason() -> None:
    whole = [call(None, "bash", {"command": "a"}), call(None, "bash", {"command": "b"})]
    response = responded(delta(tool_calls=whole), delta("stop"), "[DONE]")
    assert response.stop_reason == "tool_use"
    assert [block["input"]["command"] for block in response.content] == ["a", "b"]
    ids = {block["id"] for block in response.content}
    assert len(ids) == 2
    assert all(call_id.startswith("call_") for call_id in ids)


@pytest.mark.parametrize("ids", [("x", "y"), (None, None)])
def test_calls_that_all_have_the_index_0(ids: tuple[str | None, str | None]) -> None:
    first, second = (call(0, "bash", json.dumps({"n": n}), call_id) for n, call_id in enumerate(ids))
    response = responded(delta(tool_calls=[first]), delta(tool_calls=[second]), delta("tool_calls"), "[DONE]")
    assert [block["input"] for block in response.content] == [{"n": 0}, {"n": 1}]


@pytest.mark.parametrize(("finish", "reason"), [("tool_calls", "no JSON"), ("length", "max_tokens")])
def test_arguments_that_are_no_json_object_are_marked(finish: str, reason: str) -> None:
    response = responded(delta(tool_calls=[call(0, "bash", '{"command": "l', "c1")]), delta(finish), "[DONE]")
    assert response.content[0]["input"] == {}
    assert reason in response.invalid_inputs["c1"]


def test_a_server_that_never_says_done() -> None:
    assert responded(delta(content="a"), delta("stop")).content == [{"type": "text", "text": "a"}]
    usage = {"choices": [], "usage": USAGE}
    assert responded(delta(content="a"), delta("stop"), usage, hang=True).usage.output_tokens == 7


def test_missing_usage_is_estimated() -> None:
    usage = responded(delta(content="abcdefgh"), delta("stop"), "[DONE]").usage
    assert usage.output_tokens == 2
    assert usage.input_tokens > 10


def test_the_request_in_chat_form() -> None:
    png = {"type": "base64", "media_type": "image/png", "data": "aGk="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "aGk="}
    request = ask(
        effort="max",
        system=[{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        tools=[
            {"name": "bash", "description": "runs", "input_schema": {"type": "object"}},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
        messages=[
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "look"},
                    {"type": "image", "source": png},
                    {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
                    {"type": "document", "title": "T", "source": {"type": "text", "data": "body"}},
                    {"type": "document", "title": "t.pdf", "source": pdf},
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "secret", "signature": "s"},
                    {"type": "text", "text": "on it"},
                    {"type": "tool_use", "id": "c1", "name": "bash", "input": {"command": "ls"}},
                    {"type": "tool_use", "id": "c2", "name": "bash", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "image", "source": png}]},
                    {"type": "tool_result", "tool_use_id": "c2", "content": "no", "is_error": True},
                    {"type": "text", "text": "and now?"},
                    {"type": "hologram"},
                ],
            },
            {"role": "system", "content": [{"type": "text", "text": "Hurry."}]},
        ],
    )

    async def work(model: Model, server: Server) -> Any:
        await answer(model, request)
        return server.seen[0]

    handler = played(delta(content="a"), delta("stop"), "[DONE]")
    options = {"effort": True, "extra_body": {"seed": 1}}
    seen = run(handler, work, model="llama3.1", options=options)
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    body = seen.body
    messages = body.pop("messages")
    assert body == {
        "model": "llama3.1",
        "max_tokens": 1000,
        "stream": True,
        "stream_options": {"include_usage": True},
        "tools": [
            {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}, "description": "runs"}}
        ],
        "reasoning_effort": "high",
        "seed": 1,
    }
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert messages[1]["content"] == [
        {"type": "text", "text": "look"},
        image,
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"type": "text", "text": "[Document: T]\nbody"},
        {"type": "file", "file": {"filename": "t.pdf", "file_data": "data:application/pdf;base64,aGk="}},
    ]
    calls = messages[2]["tool_calls"]
    assert (messages[2]["content"], [c["id"] for c in calls]) == ("on it", ["c1", "c2"])
    assert calls[0]["function"] == {"name": "bash", "arguments": '{"command":"ls"}'}
    assert [m["role"] for m in messages[3:]] == ["tool", "tool", "user", "system"]
    assert messages[4] == {"role": "tool", "tool_call_id": "c2", "content": "[The tool call failed]\nno"}
    assert image in messages[5]["content"]
    assert "hologram" in messages[5]["content"][-1]["text"]
    assert "secret" not in json.dumps(messages)


@pytest.mark.parametrize(
    ("status", "error", "kind", "retryable"),
    [
        (401, {"message": f"Incorrect API key provided: {KEY}", "code": "invalid_api_key"}, "request_failed", False),
        (429, {"message": "slow", "code": "rate_limit_exceeded"}, "rate_limited", True),
        (429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}, "billing", False),
        (400, {"message": "This model's maximum context length is 8 tokens"}, "context_too_long", False),
        (400, {"message": "too long", "code": "context_length_exceeded"}, "context_too_long", False),
        (404, {"message": "model 'x' not found"}, "request_failed", False),
        (503, {"message": "loading"}, "overloaded", True),
        (500, {"message": "CUDA"}, "request_failed", True),
    ],
)
def test_statuses_are_classified(status: int, error: dict[str, Any], kind: str, retryable: bool) -> None:
    failed = failing(answering(status, {"error": error}), key_hint="HOSTLER_X")
    assert (failed.kind, failed.retryable) == (kind, retryable)
    assert KEY not in failed.message
    assert status != 401 or "HOSTLER_X" in failed.message


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(played(delta(content="a")), id="truncated"),
        pytest.param(played(delta(content="a"), reset=True), id="reset"),
        pytest.param(played("[DONE]"), id="nothing but DONE"),
        pytest.param(played("{nope"), id="wrong JSON"),
        pytest.param(played("[1]"), id="a list"),
        pytest.param(played({"choices": [{"delta": "x"}]}), id="wrong shape"),
        pytest.param(
            played(delta(tool_calls=[call(0, None, "{}", "c1")]), delta("tool_calls"), "[DONE]"), id="no name"
        ),
        pytest.param(played(delta(content="a"), {"error": {"message": "worker died", "code": 500}}), id="error object"),
        pytest.param(answering(200, {"choices": []}), id="JSON"),
        pytest.param(answering(200, "hello", kind="text/html"), id="HTML"),
    ],
)
def test_a_lying_stream_is_a_retryable_failure(handler: Handler) -> None:
    failed = failing(handler)
    assert (failed.kind, failed.retryable) == ("request_failed", True)


def test_an_error_object_with_status_200() -> None:
    failed = failing(answering(200, {"error": {"message": "maximum context length is 4"}}))
    assert failed.kind == "context_too_long"


def test_silence_is_bounded() -> None:
    failed = failing(played(delta(content="a"), hang=True), read_timeout=0.2)
    assert failed.retryable
    assert "0.2 seconds" in failed.message


def test_keys() -> None:
    failed = asyncio.run(failure(build(ProviderSettings(key_hint="OPENAI_KEY")), ask()))
    assert not failed.retryable
    assert "OPENAI_KEY" in failed.message

    async def work(model: Model, server: Server) -> dict[str, str]:
        await answer(model, ask())
        return server.seen[0].headers

    handler = played(delta(content="a"), delta("stop"), "[DONE]")
    assert "authorization" not in run(handler, work, api_key="")
    with pytest.raises(ModelConfigError, match="effrt"):
        build(ProviderSettings(options={"effrt": True}))
