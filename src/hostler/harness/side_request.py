"""Asks the model something beside any conversation, with one of the provider's own server tools.

Nothing of it is in a session's log or usage: it is the operator's cost. It must not know what it is asked for.
"""

from __future__ import annotations

from typing import Any

from hostler.harness.listening import listen
from hostler.models.protocol import Model, ModelFailure, ModelRequest
from hostler.web.problem import WebProblem

MAX_TOKENS = 4096


class SideRequest:
    """See `web.search.AskModel`."""

    def __init__(self, model: Model) -> None:
        self._model = model

    async def __call__(self, *, model: str, system: str, prompt: str, tool: dict[str, Any]) -> list[dict[str, Any]]:
        request = ModelRequest(
            model=model,
            messages=[{"role": "user", "content": [{"type": "text", "text": prompt}]}],
            max_tokens=MAX_TOKENS,
            system=[{"type": "text", "text": system}],
            tools=[tool],
        )
        try:
            return (await listen(self._model, request)).content
        except ModelFailure as failure:
            code = "too_many_requests" if failure.kind in ("rate_limited", "overloaded") else "unavailable"
            raise WebProblem(code, "The search provider did not answer.") from None  # type: ignore[arg-type]
