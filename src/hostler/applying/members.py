"""Lets a file name the agents of its roster, whose ids differ from server to server. It must not talk to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from hostler.applying.definitions import Definition


def with_ids(definition: Definition, find: Callable[[str], str | None]) -> Definition:
    """Replace `{type: agent, name: ...}` by the id that `find` knows. Raises BadDefinition for one it doesn't."""
    request = dict(definition.request)
    if isinstance(multiagent := request.get("multiagent"), dict):
        request["multiagent"] = multiagent = dict(multiagent)
        if isinstance(team := multiagent.get("subagents"), dict):
            multiagent["subagents"] = dict(team)
    for holder, key, path in _rosters(request):
        entries = enumerate(holder[key])
        holder[key] = [_entry(definition, entry, f"{path}.{index}", find) for index, entry in entries]
    return definition._replace(request=request)


def _rosters(request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str, str]]:
    multiagent = request.get("multiagent")
    subagents = multiagent.get("subagents") if isinstance(multiagent, dict) else None
    for holder, key, path in (
        (request, "callable_agents", "callable_agents"),
        (multiagent, "agents", "multiagent.agents"),
        (subagents, "predefined_agents", "multiagent.subagents.predefined_agents"),
    ):
        if isinstance(holder, dict) and isinstance(holder.get(key), list):
            yield holder, key, path


def _entry(definition: Definition, entry: Any, path: str, find: Callable[[str], str | None]) -> Any:
    if not isinstance(entry, dict) or "name" not in entry or "id" in entry:
        return entry
    found = find(str(entry["name"]))
    if found is None:
        said = f"{path}.name: no agent named {entry['name']} was applied there; apply its file first, or give its id"
        raise definition.fault(said)
    return {**{key: value for key, value in entry.items() if key != "name"}, "id": found}
