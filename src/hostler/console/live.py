"""What a page hears while it is open: text/event-stream of HTML that templates made. It must not make any.

`id` is where the page is, so that a browser that connects again goes on there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
from starlette.responses import StreamingResponse

_HEADERS = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}


def stream(frames: AsyncIterator[bytes]) -> StreamingResponse:
    return StreamingResponse(frames, media_type="text/event-stream", headers=_HEADERS)


class Frames:
    @staticmethod
    def begin() -> bytes:
        """Says so at once: the page is live now, and when it should try again after it was cut off."""
        return b"retry: 1500\nevent: begin\ndata: {}\n\n"

    @staticmethod
    def row(place: int, row_id: str, into: str | None, html: str, *, queued: bool) -> bytes:
        body = {"id": row_id, "into": into, "html": str(html), "queued": queued}
        return b"id: %d\n%b" % (place, _frame("row", body))

    @staticmethod
    def lines(place: int, html: str) -> bytes:
        return b"id: %d\n%b" % (place, _frame("lines", {"html": str(html)}))

    @staticmethod
    def preview(frame: bytes) -> bytes:
        """A preview as the public stream has it: one line of JSON."""
        return b"event: preview\ndata: " + frame + b"\n\n"

    @staticmethod
    def sections(
        html: Mapping[str, str], holds: Mapping[str, str] | None = None, digests: Mapping[str, str] | None = None
    ) -> bytes:
        """Parts of the page that have changed. What somebody fills in is kept while its hold is the same."""
        plain = {name: str(text) for name, text in html.items()}
        return _frame("sections", {"html": plain, "holds": holds or {}, "digests": digests or {}})

    @staticmethod
    def alive() -> bytes:
        return b": alive\n\n"

    @staticmethod
    def end() -> bytes:
        """Nothing will come any more."""
        return _frame("end", {})

    @staticmethod
    def gone() -> bytes:
        """The page may not be seen any more."""
        return _frame("gone", {})


def _frame(name: str, body: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(body))
