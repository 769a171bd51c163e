"""Rules on domains, for fetch and search alike: the form of an entry, and which URLs a rule lets through.

It must not resolve names: what a name's address may be is judged where it is connected to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import ip_address

from msgspec import Struct

from hostler.addresses import covers
from hostler.web.problem import WebProblem
from hostler.web.urls import Url

MAX_CHARS = 255
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_PATH = re.compile(r"/[!-~]*")
_LOCAL = ("localhost", "local", "internal")


class BadDomain(ValueError):
    """An entry that is no domain; the message says what to write instead."""


def check(entry: str, *, paths: bool) -> None:
    """Raise BadDomain unless it is a plain hostname, with a path suffix where that is permitted."""
    if not entry.isascii():
        raise BadDomain("only ASCII is supported; write an international name in its xn-- form")
    if not 1 <= len(entry) <= MAX_CHARS:
        raise BadDomain(f"must have 1 to {MAX_CHARS} characters")
    if "://" in entry:
        raise BadDomain('leave out the scheme; provide a plain hostname like "example.com"')
    host, slash, rest = entry.partition("/")
    if slash and not paths:
        raise BadDomain('paths are not supported; provide a plain hostname like "example.com"')
    if slash and (not _PATH.fullmatch(f"/{rest}") or set("?#") & set(rest)):
        raise BadDomain('the path suffix may hold neither spaces nor a query; write it like "example.com/docs"')
    _check_host(host)


def _check_host(host: str) -> None:
    labels = host.split(".")
    if _is_address(host) or _NUMBER.fullmatch(labels[-1]):
        raise BadDomain('IP addresses are not supported; provide a plain hostname like "example.com"')
    if host.startswith("*."):
        raise BadDomain('sub-domains are always included; leave out the "*."')
    if ":" in host or "@" in host:
        raise BadDomain('leave out port and user; provide a plain hostname like "example.com"')
    if labels[-1].lower() in _LOCAL:
        raise BadDomain("local names are not supported")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise BadDomain('not a hostname; provide one like "example.com"')
    if len(labels) < 2:
        raise BadDomain('a top-level domain or single label is not supported; provide a hostname like "example.com"')


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


class Rules(Struct, frozen=True, kw_only=True):
    """What a tool may reach. `allowed` and `blocked` are entries with their sub-domains; `hosts`, of a limited
    environment, are exact names or `*.example.com` for those below one. None permits all. `within` are rules that must
    permit it too."""

    allowed: tuple[str, ...] | None = None
    blocked: tuple[str, ...] = ()
    hosts: tuple[str, ...] | None = None
    within: Rules | None = None

    @property
    def wanted(self) -> list[str]:
        """Domains to name to a search provider, so that it doesn't spend its results elsewhere."""
        if self.allowed is not None:
            return list(self.allowed)
        if self.hosts is not None:
            return [host.removeprefix("*.") for host in self.hosts]
        return self.within.wanted if self.within else []

    @property
    def unwanted(self) -> list[str]:
        return [*self.blocked, *(self.within.unwanted if self.within else ())]

    def permit(self, host: str, path: str = "/") -> bool:
        """Whether a URL with this canonical host (see `urls`) and path may be reached."""
        if self.hosts is not None and not covered(host, self.hosts):
            return False
        if self.allowed is not None and not any(_matches(entry, host, path) for entry in self.allowed):
            return False
        if any(_matches(entry, host, path) for entry in self.blocked):
            return False
        return self.within is None or self.within.permit(host, path)

    def check(self, url: Url, *, redirected: bool = False) -> None:
        """Raise WebProblem unless the URL is permitted."""
        if not self.permit(url.host, url.path):
            where = "where the page redirects to" if redirected else "this host"
            raise WebProblem("url_not_allowed", f"The domain rules of this tool or environment don't allow {where}.")

    @property
    def closed(self) -> bool:
        """Whether nothing at all may be reached."""
        return self.hosts == ()


def covered(host: str, patterns: Iterable[str]) -> bool:
    """Whether a host is one of an environment's `allowed_hosts`."""
    return any(covers(pattern, host) for pattern in patterns)


def host_of(entry: str) -> str:
    return entry.partition("/")[0].lower()


def _matches(entry: str, host: str, path: str) -> bool:
    domain = host_of(entry)
    if host != domain and not host.endswith(f".{domain}"):
        return False
    _, _, suffix = entry.partition("/")
    prefix = f"/{suffix}".rstrip("/")
    return path == prefix or path.startswith(f"{prefix}/")
