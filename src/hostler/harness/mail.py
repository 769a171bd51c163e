"""Messages between the threads of a session, as the items that send them. It must not append anything.

A message is sent in the commit of what causes it, and waits for its reader as a private entry: a crash loses none and
repeats none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hostler.harness.parts import Said
from hostler.harness.run import Idle, Run
from hostler.harness.state import INTERRUPT, MAIL
from hostler.log.entries import Draft, Entry, Item

NOTHING_SAID = "(The agent ended its turn without a message.)"
STOPPED = "(The agent stopped before it was done: {reason}.)"


def sent(run: Run, to_id: str, to_name: str | None, content: list[dict[str, Any]]) -> list[Item]:
    """What sends `content` from this thread to another; a name is None for the primary thread, which has none."""
    shown: dict[str, Any] = {"content": content, "to_session_thread_id": to_id}
    mail: dict[str, Any] = {"content": content, "from_session_thread_id": run.id}
    if to_name is not None:
        shown["to_agent_name"] = to_name
    if not run.primary:
        mail["from_agent_name"] = run.row_of_thread.name
    return [
        Draft(type="agent.thread_message_sent", fields=shown, thread_id=run.id),
        Draft(type=MAIL, fields=mail, queued=True, thread_id=to_id),
    ]


def report(run: Run, idle: Idle) -> list[Item]:
    """What a child thread sends its parent when its turn is over: its last message, or why there is none."""
    parent = run.row_of_thread.parent_id
    reason = idle.stop_reason["type"]
    if parent is None or reason in ("requires_action", "budget_reached"):
        return []
    text = _last_text(run) if reason == "end_turn" else STOPPED.format(reason=reason)
    return sent(run, parent, None, [{"type": "text", "text": text}])


def stopped(run: Run, interrupts: Sequence[Entry]) -> list[Item]:
    """What a child thread sends its parent when it alone was interrupted: else the parent would wait for it."""
    parent = run.row_of_thread.parent_id
    if parent is None or all(entry.type == INTERRUPT for entry in interrupts):
        return []
    return sent(run, parent, None, [{"type": "text", "text": STOPPED.format(reason="it was interrupted")}])


def _last_text(run: Run) -> str:
    last = run.thread.parts[-1] if run.thread.parts else None
    blocks = last.content if isinstance(last, Said) else []
    return "\n".join(block["text"] for block in blocks if block["type"] == "text") or NOTHING_SAID
