"""The egress log: what each session's connections were, a line of JSON for each, in files of the data folder.

A thread of its own writes, so that a slow disk never holds up a connection. What it can't take is counted and left out.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from hostler.sandbox.edge.ledger import Entry

log = logging.getLogger(__name__)

_WAITING = 10_000  # lines, of all sessions
_FORGOTTEN = 4096  # sessions whose last connections may still end


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """Stands in the log for lines that were not written in time."""

    time: float
    dropped: int


class EgressLog:
    """`folder` is made at the first line. At most `file_bytes` twice for each session."""

    def __init__(self, folder: Path, file_bytes: int = 4 * 1024 * 1024) -> None:
        self._folder = folder
        self._file_bytes = file_bytes
        self._lock = threading.Lock()
        self._waiting: deque[tuple[str, Entry]] = deque()
        self._dropped: dict[str, int] = {}
        self._forgotten: OrderedDict[str, None] = OrderedDict()
        self._writing = False
        self._failing = False
        self._thread = ThreadPoolExecutor(1, "egress-log")

    def append(self, key: str, entry: Entry) -> None:
        """Have it written soon. Never waits for the disk."""
        with self._lock:
            if key in self._forgotten or not self._file_bytes:
                return
            if len(self._waiting) >= _WAITING:
                self._dropped[key] = self._dropped.get(key, 0) + 1
                return
            self._waiting.append((key, entry))
            if self._writing:
                return
            self._writing = True
        with contextlib.suppress(RuntimeError):  # it was closed: the server ends
            self._thread.submit(self._write_all)

    def read(self, key: str) -> Iterator[Entry | Dropped]:
        """What is written down of a session, oldest first."""
        for file in reversed(self._files(key)):
            with contextlib.suppress(FileNotFoundError), file.open("rb") as lines:
                for line in lines:
                    with contextlib.suppress(msgspec.MsgspecError):  # the last one of a server that was killed
                        yield _decode(line)

    def moved(self, key: str) -> int:
        """The bytes that a session had moved when its last line was written."""
        try:
            return int((self._folder / f"{key}.bytes").read_text())
        except (OSError, ValueError):
            return 0

    def forget(self, key: str) -> None:
        """The session has ended: soon nothing is written down of it any more, and nothing will be."""
        with self._lock:
            self._forgotten[key] = None
            while len(self._forgotten) > _FORGOTTEN:
                self._forgotten.popitem(last=False)
        with contextlib.suppress(RuntimeError):
            self._thread.submit(self._remove, key)

    def close(self) -> None:
        """Write what waits, and end."""
        self._thread.shutdown(wait=True)

    def _files(self, key: str) -> list[Path]:
        return [self._folder / f"{key}.jsonl", self._folder / f"{key}.1.jsonl"]

    def _remove(self, key: str) -> None:
        with self._lock:
            self._waiting = deque(item for item in self._waiting if item[0] != key)
            self._dropped.pop(key, None)
        for file in (*self._files(key), self._folder / f"{key}.bytes"):
            file.unlink(missing_ok=True)

    def _write_all(self) -> None:
        while batch := self._take():
            try:
                for key, entries in batch.items():
                    self._write(key, entries)
                self._failing = False
            except OSError as error:
                if not self._failing:  # once, not for each line
                    log.warning("the egress log cannot be written: %s", error)
                self._failing = True

    def _take(self) -> dict[str, list[Entry | Dropped]]:
        with self._lock:
            batch: dict[str, list[Entry | Dropped]] = {}
            while self._waiting:
                key, entry = self._waiting.popleft()
                batch.setdefault(key, []).append(entry)
            for key, count in self._dropped.items():
                batch.setdefault(key, []).append(
                    Dropped(time=batch[key][-1].time if key in batch else 0, dropped=count)
                )
            self._dropped.clear()
            self._writing = bool(batch)
            return batch

    def _write(self, key: str, entries: list[Entry | Dropped]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        current, before = self._files(key)
        data = b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries)
        descriptor = os.open(current, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.write(descriptor, data)
            full = os.fstat(descriptor).st_size >= self._file_bytes
        finally:
            os.close(descriptor)
        if full:
            current.replace(before)
        moved = sum(entry.sent + entry.received for entry in entries if isinstance(entry, Entry))
        total = self._folder / f"{key}.bytes"
        half = total.with_suffix(".new")
        half.write_text(str(self.moved(key) + moved))
        half.replace(total)


def _decode(line: bytes) -> Entry | Dropped:
    try:
        return msgspec.json.decode(line, type=Entry)
    except msgspec.ValidationError:
        return msgspec.json.decode(line, type=Dropped)
