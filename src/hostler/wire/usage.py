"""Usage, money and stop reasons: small values that several objects and events share. It must not count anything."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from hostler.wire.base import UNSET, Params, Unset, Wire, matching


class Money(Params, kw_only=True):
    """An integer number of cents as a decimal string."""

    amount: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,17}$|^0$")]
    currency: Literal["USD"]


class Ceiling(Params, kw_only=True):
    """Money that a budget can allow: at least one cent."""

    amount: Annotated[
        str, matching(r"^[1-9][0-9]{0,17}\Z", 'must be whole cents above 0, as a string of digits such as "250"')
    ]
    currency: Literal["USD"]


class BudgetLimit(Params, tag="limit", tag_field="type", kw_only=True):
    max_list_cost: Ceiling


class CacheCreation(Wire, kw_only=True):
    ephemeral_1h_input_tokens: int = 0
    ephemeral_5m_input_tokens: int = 0


class ServerToolUse(Wire, kw_only=True):
    web_fetch_requests: int = 0
    web_search_requests: int = 0


class Usage(Wire, kw_only=True):
    """Cumulative usage of a session or a thread; `cache_creation` is null before the first model request, `list_cost`
    absent where it can't be known."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation: CacheCreation | None = None
    server_tool_use: ServerToolUse | None = None
    active_seconds: float = 0.0
    list_cost: Money | Unset | None = UNSET


class ModelUsage(Wire, kw_only=True):
    """Tokens of one model request, on its `span.model_request_end`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    speed: Literal["standard", "fast"] | None = None


class Stats(Wire, kw_only=True):
    active_seconds: float = 0.0
    duration_seconds: float = 0.0


class ThreadStats(Wire, kw_only=True):
    active_seconds: float = 0.0
    duration_seconds: float = 0.0
    startup_seconds: float = 0.0


class EndTurn(Wire, tag="end_turn", tag_field="type", kw_only=True):
    pass


class RequiresAction(Wire, tag="requires_action", tag_field="type", kw_only=True):
    event_ids: list[str]


class RetriesExhausted(Wire, tag="retries_exhausted", tag_field="type", kw_only=True):
    pass


class BudgetReached(Wire, tag="budget_reached", tag_field="type", kw_only=True):
    pass


class Refusal(Wire, tag="refusal", tag_field="type", kw_only=True):
    pass


StopReason = EndTurn | RequiresAction | RetriesExhausted | BudgetReached | Refusal


class RefusalDetails(Wire, tag="refusal", tag_field="type", kw_only=True):
    category: Literal["cyber", "bio", "frontier_llm", "reasoning_extraction", "general_harms"] | None = None
    explanation: str | None = None


StopDetails = RefusalDetails | None
SessionStatus = Literal["rescheduling", "running", "idle", "terminated"]
