"""The state of a session as a fold over its log: what was said, which tool calls are open, what waits to be consumed.

`Session.absorb` is the only way state changes, at recovery and while running alike, so a restart needs nothing but the
log. It must not do I/O, and the order in which answers arrive must not matter to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from hostler.log.entries import Entry

MODEL_MESSAGE = "hostler.model_message"
DISPATCHED = "hostler.tool_dispatched"
SUMMARY = "hostler.context_summary"
ATTEMPT_FAILED = "hostler.model_attempt_failed"
HIDDEN_RESULT = "hostler.tool_result"

SERVER = "server"  # the generation of calls that were dispatched to no sandbox
MAX_CONTINUATIONS = 3


class Call(msgspec.Struct, kw_only=True):
    """One tool use. `id` is the event's, `model_id` the model's own; `dispatched` the sandbox generation it went to."""

    id: str
    model_id: str
    name: str
    kind: Literal["builtin", "custom", "mcp", "server"]
    input: dict[str, Any]
    permission: Literal["allow", "ask", "deny"]
    server: str | None = None  # the MCP server, and the tool's bare name there
    tool: str | None = None
    hidden: bool = False  # no public event shows it
    invalid: str | None = None
    verdict: Literal["allow", "deny"] | None = None
    deny_message: str | None = None
    dispatched: str | None = None
    result: list[dict[str, Any]] | None = None
    is_error: bool = False

    @property
    def answered(self) -> bool:
        return self.result is not None

    @property
    def shown_name(self) -> str:
        """The name that clients see: an MCP tool's is the bare one."""
        return self.tool or self.name

    @property
    def served(self) -> bool:
        """Whether the server runs it itself, outside the sandbox."""
        return self.kind in ("mcp", "server")

    @property
    def refused(self) -> bool:
        """Whether it gets an error result without running."""
        return self.permission == "deny" or self.verdict == "deny" or self.invalid is not None

    @property
    def waits(self) -> bool:
        """Whether only a client can bring it on."""
        if self.answered or self.refused:
            return False
        return self.kind == "custom" or (self.permission == "ask" and self.verdict is None)

    @property
    def ready(self) -> bool:
        return not self.answered and not self.waits


class Said(msgspec.Struct):
    """An assistant message, its content verbatim, and the calls it made."""

    content: list[dict[str, Any]]
    calls: list[Call]
    stop_reason: str
    stop_details: dict[str, Any] | None = None


class Heard(msgspec.Struct):
    """What a user said."""

    content: list[dict[str, Any]]


class Told(msgspec.Struct):
    """A system message in mid-conversation."""

    text: str


class Summed(msgspec.Struct):
    """The summary that stands for everything before it."""

    text: str


Part = Said | Heard | Told | Summed


