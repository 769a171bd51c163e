"""Which URLs mean this very server's MCP server, and where it is dialled then. It must not connect to anything.

Such a URL is dialled where the server listens, whatever its name says: no proxy, name server or certificate stands
between, and what tells the server whose session calls never leaves this machine.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from hostler.addresses import is_numeric, is_own

PATH = "/mcp"
SESSION_HEADER = "x-hostler-session"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_PORTS = {"http": 80, "https": 443}

_Place = tuple[str, str, int | None, str]


class OwnServer:
    def __init__(self, public_url: str | None = None) -> None:
        """`public_url` is where the world reaches this server, if it has been told."""
        self._names: set[_Place] = set()
        self._listens: tuple[str, int] | None = None
        self._base_url = ""
        if public_url is not None and (place := _place(public_url + PATH)) is not None:
            self._names.add(place)

    def listens(self, host: str, port: int) -> None:
        """Where it can be reached from here. Until this is known, no URL is its own."""
        self._listens = host, port
        near = _ANY.get(host, host)
        self._base_url = f"http://{f'[{near}]' if ':' in near else near}:{port}"
        names = {near, "localhost"} if near in ("127.0.0.1", "::1") else {near}
        self._names |= {("http", name, port, PATH) for name in names}

    def dialled(self, url: str) -> str | None:
        """Where a URL is dialled that is this server's own; None for any other."""
        place = _place(url)
        if self._listens is None or place is None:
            return None
        if place in self._names or self._is_an_address_of_ours(place):
            return self._base_url + PATH
        return None

    def _is_an_address_of_ours(self, place: _Place) -> bool:
        """One that listens on all addresses is meant by each of them."""
        assert self._listens is not None
        host, port = self._listens
        scheme, named, at, path = place
        if host not in _ANY or (scheme, at, path) != ("http", port, PATH):
            return False
        return is_numeric(named) and (":" in named) <= (":" in host) and is_own(named)


def _place(url: str) -> _Place | None:
    """What a URL stands for, in one spelling; None for one that says more than a place."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        return None
    return parts.scheme, parts.hostname.rstrip("."), port, parts.path.rstrip("/")
