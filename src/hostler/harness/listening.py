"""Listens to one model request until its message is whole. It must not retry: that is tied to the log."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing

from hostler.models.protocol import BlockStarted, Model, ModelFailure, ModelRequest, ModelResponse, TextDelta


async def listen(
    model: Model, request: ModelRequest, show: Callable[[BlockStarted | TextDelta], None] = lambda _: None
) -> ModelResponse:
    """The finished message of one request; what comes before it is shown. Raises ModelFailure."""
    response = None
    async with aclosing(model.stream(request)) as events:  # type: ignore[type-var]
        async for event in events:
            if isinstance(event, ModelResponse):
                response = event  # and on to the stream's end, so that its connection is used again
            else:
                show(event)
    if response is None:
        raise ModelFailure("request_failed", "The model's stream ended before its message did.", retryable=True)
    return response
