"""Speaks the plain Anthropic protocol (Anthropic itself and compatible gateways) over `httpx2`, without the SDK.

It must not retry, and knows nothing of Bedrock, Vertex or Foundry, whose signing and framing the SDK does. Measured
against the SDK in bench/model_clients.py: a fraction of the CPU per token, and no import of seconds and 60 MB.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import msgspec

from hostler.models import failures
from hostler.models.accumulate import MessageAccumulator
from hostler.models.anthropic_request import request_body
from hostler.models.http import EventClient, drain
from hostler.models.protocol import ModelEvent, ModelRequest
from hostler.models.provider import ProviderSettings

API_VERSION = "2023-06-01"
DEFAULT_BASE_URL = "https://api.anthropic.com"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class AnthropicHttp:
    """A `Model` behind `POST {base_url}/v1/messages`."""

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        base = (settings.base_url or DEFAULT_BASE_URL).rstrip("/").removesuffix("/v1")
        self._url = f"{base}/v1/messages"
        self._http = EventClient(settings)

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        check_key(self._settings)
        body, betas = request_body(request, self._settings.catalogue, self._settings.model)
        accumulator = MessageAccumulator(request.model, *self._settings.secrets)
        payload = _encode({**body, "stream": True})
        async with aclosing(self._http.post(self._url, self._headers(betas), payload)) as events:
            async for event in events:
                if event.event == "ping":
                    continue
                try:
                    decoded = _decode(event.data)
                except (msgspec.DecodeError, ValueError):
                    raise failures.broken("an event is no JSON") from None
                for item in accumulator.feed(decoded):
                    yield item
                if accumulator.finished:
                    await drain(events)
            accumulator.end()

    async def warm_up(self) -> None:
        await self._http.warm_up()

    async def aclose(self) -> None:
        await self._http.aclose()

    def _headers(self, betas: list[str]) -> dict[str, str]:
        headers = {"anthropic-version": API_VERSION}
        if self._settings.api_key:
            headers["x-api-key"] = self._settings.api_key
        if betas:
            headers["anthropic-beta"] = ",".join(betas)
        return headers | {name.lower(): value for name, value in self._settings.headers.items()}


def check_key(settings: ProviderSettings) -> None:
    """A key is needed unless a base URL of one's own is set (many gateways want none); raises `ModelFailure`."""
    names = {name.lower() for name in settings.headers}
    if settings.api_key or settings.base_url or names & {"x-api-key", "authorization"}:
        return
    raise failures.refused(f"no model key is configured: set {settings.key_hint} or route this model to a provider")
