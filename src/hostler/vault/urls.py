"""Which URLs a credential may name, and which of them are the same. It must not connect to anything.

The stance on server-side requests: whoever holds an API key decides which MCP server and token endpoint a secret is
sent to, private networks included, since that is where a self-hosted server's neighbours are. A secret never goes out
in the clear, so plain http is for this machine only; that also leaves out metadata services, which speak nothing else.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import SplitResult, urlsplit

_PORTS = {"http": 80, "https": 443}


def normalised(url: str) -> str:
    """Return what two spellings of one URL have in common: the scheme and host in lower case, no default port, no
    trailing slash, no user, no fragment. Raises ValueError saying what is wrong with it."""
    parts = _parts(url)
    host = _host(parts)
    port = parts.port if parts.port != _PORTS[parts.scheme] else None
    place = f"[{host}]" if ":" in host else host
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{place}{f':{port}' if port is not None else ''}{parts.path.rstrip('/')}{query}"


def check_secret_url(url: str) -> str:
    """Check that a secret may be sent there, and return the normalised URL. Raises ValueError saying why not."""
    parts = _parts(url)
    if "@" in parts.netloc:
        raise ValueError("a user name or password can't be part of the URL")
    if parts.scheme == "http" and not is_loopback(url):
        raise ValueError("must be https; http is for this machine only (localhost, 127.0.0.1, [::1])")
    return normalised(url)


def is_loopback(url: str) -> bool:
    """Say whether a URL leads to this machine."""
    host = _host(_parts(url))
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(url: str) -> SplitResult:
    if any(char.isspace() or not char.isprintable() for char in url) or "\\" in url:
        raise ValueError("is not a valid URL")
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError("is not a valid URL") from None
    if parts.scheme not in _PORTS:
        raise ValueError("must begin with https:// (or http:// for this machine)")
    if not parts.hostname:
        raise ValueError("has no host")
    return parts


def _host(parts: SplitResult) -> str:
    return (parts.hostname or "").lower()
