"""What a session's events look like in its timeline: each becomes a row, or completes the row of another.

It must not read anything, and make no HTML: templates do, and escape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from hostler.log.entries import Entry

CUT_CHARACTERS = 1600
CUT_LINES = 24
SHORT = 160
Event = dict[str, Any]


class Block(msgspec.Struct, frozen=True):
    """A piece of content. `name` labels it; `more` counts the characters that were left out."""

    kind: str
    text: str
    name: str = ""
    more: int = 0
    code: bool = False


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0


class Row(msgspec.Struct, kw_only=True):
    """`at` is in microseconds, None while the event waits. `into` is the row that this one completes, `since` that
    row's time. `inside` are the rows that complete this one."""

    id: str
    type: str
    at: int | None = None
    shape: str = "note"
    title: str = ""
    text: str = ""
    tone: str = ""
    blocks: list[Block] = []
    usage: Tokens | None = None
    thread_id: str | None = None
    into: str | None = None
    since: int | None = None
    inside: list[Row] = []

    @property
    def more(self) -> int:
        return sum(block.more for block in self.blocks)


def row(entry: Entry, *, full: bool = False) -> Row:
    """The row of one event; `full` leaves nothing out."""
    event = entry.decode()
    made = Row(id=entry.id, type=entry.type, at=None if entry.queued else entry.position)
    try:
        _BUILD[entry.type](made, event)
        # Nobody here writes other shapes, but another version may have, or another server's archive.
        msgspec.convert(msgspec.to_builtins(made), Row)
    except (KeyError, TypeError, AttributeError, ValueError, msgspec.ValidationError):
        made = Row(id=made.id, type=made.type, at=made.at, shape="message", title=entry.type)
        made.blocks = fields(own(event))
    if not full:
        made.blocks = [cut(block) for block in made.blocks]
    return made


def fold(entries: Iterable[Entry]) -> list[Row]:
    """The rows of a stretch of a session, each completion inside the row that it completes, if that is here."""
    rows: dict[str, Row] = {}
    for entry in entries:
        made = row(entry)
        target = rows.get(made.into or "")
        if target is not None:
            made.since = target.at
            target.inside.append(made)
        else:
            rows[made.id] = made
    return list(rows.values())


def cut(block: Block) -> Block:
    text = block.text
    if len(text) <= CUT_CHARACTERS and text.count("\n") < CUT_LINES:
        return block
    kept = "\n".join(text[:CUT_CHARACTERS].split("\n")[:CUT_LINES])
    if len(text) - len(kept) < SHORT:  # not worth a click
        return block
    return msgspec.structs.replace(block, text=kept, more=len(text) - len(kept))


def fields(values: Mapping[str, Any]) -> list[Block]:
    """The fields of an object: text as it is, everything else as JSON."""
    return [
        Block("text", value if isinstance(value, str) else pretty(value), name, code=True)
        for name, value in values.items()
    ]


def own(event: Event) -> Event:
    """An event's own fields."""
    return {name: value for name, value in event.items() if name not in ("id", "type", "processed_at")}


