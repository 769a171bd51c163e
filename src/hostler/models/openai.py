"""Any chat-completions server (OpenAI, vLLM, Ollama, gateways) as a model, over `httpx2`.

It must not retry. It shares the event reader of the Anthropic protocol instead of using the `openai` SDK: that costs
several times the CPU per token (bench/model_clients.py), a second to import, and rejects nothing that we could trust.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Literal

import msgspec

from hostler.models import failures
from hostler.models.anthropic_http import check_key
from hostler.models.http import EventClient, drain
from hostler.models.openai_request import request_body
from hostler.models.openai_stream import ChatAccumulator
from hostler.models.protocol import ModelEvent, ModelFailure, ModelRequest
from hostler.models.provider import ProviderSettings, read_options

DEFAULT_BASE_URL = "https://api.openai.com/v1"
USAGE_GRACE = 2.0  # seconds to wait for the usage chunk and [DONE] once the message is complete
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class _Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`options` of `provider = "openai"`: `effort` sends `reasoning_effort`, `extra_body` goes into each request."""

    effort: bool = False
    max_tokens_field: Literal["max_tokens", "max_completion_tokens", ""] = ""
    extra_body: dict[str, Any] = {}


def build(settings: ProviderSettings) -> ChatCompletions:
    return ChatCompletions(settings)


class ChatCompletions:
    """A `Model` behind `POST {base_url}/chat/completions`."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._options = read_options(settings, _Options)
        self._url = (settings.base_url or DEFAULT_BASE_URL).rstrip("/") + "/chat/completions"
        usual = "max_tokens" if settings.base_url else "max_completion_tokens"
        self._max_tokens_field = self._options.max_tokens_field or usual
        self._http = EventClient(settings)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        check_key(self._settings)
        body = request_body(
            request,
            model=self._settings.model,
            max_tokens_field=self._max_tokens_field,
            send_effort=self._options.effort,
        )
        payload = _encode(body | self._options.extra_body)
        accumulator = ChatAccumulator(request.model, len(payload), *self._settings.secrets)
        done = False
        async with aclosing(self._http.post(self._url, self._headers(), payload)) as events:
            while (data := await self._next(events, accumulator)) is not None:
                if data == "[DONE]":
                    done = True
                    break
                for item in accumulator.feed(_decoded(data)):
                    yield item
            yield accumulator.finish(done=done)
            await drain(events)

    async def warm_up(self) -> None:
        await self._http.warm_up()

    async def aclose(self) -> None:
        await self._http.aclose()

    async def _next(self, events: AsyncGenerator[Any], accumulator: ChatAccumulator) -> str | None:
        """The next chunk's data, None at the end. A complete message doesn't wait long for what may follow it."""
        complete = accumulator.finish_reason is not None
        try:
            if not complete:
                return str((await anext(events)).data)
            if accumulator.has_usage:
                return None
            return str((await asyncio.wait_for(anext(events), USAGE_GRACE)).data)
        except StopAsyncIteration:
            return None
        except (TimeoutError, ModelFailure):
            if complete:
                return None
            raise

    def _headers(self) -> dict[str, str]:
        key = self._settings.api_key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return headers | {name.lower(): value for name, value in self._settings.headers.items()}


def _decoded(data: str) -> Any:
    try:
        return _decode(data)
    except (msgspec.DecodeError, ValueError):
        raise failures.broken("a chunk is no JSON") from None
