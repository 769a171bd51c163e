"""Searches the web through the configured provider: what all of them share. A provider is one row in `PROVIDERS`.

It must not fetch what it finds.
"""

from __future__ import annotations

import asyncio
import html
import logging
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

import msgspec

from hostler.web.client import Clients
from hostler.web.config import WebConfig
from hostler.web.domains import Rules
from hostler.web.problem import WebProblem
from hostler.web.urls import parse

log = logging.getLogger(__name__)

MAX_QUERY = 400
MAX_RESULTS = 10
MAX_SNIPPET = 1200
MAX_ANSWER = 4 * 1024 * 1024
AT_ONCE = 8
PROVIDERS = {
    "searxng": "hostler.web.searxng:SearXNG",
    "brave": "hostler.web.brave:Brave",
    "tavily": "hostler.web.tavily:Tavily",
    "anthropic": "hostler.web.anthropic:ModelSearch",
}
_TAG = re.compile(r"<[^<>]{0,200}>")
_SPACE = re.compile(r"\s+")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """`location` has the members of the wire's `user_location` that are set."""

    text: str
    rules: Rules = Rules()
    location: Mapping[str, str] = {}


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One result as a provider gives it; markup and entities may stand in `title` and `snippet`. `age` is its date."""

    url: str
    title: str = ""
    snippet: str = ""
    age: str = ""


class Provider(Protocol):
    async def find(self, query: Query) -> list[Hit]:
        """The results, best first. Raises WebProblem."""
        ...


class AskModel(Protocol):
    """One side request to the model provider with one of its own server tools; given by the composition root."""

    async def __call__(self, *, model: str, system: str, prompt: str, tool: dict[str, Any]) -> list[dict[str, Any]]:
        """The content blocks of the answer. Raises WebProblem."""
        ...


class Tools(msgspec.Struct, frozen=True):
    """What a provider is made with."""

    config: WebConfig
    key: str
    get_json: GetJson
    ask: AskModel

    def __repr__(self) -> str:
        return f"Tools({self.config!r})"


class Searcher:
    """One instance serves all sessions of a process."""

    def __init__(self, provider: Provider, seconds: float) -> None:
        self._provider = provider
        self._seconds = seconds
        self._seats = asyncio.Semaphore(AT_ONCE)

    async def search(self, query: Query) -> list[Hit]:
        """At most MAX_RESULTS results that the rules let through, in plain text. Raises WebProblem."""
        if not query.text.strip():
            raise WebProblem("invalid_tool_input", "The query is empty.")
        if len(query.text) > MAX_QUERY:
            raise WebProblem("query_too_long", f"A query may have {MAX_QUERY} characters.")
        try:
            async with self._seats, asyncio.timeout(self._seconds):
                found = await self._provider.find(query)
        except TimeoutError:
            raise WebProblem("unavailable", f"The search took more than {self._seconds:g} seconds.") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            log.warning("web search: the provider's answer is not in the expected form (%s)", type(error).__name__)
            raise WebProblem("unavailable", "The search provider gave an answer that can't be read.") from None
        return [_clean(hit) for hit in found if _permitted(hit, query.rules)][:MAX_RESULTS]


def open_searcher(config: WebConfig, environ: Mapping[str, str], ask: AskModel) -> Searcher | None:
    """The configured search; None where there is none, or its key is not set."""
    if not config.search:
        return None
    if config.search_key_env and not config.search_key(environ):
        log.warning("web search is off: the variable %s, which holds the key, is not set", config.search_key_env)
        return None
    module, _, name = PROVIDERS[config.search].partition(":")
    get_json = GetJson(config)
    tools = Tools(config, config.search_key(environ), get_json, ask)
    return Searcher(getattr(import_module(module), name)(tools), config.search_seconds)


class GetJson:
    """Requests of search APIs: bounded, no redirects, no key in any message."""

    def __init__(self, config: WebConfig) -> None:
        self._config = config
        self._clients = Clients(connect_seconds=config.connect_seconds)

    async def __call__(self, method: str, url: str, **request: Any) -> Any:
        """The decoded answer. Raises WebProblem."""
        proxy = "" if self._config.search_url else self._config.proxy  # a server of one's own is near
        async with await self._clients.make(seconds=self._config.search_seconds, proxy=proxy) as client:
            import httpx2

            try:
                async with client.stream(method, url, **request) as response:
                    self._check(response.status_code)
                    return msgspec.json.decode(await _body(response))
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                log.warning("web search: no answer from %s (%s)", self._config.search, type(error).__name__)
                raise WebProblem("unavailable", "The search provider can't be reached.") from None

    def _check(self, status: int) -> None:
        if status == 200:
            return
        log.warning("web search: %s answered with HTTP status %d%s", self._config.search, status, _hint(status))
        if status == 429:
            raise WebProblem("too_many_requests", "The search provider takes no more requests now; try again later.")
        raise WebProblem("unavailable", f"The search provider answered with HTTP status {status}.")


async def _body(response: Any) -> bytes:
    body = b""
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise WebProblem("unavailable", "The search provider's answer is too large.")
    return body


def _hint(status: int) -> str:
    """For the operator, in the server's log."""
    if status in (401, 402, 403):
        return "; check the key, or for SearXNG that settings.yml lists json under search.formats"
    return ""


def with_sites(query: Query, limit: int = 8) -> str:
    """The query with the `site:` operators that most engines know. The rules judge the results in any case, so too
    many domains may be left to them."""
    words = [query.text]
    wanted, unwanted = query.rules.wanted, query.rules.unwanted
    if 0 < len(wanted) <= limit:
        words.append(" OR ".join(f"site:{domain}" for domain in wanted))
    if len(unwanted) <= limit:
        words += [f"-site:{domain}" for domain in unwanted]
    return " ".join(words)


def _permitted(hit: Hit, rules: Rules) -> bool:
    try:
        url = parse(hit.url)
    except WebProblem:
        return False
    return rules.permit(url.host, url.path)


def _clean(hit: Hit) -> Hit:
    snippet = _plain(hit.snippet)[:MAX_SNIPPET]
    return Hit(url=hit.url, title=_plain(hit.title)[:300], snippet=snippet, age=_plain(hit.age)[:40])


def _plain(text: str) -> str:
    return _SPACE.sub(" ", html.unescape(_TAG.sub("", text)).replace("\x00", "")).strip()
