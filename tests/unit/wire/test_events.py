"""Every event type, as the official SDK's strict types read it."""

from typing import Any, get_args

import msgspec
import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents
from pydantic import TypeAdapter

from hostler.wire import content, errors, events, tools, usage
from hostler.wire.base import encode

AT = "2026-01-02T03:04:05.678901Z"
RETRY = errors.Retry(type="retrying")
SDK: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsStreamSessionEvents)

SAMPLES: dict[str, Any] = {
    "content": [content.TextBlock(text="hello")],
    "result": "allow",
    "tool_use_id": "sevt_2",
    "custom_tool_use_id": "sevt_2",
    "mcp_tool_use_id": "sevt_2",
    "mcp_server_name": "server",
    "name": "bash",
    "input": {"command": "true"},
    "outcome_id": "outc_1",
    "description": "d",
    "rubric": events.TextRubric(content="r"),
    "stop_reason": usage.RequiresAction(event_ids=["sevt_2"]),
    "error": errors.UnknownError(message="m", retry_status=RETRY),
    "usage": usage.Usage(list_cost=usage.Money(amount="5", currency="USD"), cache_creation=usage.CacheCreation()),
    "agent_name": "a",
    "session_thread_id": "sthr_1",
    "to_session_thread_id": "sthr_1",
    "from_session_thread_id": "sthr_1",
    "model_request_start_id": "sevt_2",
    "outcome_evaluation_start_id": "sevt_2",
    "is_error": False,
    "model_usage": usage.ModelUsage(),
    "iteration": 0,
    "explanation": "e",
    "evaluation": tools.EvaluatedAllow(),
}


def sample(kind: Any) -> Any:
    fields = {f.name: SAMPLES[f.name] for f in msgspec.structs.fields(kind) if f.required and f.name in SAMPLES}
    if kind is events.SpanOutcomeEvaluationEnd:
        fields |= {"usage": usage.ModelUsage(), "result": "satisfied"}
    return kind(id="sevt_1", processed_at=AT, **fields)


@pytest.mark.parametrize("kind", get_args(events.SessionEvent), ids=lambda kind: kind.__name__)
def test_event_is_valid_for_the_sdk_and_reads_back(kind: Any) -> None:
    event = sample(kind)
    body = encode(event)
    assert body.startswith(b'{"type":"' + kind.__struct_config__.tag.encode() + b'","id":"sevt_1"')
    assert SDK.validate_json(body).type == kind.__struct_config__.tag
    assert events.decode_event(body) == event


@pytest.mark.parametrize("kind", get_args(errors.SessionErrorObject), ids=lambda kind: kind.__name__)
def test_every_session_error_is_valid_for_the_sdk(kind: Any) -> None:
    extra = {"mcp_server_name": "s", "credential_id": "c", "vault_id": "v", "repository_url": "u"}
    fields = {key: value for key, value in extra.items() if key in kind.__struct_fields__}
    error = kind(message="m", retry_status=RETRY, **fields)
    SDK.validate_json(encode(events.SessionError(id="sevt_1", processed_at=AT, error=error)))


def test_previews_are_valid_for_the_sdk() -> None:
    start = events.EventStart(event=events.Preview(type="agent.message", id="sevt_1"))
    delta = events.EventDelta(event_id="sevt_1", delta=events.Delta(index=0, content=events.DeltaText(text="x")))
    assert SDK.validate_json(encode(start)).type == "event_start"
    assert SDK.validate_json(encode(delta)).type == "event_delta"


def test_a_queued_event_says_null_and_absent_fields_are_left_out() -> None:
    assert encode(events.UserInterrupt(id="sevt_1")) == (b'{"type":"user.interrupt","id":"sevt_1","processed_at":null}')
