"""Placeholders become secrets in what goes to the secrets' hosts, and secrets become placeholders in what comes back.

It works on single header fields and on bodies as they stream. It must not keep or show a secret beyond the connection.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote, quote_plus

from hostler.addresses import covers
from hostler.sandbox.contract import Secret

Fields = list[tuple[bytes, bytes]]

_BASIC = re.compile(rb"(basic +)([A-Za-z0-9+/=_-]+) *", re.IGNORECASE)
_UNFIT_FOR_HEADERS = re.compile(rb"[\0\r\n]")
_HEX = re.compile(r"%[0-9A-F]{2}")
_NEVER = {b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect", b"te"}
SCRUBBED_FROM = 8  # characters: a shorter secret would be found by chance


class Replacer:
    """Replaces needles in bytes that come in pieces, also where a needle lies over two of them."""

    def __init__(self, needles: Mapping[bytes, bytes]) -> None:
        self._needles = dict(needles)
        longest_first = sorted(self._needles, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(re.escape(needle) for needle in longest_first) or b"(?!)")
        self._held = b""
        self.found: set[bytes] = set()

    def feed(self, data: bytes) -> bytes:
        """What is certain so far; the rest is held back: at most the longest needle, less one byte."""
        data = self._held + data
        ready, at, hold = [], 0, self._hold_from(data, 0)
        for match in self._pattern.finditer(data):
            if match.start() >= hold:
                break
            ready += [data[at : match.start()], self._replacement(match[0])]
            at = match.end()
        if at > hold:
            hold = self._hold_from(data, at)
        self._held = data[hold:]
        return b"".join([*ready, data[at:hold]])

    def finish(self) -> bytes:
        data, self._held = self._held, b""
        return self._pattern.sub(lambda match: self._replacement(match[0]), data)

    def whole(self, data: bytes) -> bytes:
        return self.feed(data) + self.finish()

    def _replacement(self, needle: bytes) -> bytes:
        self.found.add(needle)
        return self._needles[needle]

    def _hold_from(self, data: bytes, start: int) -> int:
        """Where the first needle begins that the end of the data may have cut through."""
        first = len(data)
        for needle in self._needles:
            at = data.find(needle[:1], max(start, len(data) - len(needle) + 1))
            while 0 <= at < first:
                if needle.startswith(data[at:]):
                    first = at
                at = data.find(needle[:1], at + 1)
        return first


class Substitution:
    """The secrets of one sandbox that may go to one host."""

    def __init__(self, secrets: Iterable[Secret], host: str) -> None:
        self._secrets = [secret for secret in secrets if is_for(secret, host) and secret.placeholder and secret.value]
        self._sent: dict[bytes, bytes] = {}  # spellings of secrets that only these requests have -> theirs
        self.used: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._secrets)

    # -- towards the server --

    def send_fields(self, fields: Fields) -> Fields:
        """A request's header fields with the secrets in them."""
        return [(name, self._send_value(name.lower(), value)) for name, value in fields]

    def _send_value(self, name: bytes, value: bytes) -> bytes:
        if name in _NEVER or name.startswith(b":"):
            return value
        if name == b"authorization" and (basic := _BASIC.fullmatch(value)):
            return self._send_basic(basic[1], basic[2]) or value
        return self._send_text(value)

    def _send_basic(self, scheme: bytes, token: bytes) -> bytes | None:
        try:
            pair = base64.b64decode(token, validate=True)
        except binascii.Error:
            return None
        sent = self._send_text(pair)
        if sent == pair:
            return None
        spelled = base64.b64encode(sent)
        if len(self._sent) < 64:
            self._sent[spelled] = token
        return scheme + spelled

    def _send_text(self, text: bytes) -> bytes:
        for secret in self._secrets:
            placeholder, value = secret.placeholder.encode(), secret.value.strip(" \t\r\n").encode()
            if secret.header and placeholder in text and not _UNFIT_FOR_HEADERS.search(value):
                self.used.add(secret.placeholder)
                text = text.replace(placeholder, value)
        return text

    def send_needles(self, content_type: bytes) -> dict[bytes, bytes]:
        """What is replaced in a request's body. In JSON and forms, a secret is written as these want it."""
        kind = content_type.partition(b";")[0].strip().lower()
        if kind.startswith(b"application/grpc"):
            return {}  # its messages say their length in front
        return {s.placeholder.encode(): _spelled(s.value, kind) for s in self._secrets if s.body}

    def note_used(self, placeholders: Iterable[bytes]) -> None:
        self.used |= {placeholder.decode() for placeholder in placeholders}

    # -- towards the sandbox --

    def scrub_fields(self, fields: Fields) -> Fields:
        needles = self.scrub_needles(b"")
        return [(name, Replacer(needles).whole(value)) for name, value in fields]

    def scrub_needles(self, content_type: bytes) -> dict[bytes, bytes]:
        """What is replaced in a response: each secret as it is, and as JSON and forms would write it."""
        found: dict[bytes, bytes] = {}
        for secret in self._secrets:
            value = secret.value.strip(" \t\r\n")
            if len(value) >= SCRUBBED_FROM:
                found |= dict.fromkeys(_spellings(value), secret.placeholder.encode())
        found |= self._sent
        if content_type.strip().lower().startswith(b"application/grpc"):
            return {needle: (text + b"*" * len(needle))[: len(needle)] for needle, text in found.items()}
        return found


def _spellings(value: str) -> set[bytes]:
    """A value as it is, and as servers write it into JSON, addresses, forms and pages. Libraries differ in what they
    escape beyond what they must."""
    in_json = [json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (False, True)]
    in_json += [text.replace("/", "\\/") for text in in_json]
    in_json += [_escaped(text, letters) for text in in_json for letters in ("<>&", "<>&'", "<>&'+")]
    quoted = [quote_plus(value), quote(value), quote(value, safe="")]
    quoted += [_HEX.sub(lambda match: match[0].lower(), text) for text in quoted]
    in_pages = [html.escape(value), html.escape(value, quote=False), html.escape(value).replace("&#x27;", "&#39;")]
    return {text.encode() for text in (value, *in_json, *quoted, *in_pages)}


def _escaped(text: str, letters: str) -> str:
    for letter in letters:
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _spelled(value: str, kind: bytes) -> bytes:
    if kind == b"application/json" or kind.endswith(b"+json"):
        return json.dumps(value, ensure_ascii=False)[1:-1].encode()
    if kind == b"application/x-www-form-urlencoded":
        return quote_plus(value).encode()
    return value.encode()


def is_for(secret: Secret, host: str) -> bool:
    return secret.hosts is None or any(covers(pattern, host) for pattern in secret.hosts)


def ids_of(secrets: Sequence[Secret], used: set[str]) -> list[str]:
    """What stands in the log for the secrets that were used."""
    return sorted(secret.credential_id or secret.placeholder for secret in secrets if secret.placeholder in used)
