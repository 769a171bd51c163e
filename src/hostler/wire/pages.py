"""Pages of a list, one shape per paging style of the SDKs. `data` holds Structs or `msgspec.Raw` JSON."""

from __future__ import annotations

from typing import Any

from hostler.wire.base import Wire


class Page(Wire, kw_only=True):
    data: list[Any]
    next_page: str | None = None


class SessionPage(Wire, kw_only=True):
    """The one list that can be paged backwards."""

    data: list[Any]
    next_page: str | None = None
    prev_page: str | None = None


class IdPage(Wire, kw_only=True):
    """Paged by `after_id` and `before_id`: models."""

    data: list[Any]
    has_more: bool
    first_id: str | None
    last_id: str | None


class FilePage(Wire, kw_only=True):
    """Both generations of the files list at once: `page` cursors, and `after_id`/`before_id` of older SDKs."""

    data: list[Any]
    next_page: str | None
    has_more: bool
    first_id: str | None
    last_id: str | None
