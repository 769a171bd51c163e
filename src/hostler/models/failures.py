"""Turns what went wrong at a vendor into a `ModelFailure`. It must not know a vendor's client library or read a stream.

Every text that comes from outside passes through `redact`, so no key can reach an event, a log or a user.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from hostler.models.protocol import FailureKind, ModelFailure

_MAX_DETAIL = 500
_MIN_SECRET = 6  # anything shorter is no key, and would blot out half of a sentence
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|key)-[A-Za-z0-9_*\-]{6,}|\bBearer\s+\S+|\bAKIA[A-Z0-9]{12,}", re.IGNORECASE)
_TOO_LONG = re.compile(
    r"prompt is too long|context.?length|maximum context|context window|exceeds? (?:the )?context"
    r"|too many (?:input )?tokens|input is too long|reduce the length of the (?:messages|prompt)",
    re.IGNORECASE,
)
_UNPAID = re.compile(r"credit balance|insufficient_quota|exceeded your current quota|billing|payment", re.IGNORECASE)
_RETRYABLE_4XX = frozenset({408, 409, 425, 499})


def redact(text: str, *secrets: str | None) -> str:
    """Cut a vendor's text to a line's length, without control characters, the given secrets or anything like a key."""
    for secret in secrets:
        if secret and len(secret) >= _MIN_SECRET:
            text = text.replace(secret, "***")
    text = _KEY_LIKE.sub("***", text)
    text = "".join(c if c.isprintable() else " " for c in text[: 4 * _MAX_DETAIL]).strip()
    return text if len(text) <= _MAX_DETAIL else text[:_MAX_DETAIL] + "..."


def broken(detail: str) -> ModelFailure:
    """The answer was no complete, well-formed message: the same request may well succeed."""
    return ModelFailure("request_failed", f"the model's answer broke off or was malformed: {detail}", retryable=True)


def refused(detail: str) -> ModelFailure:
    """The same request would fail again."""
    return ModelFailure("request_failed", detail, retryable=False)


def unreachable(detail: str) -> ModelFailure:
    return ModelFailure("request_failed", f"the model endpoint can't be reached: {detail}", retryable=True)


def from_status(
    status: int, headers: Mapping[str, str], body: bytes | str, *, key_hint: str, secrets: tuple[str | None, ...] = ()
) -> ModelFailure:
    """Classify an HTTP answer that is not a 200. `key_hint` says which setting holds the key."""
    error_type, text = _read_error(body)
    detail = redact(text, *secrets) or "no explanation given"
    said = f"the model endpoint answered HTTP {status}: {detail}"
    kind, retryable = _classify(status, error_type, text)
    if status in (401, 403) and kind == "request_failed":
        said = f"the model endpoint refused the key (HTTP {status}): {detail}. Check {key_hint}"
    elif status == 404:
        said += ". Check the model's id and the provider's base_url"
    elif 300 <= status < 400:
        said = f"the model endpoint answered with a redirect (HTTP {status}), which is not followed. Check base_url"
    return ModelFailure(kind, said, retryable=retryable, retry_after=retry_after(headers))


def from_error_event(error: Any, *secrets: str | None) -> ModelFailure:
    """Classify an error object that arrived inside a stream, in Anthropic's or the chat-completions form."""
    error_type, text = _read_error_object(error)
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) else 0
    kind, retryable = _classify(status, error_type, text)
    said = f"the model's answer ended with an error ({redact(error_type or 'error')}): {redact(text, *secrets)}"
    return ModelFailure(kind, said, retryable=retryable)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds from `retry-after-ms` or `retry-after` (a number or an HTTP date), never negative, at most an hour."""
    try:
        if (ms := headers.get("retry-after-ms")) is not None:
            return _bounded(float(ms) / 1000)
        if (value := headers.get("retry-after")) is None:
            return None
        if value.strip().replace(".", "", 1).isdigit():
            return _bounded(float(value))
        return _bounded(email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), 3600.0)


def _classify(status: int, error_type: str, text: str) -> tuple[FailureKind, bool]:
    if status == 402 or error_type == "billing_error" or _UNPAID.search(f"{error_type} {text}"):
        return "billing", False
    if status in (529, 503) or error_type == "overloaded_error":
        return "overloaded", True
    if status == 429 or error_type in ("rate_limit_error", "rate_limit_exceeded"):
        return "rate_limited", True
    if status == 413 or error_type in ("request_too_large", "context_length_exceeded") or _is_too_long(status, text):
        return "context_too_long", False
    if status >= 500 or status in _RETRYABLE_4XX:
        return "request_failed", True
    if status == 0:  # in a stream: the request was accepted, so unless it says the request is bad, try again
        return "request_failed", error_type not in ("invalid_request_error", "authentication_error", "permission_error")
    return "request_failed", False


def _is_too_long(status: int, text: str) -> bool:
    return status in (0, 400, 422) and _TOO_LONG.search(text) is not None


def _read_error(body: bytes | str) -> tuple[str, str]:
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
        return "", text if "<html" not in text.lower() else "an HTML page"
    if isinstance(decoded, dict):
        return _read_error_object(decoded.get("error", decoded))
    return "", str(decoded)


def _read_error_object(error: Any) -> tuple[str, str]:
    """The (type, message) of an error object; `code` counts as type where it is more telling."""
    if not isinstance(error, dict):
        return "", str(error)
    kind, code, message = error.get("type"), error.get("code"), error.get("message", error.get("detail"))
    if code in ("context_length_exceeded", "insufficient_quota", "rate_limit_exceeded"):
        kind = code
    text = message if isinstance(message, str) else msgspec.json.encode(error).decode()
    return (kind if isinstance(kind, str) else ""), text
