"""The `[models]` table of the config file, decoded and checked. It must not read the environment or open a connection.

`settings.py` decodes the table with `ModelsConfig` and resolves `api_key_env` with `with_keys`; everything after that
works on values. Unknown keys are refused: a misspelt setting must not be ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
Tokens = Annotated[int, msgspec.Meta(ge=1)]


class ModelRoute(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[models.route]]`: which provider serves the model ids that match `pattern`.

    `model` renames the model for the provider; `options` are the provider's own (see docs/models.md).
    """

    pattern: Annotated[str, msgspec.Meta(min_length=1)] = "*"
    provider: Annotated[str, msgspec.Meta(min_length=1)] = "anthropic"
    model: str = ""
    base_url: str = ""
    api_key: str = ""
    api_key_env: str = ""
    headers: dict[str, str] = {}
    client: Literal["http", "sdk"] = "http"
    connect_timeout: Seconds = 10.0
    read_timeout: Seconds = 120.0
    options: dict[str, Any] = {}

    def __repr__(self) -> str:
        return f"ModelRoute(pattern={self.pattern!r}, provider={self.provider!r}, model={self.model!r})"


class PriceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[models.price."id"]` in US dollars per million tokens. Unset cache prices follow from `input`."""

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None
    fast: Decimal = Decimal(1)
    long_above: Tokens | None = None
    long: Decimal = Decimal(1)

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Decimal) and not (value.is_finite() and value >= 0):
                raise ValueError(f"`{name}` must be a number of at least 0")


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[models.model."id"]`: a model the built-in table doesn't know, or what it should say instead."""

    display_name: str = ""
    max_input_tokens: Tokens | None = None
    max_tokens: Tokens | None = None
    aliases: list[str] = []
    efforts: list[Literal["low", "medium", "high", "xhigh", "max"]] | None = None
    default_effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    thinking: Literal["none", "extended", "adaptive", "always"] | None = None
    mid_conversation_system: bool | None = None
    image_input: bool | None = None
    pdf_input: bool | None = None


class ModelsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole `[models]` table."""

    route: list[ModelRoute] = []
    price: dict[str, PriceConfig] = {}
    model: dict[str, ModelConfig] = {}


def with_keys(config: ModelsConfig, environ: Mapping[str, str]) -> ModelsConfig:
    """The same configuration with each `api_key_env` replaced by the value of that variable.

    A variable that is not set leaves the key empty: the first request then says which variable is missing.
    """
    routes = [
        msgspec.structs.replace(route, api_key=environ.get(route.api_key_env, ""))
        if route.api_key_env and not route.api_key
        else route
        for route in config.route
    ]
    return msgspec.structs.replace(config, route=routes)
