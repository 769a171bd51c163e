"""What the harness knows of a model: a request, a stream of deltas, one finished response, and classified failures.

The vocabulary is the Anthropic Messages API's own (content blocks, tools, `tool_result`), as plain dicts and lists:
providers of other protocols translate to and from it. No provider's name appears outside `models/`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal, Protocol

import msgspec


class ModelRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request for one assistant message.

    `model` is the wire's model id. `system`, `tools` and `messages` are in Messages API form and may carry
    `cache_control` breakpoints. `effort` is `low|medium|high|xhigh|max` or None; `speed` is `standard|fast` or None.
    `session_id` lets a provider tag or, in the scripted one, match the conversation; it is never sent to a vendor.
    """

    model: str
    messages: list[dict[str, Any]]
    max_tokens: int
    system: list[dict[str, Any]] = []
    tools: list[dict[str, Any]] = []
    effort: str | None = None
    speed: str | None = None
    inference_geo: str | None = None
    session_id: str = ""


class ModelUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one request, as the Messages API counts them (`input_tokens` excludes cached ones)."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_5m_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    web_search_requests: int = 0
    speed: str | None = None


class BlockStarted(msgspec.Struct, frozen=True):
    """A content block begins. `kind` is its Messages API type: `text`, `thinking`, `tool_use`, ..."""

    index: int
    kind: str


class TextDelta(msgspec.Struct, frozen=True):
    """More text of a `text` block."""

    index: int
    text: str


StopReason = Literal[
    "end_turn",
    "tool_use",
    "max_tokens",
    "stop_sequence",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
]


class ModelResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The finished message. It is always the last item of a stream, and there is exactly one.

    `content` holds the blocks verbatim, thinking with its signature included, fit to be sent back in the next request.
    `tool_use` blocks have `id`, `name` and a decoded `input` object.

    `invalid_inputs` maps the id of each `tool_use` block whose input did not arrive whole (cut off by `max_tokens`, or
    not JSON) to the reason. Such a block has `input: {}`; it must not be run, but answered with an error result, so
    that the conversation stays valid and the model can try again.
    """

    content: list[dict[str, Any]]
    stop_reason: StopReason
    usage: ModelUsage
    model: str
    stop_details: dict[str, Any] | None = None
    invalid_inputs: dict[str, str] = {}


ModelEvent = BlockStarted | TextDelta | ModelResponse

FailureKind = Literal["overloaded", "rate_limited", "request_failed", "billing", "context_too_long", "unknown"]


class ModelFailure(Exception):
    """A model request that gave no message: the only exception a provider's `stream` may raise (but cancellation).

    `kind` maps to the `session.error` types; `retryable` says whether the same request may succeed later;
    `retry_after` (seconds) is the vendor's wish, if any. `message` is safe to show: no key, no header, no host path.
    A stream that ends before its message is complete, or carries wrong JSON, is `request_failed` and retryable.
    """

    def __init__(self, kind: FailureKind, message: str, *, retryable: bool, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.kind: FailureKind = kind
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after


class Model(Protocol):
    """A provider bound to its configuration. One instance serves all sessions of a process."""

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Ask for one message. Yields deltas in order and at last one `ModelResponse`; raises `ModelFailure`.

        Never retries by itself: retries are the harness's, tied to the log. Closing the iterator (or cancelling the
        task) ends the request at the vendor at once.
        """
        ...

    async def aclose(self) -> None:
        """Close connections."""
        ...