class Session:
    """The folded log of one session."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.calls: dict[str, Call] = {}  # of the last assistant message
        self.queued: dict[str, Entry] = {}  # user events that wait, in order of receipt
        self.next_seq = 0
        self.open_request: str | None = None  # a span.model_request_start without its end
        self.running = False  # a running event without its idle event
        self.settled = True  # nothing has happened since the last idle event
        self.wants_answer = False  # the model is to speak next, once no call is open
        self.failures = 0  # model attempts that failed in a row
        self.requests = 0  # model messages in this turn
        self.continuations = 0  # in a row, after max_tokens
        self.context_tokens = 0  # of the last request and its answer
        self.summaries = 0  # in a row, with no answer between
        self.rescheduled = False
        self.worked = False  # a tool went to the sandbox since the last idle event

    def absorb(self, entries: Iterable[Entry]) -> None:
        """Take in entries in list order. Entries it knows already change nothing, unless they have been consumed."""
        first_new = self.next_seq  # a queued entry has a lower seq than consumed ones before it in the list
        for entry in entries:
            known = entry.seq < first_new
            if entry.queued:
                if not known:
                    self.queued[entry.id] = entry
            elif not known or self.queued.pop(entry.id, None) is not None:
                fold = _FOLDS.get(entry.type)
                if fold is not None:
                    fold(self, entry.id, entry.decode())
            self.next_seq = max(self.next_seq, entry.seq + 1)

    @property
    def interrupted(self) -> bool:
        return any(entry.type == "user.interrupt" for entry in self.queued.values())

    @property
    def open_calls(self) -> list[Call]:
        return [call for call in self.calls.values() if not call.answered]


def _heard(session: Session, _: str, event: dict[str, Any]) -> None:
    session.parts.append(Heard(event["content"]))
    session.wants_answer = True
    session.failures = session.requests = session.continuations = 0


def _told(session: Session, _: str, event: dict[str, Any]) -> None:
    session.parts.append(Told("\n".join(block["text"] for block in event["content"])))


def _said(session: Session, _: str, note: dict[str, Any]) -> None:
    calls = [Call(**call) for call in note["calls"]]
    session.parts.append(Said(note["content"], calls, note["stop_reason"], note["stop_details"]))
    session.calls = {call.id: call for call in calls}
    session.context_tokens = note["context_tokens"]
    session.failures = session.summaries = 0
    session.requests += 1
    session.continuations = session.continuations + 1 if note["stop_reason"] == "max_tokens" and not calls else 0
    cut_off = 0 < session.continuations <= MAX_CONTINUATIONS
    session.wants_answer = bool(calls) or cut_off or note["stop_reason"] == "pause_turn"


def _summed(session: Session, _: str, note: dict[str, Any]) -> None:
    session.parts = [Summed(note["text"])]
    session.calls = {}
    session.context_tokens = 0
    session.summaries += 1


def _dispatched(session: Session, _: str, note: dict[str, Any]) -> None:
    for call_id in note["calls"]:
        session.calls[call_id].dispatched = note["generation"]
    session.worked = session.worked or note["generation"] != SERVER


def _answered(key: str) -> Callable[[Session, str, dict[str, Any]], None]:
    def fold(session: Session, _: str, event: dict[str, Any]) -> None:
        if (call := session.calls.get(event[key])) is not None:
            call.result = event.get("content") or []
            call.is_error = bool(event.get("is_error"))
        session.settled = False

    return fold


def _confirmed(session: Session, _: str, event: dict[str, Any]) -> None:
    if (call := session.calls.get(event["tool_use_id"])) is not None:
        call.verdict = event["result"]
        call.deny_message = event.get("deny_message")
    session.settled = False


def _request_started(session: Session, event_id: str, _: dict[str, Any]) -> None:
    session.open_request = event_id


def _request_ended(session: Session, _: str, __: dict[str, Any]) -> None:
    session.open_request = None


def _attempt_failed(session: Session, _: str, __: dict[str, Any]) -> None:
    session.failures += 1


def _running(session: Session, _: str, __: dict[str, Any]) -> None:
    session.running, session.settled, session.rescheduled = True, False, False


def _rescheduled(session: Session, _: str, __: dict[str, Any]) -> None:
    session.rescheduled = True


def _idle(session: Session, _: str, event: dict[str, Any]) -> None:
    session.running, session.settled, session.rescheduled = False, True, False
    session.worked = False
    if event["stop_reason"]["type"] != "requires_action":
        session.wants_answer = False
        session.failures = session.requests = session.continuations = session.summaries = 0


_FOLDS: dict[str, Callable[[Session, str, dict[str, Any]], None]] = {
    "user.message": _heard,
    "system.message": _told,
    "user.tool_confirmation": _confirmed,
    "user.custom_tool_result": _answered("custom_tool_use_id"),
    "user.tool_result": _answered("tool_use_id"),
    "agent.tool_result": _answered("tool_use_id"),
    "agent.mcp_tool_result": _answered("mcp_tool_use_id"),
    HIDDEN_RESULT: _answered("tool_use_id"),
    "span.model_request_start": _request_started,
    "span.model_request_end": _request_ended,
    "session.status_running": _running,
    "session.status_rescheduled": _rescheduled,
    "session.status_idle": _idle,
    MODEL_MESSAGE: _said,
    DISPATCHED: _dispatched,
    SUMMARY: _summed,
    ATTEMPT_FAILED: _attempt_failed,
}
