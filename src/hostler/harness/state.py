"""The state of a session as a fold over its log: what was said, which tool calls are open, what waits to be consumed.

A session has one conversation for each of its threads. `Session.absorb` is the only way state changes, at recovery and
while running alike, so a restart needs nothing but the log. It must not do I/O, and the order in which answers arrive
must not matter to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import msgspec

from hostler.harness.outcomes import Outcome
from hostler.harness.parts import Call, Heard, Part, Said, Summed, Told
from hostler.log.entries import Entry
from hostler.wire.multiagent import ADVISOR_NAME
from hostler.wire.usage import BudgetLimit

MODEL_MESSAGE = "hostler.model_message"
DISPATCHED = "hostler.tool_dispatched"
SUMMARY = "hostler.context_summary"
REPOSITORY_READY = "hostler.repository_ready"
PACKAGES = "hostler.packages_progress"  # what a build of packages said while the session waited for it
SANDBOX_RESET = "hostler.sandbox_reset"  # its files are gone: the next sandbox is a fresh one
ATTEMPT_FAILED = "hostler.model_attempt_failed"
HIDDEN_RESULT = "hostler.tool_result"
FEEDBACK = "hostler.outcome_feedback"
MAIL = "hostler.thread_message"  # from another thread; waits until it is consumed
INTERRUPT = "hostler.interrupt"  # a user.interrupt of the whole session, as it waits for a child thread

_TAG = re.compile(r"<(?=[\s/]*message\b)", re.IGNORECASE)
INTERRUPTS = ("user.interrupt", INTERRUPT)

SERVER = "server"  # the generation of calls that were dispatched to no sandbox
MAX_CONTINUATIONS = 3


class Thread:
    """The folded log of one thread of a session."""

    def __init__(self, thread_id: str) -> None:
        self.id = thread_id
        self.parts: list[Part] = []
        self.calls: dict[str, Call] = {}  # of the last assistant message
        self.queued: dict[str, Entry] = {}  # what waits to be consumed, in order of receipt
        self.version = 0  # counts what was folded in: a decision stands on one
        self.open_request: str | None = None  # a span.model_request_start without its end
        self.running = False  # a running event without its idle event
        self.settled = True  # nothing has happened since the last idle event
        self.terminated = False
        self.stop: dict[str, Any] | None = None  # the stop reason of the last idle event
        self.paused = False  # the budget has stopped what there was to do
        self.wants_answer = False  # the model is to speak next, once no call is open
        self.failures = 0  # model attempts that failed in a row
        self.requests = 0  # model messages since a client, or its coordinator, has said something
        self.continuations = 0  # in a row, after max_tokens
        self.context_tokens = 0  # of the last request and its answer
        self.summaries = 0  # in a row, with no answer between
        self.rescheduled = False
        self.worked = False  # a tool went to the sandbox since the last idle event
        self.outcomes: dict[str, Outcome] = {}
        self.late: list[Part] = []  # what came while a message was made: it stands behind it

    @property
    def interrupted(self) -> bool:
        return any(entry.type in INTERRUPTS for entry in self.queued.values())

    @property
    def open_calls(self) -> list[Call]:
        return [call for call in self.calls.values() if not call.answered]

    @property
    def waiting(self) -> list[str]:
        """The tool uses that only a client can bring on."""
        return [call.id for call in self.open_calls if call.waits]

    @property
    def outcome(self) -> Outcome | None:
        """The outcome that it works towards."""
        return next((outcome for outcome in self.outcomes.values() if outcome.active), None)

    @property
    def active(self) -> bool:
        """Whether there is anything to do for it."""
        if self.terminated:
            return False
        if self.paused:
            return self.interrupted
        comes_next = bool(self.queued) and not self.waiting  # a message waits until the tool uses are answered
        return self.running or not self.settled or comes_next or self.interrupted


class Session:
    """The folded log of one session."""

    def __init__(self) -> None:
        self.threads: dict[str, Thread] = {}
        self.repositories: dict[str, list[dict[str, str]]] = {}  # those in the sandbox, each with its skills
        self.next_seq = 0
        self.running = False  # a session.status_running without its idle event
        self.rescheduled = False
        self.budget: BudgetLimit | msgspec.UnsetType | None = msgspec.UNSET  # the last change of it

    @property
    def worked(self) -> bool:
        """Whether a tool went to the sandbox in a turn that is not over."""
        return any(thread.worked for thread in self.threads.values())

    def thread(self, thread_id: str) -> Thread:
        thread = self.threads.get(thread_id)
        if thread is None:
            thread = self.threads[thread_id] = Thread(thread_id)
        return thread

    def absorb(self, entries: Iterable[Entry]) -> None:
        """Take in entries in list order. Entries it knows already change nothing, unless they have been consumed."""
        first_new = self.next_seq  # a queued entry has a lower seq than consumed ones before it in the list
        for entry in entries:
            known = entry.seq < first_new
            thread = self.thread(entry.thread_id)
            if entry.queued:
                if not known:
                    thread.queued[entry.id] = entry
                    thread.version += 1
            elif not known or thread.queued.pop(entry.id, None) is not None:
                self._fold(thread, entry)
            self.next_seq = max(self.next_seq, entry.seq + 1)

    def _fold(self, thread: Thread, entry: Entry) -> None:
        thread.version += 1
        if (session_fold := _SESSION_FOLDS.get(entry.type)) is not None:
            session_fold(self, entry)
        fold = _FOLDS.get(entry.type)
        if fold is None:
            return
        event = entry.decode()
        if event.get("session_thread_id", thread.id) == thread.id:  # else it shows what happened in another thread
            fold(thread, entry, event)


def _updated(session: Session, entry: Entry) -> None:
    """A changed budget is to be looked at by every thread, and what it had stopped goes on."""
    event = entry.decode()
    if "budget" not in event:
        return
    session.budget = msgspec.convert(event["budget"], BudgetLimit | None)
    for thread in session.threads.values():
        thread.version += 1
        if thread.paused:
            thread.paused = thread.settled = False


def _session_running(session: Session, _: Entry) -> None:
    session.running, session.rescheduled = True, False


def _session_rescheduled(session: Session, _: Entry) -> None:
    session.rescheduled = True


def _session_idle(session: Session, _: Entry) -> None:
    session.running = session.rescheduled = False


def _repository_ready(session: Session, entry: Entry) -> None:
    note = entry.decode()
    session.repositories[note["resource_id"]] = note["skills"]


def _sandbox_reset(session: Session, _: Entry) -> None:
    session.repositories = {}


def _heard(thread: Thread, _: Entry, event: dict[str, Any]) -> None:
    thread.parts.append(Heard(event["content"]))
    thread.wants_answer = True
    thread.failures = thread.requests = thread.continuations = 0


def _received(thread: Thread, _: Entry, event: dict[str, Any]) -> None:
    if event.get("from_agent_name") == ADVISOR_NAME:
        return  # its advice is the result of the call that asked for it
    thread.parts.append(_letter(event.get("from_agent_name"), event["from_session_thread_id"], event["content"]))
    thread.wants_answer = True
    thread.failures = thread.continuations = 0
    if "from_agent_name" not in event:  # a coordinator's requests are counted from client to client
        thread.requests = 0


def _letter(sender: str | None, thread_id: str, content: list[dict[str, Any]]) -> Heard:
    """A message of another thread, which can't end before its end: what follows would be the user's."""
    opening = {"type": "text", "text": f'<message from="{escape(sender or "coordinator")}" thread="{thread_id}">'}
    inside = [{**block, "text": _TAG.sub("&lt;", block["text"])} if "text" in block else block for block in content]
    who = "another agent" if sender else "coordinator"
    return Heard([opening, *inside, {"type": "text", "text": "</message>"}], who)


def _defined(thread: Thread, entry: Entry, event: dict[str, Any]) -> None:
    outcome = Outcome.of(event, entry.seq)
    thread.outcomes[outcome.id] = outcome
    (thread.parts if thread.open_request is None else thread.late).append(Heard(_text(outcome.task())))
    thread.wants_answer, thread.settled = True, False
    thread.failures = thread.requests = thread.continuations = 0


def _evaluating(thread: Thread, entry: Entry, event: dict[str, Any]) -> None:
    if (outcome := thread.outcomes.get(event["outcome_id"])) is not None:
        outcome.begin(entry.id)


def _evaluated(thread: Thread, entry: Entry, event: dict[str, Any]) -> None:
    if (outcome := thread.outcomes.get(event["outcome_id"])) is not None:
        outcome.end(event["result"], event["explanation"], entry.position)


def _fed_back(thread: Thread, _: Entry, note: dict[str, Any]) -> None:
    thread.parts.append(Heard(_text(note["text"]), "evaluation"))
    thread.wants_answer = True
    thread.failures = thread.requests = thread.continuations = 0


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}]


def _told(thread: Thread, _: Entry, event: dict[str, Any]) -> None:
    thread.parts.append(Told("\n".join(block["text"] for block in event["content"])))


def _said(thread: Thread, _: Entry, note: dict[str, Any]) -> None:
    calls = [Call(**call) for call in note["calls"]]
    thread.parts.append(Said(note["content"], calls, note["stop_reason"], note["stop_details"]))
    thread.calls = {call.id: call for call in calls}
    thread.context_tokens = note["context_tokens"]
    thread.failures = thread.summaries = 0
    thread.requests += 1
    thread.continuations = thread.continuations + 1 if note["stop_reason"] == "max_tokens" and not calls else 0
    cut_off = 0 < thread.continuations <= MAX_CONTINUATIONS
    unseen = thread.outcome is not None and thread.outcome.unseen  # it came while this message was made
    thread.wants_answer = bool(calls) or cut_off or unseen or note["stop_reason"] == "pause_turn"


def _summed(thread: Thread, _: Entry, note: dict[str, Any]) -> None:
    thread.parts = [Summed(note["text"])]
    thread.calls = {}
    thread.context_tokens = 0
    thread.summaries += 1


def _dispatched(thread: Thread, _: Entry, note: dict[str, Any]) -> None:
    for call_id in note["calls"]:
        thread.calls[call_id].dispatched = note["generation"]
    thread.worked = thread.worked or note["generation"] != SERVER


def _answered(key: str) -> Callable[[Thread, Entry, dict[str, Any]], None]:
    def fold(thread: Thread, _: Entry, event: dict[str, Any]) -> None:
        if (call := thread.calls.get(event[key])) is not None:
            call.result = event.get("content") or []
            call.is_error = bool(event.get("is_error"))
        thread.settled = False

    return fold


def _confirmed(thread: Thread, _: Entry, event: dict[str, Any]) -> None:
    if (call := thread.calls.get(event["tool_use_id"])) is not None:
        call.verdict = event["result"]
        call.deny_message = event.get("deny_message")
    thread.settled = False


def _request_started(thread: Thread, entry: Entry, _: dict[str, Any]) -> None:
    thread.open_request = entry.id
    if thread.outcome is not None:
        thread.outcome.work()


def _request_ended(thread: Thread, _: Entry, __: dict[str, Any]) -> None:
    thread.open_request = None
    thread.parts += thread.late
    thread.late = []


def _attempt_failed(thread: Thread, _: Entry, __: dict[str, Any]) -> None:
    thread.failures += 1


def _running(thread: Thread, _: Entry, __: dict[str, Any]) -> None:
    thread.running, thread.settled, thread.rescheduled, thread.paused = True, False, False, False


def _rescheduled(thread: Thread, _: Entry, __: dict[str, Any]) -> None:
    thread.rescheduled = True


def _terminated(thread: Thread, _: Entry, __: dict[str, Any]) -> None:
    thread.terminated, thread.running, thread.settled = True, False, True
    thread.parts, thread.calls = [], {}  # nobody asks for them any more


def _idle(thread: Thread, _: Entry, event: dict[str, Any]) -> None:
    thread.running, thread.settled, thread.rescheduled, thread.worked = False, True, False, False
    thread.stop = event["stop_reason"]
    thread.paused = thread.stop["type"] == "budget_reached"
    if thread.stop["type"] not in ("requires_action", "budget_reached"):
        thread.wants_answer = False
        thread.failures = thread.continuations = thread.summaries = 0


_SESSION_FOLDS: dict[str, Callable[[Session, Entry], None]] = {
    "session.updated": _updated,
    "session.status_running": _session_running,
    "session.status_rescheduled": _session_rescheduled,
    "session.status_idle": _session_idle,
    REPOSITORY_READY: _repository_ready,
    SANDBOX_RESET: _sandbox_reset,
}
_FOLDS: dict[str, Callable[[Thread, Entry, dict[str, Any]], None]] = {
    "user.message": _heard,
    "user.define_outcome": _defined,
    "span.outcome_evaluation_start": _evaluating,
    "span.outcome_evaluation_end": _evaluated,
    FEEDBACK: _fed_back,
    "agent.thread_message_received": _received,
    "system.message": _told,
    "user.tool_confirmation": _confirmed,
    "user.custom_tool_result": _answered("custom_tool_use_id"),
    "user.tool_result": _answered("tool_use_id"),
    "agent.tool_result": _answered("tool_use_id"),
    "agent.mcp_tool_result": _answered("mcp_tool_use_id"),
    HIDDEN_RESULT: _answered("tool_use_id"),
    "span.model_request_start": _request_started,
    "span.model_request_end": _request_ended,
    "session.thread_status_running": _running,
    "session.thread_status_rescheduled": _rescheduled,
    "session.thread_status_idle": _idle,
    "session.thread_status_terminated": _terminated,
    MODEL_MESSAGE: _said,
    DISPATCHED: _dispatched,
    SUMMARY: _summed,
    ATTEMPT_FAILED: _attempt_failed,
}
