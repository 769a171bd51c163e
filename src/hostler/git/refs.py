"""What a repository has: its branches and tags, as its host lists them. It must not take a name that git would not."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import msgspec

from hostler.git.pktline import BadFrame, Mark, frames

MAX_REFS = 500_000
_OID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# What git-check-ref-format refuses.
_BAD_NAME = re.compile(rb"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|/\.|\.lock(?:/|$)|[/.]$")
_KEPT = (b"refs/heads/", b"refs/tags/")


class Refs(msgspec.Struct, frozen=True):
    """Full names of branches and tags with their objects. `head` is the branch that HEAD names, `detached` what it is
    when it names none."""

    named: dict[bytes, bytes]
    head: bytes | None = None
    detached: bytes | None = None

    def branch(self, name: str) -> bytes | None:
        return self.named.get(b"refs/heads/" + name.encode())

    @property
    def sha256(self) -> bool:
        """Whether the objects are named by SHA-256."""
        return any(len(oid) == 64 for oid in self.named.values())

    def oids(self) -> set[bytes]:
        return {*self.named.values(), *([self.detached] if self.detached else [])}

    def digest(self) -> str:
        """Names these refs: equal ones give the same."""
        whole = hashlib.sha256(b"%s %s\n" % (self.head or b"", self.detached or b""))
        for name in sorted(self.named):
            whole.update(b"%s %s\n" % (self.named[name], name))
        return whole.hexdigest()[:32]


def good_name(name: bytes) -> bool:
    """Whether git would take it as the full name of a branch or tag."""
    return name.startswith(_KEPT) and not _BAD_NAME.search(name) and len(name) < 1024


def good_branch(name: str) -> bool:
    """Whether git would make a branch of this name."""
    full = b"refs/heads/" + name.encode("utf-8", "surrogatepass")
    return bool(name) and not name.startswith(("-", "/", ".")) and name != "HEAD" and good_name(full)


def read_listing(body: bytes) -> Refs:
    """The answer to `ls-refs` of protocol version 2: `oid name attribute...` lines. Raises BadFrame."""
    return _collect(line.split(b" ") for line in frames(body) if isinstance(line, bytes))


def read_advertisement(lines: list[bytes | Mark]) -> Refs:
    """What servers of the older protocol say at once: `oid name`, the first with capabilities behind a NUL."""
    entries = []
    for line in lines:
        if not isinstance(line, bytes) or line.startswith((b"#", b"version ", b"shallow ")):
            continue
        entry, _, capabilities = line.partition(b"\0")
        words = entry.split(b" ", 1)
        found = re.search(rb"(?:^| )symref=HEAD:(\S+)", capabilities)
        entries.append([*words, b"symref-target:" + found[1]] if found and words[-1] == b"HEAD" else words)
    return _collect(iter(entries))


def _collect(entries: Iterator[list[bytes]]) -> Refs:
    named: dict[bytes, bytes] = {}
    head = detached = None
    for words in entries:
        if len(words) < 2 or (words[0] != b"unborn" and not _OID.fullmatch(words[0])):
            raise BadFrame("a line of the listing names no object")
        if words[1] == b"HEAD":
            head = next((w.partition(b":")[2] for w in words[2:] if w.startswith(b"symref-target:")), None)
            detached = words[0] if head is None and words[0] != b"unborn" else None
        elif words[0] != b"unborn" and good_name(words[1]) and set(words[0]) != {ord("0")}:
            named[words[1]] = words[0]
        if len(named) > MAX_REFS:
            raise BadFrame(f"it has more than {MAX_REFS} branches and tags")
    return Refs(named, head if head and good_name(head) else None, detached)
