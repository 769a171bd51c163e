"""Knows which URLs a session has shown the model, and from where, so that `web_fetch` reaches no others.

Otherwise an agent that was talked into it could write what it knows into a URL and send it away. It reads the whole
log, not the conversation: a summary must not take URLs away. It must not count what the model can write itself: its
own messages, the outputs of its sandbox and of MCP servers, and error results, which often repeat their input.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Literal

import msgspec

from hostler.log.entries import Entry
from hostler.log.log import Log
from hostler.web.urls import Url, mentioned, parse

KEPT_URLS = 200_000  # over all sessions; those of sessions that were not used for longest are read from the log again
KEPT_SESSIONS = 2_000
WEB_TOOLS = ("web_fetch", "web_search")
_READ = frozenset(
    (
        "user.message",
        "user.define_outcome",
        "agent.tool_use",
        "agent.tool_result",
        "agent.custom_tool_use",
        "user.custom_tool_result",
    )
)


class Source(msgspec.Struct, frozen=True):
    """Where a URL stood: `user`, or the results of a `client` or `server` tool of this name."""

    kind: Literal["user", "client", "server"]
    tool: str = ""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which sources count. A set of names permits only these, or all but these; None permits all."""

    user: bool = True
    client_only: frozenset[str] | None = None
    client_except: frozenset[str] = frozenset()
    server_only: frozenset[str] | None = None
    server_except: frozenset[str] = frozenset()

    def counts(self, source: Source) -> bool:
        if source.kind == "user":
            return self.user
        client = source.kind == "client"
        only = self.client_only if client else self.server_only
        excluded = self.client_except if client else self.server_except
        return (only is None or source.tool in only) and source.tool not in excluded


class _Seen:
    """What one session's log has shown so far."""

    def __init__(self) -> None:
        self.next_seq = 0
        self.tools: dict[str, Source] = {}  # calls without a result so far, by event id
        self.urls: dict[Source, dict[bytes, str]] = {}  # by the digest of their key, as they stood there
        self.lock = asyncio.Lock()
        self._absorbing = threading.Lock()

    def __len__(self) -> int:
        return sum(len(urls) for urls in list(self.urls.values()))

    def absorb(self, entries: Iterable[Entry]) -> None:
        """Take in entries; those it knows already change nothing. Runs in a thread, which outlives a cancelled call."""
        with self._absorbing:
            for entry in sorted(entries, key=lambda entry: entry.seq):
                if entry.seq >= self.next_seq:
                    if entry.type in _READ:
                        self._take(entry.id, entry.type, entry.decode())
                    self.next_seq = entry.seq + 1

    def _take(self, event_id: str, event_type: str, event: dict[str, Any]) -> None:
        match event_type:
            case "user.message":
                self._add(Source("user"), event["content"], bare=True)
            case "user.define_outcome":
                texts = (event["description"], event["rubric"].get("content"))
                self._add(Source("user"), [{"type": "text", "text": text} for text in texts if text], bare=True)
            case "agent.custom_tool_use":
                self.tools[event_id] = Source("client", event["name"])
            case "agent.tool_use":
                if event["name"] in WEB_TOOLS:
                    self.tools[event_id] = Source("server", event["name"])
            case _:
                source = self.tools.pop(event.get("custom_tool_use_id") or event.get("tool_use_id", ""), None)
                if source is not None and not event.get("is_error"):
                    self._add(source, event.get("content") or [], bare=False)

    def _add(self, source: Source, content: list[dict[str, Any]], *, bare: bool) -> None:
        urls = self.urls.setdefault(source, {})
        for text in _texts(content):
            for key, url in mentioned(text, bare=bare):
                urls.setdefault(_digest(key), url)


class PriorUrls:
    """One instance serves all sessions of a process."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, _Seen] = OrderedDict()

    async def find(self, log: Log, session_id: str, url: Url, wanted: Wanted) -> Url | None:
        """The URL as it stood in one of the wanted places of the session's log.

        It, and not the model's spelling of it, is to be fetched: what a URL doesn't say can't be said by the choice
        between two ways to write it.
        """
        seen = self._sessions.setdefault(session_id, _Seen())
        self._sessions.move_to_end(session_id)
        async with seen.lock:
            entries = await log.read(session_id, seen.next_seq)
            await asyncio.to_thread(seen.absorb, entries)
        self._bound()
        digest = _digest(url.key)
        for source, urls in list(seen.urls.items()):
            if wanted.counts(source) and (found := urls.get(digest)) is not None:
                return parse(f"{url.scheme}:{found}" if found.startswith("//") else found)
        return None

    def _bound(self) -> None:
        total = sum(len(seen) for seen in self._sessions.values())
        while (total > KEPT_URLS or len(self._sessions) > KEPT_SESSIONS) and len(self._sessions) > 1:
            total -= len(self._sessions.popitem(last=False)[1])


def _digest(key: str) -> bytes:
    return blake2b(key.encode("utf-8", "replace"), digest_size=12).digest()


def _texts(content: list[dict[str, Any]]) -> Iterator[str]:
    """All that a model reads in content blocks, and the URLs of what it is shown."""
    for block in content:
        yield from (block[name] for name in ("text", "title", "context") if isinstance(block.get(name), str))
        source = block.get("source")
        if isinstance(source, str):  # of a search result
            yield source
        elif isinstance(source, dict):
            if source.get("type") == "url":
                yield source["url"]
            elif source.get("type") == "text":
                yield source["data"]
        if isinstance(block.get("content"), list):
            yield from _texts(block["content"])
