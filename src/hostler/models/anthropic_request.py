"""Builds the body and beta headers of a Messages API request from ours. It must not send anything."""

from __future__ import annotations

from typing import Any

from hostler.models.catalogue import Catalogue
from hostler.models.protocol import ModelRequest

FAST_MODE = "fast-mode-2026-02-01"


def request_body(request: ModelRequest, catalogue: Catalogue, model: str = "") -> tuple[dict[str, Any], list[str]]:
    """The body (without `stream`) and the betas it needs.

    `model` is the vendor's name for it, if another. System, tools and messages go as they are, cache breakpoints and
    all. Effort and adaptive thinking are sent to models that take them; a model's own default rules otherwise.
    """
    traits = catalogue.traits(request.model)
    body: dict[str, Any] = {
        "model": model or request.model,
        "max_tokens": request.max_tokens,
        "messages": request.messages,
    }
    betas: list[str] = []
    if request.system:
        body["system"] = request.system
    if request.tools:
        body["tools"] = request.tools
    if request.effort is not None and request.effort in traits.efforts:
        body["output_config"] = {"effort": request.effort}
    if request.effort is not None and traits.thinking in ("adaptive", "always"):
        body["thinking"] = {"type": "adaptive"}
    if request.speed == "fast":
        body["speed"] = "fast"
        betas.append(FAST_MODE)
    if request.inference_geo:
        body["inference_geo"] = request.inference_geo
    return body, betas
