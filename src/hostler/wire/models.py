"""Models as the catalogue lists them. It must not know providers or prices."""

from __future__ import annotations

from typing import Any, Literal

from hostler.wire.base import Wire

Lifecycle = Literal["active", "deprecated", "retired"]


class ModelInfo(Wire, tag="model", tag_field="type", kw_only=True):
    id: str
    display_name: str
    created_at: str
    lifecycle: Lifecycle = "active"
    line: Literal["haiku", "sonnet", "opus", "fable", "mythos"] | None = None
    max_input_tokens: int | None = None
    max_tokens: int | None = None
    capabilities: dict[str, Any] | None = None
    allowed_fallback_models: list[str] | None = None
    deprecated_at: str | None = None
    retires_at: str | None = None
