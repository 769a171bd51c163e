"""The rules of a session's budget: who may have one, how it changes, and what a session at its limit accepts.

It must not stop anything: the harness compares the cost before each model request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from hostler.errors import InvalidRequest
from hostler.harness.ledger import read_ledger
from hostler.models.catalogue import Catalogue
from hostler.services.snapshots import SessionRow
from hostler.wire.agents import SessionAgent
from hostler.wire.base import Unset, encode
from hostler.wire.events import ClientEvent
from hostler.wire.usage import BudgetLimit

_decode = msgspec.json.Decoder(BudgetLimit).decode
ACCEPTED = "user.tool_confirmation, user.tool_result, user.custom_tool_result, or user.interrupt"


def check_models(agent: SessionAgent, catalogue: Catalogue) -> None:
    """Refuse a budget over models whose cost nobody knows."""
    unpriced = sorted({model for model in _models(msgspec.to_builtins(agent)) if catalogue.price(model) is None})
    if unpriced:
        missing = f"every model needs a list price, and there is none for {', '.join(unpriced)}"
        raise _refused(missing, "model_not_budgetable")


def change(
    row: SessionRow, params: BudgetLimit | Unset | None, catalogue: Catalogue, now: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What an update of the budget changes: the fields of `session.updated`, and the columns. A session that it had
    stopped is woken."""
    before = row.read_budget()
    if isinstance(params, Unset) or (params is None and before is None):
        return {}, {}
    if before is None:
        raise _refused("can only be set when a session is created", "budget_create_only")
    if params is not None:
        check_models(row.read_agent(), catalogue)
        if read_ledger(row.usage).reaches(params, row.active_us_at(now)):
            raise InvalidRequest(
                "budget.max_list_cost must be greater than the session's consumed list cost (budget_not_raised)",
                details={"reason": "budget_not_raised"},
            )
        if params == before:
            return {}, {}
    resumed = {"paused": 0, "wake_at": now} if row.paused and row.status == "idle" else {}
    return {"budget": params}, {"budget": None if params is None else encode(params), **resumed}


def reached(budget: bytes | None, usage: bytes, active_us: int, running_since: int | None, now: int) -> bool:
    """Whether a session is at its limit, from the columns of its row."""
    if budget is None:
        return False
    running_us = max(0, now - running_since) if running_since is not None else 0
    return read_ledger(usage).reaches(_decode(budget), active_us + running_us)


def not_accepted(event: ClientEvent, at: str) -> InvalidRequest:
    """The refusal of an event that a session at its limit does not take."""
    return InvalidRequest(
        f"Invalid {type(event).__struct_config__.tag} event at {at}: the session has reached its budget; only "
        f"{ACCEPTED} may be sent until the budget is raised or removed",
        details={"reason": "budget_reached"},
    )


def _models(value: Any) -> Iterator[str]:
    """The id of every model in an agent's snapshot, at any depth: its own, and those of the agents it may call."""
    if isinstance(value, list):
        for item in value:
            yield from _models(item)
    elif isinstance(value, dict):
        if model := value.get("model"):
            yield model["id"] if isinstance(model, dict) else model
        for name, inner in value.items():
            if name not in ("model", "tools"):  # what schemas of tools call a model is none
                yield from _models(inner)


def _refused(why: str, reason: str) -> InvalidRequest:
    return InvalidRequest(f"budget: {why} ({reason})", details={"reason": reason})
