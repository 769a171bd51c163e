"""What is written down of one connection out of a sandbox, and what it and its whole session have moved.

It must not hold a path, a query, a header or a secret: an egress log is read by people.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct


class Entry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A line of the egress log. `kind` is what was spoken, as far as the proxy looked; `name` the TLS server name where
    it differs from the host; `sent` and `received` are the sandbox's."""

    time: float
    host: str = ""
    port: int = 0
    kind: str = ""
    verdict: str
    reason: str = ""
    name: str = ""
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    credentials: list[str] = []


class OverBytes(OSError):
    """The session has moved as much as it may."""


class Account(Struct):
    """The bytes of one session in both directions, of which it may move `most` (0: no bound)."""

    most: int = 0
    moved: int = 0

    def add(self, count: int) -> None:
        self.moved += count
        if self.most and self.moved > self.most:
            raise OverBytes(f"this session has moved all of the {self.most // 1024**2} MiB that it may")


class Record:
    """A connection while it lasts."""

    def __init__(self, account: Account) -> None:
        self.started = time.time()
        self._account = account
        self._clock = time.monotonic()
        self.host = ""
        self.port = 0
        self.kind = ""
        self.verdict = "allowed"
        self.reason = ""
        self.name = ""
        self.sent = 0
        self.received = 0
        self.credentials: set[str] = set()
        self.on_life: Callable[[], None] = lambda: None

    def moved(self, sent: int, received: int) -> None:
        """Count, seen from the sandbox. Raises `OverBytes`."""
        self.sent += sent
        self.received += received
        self.on_life()
        self._account.add(sent + received)

    def fail(self, verdict: str, reason: str) -> None:
        self.verdict, self.reason = verdict, reason

    def entry(self) -> Entry:
        return Entry(
            time=round(self.started, 3),
            host=_plain(self.host[:255]),
            port=self.port,
            kind=self.kind,
            verdict=self.verdict,
            reason=_plain(self.reason[:300]),
            name="" if self.name == self.host.lower().rstrip(".") else _plain(self.name[:255]),
            sent=self.sent,
            received=self.received,
            seconds=round(time.monotonic() - self._clock, 3),
            credentials=sorted(self.credentials),
        )


def _plain(text: str) -> str:
    """What a sandbox has sent is shown in terminals: nothing in it may steer one."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in text)
