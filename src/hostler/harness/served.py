"""Tools that the server itself runs for an agent: the contract between the harness and who offers such tools.

It must not know any of them: web tools, MCP servers and the coordinator's tools each implement `ServedTools`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from hostler.harness.parts import Call
from hostler.harness.threads import ThreadRow
from hostler.harness.tooltable import Tool
from hostler.log.entries import Draft, Item
from hostler.models.protocol import ModelUsage

if TYPE_CHECKING:
    from hostler.harness.run import Run


Effect = Literal["outside", "in_commit", "none"]


class Offer(msgspec.Struct, frozen=True):
    """The tools that are there now, and what to tell the client of those that aren't (`session.error` drafts)."""

    tools: list[Tool] = []
    problems: list[Draft] = []


class ServedResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a call gave: content blocks of a tool result, and what it used for the bill."""

    content: list[dict[str, Any]]
    is_error: bool = False
    also: Sequence[Item] = ()  # what belongs into the same commit: the effect of an atomic call
    opened: Sequence[ThreadRow] = ()
    closed: Sequence[str] = ()
    usage: ModelUsage | None = None  # of a model request that it made, and its list price
    cost: Decimal = Decimal(0)
    web_searches: int = 0


class ServedTools(Protocol):
    """One kind of served tools. One instance serves all sessions of a process.

    `effect` says where a call has one: `outside`, so it must be started at most once; only `in_commit`, that is, in
    what the result carries (`also`, `opened`, `closed`): these run one after the other; or `none`, so it may be
    repeated.
    """

    effect: Effect

    def offer(self, run: Run) -> Offer | Awaitable[Offer]:
        """The tools for this agent, asked before each model request. The same log must give the same order and
        definitions (prompt cache); what is slow to find out is cached by the implementer. Never raises for a source
        that fails: that is a problem to report, once."""
        ...

    def serves(self, call: Call) -> bool:
        """Whether this is one of its calls."""
        ...

    async def perform(self, run: Run, call: Call) -> ServedResult:
        """Run a call. A failure is a result with `is_error`. Cancelling it ends what it does: the call was interrupted.

        One with an effect outside is started at most once: when the server dies meanwhile, the model is told that the
        outcome is unknown.
        """
        ...
