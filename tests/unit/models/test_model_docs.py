"""The pages on models can't rot: every setting and field is in them, and every example is valid."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec
import pytest

from hostler.models.catalogue import BUILTIN
from hostler.models.config import ModelConfig, ModelRoute, ModelsConfig, PriceConfig
from hostler.models.protocol import ModelUsage
from hostler.models.routing import PROVIDERS
from hostler.models.script_file import Failure, Pace, Rule, Script, ToolCall, Turn, When, decode_script

DOCS = Path(__file__).parents[3] / "docs"
MODELS = (DOCS / "models.md").read_text()
TESTING = (DOCS / "testing-agents.md").read_text()


@pytest.mark.parametrize("struct", [ModelRoute, PriceConfig, ModelConfig])
def test_every_setting_is_documented(struct: type[msgspec.Struct]) -> None:
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in MODELS] == []


@pytest.mark.parametrize("struct", [Script, Rule, When, Turn, ToolCall, Pace, Failure, ModelUsage])
def test_every_field_of_a_script_is_documented(struct: type[msgspec.Struct]) -> None:
    assert [name for name in struct.__struct_fields__ if f"`{name}`" not in TESTING] == []


def test_every_provider_and_model_is_documented() -> None:
    names = [*PROVIDERS, *BUILTIN.models, *(alias for model in BUILTIN.models.values() for alias in model.aliases)]
    assert [name for name in names if f"`{name}`" not in MODELS] == []


def test_documented_prices_are_the_real_ones() -> None:
    rows = re.findall(r"^\| (`claude[^|]+) \| ([\d.]+) / ([\d.]+) \| ([\d.]+) \|", MODELS, re.MULTILINE)
    seen = set()
    for ids, *amounts in rows:
        for model_id in re.findall(r"`(.+?)`", ids):
            price = BUILTIN.models[model_id].price
            assert price is not None
            assert [float(price.input), float(price.output), float(price.cache_read)] == list(map(float, amounts))
            seen.add(model_id)
    assert seen == set(BUILTIN.models)


@pytest.mark.parametrize("page", [MODELS, TESTING])
def test_every_toml_example_is_valid(page: str) -> None:
    examples = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    assert examples
    for example in examples:
        msgspec.convert(tomllib.loads(example)["models"], ModelsConfig)


def test_every_script_example_is_valid() -> None:
    examples = re.findall(r"```json\n(.*?)```", TESTING, re.DOTALL)
    assert examples
    for example in examples:
        decode_script(example.encode())
