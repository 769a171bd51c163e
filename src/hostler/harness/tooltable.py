"""Which tools an agent has, what the model is told of them, and whether a call may run. It must not run anything."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from typing import Any, Literal

import msgspec

from hostler.wire.agents import SessionAgent
from hostler.wire.tools import AgentToolset, CustomTool, Policy

Verdict = Literal["allow", "ask", "deny"]
_VERDICTS: dict[str, Verdict] = {"always_allow": "allow", "always_ask": "ask"}
# Whether a call may run, and the `evaluation` that says why.
Judgement = tuple[Verdict, dict[str, Any]]


Kind = Literal["builtin", "custom", "mcp", "server", "worker"]


class Tool(msgspec.Struct, frozen=True):
    """One tool of an agent, under the `name` that the model knows it by.

    `builtin` runs in the sandbox, `worker` at a worker of a self-hosted environment, `custom` at the client, `mcp` at
    an MCP server (`server`, and `tool` is its bare name there), `server` in this process. `policy` is None for one that
    no policy governs. `hidden` ones leave no public event.
    """

    name: str
    kind: Kind
    definition: dict[str, Any]
    policy: str | None = None
    server: str | None = None
    tool: str | None = None
    hidden: bool = False


class ToolTable:
    """The tools of one agent snapshot, by name."""

    def __init__(
        self, agent: SessionAgent, builtins: dict[str, dict[str, Any]], kind: Literal["builtin", "worker"] = "builtin"
    ) -> None:
        """`builtins` are the definitions of the agent toolset's tools that run in a sandbox, by name; `kind` says whose
        sandbox that is."""
        self._kind = kind
        self._tools: dict[str, Tool] = {}
        for tool in agent.tools:
            if isinstance(tool, AgentToolset):
                self._add_toolset(tool, builtins)
            elif isinstance(tool, CustomTool):
                definition = {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
                self._tools[tool.name] = Tool(tool.name, "custom", definition)

    def with_served(self, served: Iterable[Tool]) -> ToolTable:
        """The table with these tools added. A name that is taken already stays what it was."""
        table = copy(self)
        table._tools = {**{tool.name: tool for tool in served}, **self._tools}
        return table

    def find(self, name: str) -> Tool | None:
        return self._tools.get(name)

    def definitions(self) -> list[dict[str, Any]]:
        return [tool.definition for tool in self._tools.values()]

    @property
    def sandboxed(self) -> bool:
        """Whether any tool runs in a sandbox, ours or a worker's."""
        return any(tool.kind in ("builtin", "worker") for tool in self._tools.values())

    def kind(self, name: str) -> Kind:
        return self._tools[name].kind if name in self._tools else "builtin"

    def judge(self, name: str) -> tuple[Verdict, dict[str, Any] | None]:
        """Return the verdict on a call and its `evaluation`, which is None when no policy was asked. For the policy
        `auto` it is the one that stands where no judge has decided."""
        tool = self._tools.get(name)
        if tool is None:
            return "deny", None
        if tool.policy is None:
            return "allow", None
        if tool.policy == "auto":
            return undecided()
        return _VERDICTS[tool.policy], {"type": tool.policy}

    def _add_toolset(self, toolset: AgentToolset, builtins: dict[str, dict[str, Any]]) -> None:
        configs = {config.name: config for config in toolset.configs}
        for name, definition in builtins.items():
            config = configs.get(name)  # type: ignore[call-overload]
            enabled = config.enabled if config else toolset.default_config.enabled
            policy = config.permission_policy if config else toolset.default_config.permission_policy
            if enabled:
                self._tools[name] = Tool(name, self._kind, definition, _policy_name(policy))


def undecided() -> Judgement:
    """What holds for a call under `auto` that was not judged: the client is asked."""
    return "ask", {"type": "auto", "evaluated_permission": {"type": "ask", "reason_code": "indeterminate"}}


def _policy_name(policy: Policy) -> str:
    name: str = policy.__struct_config__.tag  # type: ignore[assignment]
    return name
