"""How what a call returned or raised gets into the journal and out again, the same error each time."""

from __future__ import annotations

import contextlib
import traceback
from typing import Any

from hostler.runbooks.entries import Draft, Entry, Kind
from hostler.runbooks.worker import values

_TRACE = 8000
_RESULT = 256 * 1024


class CallFailed(Exception):
    """An error whose class could not be kept; `type` is its name."""

    def __init__(self, message: str, type: str = "") -> None:
        super().__init__(message)
        self.type = type


def returned(kind: Kind, key: str, value: Any, name: str) -> Draft:
    """Raises Unkeepable."""
    return Draft(kind=kind, key=key, body={"name": name, "result": _told(kind, value)}, value=values.dump(value))


def raised(kind: Kind, key: str, error: BaseException, name: str, attempt: int = 1) -> Draft:
    return Draft(kind=kind, key=key, body={"name": name, "attempt": attempt, "error": told(error)}, value=_kept(error))


def tried(key: str, error: BaseException, name: str, attempt: int, again: float) -> Draft:
    """`again` is when the next attempt begins, in seconds since the epoch."""
    return Draft(kind="attempt", key=key, body={"name": name, "attempt": attempt, "error": told(error), "again": again})


def result(entry: Entry) -> Any:
    """What was returned; raises what was raised."""
    if "error" not in entry.body:
        return values.load(entry.value) if entry.value is not None else None
    if entry.value is not None:
        with contextlib.suppress(values.Unkeepable):  # of another bundle, whose classes are not known here
            raise values.load(entry.value)
    said = entry.body["error"]
    raise CallFailed(str(said.get("message")), str(said.get("type")))


def told(error: BaseException) -> dict[str, str]:
    """For people: what it was, what it said, and where."""
    kind = getattr(error, "type", None)
    trace = "".join(traceback.format_exception(error))
    return {
        "type": str(kind) if isinstance(kind, str) and kind else type(error).__name__,
        "message": str(error) or type(error).__name__,
        "trace": trace[-_TRACE:],
    }


def _kept(error: BaseException) -> bytes | None:
    """None where its class can't be kept, or would not come back: many forget what their `__init__` needs."""
    try:
        kept = values.dump(error)
        return kept if isinstance(values.load(kept), type(error)) else None
    except values.Unkeepable:
        return None


def _told(kind: Kind, value: Any) -> Any:
    """What a task returns is told whole, since programs read it, too."""
    try:
        return values.whole(value, _RESULT) if kind == "ended" else values.shown(value)
    except values.Unkeepable:
        return values.shown(value)
