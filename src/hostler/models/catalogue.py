"""What is known of models: names, limits, abilities and list prices, and the cost of a request. It must not ask anyone.

The table is public list data of November 2026; docs/models.md says which entries are inferred. Configuration adds
models and prices or overrides them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from hostler.models.config import ModelConfig, ModelsConfig, PriceConfig
from hostler.models.protocol import ModelUsage
from hostler.models.table import ALL_EFFORTS, MODELS, ModelInfo, Price

SESSION_HOUR = Decimal("0.08")  # US dollars for an hour of a session in `running`
WEB_SEARCH = Decimal("0.01")  # US dollars for one web search
US_INFERENCE = Decimal("1.1")  # factor on all tokens of a request with `inference_geo: us`
_MILLION = Decimal(1_000_000)


class Catalogue:
    """The known models and prices. Ids are looked up exactly, then as aliases."""

    def __init__(self, models: Iterable[ModelInfo] = MODELS, prices: Mapping[str, Price] | None = None) -> None:
        self.models = {model.id: model for model in models}
        self._aliases = {alias: model.id for model in self.models.values() for alias in model.aliases}
        self._prices = dict(prices or {})

    def find(self, model_id: str) -> ModelInfo | None:
        """The model with this id or alias."""
        return self.models.get(self._aliases.get(model_id, model_id))

    def traits(self, model_id: str) -> ModelInfo:
        """The model's abilities, for one that is not listed the best guess.

        Vendor spellings such as `us.anthropic.claude-opus-4-6-v1:0` count as the model they contain; an unlisted
        `claude-*` id counts as a current model; anything else takes neither thinking nor effort settings.
        """
        if (known := self.find(model_id)) is not None:
            return known
        inside = [name for name in (*self.models, *self._aliases) if name in model_id]
        if inside and (known := self.find(max(inside, key=len))) is not None:
            return known
        if model_id.startswith("claude-"):
            return ModelInfo(
                id=model_id, display_name=model_id, thinking="adaptive", efforts=ALL_EFFORTS, inference_geo=True
            )
        return ModelInfo(id=model_id, display_name=model_id, mid_conversation_system=True)

    def price(self, model_id: str) -> Price | None:
        """The list price, or None: such a model can't have a budget and its tokens cost nothing."""
        name = self._aliases.get(model_id, model_id)
        if (price := self._prices.get(model_id) or self._prices.get(name)) is not None:
            return price
        known = self.models.get(name)
        return known.price if known else None

    def list_cost(self, model_id: str, usage: ModelUsage, *, inference_geo: str | None = None) -> Decimal:
        """Exact US dollars at list price for one request: tokens and web searches, not session time."""
        searches = WEB_SEARCH * usage.web_search_requests
        price = self.price(model_id)
        if price is None:
            return searches
        factor = price.fast if usage.speed == "fast" else Decimal(1)
        if price.long_above is not None and prompt_tokens(usage) > price.long_above:
            factor *= price.long
        if inference_geo == "us":
            factor *= US_INFERENCE
        tokens = (
            price.input * usage.input_tokens
            + price.output * usage.output_tokens
            + price.cache_read * usage.cache_read_input_tokens
            + price.cache_write_5m * usage.cache_creation_5m_input_tokens
            + price.cache_write_1h * usage.cache_creation_1h_input_tokens
        )
        return tokens * factor / _MILLION + searches


def prompt_tokens(usage: ModelUsage) -> int:
    """All input tokens of a request, cached or not."""
    return (
        usage.input_tokens
        + usage.cache_read_input_tokens
        + usage.cache_creation_5m_input_tokens
        + usage.cache_creation_1h_input_tokens
    )


def search_cost(searches: int) -> Decimal:
    """Exact US dollars at list price for web searches that the server ran itself."""
    return WEB_SEARCH * searches


def runtime_cost(active_seconds: float) -> Decimal:
    """US dollars for session time, metered to the millisecond."""
    return SESSION_HOUR * round(active_seconds * 1000) / 3_600_000


def configured(config: ModelsConfig) -> Catalogue:
    """The built-in table with the configuration's models and prices laid over it."""
    models = {model.id: model for model in MODELS}
    for model_id, entry in config.model.items():
        base = models.get(model_id) or ModelInfo(id=model_id, display_name=model_id, mid_conversation_system=True)
        models[model_id] = _overlaid(base, entry)
    return Catalogue(models.values(), {model_id: _price(price) for model_id, price in config.price.items()})


def capabilities(model: ModelInfo) -> dict[str, Any]:
    """The `capabilities` object of `/v1/models`. What Hostler itself doesn't offer (batches, server tools) is false."""
    thinks = model.thinking != "none"
    adaptive = model.thinking in ("adaptive", "always")
    kinds = {
        "adaptive": adaptive,
        "between_tools": False,
        "disabled": model.thinking != "always",
        "enabled": model.thinking == "extended",
    }
    return {
        "batch": _supported(False),
        "citations": _supported(False),
        "code_execution": _supported(False),
        "context_management": _supported(False),
        "effort": _supported(bool(model.efforts), {level: level in model.efforts for level in ALL_EFFORTS}),
        "image_input": _supported(model.image_input),
        "pdf_input": _supported(model.pdf_input),
        "server_tools": _supported(False, {"code_execution": False, "web_search": False}),
        "structured_outputs": _supported(model.structured_outputs),
        "thinking": {"supported": thinks, "types": {kind: _supported(value) for kind, value in kinds.items()}},
    }


def _supported(value: bool, parts: Mapping[str, bool] | None = None) -> dict[str, Any]:
    return {"supported": value, **{name: _supported(part) for name, part in (parts or {}).items()}}


def _overlaid(base: ModelInfo, entry: ModelConfig) -> ModelInfo:
    given = {name: getattr(entry, name) for name in entry.__struct_fields__}
    changes = {name: value for name, value in given.items() if value not in (None, "", [])}
    for name in ("aliases", "efforts"):
        if name in changes:
            changes[name] = tuple(changes[name])
    return msgspec.structs.replace(base, **changes)


def _price(config: PriceConfig) -> Price:
    return Price.of(
        config.input,
        config.output,
        cache_read=config.cache_read,
        cache_write_5m=config.cache_write_5m,
        cache_write_1h=config.cache_write_1h,
        fast=config.fast,
        long_above=config.long_above,
        long=config.long,
    )


BUILTIN = Catalogue()
