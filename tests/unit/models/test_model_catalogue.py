"""The catalogue: every id the SDK names, lookups, traits, and exact costs."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import get_args

import msgspec
import pytest
from anthropic.types.beta import BetaModelInfo
from anthropic.types.beta.beta_managed_agents_model import BetaManagedAgentsModel

from hostler.models.catalogue import BUILTIN, capabilities, configured, runtime_cost
from hostler.models.config import ModelsConfig
from hostler.models.protocol import ModelUsage

MILLION = 1_000_000


def test_every_model_the_sdk_names_is_known_and_priced() -> None:
    literal, _ = get_args(BetaManagedAgentsModel)
    for model_id in get_args(literal):
        model = BUILTIN.find(model_id)
        assert model is not None, model_id
        assert model.price is not None
        assert model.max_input_tokens
        assert model.max_tokens
        assert datetime.fromisoformat(model.created_at)
        assert model.default_effort is None or model.default_effort in model.efforts


def test_capabilities_have_the_wire_form() -> None:
    for model in BUILTIN.models.values():
        fields = ("id", "display_name", "created_at", "lifecycle", "line", "max_input_tokens", "max_tokens")
        wire = {name: getattr(model, name) for name in fields}
        wire |= {"type": "model", "capabilities": capabilities(model)}
        parsed = BetaModelInfo.model_validate(wire)
        assert parsed.capabilities is not None
        assert parsed.capabilities.effort.supported == bool(model.efforts)
    assert capabilities(BUILTIN.traits("claude-opus-5-5"))["thinking"]["types"]["disabled"] == {"supported": False}


def test_lookups() -> None:
    assert BUILTIN.find("claude-haiku-4-5") is BUILTIN.find("claude-haiku-4-5-20251001")
    assert BUILTIN.find("gpt-4") is None
    assert BUILTIN.traits("us.anthropic.claude-opus-4-6-v1:0").id == "claude-opus-4-6"
    assert BUILTIN.traits("claude-opus-5-5@20260922").id == "claude-opus-5-5"
    assert BUILTIN.traits("claude-next-9").thinking == "adaptive"
    assert BUILTIN.traits("llama").efforts == ()
    assert BUILTIN.price("llama") is None


@pytest.mark.parametrize(
    ("model", "usage", "geo", "dollars"),
    [
        ("claude-opus-5", {"input_tokens": MILLION}, None, "5"),
        ("claude-opus-5", {"output_tokens": MILLION}, None, "25"),
        ("claude-opus-5", {"cache_read_input_tokens": MILLION}, None, "0.5"),
        ("claude-opus-5", {"cache_creation_5m_input_tokens": MILLION}, None, "6.25"),
        ("claude-opus-5", {"cache_creation_1h_input_tokens": MILLION}, None, "10"),
        ("claude-opus-5", {"output_tokens": MILLION, "speed": "fast"}, None, "50"),
        ("claude-opus-5", {"output_tokens": MILLION}, "us", "27.5"),
        ("claude-opus-5-5", {"cache_read_input_tokens": MILLION}, None, "0.2"),
        ("claude-haiku-5-5", {"input_tokens": 100_000}, None, "0.01"),
        ("claude-haiku-5-5", {"input_tokens": 100_001}, None, "0.0500005"),
        ("claude-haiku-4-5", {"input_tokens": 1, "output_tokens": 1}, None, "0.000006"),
        ("claude-haiku-4-5", {"web_search_requests": 3}, None, "0.03"),
        ("unknown", {"input_tokens": MILLION}, None, "0"),
    ],
)
def test_list_cost(model: str, usage: dict[str, int], geo: str | None, dollars: str) -> None:
    assert BUILTIN.list_cost(model, ModelUsage(**usage), inference_geo=geo) == Decimal(dollars)  # type: ignore[arg-type]


def test_runtime_is_metered_to_the_millisecond() -> None:
    assert runtime_cost(3600) == Decimal("0.08")
    assert runtime_cost(0.0014) == Decimal("0.08") / 3_600_000


def test_configuration_is_laid_over_the_table() -> None:
    toml = """
    [price."claude-opus-5"]
    input = 1
    output = 2.5
    [price."house-model"]
    input = 0.15
    output = 0.6
    cache_read = 0
    [model."claude-opus-5"]
    max_tokens = 1000
    [model."house-model"]
    aliases = ["house"]
    thinking = "none"
    """
    catalogue = configured(msgspec.toml.decode(toml, type=ModelsConfig))
    usage = ModelUsage(input_tokens=MILLION, output_tokens=MILLION, cache_read_input_tokens=MILLION)
    assert catalogue.list_cost("claude-opus-5", usage) == Decimal("3.6")
    assert catalogue.list_cost("house", usage) == Decimal("0.75")
    opus = catalogue.find("claude-opus-5")
    assert opus is not None
    assert (opus.max_tokens, opus.max_input_tokens) == (1000, MILLION)
    assert BUILTIN.price("house-model") is None
