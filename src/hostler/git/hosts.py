"""Which repositories may be named: the config file's `[git]` table, and the parts of a repository's URL.

It computes with text only: it must not resolve a name or connect.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import urlsplit

import msgspec

_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?::[0-9]{1,5})?")
_SEGMENT = re.compile(r"[A-Za-z0-9_~][A-Za-z0-9._~-]{0,99}|\.[A-Za-z0-9_-][A-Za-z0-9._~-]{0,98}")
_MAX_SEGMENTS = 8
_MAX_URL = 1024
GITHUB = "github.com"


class GitConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The `[git]` table. A host is `name`, `name:port`, or `http://name:port` where it has no TLS."""

    hosts: tuple[str, ...] = (GITHUB,)
    repository_mb: int = 2048
    cache_mb: int = 10240
    seconds: float = 600.0
    parallel: int = 4


class BadUrl(ValueError):
    """A URL that can't be used; the message says why, without the URL, which may hold a password."""


class Remote(msgspec.Struct, frozen=True):
    """A repository at its host. `url` is what the client wrote, and what an agent sees."""

    url: str
    place: str  # host, port and path, without `.git`: names the repository at the gateway

    @property
    def name(self) -> str:
        """The last part of the path, without `.git`."""
        return self.place.rpartition("/")[2]


class Hosts:
    """The hosts that repositories may be on."""

    def __init__(self, entries: Iterable[str]) -> None:
        """Raises ValueError for an entry that names no host."""
        self._schemes: dict[str, str] = {}
        for entry in entries:
            scheme, _, host = entry.rpartition("://") if "://" in entry else ("https", "", entry)
            if scheme not in ("https", "http") or not _HOST.fullmatch(host.lower()):
                shown = entry.rpartition("@")[2]  # what stands before it may be a password
                raise ValueError(f"`hosts`: {shown!r} is not a host name, nor an http:// or https:// URL of a host")
            self._schemes[host.lower()] = scheme

    def remote(self, url: str) -> Remote:
        """Take a repository's URL apart. Raises BadUrl."""
        if len(url) > _MAX_URL or not url.isascii() or not url.isprintable() or any(c in url for c in " \\%?#"):
            raise BadUrl("must be a plain URL like https://github.com/owner/repo, without query, fragment or escapes")
        try:
            parts = urlsplit(url)
        except ValueError:
            raise BadUrl("is not a URL") from None
        if "@" in parts.netloc:
            raise BadUrl("must hold no user name or password; give a token as authorization_token")
        host = parts.netloc.lower()
        scheme = self._schemes.get(host)
        if scheme is None or parts.scheme.lower() != scheme:
            allowed = ", ".join(f"{known}://{name}" for name, known in self._schemes.items()) or "none"
            raise BadUrl(f"its host is not allowed by this server, which takes: {allowed}")
        return Remote(
            url=f"{scheme}://{host}{parts.path}", place=f"{host}/{_path(parts.path, host)}".removesuffix(".git")
        )


def _path(path: str, host: str) -> str:
    segments = path[1:].split("/")
    wanted = len(segments) == 2 if host == GITHUB else 1 <= len(segments) <= _MAX_SEGMENTS
    if not wanted or not all(_SEGMENT.fullmatch(part) for part in segments) or segments[-1] == ".git":
        raise BadUrl(f"must name one repository, like https://{host}/owner/repo")
    return "/".join(segments)
