"""Session events: what a client may send, what is stored and listed, and previews that only a stream carries.

It must not know when an event is legal. Stored ones encode with `type` and `id` first. A new event type is one Struct
here and one member of `SessionEvent`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from hostler.wire.agents import SessionAgent
from hostler.wire.base import UNSET, Params, Unset, Wire
from hostler.wire.content import AgentContent, MessageContent, ResultContent, TextBlock
from hostler.wire.errors import SessionErrorObject
from hostler.wire.tools import Evaluation, Permission
from hostler.wire.usage import BudgetLimit, ModelUsage, StopDetails, StopReason, Usage

EventId = Annotated[str, Meta(min_length=1, max_length=128)]
SystemContent = Annotated[list[TextBlock], Meta(min_length=1, max_length=1000)]


MAX_RUBRIC = 262_144


class TextRubric(Params, tag="text", tag_field="type", kw_only=True):
    content: Annotated[str, Meta(min_length=1, max_length=MAX_RUBRIC)]


class FileRubric(Params, tag="file", tag_field="type", kw_only=True):
    file_id: str


Rubric = TextRubric | FileRubric


# -- sent by a client


class UserMessageParams(Params, tag="user.message", tag_field="type", kw_only=True):
    content: Annotated[list[MessageContent], Meta(min_length=1)]


class UserInterruptParams(Params, tag="user.interrupt", tag_field="type", kw_only=True):
    session_thread_id: str | None = None


class UserToolConfirmationParams(Params, tag="user.tool_confirmation", tag_field="type", kw_only=True):
    tool_use_id: EventId
    result: Literal["allow", "deny"]
    deny_message: str | None = None
    session_thread_id: str | None = None


class UserCustomToolResultParams(Params, tag="user.custom_tool_result", tag_field="type", kw_only=True):
    custom_tool_use_id: EventId
    content: list[ResultContent] | Unset | None = UNSET
    is_error: bool | Unset | None = UNSET
    session_thread_id: str | None = None


class UserToolResultParams(Params, tag="user.tool_result", tag_field="type", kw_only=True):
    tool_use_id: EventId
    content: list[ResultContent] | Unset | None = UNSET
    is_error: bool | Unset | None = UNSET
    session_thread_id: str | None = None


class UserDefineOutcomeParams(Params, tag="user.define_outcome", tag_field="type", kw_only=True):
    description: Annotated[str, Meta(min_length=1)]
    rubric: Rubric
    max_iterations: Annotated[int, Meta(ge=1, le=20)] | None = None


class SystemMessageParams(Params, tag="system.message", tag_field="type", kw_only=True):
    content: SystemContent


ClientEvent = (
    UserMessageParams
    | UserInterruptParams
    | UserToolConfirmationParams
    | UserCustomToolResultParams
    | UserToolResultParams
    | UserDefineOutcomeParams
    | SystemMessageParams
)


class EventsSend(Params, kw_only=True):
    events: Annotated[list[ClientEvent], Meta(min_length=1, max_length=1000)]


# -- stored: what clients sent


class ClientSent(Wire, tag_field="type", kw_only=True):
    """`processed_at` is null while the event is queued."""

    id: str
    processed_at: str | None = None


class UserMessage(ClientSent, tag="user.message", kw_only=True):
    content: list[MessageContent]


class UserInterrupt(ClientSent, tag="user.interrupt", kw_only=True):
    session_thread_id: str | Unset = UNSET


class UserToolConfirmation(ClientSent, tag="user.tool_confirmation", kw_only=True):
    tool_use_id: str
    result: Literal["allow", "deny"]
    deny_message: str | Unset = UNSET
    session_thread_id: str | Unset = UNSET


class UserCustomToolResult(ClientSent, tag="user.custom_tool_result", kw_only=True):
    custom_tool_use_id: str
    content: list[ResultContent] | Unset = UNSET
    is_error: bool | Unset = UNSET
    session_thread_id: str | Unset = UNSET


class UserToolResult(ClientSent, tag="user.tool_result", kw_only=True):
    tool_use_id: str
    content: list[ResultContent] | Unset = UNSET
    is_error: bool | Unset = UNSET
    session_thread_id: str | Unset = UNSET


class UserDefineOutcome(ClientSent, tag="user.define_outcome", kw_only=True):
    outcome_id: str
    description: str
    rubric: Rubric
    max_iterations: int | None = None


class SystemMessage(ClientSent, tag="system.message", kw_only=True):
    content: list[TextBlock]


# -- stored: what the server emits


class ServerEvent(Wire, tag_field="type", kw_only=True):
    id: str
    processed_at: str


class AgentMessage(ServerEvent, tag="agent.message", kw_only=True):
    content: list[AgentContent]


class AgentThinking(ServerEvent, tag="agent.thinking", kw_only=True):
    pass


class AgentToolUse(ServerEvent, tag="agent.tool_use", kw_only=True):
    name: str
    input: dict[str, Any]
    evaluated_permission: Permission | Unset = UNSET
    evaluation: Evaluation | Unset = UNSET
    session_thread_id: str | Unset = UNSET


class AgentToolResult(ServerEvent, tag="agent.tool_result", kw_only=True):
    tool_use_id: str
    content: list[ResultContent] | Unset = UNSET
    is_error: bool | Unset = UNSET


class AgentMcpToolUse(ServerEvent, tag="agent.mcp_tool_use", kw_only=True):
    mcp_server_name: str
    name: str
    input: dict[str, Any]
    evaluated_permission: Permission | Unset = UNSET
    evaluation: Evaluation | Unset = UNSET
    session_thread_id: str | Unset = UNSET


class AgentMcpToolResult(ServerEvent, tag="agent.mcp_tool_result", kw_only=True):
    mcp_tool_use_id: str
    content: list[ResultContent] | Unset = UNSET
    is_error: bool | Unset = UNSET


class AgentCustomToolUse(ServerEvent, tag="agent.custom_tool_use", kw_only=True):
    name: str
    input: dict[str, Any]
    session_thread_id: str | Unset = UNSET


class AgentThreadContextCompacted(ServerEvent, tag="agent.thread_context_compacted", kw_only=True):
    pass


class AgentThreadMessageSent(ServerEvent, tag="agent.thread_message_sent", kw_only=True):
    content: list[MessageContent]
    to_session_thread_id: str
    to_agent_name: str | Unset = UNSET


class AgentThreadMessageReceived(ServerEvent, tag="agent.thread_message_received", kw_only=True):
    content: list[MessageContent]
    from_session_thread_id: str
    from_agent_name: str | Unset = UNSET


class SessionStatusRunning(ServerEvent, tag="session.status_running", kw_only=True):
    pass


class SessionStatusIdle(ServerEvent, tag="session.status_idle", kw_only=True):
    stop_reason: StopReason
    stop_details: StopDetails = None


class SessionStatusRescheduled(ServerEvent, tag="session.status_rescheduled", kw_only=True):
    pass


class SessionStatusTerminated(ServerEvent, tag="session.status_terminated", kw_only=True):
    pass


class SessionError(ServerEvent, tag="session.error", kw_only=True):
    error: SessionErrorObject


class SessionUpdated(ServerEvent, tag="session.updated", kw_only=True):
    """Carries only what changed; `budget: null` says that the budget was removed."""

    title: str | Unset | None = UNSET
    metadata: dict[str, str] | Unset = UNSET
    agent: SessionAgent | Unset = UNSET
    budget: BudgetLimit | Unset | None = UNSET


class SessionUsage(ServerEvent, tag="session.usage", kw_only=True):
    usage: Usage
    budget: BudgetLimit | None = None


class SessionDeleted(ServerEvent, tag="session.deleted", kw_only=True):
    pass


class SessionThreadCreated(ServerEvent, tag="session.thread_created", kw_only=True):
    agent_name: str
    session_thread_id: str
    workflow_run_id: str | None = None


class SessionThreadStatusRunning(ServerEvent, tag="session.thread_status_running", kw_only=True):
    agent_name: str
    session_thread_id: str


class SessionThreadStatusIdle(ServerEvent, tag="session.thread_status_idle", kw_only=True):
    agent_name: str
    session_thread_id: str
    stop_reason: StopReason
    stop_details: StopDetails = None


class SessionThreadStatusRescheduled(ServerEvent, tag="session.thread_status_rescheduled", kw_only=True):
    agent_name: str
    session_thread_id: str


class SessionThreadStatusTerminated(ServerEvent, tag="session.thread_status_terminated", kw_only=True):
    agent_name: str
    session_thread_id: str


class SpanModelRequestStart(ServerEvent, tag="span.model_request_start", kw_only=True):
    pass


class SpanModelRequestEnd(ServerEvent, tag="span.model_request_end", kw_only=True):
    model_request_start_id: str
    is_error: bool | None
    model_usage: ModelUsage


class SpanOutcomeEvaluationStart(ServerEvent, tag="span.outcome_evaluation_start", kw_only=True):
    outcome_id: str
    iteration: int


class SpanOutcomeEvaluationOngoing(ServerEvent, tag="span.outcome_evaluation_ongoing", kw_only=True):
    outcome_id: str
    iteration: int


class SpanOutcomeEvaluationEnd(ServerEvent, tag="span.outcome_evaluation_end", kw_only=True):
    outcome_evaluation_start_id: str
    outcome_id: str
    iteration: int
    result: str
    explanation: str
    usage: ModelUsage


# Workflow runs are not among them yet: they come with what emits them.
SessionEvent = (
    UserMessage
    | UserInterrupt
    | UserToolConfirmation
    | UserCustomToolResult
    | UserToolResult
    | UserDefineOutcome
    | SystemMessage
    | AgentMessage
    | AgentThinking
    | AgentToolUse
    | AgentToolResult
    | AgentMcpToolUse
    | AgentMcpToolResult
    | AgentCustomToolUse
    | AgentThreadContextCompacted
    | AgentThreadMessageSent
    | AgentThreadMessageReceived
    | SessionStatusRunning
    | SessionStatusIdle
    | SessionStatusRescheduled
    | SessionStatusTerminated
    | SessionError
    | SessionUpdated
    | SessionUsage
    | SessionDeleted
    | SessionThreadCreated
    | SessionThreadStatusRunning
    | SessionThreadStatusIdle
    | SessionThreadStatusRescheduled
    | SessionThreadStatusTerminated
    | SpanModelRequestStart
    | SpanModelRequestEnd
    | SpanOutcomeEvaluationStart
    | SpanOutcomeEvaluationOngoing
    | SpanOutcomeEvaluationEnd
)

# The types that a list can be filtered by: all that are stored, and those that other servers of this API store.
LISTABLE = (
    *(str(kind.__struct_config__.tag) for kind in get_args(SessionEvent) if kind is not SessionDeleted),
    "workflow_run.created",
    "workflow_run.error",
    "workflow_run.phase_ended",
    "workflow_run.phase_started",
    "workflow_run.status_ended",
    "workflow_run.status_idle",
    "workflow_run.status_running",
)
PREVIEWABLE = ("agent.message", "agent.thinking")

decode_event = msgspec.json.Decoder(SessionEvent).decode


# -- previews: only on a stream that asked for them


class Preview(Wire, kw_only=True):
    type: Literal["agent.message", "agent.thinking"]
    id: str


class EventStart(Wire, tag="event_start", tag_field="type", kw_only=True):
    event: Preview


class DeltaText(Wire, tag="text", tag_field="type", kw_only=True):
    text: str


class Delta(Wire, tag="content_delta", tag_field="type", kw_only=True):
    index: int
    content: DeltaText


class EventDelta(Wire, tag="event_delta", tag_field="type", kw_only=True):
    event_id: str
    delta: Delta