def pretty(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def content(blocks: Iterable[Event] | None) -> list[Block]:
    return [_block(block) for block in blocks or ()]


def _block(block: Event) -> Block:
    kind = block.get("type", "")
    match kind:
        case "text":
            return Block("text", block["text"])
        case "image" | "document":
            return Block(kind, _source(block["source"]), str(block.get("title") or ""))
        case "search_result":
            found = "\n".join(part["text"] for part in block["content"])
            return Block("text", f"{block['source']}\n{found}", block["title"])
        case "redacted":
            return Block("redacted", "redacted")
    return Block("text", pretty(block), kind, code=True)


def _source(source: Event) -> str:
    match source["type"]:
        case "base64":
            return f"{source['media_type']}, {len(source['data']) * 3 // 4} bytes"
        case "url":
            return str(source["url"])
        case "file":
            return str(source["file_id"])
    return str(source.get("data", ""))


def summary(name: str, given: Mapping[str, Any]) -> str:
    """What a tool call is about, in one line: the first text that it is given."""
    texts = [value for value in given.values() if isinstance(value, str) and value.strip()]
    text = texts[0].strip() if texts else msgspec.json.encode(given).decode() if given else ""
    line, _, rest = text.partition("\n")
    return line[:SHORT] + ("…" if rest or len(line) > SHORT else "")


# -- each event type --


def _message(title: str, tone: str = "") -> Callable[[Row, Event], None]:
    def build(made: Row, event: Event) -> None:
        made.shape, made.title, made.tone, made.blocks = "message", title, tone, content(event.get("content"))

    return build


def _note(title: str, tone: str = "") -> Callable[[Row, Event], None]:
    def build(made: Row, event: Event) -> None:
        made.title, made.tone = title, tone
        made.thread_id = event.get("session_thread_id")

    return build


def _of_thread(title: str, tone: str = "") -> Callable[[Row, Event], None]:
    def build(made: Row, event: Event) -> None:
        made.title, made.tone, made.text = title, tone, str(event["agent_name"])
        made.thread_id = event["session_thread_id"]
        if "stop_reason" in event:
            made.text += f": {_stopped(event)}"

    return build


def _status(title: str, tone: str = "") -> Callable[[Row, Event], None]:
    def build(made: Row, event: Event) -> None:
        made.shape, made.title, made.tone = "status", title, tone
        if "stop_reason" in event:
            made.text = _stopped(event)
            made.tone = {"end_turn": "good", "requires_action": "warn"}.get(event["stop_reason"]["type"], "bad")

    return build


def _stopped(event: Event) -> str:
    reason = event["stop_reason"]
    match reason["type"]:
        case "end_turn":
            return "its turn is done"
        case "requires_action":
            return f"waits for {len(reason['event_ids'])} answer(s) from a client"
        case "refusal":
            details = event.get("stop_details") or {}
            return " ".join(("the model refused", details.get("category") or "", details.get("explanation") or ""))
    return str(reason["type"]).replace("_", " ")


def _tool_use(made: Row, event: Event) -> None:
    made.shape, made.title = "tool", event["name"]
    if server := event.get("mcp_server_name"):
        made.title = f"{server} · {made.title}"
    made.text, made.blocks = summary(event["name"], event["input"]), fields(event["input"])
    if event.get("evaluated_permission") in ("ask", "deny"):
        made.tone = "warn"


def _tool_result(key: str) -> Callable[[Row, Event], None]:
    def build(made: Row, event: Event) -> None:
        made.shape, made.title, made.into = "result", "result", event[key]
        made.blocks = [
            msgspec.structs.replace(block, code=block.kind == "text") for block in content(event.get("content"))
        ]
        if event.get("is_error"):
            made.tone, made.title = "bad", "failed"

    return build


def _confirmation(made: Row, event: Event) -> None:
    allowed = event["result"] == "allow"
    made.shape, made.title, made.into = "result", "allowed" if allowed else "denied", event["tool_use_id"]
    made.tone, made.blocks = "good" if allowed else "bad", []
    if said := event.get("deny_message"):
        made.blocks = [Block("text", said)]


def _request(made: Row, event: Event) -> None:
    made.shape, made.title = "request", "model request"


def _request_end(made: Row, event: Event) -> None:
    made.shape, made.title, made.into = "request_end", "model request", event["model_request_start_id"]
    made.usage = msgspec.convert(event["model_usage"], Tokens)
    if event.get("is_error"):
        made.tone, made.text = "bad", "failed"


def _error(made: Row, event: Event) -> None:
    error = event["error"]
    made.shape, made.title, made.tone = "message", "error", "bad"
    made.blocks = [Block("text", str(error.get("message", "")), str(error.get("type", "")))]
    rest = {name: value for name, value in error.items() if name not in ("type", "message")}
    made.blocks += fields(rest)


def _updated(made: Row, event: Event) -> None:
    changed = own(event)
    made.shape, made.title, made.text = "tool", "session updated", ", ".join(changed)
    made.blocks = fields(changed)


def _used(made: Row, event: Event) -> None:
    made.shape, made.title = "request_end", "usage so far"
    made.usage = msgspec.convert(event["usage"], Tokens)


def _outcome(made: Row, event: Event) -> None:
    made.shape, made.title = "message", "Outcome to reach"
    rubric = event["rubric"]
    made.blocks = [
        Block("text", event["description"]),
        Block("text", str(rubric.get("content") or rubric.get("file_id")), "rubric"),
    ]


def _evaluation(made: Row, event: Event) -> None:
    made.shape, made.title, made.text = "tool", "evaluation", f"iteration {event['iteration']}"


def _evaluated(made: Row, event: Event) -> None:
    made.shape, made.title, made.into = "result", str(event["result"]), event["outcome_evaluation_start_id"]
    made.blocks = [Block("text", event["explanation"])]
    made.tone = "good" if event["result"] == "satisfied" else ""


def _between_threads(title: str, way: str) -> Callable[[Row, Event], None]:
    def build(made: Row, event: Event) -> None:
        made.shape, made.title, made.blocks = "message", title, content(event["content"])
        made.text, made.thread_id = str(event.get(f"{way}_agent_name", "")), event[f"{way}_session_thread_id"]

    return build


_BUILD: dict[str, Callable[[Row, Event], None]] = {
    "user.message": _message("User", "user"),
    "user.interrupt": _note("interrupted by the user", "warn"),
    "user.tool_confirmation": _confirmation,
    "user.custom_tool_result": _tool_result("custom_tool_use_id"),
    "user.tool_result": _tool_result("tool_use_id"),
    "user.define_outcome": _outcome,
    "system.message": _message("System"),
    "agent.message": _message("Agent", "agent"),
    "agent.thinking": _note("thinking"),
    "agent.tool_use": _tool_use,
    "agent.tool_result": _tool_result("tool_use_id"),
    "agent.mcp_tool_use": _tool_use,
    "agent.mcp_tool_result": _tool_result("mcp_tool_use_id"),
    "agent.custom_tool_use": _tool_use,
    "agent.thread_context_compacted": _note("the context was compacted"),
    "agent.thread_message_sent": _between_threads("Message to", "to"),
    "agent.thread_message_received": _between_threads("Message from", "from"),
    "session.status_running": _status("running"),
    "session.status_idle": _status("idle"),
    "session.status_rescheduled": _status("rescheduled", "warn"),
    "session.status_terminated": _status("terminated"),
    "session.error": _error,
    "session.updated": _updated,
    "session.usage": _used,
    "session.deleted": _status("deleted", "bad"),
    "session.thread_created": _of_thread("thread opened"),
    "session.thread_status_running": _of_thread("thread running"),
    "session.thread_status_idle": _of_thread("thread idle"),
    "session.thread_status_rescheduled": _of_thread("thread rescheduled", "warn"),
    "session.thread_status_terminated": _of_thread("thread ended"),
    "span.model_request_start": _request,
    "span.model_request_end": _request_end,
    "span.outcome_evaluation_start": _evaluation,
    "span.outcome_evaluation_ongoing": _note("evaluating"),
    "span.outcome_evaluation_end": _evaluated,
}
