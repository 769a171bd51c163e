"""The built-in rows of the model catalogue. Data only: no lookups, no arithmetic beyond the usual cache factors."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

Lifecycle = Literal["active", "deprecated", "retired"]
Line = Literal["haiku", "sonnet", "opus", "fable", "mythos"]
# `extended` takes a token budget, `adaptive` may be switched off, `always` may not.
Thinking = Literal["none", "extended", "adaptive", "always"]

ALL_EFFORTS = ("low", "medium", "high", "xhigh", "max")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars per million tokens. `fast` and `long` are factors, `long` for prompts above `long_above` tokens."""

    input: Decimal
    output: Decimal
    cache_read: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    fast: Decimal = Decimal(1)
    long_above: int | None = None
    long: Decimal = Decimal(1)

    @classmethod
    def of(
        cls,
        input: Decimal | str,
        output: Decimal | str,
        *,
        cache_read: Decimal | str | None = None,
        cache_write_5m: Decimal | None = None,
        cache_write_1h: Decimal | None = None,
        fast: Decimal | int = 1,
        long_above: int | None = None,
        long: Decimal | int = 1,
    ) -> Price:
        """Unset cache prices follow from the input price: read 0.1x, write 1.25x for 5 minutes and 2x for an hour."""
        base = Decimal(input)
        return cls(
            input=base,
            output=Decimal(output),
            cache_read=base / 10 if cache_read is None else Decimal(cache_read),
            cache_write_5m=base * 5 / 4 if cache_write_5m is None else cache_write_5m,
            cache_write_1h=base * 2 if cache_write_1h is None else cache_write_1h,
            fast=Decimal(fast),
            long_above=long_above,
            long=Decimal(long),
        )


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One model. `efforts` are the levels it takes (none: the setting is not sent); times are RFC 3339."""

    id: str
    display_name: str
    line: Line | None = None
    created_at: str = "1970-01-01T00:00:00Z"
    lifecycle: Lifecycle = "active"
    deprecated_at: str | None = None
    retires_at: str | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    aliases: tuple[str, ...] = ()
    thinking: Thinking = "none"
    efforts: tuple[str, ...] = ()
    default_effort: str | None = None
    fast: bool = False
    inference_geo: bool = False  # whether a request may say where inference runs
    mid_conversation_system: bool = False
    image_input: bool = True
    pdf_input: bool = True
    structured_outputs: bool = True
    price: Price | None = None


def _current(
    id: str, name: str, line: Line, released: str, price: Price, *, thinking: Thinking = "adaptive", **rest: object
) -> ModelInfo:
    """A model with a window of a million tokens that takes all effort levels."""
    fields: dict[str, object] = {
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "efforts": ALL_EFFORTS,
        "default_effort": "high",
        "inference_geo": True,
        "mid_conversation_system": True,
        **rest,
    }
    return msgspec.convert(
        {"id": id, "display_name": name, "line": line, "created_at": f"{released}T00:00:00Z", "price": price}
        | {"thinking": thinking}
        | fields,
        ModelInfo,
    )


def _classic(id: str, name: str, line: Line, released: str, price: Price, **rest: object) -> ModelInfo:
    """A 4.5 model: 200,000 tokens, extended thinking, no effort levels unless given."""
    fields: dict[str, object] = {
        "max_input_tokens": 200_000,
        "max_tokens": 64_000,
        "efforts": (),
        "default_effort": None,
        "inference_geo": False,
        "mid_conversation_system": False,
        **rest,
    }
    return _current(id, name, line, released, price, thinking="extended", **fields)


_OPUS = Price.of("5", "25")
_OPUS_FAST = Price.of("5", "25", fast=2)
_FABLE_5 = Price.of("10", "50")
_FABLE_5_1 = Price.of("10", "50", cache_read="0.25")
_FABLE_5_2 = Price.of("10", "50", cache_read="0.25", fast=2)
_OLD_EFFORTS = ("low", "medium", "high", "max")

MODELS: tuple[ModelInfo, ...] = (
    _current("claude-fable-5-2", "Claude Fable 5.2", "fable", "2026-11-01", _FABLE_5_2, thinking="always", fast=True),
    _current(
        "claude-mythos-5-2", "Claude Mythos 5.2", "mythos", "2026-11-01", _FABLE_5_2, thinking="always", fast=True
    ),
    _current(
        "claude-haiku-5-5",
        "Claude Haiku 5.5",
        "haiku",
        "2026-10-07",
        Price.of("0.10", "0.50", long_above=100_000, long=5),
        default_effort="medium",
    ),
    _current("claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet", "2026-09-29", Price.of("2", "10", cache_read="0.10")),
    _current(
        "claude-opus-5-5",
        "Claude Opus 5.5",
        "opus",
        "2026-09-22",
        Price.of("4", "20", cache_read="0.20", fast=2),
        thinking="always",
        default_effort="medium",
        fast=True,
    ),
    _current("claude-fable-5-1", "Claude Fable 5.1", "fable", "2026-09-01", _FABLE_5_1, thinking="always"),
    _current("claude-mythos-5-1", "Claude Mythos 5.1", "mythos", "2026-09-01", _FABLE_5_1, thinking="always"),
    _current("claude-opus-5", "Claude Opus 5", "opus", "2026-07-24", _OPUS_FAST, fast=True),
    _current("claude-sonnet-5", "Claude Sonnet 5", "sonnet", "2026-06-30", Price.of("2", "10")),
    _current("claude-fable-5", "Claude Fable 5", "fable", "2026-06-09", _FABLE_5, thinking="always"),
    _current("claude-mythos-5", "Claude Mythos 5", "mythos", "2026-06-09", _FABLE_5, thinking="always"),
    _current("claude-opus-4-8", "Claude Opus 4.8", "opus", "2026-05-28", _OPUS_FAST, fast=True),
    _current("claude-opus-4-7", "Claude Opus 4.7", "opus", "2026-04-16", _OPUS, mid_conversation_system=False),
    _current(
        "claude-sonnet-4-6",
        "Claude Sonnet 4.6",
        "sonnet",
        "2026-02-17",
        Price.of("3", "15"),
        max_tokens=64_000,
        efforts=_OLD_EFFORTS,
        mid_conversation_system=False,
    ),
    _current(
        "claude-opus-4-6",
        "Claude Opus 4.6",
        "opus",
        "2026-02-05",
        _OPUS,
        efforts=_OLD_EFFORTS,
        mid_conversation_system=False,
    ),
    _classic(
        "claude-opus-4-5-20251101",
        "Claude Opus 4.5",
        "opus",
        "2025-11-24",
        _OPUS,
        aliases=("claude-opus-4-5",),
        efforts=("low", "medium", "high"),
        default_effort="high",
    ),
    _classic(
        "claude-haiku-4-5-20251001",
        "Claude Haiku 4.5",
        "haiku",
        "2025-10-15",
        Price.of("1", "5"),
        aliases=("claude-haiku-4-5",),
    ),
    _classic(
        "claude-sonnet-4-5-20250929",
        "Claude Sonnet 4.5",
        "sonnet",
        "2025-09-29",
        Price.of("3", "15"),
        aliases=("claude-sonnet-4-5",),
        lifecycle="deprecated",
        retires_at="2026-11-30T00:00:00Z",
    ),
)
