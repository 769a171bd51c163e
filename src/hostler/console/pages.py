"""Makes HTML of templates: everything that comes from outside is escaped, here and nowhere else.

It must not read anything, nor mark anything as safe.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from hostler.console.views import cell_text
from hostler.wire.base import parse_timestamp

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent
STATIC = {
    "base.js": "text/javascript",
    "console.css": "text/css",
    "icon.svg": "image/svg+xml",
    "session.js": "text/javascript",
    "task.js": "text/javascript",
}


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


def part(template: str, macro: str, *arguments: Any, **named: Any) -> str:
    """One macro of a template, as a stream sends it."""
    made: Callable[..., str] = getattr(_environment().get_template(template).module, macro)
    return made(*arguments, **named)


@cache
def static(name: str) -> bytes:
    return (FOLDER / "static" / name).read_bytes()


@cache
def version() -> str:
    """Changes with the static files, so that browsers may keep them for good."""
    return hashlib.sha256(b"".join(static(name) for name in sorted(STATIC))).hexdigest()[:12]


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"), autoescape=True, undefined=StrictUndefined, auto_reload=False,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {
        "clock": _clock, "moment": _moment, "iso": _iso, "span": span, "count": _count, "size": _size, "seg": segment,
        "pretty": _pretty, "words": _words, "css": _css, "amount": _amount,
    }  # fmt: skip
    environment.tests |= {"table": _is_table, "scalar": _is_scalar}
    environment.globals |= {"version": version(), "cell_text": cell_text}
    return environment


# -- filters --


def _time(value: int | str | datetime) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    try:
        micros = parse_timestamp(value) if isinstance(value, str) else value
        return datetime.fromtimestamp(micros / 1_000_000, UTC)
    except (ValueError, OverflowError, OSError, TypeError):
        return None


def _clock(value: int | str | datetime) -> str:
    time = _time(value)
    return time.strftime("%H:%M:%S") if time else str(value)


def _moment(value: int | str | datetime) -> str:
    time = _time(value)
    return time.strftime("%Y-%m-%d %H:%M:%S") if time else str(value)


def _iso(value: int | str | datetime) -> str:
    time = _time(value)
    return time.isoformat().replace("+00:00", "Z") if time else str(value)


def span(seconds: float) -> str:
    """A stretch of time, as short as it can be told."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s" if seconds >= 0.05 else f"{max(seconds, 0) * 1000:.0f} ms"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def _count(value: int) -> str:
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _size(value: int) -> str:
    amount = float(value)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 10 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def segment(value: str) -> str:
    """A piece of a path: a slash in an id must not look like one of ours."""
    return quote(value, safe=":")


def _pretty(value: Any) -> str:
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    except (TypeError, ValueError):
        return str(value)


def _amount(value: Any) -> str:
    """Money as it is read; text stays as the runbook wrote it."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:,.2f}" if number else cell_text(value)


def _css(value: Any) -> str:
    """A word that a class may be called; what somebody else wrote names none of ours but by such a word."""
    return value if isinstance(value, str) and re.fullmatch("[A-Za-z_]{1,30}", value) else ""


def _words(name: Any) -> str:
    """A field's name as a label."""
    text = str(name).replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
