"""What a session's events say to whoever waits for it: whether it is done, what it asks, what it said last.

The same events give the same answer, whether they are read as they come or again after a crash. It must not ask
anybody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hostler.runbooks.invoking.rows import Question, Told
from hostler.wire.errors import NOT_COLLECTED

_SHOWN = 4000
_TOOL_USES = ("agent.tool_use", "agent.mcp_tool_use", "agent.custom_tool_use")
_ANSWERS = {
    "user.tool_confirmation": "tool_use_id",
    "user.custom_tool_result": "custom_tool_use_id",
    "user.tool_result": "tool_use_id",
}


class Watch:
    """The state of a session that was given one message to work on."""

    def __init__(self) -> None:
        self.kicked = False
        self.stop: dict[str, Any] | None = None  # the idle event that it rests on
        self.over: str | None = None  # terminated or deleted
        self.text: str | None = None
        self.trouble: str | None = None  # what the last session.error said
        self._lost: list[str] = []  # what it delivered in vain in this turn
        self.waited = 0.0  # seconds in which it waited for a person
        self.last_at: str | None = None
        self._seen: set[str] = set()
        self._uses: dict[str, Question] = {}
        self._answered: set[str] = set()
        self._resting: float | None = None
        self._told: list[Told] = []

    def take(self, event: dict[str, Any]) -> None:
        event_id, kind = str(event.get("id")), str(event.get("type"))
        if event.get("processed_at") is None and kind.startswith("user."):
            self.kicked = self.kicked or kind == "user.message"  # it is there, and waits
            return
        if event_id in self._seen:
            return
        self._seen.add(event_id)
        at = event.get("processed_at") or event.get("created_at")
        self.last_at = at or self.last_at
        self._mark(event, kind, _time(at))
        line = _line(event, kind)
        if line is not None and self.kicked:
            self._told.append(Told(event_id, int(_time(at) * 1e6), *line))

    def _mark(self, event: dict[str, Any], kind: str, at: float) -> None:
        if kind == "user.message":
            self.kicked = True
        if kind in _ANSWERS:
            self._answered.add(str(event.get(_ANSWERS[kind])))
        elif kind in _TOOL_USES:
            self._uses[str(event["id"])] = _question(event, kind)
        elif kind == "agent.message":
            self.text = _text(event) or self.text
        elif kind == "session.error":
            self.trouble = _trouble(event)
            if self.trouble.startswith(NOT_COLLECTED):
                self._lost.append(self.trouble.removeprefix(NOT_COLLECTED))
        elif kind == "session.status_idle":
            self.stop = event
            self._resting = at if _reason(event) == "requires_action" else None
        elif kind == "session.status_running":
            self.stop = None
            self._lost.clear()
            if self._resting is not None:
                self.waited += max(0.0, at - self._resting)
                self._resting = None
        elif kind in ("session.status_terminated", "session.deleted"):
            self.over = kind.rpartition("_")[2] if kind.endswith("terminated") else "deleted"

    @property
    def done(self) -> bool:
        """It will do nothing more by itself."""
        return self.over is not None or (self.kicked and self.reason not in (None, "requires_action"))

    @property
    def reason(self) -> str | None:
        """Why it is idle; None while it isn't, or has not begun."""
        return _reason(self.stop) if self.stop is not None and self.kicked else None

    def waiting(self, now: float) -> float:
        """The seconds in which it has waited for a person so far."""
        return self.waited + (max(0.0, now - self._resting) if self._resting is not None else 0.0)

    def questions(self) -> list[Question]:
        """What a person is to answer. A tool that somebody's own worker runs is that worker's business."""
        if self.reason != "requires_action":
            return []
        assert self.stop is not None
        ids = self.stop["stop_reason"].get("event_ids") or []
        open_ = [self._uses[each] for each in ids if each in self._uses and each not in self._answered]
        return [question for question in open_ if question.name]

    def failure(self) -> str | None:
        """Why it has failed, once it is done; None when it did its work."""
        if self.over is not None:
            return f"The session was {self.over}{_because(self.trouble)}."
        match self.reason:
            case "end_turn":
                return f"{' '.join(self._lost)} It is still in the session." if self._lost else None
            case "refusal":
                return f"The model refused{_because(_refusal(self.stop))}."
            case "budget_reached":
                return "The session's budget is used up."
            case "retries_exhausted":
                return f"The model could not be reached, or failed again and again{_because(self.trouble)}."
            case other:
                return f"The session stopped: {other}{_because(self.trouble)}."

    def told(self) -> list[Told]:
        """The lines since the last call."""
        told, self._told = self._told, []
        return told


def _reason(event: dict[str, Any]) -> str:
    reason = event.get("stop_reason")
    return str(reason.get("type")) if isinstance(reason, dict) else "end_turn"


def _question(event: dict[str, Any], kind: str) -> Question:
    """Without a name where nobody is asked."""
    asked = kind == "agent.custom_tool_use" or event.get("evaluated_permission") == "ask"
    return Question(
        event_id=str(event["id"]),
        asked="result" if kind == "agent.custom_tool_use" else "confirmation",
        name=str(event.get("name")) if asked else "",
        input=event["input"] if isinstance(event.get("input"), dict) else {},
        server=event.get("mcp_server_name"),
    )


def _refusal(event: dict[str, Any] | None) -> str | None:
    details = (event or {}).get("stop_details") or {}
    said = [str(details[name]) for name in ("category", "explanation") if details.get(name)]
    return ": ".join(said) or None


def _trouble(event: dict[str, Any]) -> str:
    error = event.get("error") or {}
    return str(error.get("message") or error.get("type") or "an error")[:1000]


def _because(why: str | None) -> str:
    return f": {why.rstrip('.')}" if why else ""


def _text(event: dict[str, Any]) -> str:
    blocks = event.get("content") or []
    return "".join(str(block.get("text", "")) for block in blocks if isinstance(block, dict))


def _time(value: Any) -> float:
    try:
        return datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _line(event: dict[str, Any], kind: str) -> tuple[str, str] | None:
    """What the task's page says of an event."""
    match kind:
        case "agent.message":
            return "message", _text(event)[:_SHOWN]
        case "agent.thinking":
            return "thinking", ""
        case "agent.tool_use" | "agent.custom_tool_use" | "agent.mcp_tool_use":
            return "tool", _call(event)
        case "agent.tool_result" | "agent.mcp_tool_result":
            return ("tool_error", _text(event)[:_SHOWN]) if event.get("is_error") else None
        case "session.error":
            return "error", _trouble(event)
        case "session.status_idle":
            return "idle", _reason(event)
        case "session.status_terminated":
            return "terminated", ""
        case "session.status_rescheduled":
            return "rescheduled", ""
    return None


def _call(event: dict[str, Any]) -> str:
    given = event.get("input") if isinstance(event.get("input"), dict) else {}
    assert isinstance(given, dict)
    shown = " ".join(f"{name}={value}" if len(given) > 1 else str(value) for name, value in given.items())
    return f"{event.get('name')}: {shown}"[:_SHOWN] if shown else str(event.get("name"))
