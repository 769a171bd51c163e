"""Merges metadata patches, by the one rule that all resources share."""

from __future__ import annotations

from hostler.errors import InvalidRequest
from hostler.wire.base import METADATA_PAIRS


def merge(current: dict[str, str], patch: dict[str, str | None], *, empty_deletes: bool = False) -> dict[str, str]:
    """Return `current` with `patch` applied: a string sets a key, null (and for some resources "") deletes it."""
    merged = dict(current)
    for key, value in patch.items():
        if value is None or (empty_deletes and value == ""):
            merged.pop(key, None)
        else:
            merged[key] = value
    if len(merged) > METADATA_PAIRS:
        raise InvalidRequest(
            f"metadata: at most {METADATA_PAIRS} pairs are allowed, the result has {len(merged)}",
            error_code="invalid_metadata",
        )
    return merged
