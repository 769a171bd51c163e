"""How something is found by what people call it, and how a create that is sent again is known. It must not know HTTP.

Clients put ids, slugs and names into the same place. They also send a POST again when its answer got lost on the way.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

import msgspec

from hostler.errors import InvalidRequest

# The published clients send a request three times at most, thirty seconds apart at most.
RETRY_SECONDS = 100
MAX_CONFIG = 256 * 1024


class Named(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def name(self) -> str | None: ...


T = TypeVar("T", bound=Named)


def new_id() -> str:
    return str(uuid.uuid4())


def called(found: Iterable[T], ref: str) -> T | None:
    """Which of them is meant: the one with this id, else the one with this slug, else the only one of this name.
    Raises InvalidRequest where several fit alike."""
    each = list(found)
    for fits in (
        [item for item in each if item.id == ref],
        [item for item in each if getattr(item, "slug", None) == ref],
        [item for item in each if item.name == ref],
    ):
        if len(fits) > 1:
            raise InvalidRequest(f"{ref!r} may mean {' or '.join(sorted(item.id for item in fits))}: give the id.")
        if fits:
            return fits[0]
    return None


def sent_again(created_at: int, now: int) -> bool:
    """Whether a create like the one of then may be the same one, sent again."""
    return now - created_at < RETRY_SECONDS * 1_000_000


def check_config(config: dict[str, Any], where: str) -> dict[str, Any]:
    """Raises InvalidRequest."""
    if (size := len(msgspec.json.encode(config))) > MAX_CONFIG:
        raise InvalidRequest(f"{where}: {size} bytes are more than the {MAX_CONFIG} that it may have")
    return config
