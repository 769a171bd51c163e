"""Refuses what a browser was tricked into sending: pages of other sites, and names that were bent to this machine.

It must not know keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from hostler.errors import PermissionDenied

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PORTS = {"http": 80, "https": 443}


class Origins:
    def __init__(self, public_url: str | None, host: str, port: int) -> None:
        """Where the world reaches this server, if that is known, and where it listens."""
        self._near = {("http", name, port) for name in LOOPBACK}
        self._public = {_origin(public_url)} if public_url is not None else set()
        self._bound_near = host in LOOPBACK

    def check(self, headers: Mapping[str, str]) -> None:
        """Raises PermissionDenied. Programs send no Origin. A server that listens on loopback alone knows all of its
        names; another one doesn't."""
        origin = headers.get("origin")
        if origin is not None and _origin(origin) not in self._near | self._public:
            raise PermissionDenied("Origin: pages of other sites may not call this server; see public_url.")
        if self._bound_near and not self._is_ours(headers.get("host", "")):
            raise PermissionDenied("Host: this name is not one of this server's; if it is, set public_url to it.")

    def _is_ours(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname, parts.port
        except ValueError:
            return False
        return any(name == known[1] and port in (known[2], None) for known in self._near | self._public if known)


def _origin(url: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    return (parts.scheme, parts.hostname, port) if parts.hostname else None
