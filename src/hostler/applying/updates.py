"""Turns a definition into an update that leaves nothing of before, and says what differs. It must not talk to a server.

A file says the whole: what it leaves out goes back to its default, where an update of the API would keep it.
"""

from __future__ import annotations

from typing import Any

from hostler.applying.definitions import Definition

_AGENT_FIELDS: dict[str, Any] = {
    "description": None, "system": None, "tools": [], "mcp_servers": [], "skills": [], "execution_identity": None,
}  # fmt: skip
_MODEL_FIELDS = ("effort", "speed", "inference_geo")
_PARTS = ("subagents", "workflows", "advisor")
_TEAM_FIELDS = ("inline_agents", "predefined_agents")
_NOT_COMPARED = ("updated_at", "version", "archived_at")


def update_of(definition: Definition, shown: dict[str, Any]) -> dict[str, Any]:
    """The body of the update that makes `shown` what the file says."""
    request = definition.request
    metadata = {**dict.fromkeys(shown["metadata"]), **request["metadata"]}
    if definition.kind == "vault":
        return {"display_name": definition.name, "metadata": metadata}
    if definition.kind == "environment":
        return {"description": "", **request, "metadata": metadata}
    body: dict[str, Any] = {**_AGENT_FIELDS, **request, "metadata": metadata, "version": shown["version"]}
    body = {key: _AGENT_FIELDS.get(key) if value is None else value for key, value in body.items()}
    body["model"] = _whole_model(request["model"])
    if not body.pop("callable_agents", None):
        body["multiagent"] = _whole_multiagent(request.get("multiagent"))
    else:
        body["callable_agents"] = request["callable_agents"]
        body.pop("multiagent", None)
    return body


def differences(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields of an object that an update changed, with what they were and are."""
    fields = [field for field in after if field not in _NOT_COMPARED]
    return {field: (before.get(field), after[field]) for field in fields if before.get(field) != after[field]}


def describe(field: str, before: Any, after: Any) -> str:
    """One line on a change, short enough to read."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        return f"{field}: {', '.join(f'{key} {_brief(before.get(key))} -> {_brief(after.get(key))}' for key in keys)}"
    return f"{field}: {_brief(before)} -> {_brief(after)}"


def _whole_model(model: Any) -> Any:
    """With every field named, so that none stays from before."""
    if isinstance(model, str):
        model = {"id": model}
    return {**dict.fromkeys(_MODEL_FIELDS), **model} if isinstance(model, dict) else model


def _whole_multiagent(multiagent: Any) -> Any:
    if not isinstance(multiagent, dict) or multiagent.get("type") != "multiagent_20261001":
        return multiagent or None
    whole = {**dict.fromkeys(_PARTS), **multiagent}
    for part in _PARTS[:2]:
        team = whole[part]
        if isinstance(team, dict) and team.get("type") == "enabled":
            whole[part] = {**dict.fromkeys(_TEAM_FIELDS), **team}
    return whole


def _brief(value: Any) -> str:
    if isinstance(value, str) and ("\n" in value or len(value) > 60):
        return f"text of {len(value)} characters"
    if isinstance(value, list):
        return f"[{', '.join(_label(item) for item in value)}]"
    return _label(value)


def _label(item: Any) -> str:
    """What tells an entry of a list from the others."""
    if not isinstance(item, dict):
        return "none" if item is None else str(item)
    names = [str(item[key]) for key in ("type", "mcp_server_name", "name", "skill_id", "id", "model") if key in item]
    if configs := item.get("configs"):
        names.append("with " + "/".join(str(config.get("name")) for config in configs))
    if item.get("version"):
        names.append(f"version {item['version']}")
    return " ".join(names) or "{...}"
