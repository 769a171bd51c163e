"""Reads URLs: the canonical form of one to fetch, and all those that a text mentions, as comparable keys.

It must not judge where a URL leads.
"""

from __future__ import annotations

import contextlib
import html
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

from hostler.web.problem import WebProblem

MAX_URL = 2048
PORTS = {"http": 80, "https": 443}
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\]")
_SAFE = "%/:@!$&'()*+,;=~-._"
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
# A model and a page often disagree on whether these are escaped, and no server should care.
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!'()*,;")


class Url(NamedTuple):
    """An http or https URL in canonical form, without its fragment. `host` is ASCII, lower-case, brackets left out."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def authority(self) -> str:
        """As a Host header has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def target(self) -> str:
        return f"{self.path}?{self.query}" if self.query else self.path

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    @property
    def key(self) -> str:
        """Equal for URLs that mean the same page: scheme, escapes and a last slash don't count."""
        path = _ESCAPE.sub(_unescape, self.path).rstrip("/")
        query = f"?{_ESCAPE.sub(_unescape, self.query)}" if self.query else ""
        return f"{self.authority}{path}{query}"


def parse(text: str) -> Url:
    """The URL to fetch. Raises WebProblem."""
    if len(text) > MAX_URL:
        raise WebProblem("url_too_long", f"A URL may have {MAX_URL} characters.")
    try:
        return _parse(text.strip())
    except ValueError as error:
        raise WebProblem("invalid_tool_input", f"This is no URL that can be fetched: {error}.") from None


def follow(base: Url, location: str) -> Url:
    """Where a redirect leads. Raises WebProblem."""
    try:
        return parse(urljoin(str(base), location.strip()))
    except ValueError:
        raise WebProblem("url_not_accessible", "The server redirects to what is no URL.") from None


def _parse(text: str) -> Url:
    if _FORBIDDEN.search(text):
        raise ValueError("it holds spaces, control characters or backslashes")
    parts = urlsplit(text)
    scheme = parts.scheme.lower()
    if scheme not in PORTS:
        raise ValueError("only http and https are supported")
    if "@" in parts.netloc:
        raise ValueError("user names in it are not supported")
    if not parts.hostname:
        raise ValueError("it names no host")
    port = parts.port if parts.port is not None else PORTS[scheme]
    if port == 0:
        raise ValueError("port 0 can't be reached")
    return Url(scheme, _host(parts.hostname), port, _path(parts.path), _quoted(parts.query, "?[]"))


@lru_cache(1024)
def _host(name: str) -> str:
    """Lower-case ASCII without a last dot. Raises ValueError."""
    name = name.lower()
    if ":" in name:
        return name.partition("%")[0]
    if not name.isascii():
        import idna  # of a megabyte of tables, for few

        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise ValueError("its host is no valid international name") from None
    name = name.removesuffix(".")
    if not name or len(name) > 253 or not re.fullmatch(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*", name):
        raise ValueError("its host is no valid name")
    return name


def _path(path: str) -> str:
    """Quoted, and without `.` and `..`, also escaped ones."""
    kept: list[str] = []
    segments = _quoted(path, "").split("/")[1:] or [""]
    for index, segment in enumerate(segments):
        plain = segment.lower().replace("%2e", ".")
        last = index == len(segments) - 1
        if plain == "..":
            kept = kept[:-1]
        elif plain != ".":
            kept.append(segment)
            continue
        if last:
            kept.append("")
    return "/" + "/".join(kept)


def _quoted(text: str, more: str) -> str:
    return quote(text, safe=_SAFE + more)


def _unescape(found: re.Match[str]) -> str:
    letter = chr(int(found[1], 16))
    return letter if letter in _PLAIN else found[0].upper()


# -- what a text mentions

_MENTION = re.compile(r"https?:(?:\\?/){2}[^\s<>\"`\x00-\x1f]{1,4096}", re.IGNORECASE)
_BARE = re.compile(r"(?<![\w@/.:%-])(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?::\d{1,5})?(?:/[^\s<>\"`]{0,2048})?", re.I)
_TAIL = ".,;:!?'\")]}*_~>|\\"  # other scripts' punctuation is cut with all that is not ASCII, below
_CUTS = (re.compile(r"['|\\\]]"), re.compile(r"[^\x21-\x7e]"), re.compile(r"[,;]"), re.compile(r"[)*]"))


def mentioned(text: str, *, bare: bool = False) -> Iterator[tuple[str, str]]:
    """All URLs in a text, in whatever dress: Markdown, HTML, JSON, a sentence; each with its key. `bare` takes names
    without a scheme as well, which gives a URL that begins with `//`."""
    for found in _MENTION.finditer(text):
        for url in _meant(found[0]):
            yield url.key, str(url)
    if bare:
        for found in _BARE.finditer(text):
            for url in _meant(f"http://{found[0]}"):
                yield url.key, str(url).removeprefix("http:")


def _meant(raw: str) -> Iterator[Url]:
    for candidate in dict.fromkeys(_candidates(raw)):
        if len(candidate) <= MAX_URL:
            with contextlib.suppress(ValueError):
                yield _parse(candidate)


def _candidates(raw: str) -> Iterator[str]:
    """The URL that was meant is one of these: what follows it in the text may have been taken for a part of it."""
    plain = raw.replace("\\/", "/").replace("\\u0026", "&")
    for text in dict.fromkeys((plain, html.unescape(plain))):
        yield text
        yield text.rstrip(_TAIL)
        yield _balanced(text).rstrip(_TAIL)
        for cut in _CUTS:
            yield cut.split(text, maxsplit=1)[0].rstrip(_TAIL)


def _balanced(text: str) -> str:
    """Up to a closing parenthesis that was opened before the URL, as in `[words](URL)`."""
    depth = 0
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth < 0:
            return text[:index]
    return text
