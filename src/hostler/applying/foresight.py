"""Tells what an update would change, for a dry run, by comparing what a file says with what a server shows.

The server alone knows versions and defaults that it resolves: what a file leaves to it counts as unchanged. It must not
send anything.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hostler.errors import InvalidRequest
from hostler.services import resolve
from hostler.wire.base import explain
from hostler.wire.tools import ToolParams

_ADVISOR = "advisor"


def foresee(body: dict[str, Any], shown: dict[str, Any]) -> dict[str, Any]:
    """The fields of `shown` that this update would change, as they would be. Raises InvalidRequest for tools that can't
    be right."""
    asked = dict(body)
    asked.pop("version", None)
    if "callable_agents" in asked:
        asked["multiagent"] = {"type": "coordinator", "agents": asked.pop("callable_agents")}
    if "tools" in asked:
        asked["tools"] = resolved_tools(asked["tools"])
    if isinstance(asked.get("multiagent"), dict):
        asked["multiagent"] = _ordered(asked["multiagent"], shown["id"])
    if asked.get("execution_identity", "") is None:
        asked["execution_identity"] = {"type": "service_account"}
    changed = {
        key: filled(value, shown.get(key))
        for key, value in asked.items()
        if key != "metadata" and not agrees(value, shown.get(key))
    }
    wanted = {key: value for key, value in body["metadata"].items() if value is not None}
    return {**changed, **({"metadata": wanted} if wanted != shown["metadata"] else {})}


def filled(asked: Any, shown: Any) -> Any:
    """`asked`, with what it leaves to the server as the server has it now."""
    if isinstance(asked, dict) and isinstance(shown, dict):
        kept = {key: value for key, value in shown.items() if asked.get(key) is None}
        return {**kept, **{key: filled(value, shown.get(key)) for key, value in asked.items() if value is not None}}
    if isinstance(asked, list) and isinstance(shown, list):
        pairs = [*shown, *[None] * len(asked)]
        return [filled(value, pairs[index]) for index, value in enumerate(asked)]
    if isinstance(asked, str) and isinstance(shown, dict) and "id" in shown:
        return {**shown, "id": asked}
    return asked


def resolved_tools(tools: list[Any]) -> Any:
    """The tools as a server shows them."""
    try:
        params = msgspec.convert(tools, list[ToolParams])
    except msgspec.ValidationError as error:
        raise InvalidRequest(explain(error, "tools", list[ToolParams])) from error
    return msgspec.to_builtins(resolve.tools(params))


def _ordered(multiagent: dict[str, Any], own_id: str) -> dict[str, Any]:
    """With the agent itself by its id, and the advisor last, as servers show them."""
    if not isinstance(multiagent.get("agents"), list):
        return multiagent
    own = {"type": "agent", "id": own_id}
    entries = [own if entry == {"type": "self"} else entry for entry in multiagent["agents"]]
    entries.sort(key=lambda entry: isinstance(entry, dict) and entry.get("type") == _ADVISOR)
    return {**multiagent, "agents": entries}


def agrees(asked: Any, shown: Any) -> bool:
    """Say whether `shown` is one way to fill in `asked`: null and absent keys are the server's to choose in objects."""
    if isinstance(asked, dict) and isinstance(shown, dict):
        return all(value is None or agrees(value, shown.get(key)) for key, value in asked.items())
    if isinstance(asked, list):
        pairs = shown or []
        return len(asked) == len(pairs) and all(agrees(*pair) for pair in zip(asked, pairs, strict=True))
    if isinstance(asked, str) and isinstance(shown, dict):
        return asked in (shown.get("id"), shown.get("type"))
    return bool((asked or None) == (shown or None))
