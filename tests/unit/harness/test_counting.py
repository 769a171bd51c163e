"""The ledger's arithmetic, and which calls may run."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from stage import AGENT

from hostler.harness.ledger import EMPTY_LEDGER, Ledger, read_ledger, span_usage
from hostler.harness.parts import Call
from hostler.harness.tooltable import ToolTable
from hostler.models.protocol import ModelUsage
from hostler.sandbox.toolset import TOOLS
from hostler.wire.agents import SessionAgent

BUILTINS = {tool["name"]: tool for tool in TOOLS}


def test_costs_add_up_exactly() -> None:
    """A tenth of a cent, ten thousand times, stored and read in between: floats would drift."""
    ledger = read_ledger(EMPTY_LEDGER)
    usage = ModelUsage(
        input_tokens=1,
        output_tokens=2,
        cache_read_input_tokens=3,
        cache_creation_5m_input_tokens=4,
        web_search_requests=1,
    )
    for _ in range(10_000):
        ledger = read_ledger(msgspec.json.encode(ledger.add(usage, Decimal("0.001000000001"))))
    assert ledger.cost == Decimal("10.000000010000")
    shown = ledger.wire(active_us=0)
    assert (shown.input_tokens, shown.output_tokens, shown.cache_read_input_tokens) == (10_000, 20_000, 30_000)
    assert shown.list_cost is not None
    assert shown.list_cost.amount == "1000"


@pytest.mark.parametrize(
    ("dollars", "cents"), [("0", "0"), ("0.0049", "0"), ("0.005", "1"), ("0.015", "2"), ("1.2", "120")]
)
def test_cents_are_rounded_half_up(dollars: str, cents: str) -> None:
    shown = Ledger(cost=Decimal(dollars)).wire(0)
    assert shown.list_cost is not None
    assert shown.list_cost.amount == cents


def test_running_time_has_its_price() -> None:
    shown = Ledger().wire(active_us=3_600_000_000)
    assert shown.active_seconds == 3600.0
    assert shown.list_cost is not None
    assert shown.list_cost.amount == "8"
    assert shown.cache_creation is None


def test_a_span_counts_both_kinds_of_cache_writes() -> None:
    counted = span_usage(ModelUsage(cache_creation_5m_input_tokens=3, cache_creation_1h_input_tokens=4, speed="fast"))
    assert counted.cache_creation_input_tokens == 7
    assert counted.speed == "fast"


def table(*configs: dict[str, Any], default: str = "always_allow", enabled: bool = True) -> ToolTable:
    toolset = {
        "type": "agent_toolset_20260401",
        "configs": [{"type": config["name"], "enabled": True, **config} for config in configs],
        "default_config": {"enabled": enabled, "permission_policy": {"type": default}},
    }
    custom = {"type": "custom", "name": "lookup", "description": "d", "input_schema": {"type": "object"}}
    return ToolTable(msgspec.convert({**AGENT, "tools": [toolset, custom]}, SessionAgent), BUILTINS)


def test_verdicts() -> None:
    tools = table({"name": "write", "permission_policy": {"type": "always_ask"}})
    assert tools.judge("bash") == ("allow", {"type": "always_allow"})
    assert tools.judge("write") == ("ask", {"type": "always_ask"})
    assert tools.judge("lookup") == ("allow", None)
    assert tools.judge("nonsense") == ("deny", None)
    assert [tools.kind(name) for name in ("bash", "lookup", "nonsense")] == ["builtin", "custom", "builtin"]


def test_a_disabled_tool_is_neither_offered_nor_run() -> None:
    off = {"name": "bash", "enabled": False, "permission_policy": {"type": "always_allow"}}
    tools = table(off)
    assert "bash" not in [tool["name"] for tool in tools.definitions()]
    assert tools.judge("bash") == ("deny", None)


def test_only_what_is_enabled_is_offered_when_the_default_is_off() -> None:
    tools = table({"name": "read", "permission_policy": {"type": "always_allow"}}, enabled=False)
    assert [tool["name"] for tool in tools.definitions()] == ["read", "lookup"]


@pytest.mark.parametrize(
    ("fields", "waits", "ready", "refused"),
    [
        ({}, False, True, False),
        ({"permission": "ask"}, True, False, False),
        ({"permission": "ask", "verdict": "allow"}, False, True, False),
        ({"permission": "ask", "verdict": "deny"}, False, True, True),
        ({"permission": "deny"}, False, True, True),
        ({"permission": "ask", "invalid": "cut"}, False, True, True),
        ({"kind": "custom"}, True, False, False),
        ({"kind": "custom", "invalid": "cut"}, False, True, True),
        ({"kind": "custom", "result": []}, False, False, False),
    ],
)
def test_what_a_call_waits_for(fields: dict[str, Any], waits: bool, ready: bool, refused: bool) -> None:
    plain: dict[str, Any] = {
        "id": "c",
        "model_id": "m",
        "name": "n",
        "kind": "builtin",
        "input": {},
        "permission": "allow",
    }
    call = Call(**{**plain, **fields})
    assert (call.waits, call.ready, call.refused) == (waits, ready, refused)
