"""Which events of a child thread the session's own list shows as well, and in what form.

A child's status, its errors, and the tool uses that a client must answer. The copy has the event's id, so that an
answer means the same wherever the client has seen it. It must not append anything.
"""

from __future__ import annotations

from collections.abc import Container, Iterable

import msgspec

from hostler.log.entries import Consume, Draft, Item

# Of the session as a whole, whichever thread causes it.
OF_SESSION = frozenset(
    {"session.status_running", "session.status_idle", "session.status_rescheduled", "session.usage", "session.updated"}
)
_SHOWN = frozenset(
    {
        "session.thread_status_running",
        "session.thread_status_idle",
        "session.thread_status_rescheduled",
        "session.thread_status_terminated",
        "session.error",
    }
)


def crossposted(items: Iterable[Item], thread_id: str, primary_id: str, at_workers: Container[str] = ()) -> list[Item]:
    """The items of a thread with their thread set, and behind those that the session shows, their copies. `at_workers`
    names the tools whose calls a worker answers."""
    if thread_id == primary_id:
        return list(items)
    placed: list[Item] = []
    for item in items:
        if isinstance(item, Draft) and item.thread_id is None and item.type not in OF_SESSION:
            item = msgspec.structs.replace(item, thread_id=thread_id)
        placed.append(item)
        copy = _copy(item, thread_id, at_workers)
        if copy is not None:
            placed.append(copy)
    return placed


def _copy(item: Item, thread_id: str, at_workers: Container[str]) -> Draft | None:
    if isinstance(item, Consume):
        if item.entry.type != "user.interrupt" or item.entry.thread_id != thread_id:
            return None
        return Draft(type="user.interrupt", id=item.entry.id, fields=item.entry.fields())
    if item.thread_id != thread_id:
        return None
    if item.type in _SHOWN:
        return msgspec.structs.replace(item, thread_id=None)
    permission = item.fields.get("evaluated_permission")
    for_worker = item.type == "agent.tool_use" and permission == "allow" and item.fields["name"] in at_workers
    for_worker = for_worker or item.type == "user.tool_result"  # an interrupt's: it is not to run the call any more
    if item.type == "agent.custom_tool_use" or permission == "ask" or for_worker:
        fields = {**item.fields, "session_thread_id": thread_id}
        return msgspec.structs.replace(item, thread_id=None, fields=fields, answers=None)
    return None
