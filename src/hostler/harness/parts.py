"""What a conversation is made of: what was said, heard and told, and the tool calls in it. It must not fold
anything."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Call(msgspec.Struct, kw_only=True):
    """One tool use. `id` is the event's, `model_id` the model's own; `dispatched` the sandbox generation it went to."""

    id: str
    model_id: str
    name: str
    kind: Literal["builtin", "custom", "mcp", "server", "worker"]
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
        return self.kind in ("custom", "worker") or (self.permission == "ask" and self.verdict is None)

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
    """What was said to the agent: by the user, the coordinator, another agent, or an evaluation."""

    content: list[dict[str, Any]]
    who: str = "user"


class Told(msgspec.Struct):
    """A system message in mid-conversation."""

    text: str


class Summed(msgspec.Struct):
    """The summary that stands for everything before it."""

    text: str


Part = Said | Heard | Told | Summed
