"""What a package manager may reach while it builds, as this machine's own settings for it say.

Addresses may hold passwords: they go into build sandboxes only, never into an agent's, and `redact` takes them out of
everything that is shown. It must not connect to anything.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

_CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
_SHORTEST_SECRET = 4  # shorter ones would hide too much

Host = tuple[str, int]


class Reach(NamedTuple):
    """`hosts` are those that the operator names: they may have addresses that are not public. `upstream` is the proxy
    to go through, `bundle` a file of certificates, `secrets` what nobody may be shown."""

    hosts: frozenset[Host] = frozenset()
    upstream: str | None = None
    bundle: Path | None = None
    secrets: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return "Reach(...)"

    def redact(self, text: str) -> str:
        """Take passwords out of what a package manager said."""
        for secret in sorted(self.secrets, key=len, reverse=True):
            text = text.replace(secret, "****")
        return _CREDENTIALS.sub("****@", text)


def reach(
    urls: Iterable[str],
    environ: Mapping[str, str],
    *,
    proxy: str | None = None,
    bundle: str | None = None,
    secrets: Iterable[str] = (),
) -> Reach:
    """What it takes to get at these addresses. `proxy` and `bundle` go before those of the environment. Raises
    ValueError for an address that is none."""
    split = [urlsplit(url) for url in urls if "://" in url]
    upstream = proxy or environ.get("HTTPS_PROXY") or environ.get("https_proxy") or None
    first = next((url.hostname for url in split if url.hostname), None)
    if upstream and first and bypasses(first, environ):
        upstream = None
    certificates = bundle or environ.get("SSL_CERT_FILE") or environ.get("REQUESTS_CA_BUNDLE")
    known = secrets_of([*split, urlsplit(upstream or "")]) | long_enough(secrets)
    return Reach(hosts_of(split), upstream, Path(certificates) if certificates else None, frozenset(known))


def hosts_of(urls: Iterable[SplitResult]) -> frozenset[Host]:
    found = set()
    for url in urls:
        with contextlib.suppress(ValueError):
            if url.hostname:
                found.add((url.hostname, url.port or (80 if url.scheme == "http" else 443)))
    return frozenset(found)


def bypasses(host: str, environ: Mapping[str, str]) -> bool:
    rule = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return bool(proxy_bypass_environment(host, {"no": rule}))


def secrets_of(urls: Iterable[SplitResult]) -> set[str]:
    """Whatever stands before the `@` of an address, as it stands there and decoded."""
    words = {word for url in urls for word in (url.password, url.username if url.password is None else None) if word}
    return long_enough(words | {unquote(word) for word in words})


def long_enough(words: Iterable[str]) -> set[str]:
    return {word for word in words if len(word) >= _SHORTEST_SECRET}
