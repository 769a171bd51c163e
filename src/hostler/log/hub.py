"""Fans committed entries and unstored previews out to whoever follows a session. It must not store or decode anything.

Every follower has a bounded buffer. One that overflows is marked as lagging and reads what it missed from the log: a
slow reader never holds a publisher up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hostler.log.entries import NOTE, Entry
from hostler.wire.events import Preview

BUFFERED_ENTRIES = 512
BUFFERED_BYTES = 4 * 1024 * 1024  # of entries; one larger than that passes alone
BUFFERED_PREVIEWS = 2048
THREAD_ENDED = "session.thread_status_terminated"  # with it the streams of its thread end


class Follower:
    """The buffer of one reader: committed entries in order, and the previews it asked for between them.

    `thread_id` narrows it to one thread; `previews` names the event types it wants previews of.
    """

    def __init__(self, thread_id: str | None, previews: frozenset[str]) -> None:
        self.thread_id = thread_id
        self.wants = previews
        self.lagging = False
        self.closed = False
        self._buffer: list[Entry | bytes] = []  # a deque would take 600 bytes more of each idle stream
        self._entries = self._bytes = 0
        self._started: set[str] = set()
        self._ready = asyncio.Event()

    def offer(self, entry: Entry) -> None:
        if self.lagging or not entry.shown_on(self.thread_id):
            return
        self._started.discard(entry.id)
        full = self._entries >= BUFFERED_ENTRIES or self._bytes + len(entry.body) > BUFFERED_BYTES
        if full and self._entries:
            self.lagging = True
            self._drop()
        else:
            self._buffer.append(entry)
            self._entries += 1
            self._bytes += len(entry.body)
        if entry.type == THREAD_ENDED and entry.thread_id == self.thread_id:
            self.closed = True
        self._ready.set()

    def start_preview(self, event_id: str, frame: bytes) -> None:
        if not self.lagging and len(self._buffer) < BUFFERED_PREVIEWS:
            self._started.add(event_id)
            self._buffer.append(frame)
            self._ready.set()

    def preview(self, event_id: str, frame: bytes) -> None:
        """Add a delta, or, when the buffer is full, drop it and all that follow of this event: what arrives is a
        prefix."""
        if event_id not in self._started:
            return
        if self.lagging or len(self._buffer) >= BUFFERED_PREVIEWS:
            self._started.discard(event_id)
            return
        self._buffer.append(frame)
        self._ready.set()

    def close(self) -> None:
        self.closed = True
        self._ready.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until there is something to take, at most so long. Returns whether there is."""
        if self._ready.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._ready.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Entry | bytes]:
        taken = self._buffer
        self._drop()
        if not self.closed:
            self._ready.clear()
        return taken

    def _drop(self) -> None:
        self._buffer = []
        self._entries = self._bytes = 0


class Hub:
    """The followers of all sessions of this process."""

    def __init__(self) -> None:
        self._followers: dict[str, set[Follower]] = {}

    def follow(self, session_id: str, thread_id: str | None, previews: frozenset[str]) -> Follower:
        follower = Follower(thread_id, previews)
        self._followers.setdefault(session_id, set()).add(follower)
        return follower

    def leave(self, session_id: str, follower: Follower) -> None:
        followers = self._followers.get(session_id, set())
        followers.discard(follower)
        if not followers:
            self._followers.pop(session_id, None)

    def publish(self, session_id: str, entries: Iterable[Entry]) -> None:
        """Hand out committed entries. Call it in the order of the commits (see `Store.write`'s `then`)."""
        shown = [entry for entry in entries if entry.private != NOTE]
        for follower in self._followers.get(session_id, ()):
            for entry in shown:
                follower.offer(entry)

    def watched(self, session_id: str, event_type: str) -> bool:
        """Whether anybody wants previews of this type: if not, making them can be spared."""
        return any(event_type in follower.wants for follower in self._followers.get(session_id, ()))

    def start_preview(self, session_id: str, shown_on: tuple[str | None, ...], event: Preview, frame: bytes) -> None:
        """Begin the preview of an event. `shown_on` are the streams it belongs to: a thread's, and None for the
        session's own."""
        for follower in self._followers.get(session_id, ()):
            if event.type in follower.wants and follower.thread_id in shown_on:
                follower.start_preview(event.id, frame)

    def preview(self, session_id: str, event_id: str, frame: bytes) -> None:
        for follower in self._followers.get(session_id, ()):
            follower.preview(event_id, frame)

    def close_session(self, session_id: str) -> None:
        """End every stream of a session once its buffer is read."""
        for follower in self._followers.get(session_id, ()):
            follower.close()
