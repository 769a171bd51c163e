"""Search: each provider against a server that answers as documented, the domain rules, and what a failure says."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from model_servers import Handler, Seen, answering, serving

from hostler.harness.side_request import SideRequest
from hostler.models.script import ScriptedModel
from hostler.web.config import WebConfig
from hostler.web.domains import Rules
from hostler.web.problem import WebProblem
from hostler.web.search import Hit, Query, open_searcher

KEY = "key-that-must-not-show"
SEARXNG = {
    "query": "q",
    "results": [
        {
            "url": "https://a.com/1",
            "title": "A &amp; <b>B</b>",
            "content": "about\n a",
            "publishedDate": "2026-01-02T00:00:00",
        },
        {"url": "https://b.org/docs/x", "title": "B", "content": None, "publishedDate": None},
        {"url": "javascript:alert(1)", "title": "bad", "content": "x"},
    ],
}
BRAVE = {
    "web": {
        "results": [
            {
                "url": "https://a.com/1",
                "title": "A",
                "description": "about <strong>a</strong>",
                "age": "2 days ago",
                "extra_snippets": ["more"],
            },
            {"url": "https://b.org/docs/x", "title": "B", "description": "about b"},
        ]
    }
}
TAVILY = {
    "results": [
        {"url": "https://a.com/1", "title": "A", "content": "about a", "score": 0.9},
        {"url": "https://b.org/docs/x", "title": "B", "content": "about b"},
    ]
}


async def nobody(**_: Any) -> list[dict[str, Any]]:
    raise AssertionError("no model is to be asked")


def search(provider: str, handler: Handler, query: Query, **config: Any) -> tuple[list[Hit], Seen]:
    async def main() -> tuple[list[Hit], Seen]:
        async with serving(handler) as server:
            settings = WebConfig(search=provider, search_url=server.url, search_key_env="KEY", **config)  # type: ignore[arg-type]
            searcher = open_searcher(settings, {"KEY": KEY}, nobody)
            assert searcher is not None
            return await searcher.search(query), server.seen[-1]

    return asyncio.run(main())


def asked(seen: Seen) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(seen.path).query).items()}


def test_searxng() -> None:
    hits, seen = search("searxng", answering(200, SEARXNG), Query(text="two words"))
    assert hits == [
        Hit(url="https://a.com/1", title="A & B", snippet="about a", age="2026-01-02"),
        Hit(url="https://b.org/docs/x", title="B"),
    ]
    assert urlsplit(seen.path).path == "/search"
    assert asked(seen) == {"q": "two words", "format": "json"}


def test_brave() -> None:
    query = Query(text="q", location={"city": "Lyon", "country": "FR", "timezone": "Europe/Paris"})
    hits, seen = search("brave", answering(200, BRAVE), query)
    assert hits[0] == Hit(url="https://a.com/1", title="A", snippet="about a more", age="2 days ago")
    assert seen.headers["x-subscription-token"] == KEY
    assert seen.headers["x-loc-city"] == "Lyon"
    assert seen.headers["x-loc-country"] == "FR"
    assert search("brave", answering(200, {"type": "search"}), query)[0] == []


def test_tavily() -> None:
    rules = Rules(allowed=("a.com", "b.org/docs"))
    hits, seen = search("tavily", answering(200, TAVILY), Query(text="q", rules=rules))
    assert [hit.url for hit in hits] == ["https://a.com/1", "https://b.org/docs/x"]
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.body["include_domains"] == ["a.com", "b.org/docs"]
    blocked = Query(text="q", rules=Rules(blocked=("a.com",)))
    hits, seen = search("tavily", answering(200, TAVILY), blocked)
    assert [hit.url for hit in hits] == ["https://b.org/docs/x"]
    assert seen.body["exclude_domains"] == ["a.com"]


@pytest.mark.parametrize(
    ("rules", "urls", "words"),
    [
        (Rules(allowed=("b.org/docs",)), ["https://b.org/docs/x"], "q site:b.org/docs"),
        (Rules(allowed=("b.org/other", "c.com")), [], "q site:b.org/other OR site:c.com"),
        (Rules(blocked=("a.com",)), ["https://b.org/docs/x"], "q -site:a.com"),
        (Rules(hosts=("a.com",)), ["https://a.com/1"], "q site:a.com"),
        (Rules(hosts=("*.a.com",)), [], "q site:a.com"),
        (Rules(allowed=tuple(f"d{n}.com" for n in range(20))), [], "q"),
    ],
)
def test_domain_rules(rules: Rules, urls: list[str], words: str) -> None:
    hits, seen = search("searxng", answering(200, SEARXNG), Query(text="q", rules=rules))
    assert [hit.url for hit in hits] == urls
    assert asked(seen)["q"] == words


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (429, {}, "too_many_requests"),
        (401, {"error": KEY}, "unavailable"),
        (500, "no", "unavailable"),
        (302, "", "unavailable"),
        (200, "no json", "unavailable"),
        (200, {"results": None}, "unavailable"),
        (200, {"results": [{"title": "no url"}]}, "unavailable"),
        (200, [], "unavailable"),
        (200, "x" * 5_000_000, "unavailable"),
    ],
)
def test_failures(status: int, answer: Any, code: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WebProblem) as raised:
        search("tavily", answering(status, answer), Query(text="a private query"))
    assert raised.value.code == code
    assert KEY not in str(raised.value) + caplog.text
    assert "private" not in str(raised.value) + caplog.text


def test_a_provider_that_is_silent_or_not_there() -> None:
    async def silent(seen: Seen, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    with pytest.raises(WebProblem, match=r"more than 0\.1 seconds"):
        search("brave", silent, Query(text="q"), search_seconds=0.1)
    searcher = open_searcher(WebConfig(search="searxng", search_url="http://127.0.0.1:9"), {}, nobody)
    assert searcher is not None
    with pytest.raises(WebProblem, match="can't be reached"):
        asyncio.run(searcher.search(Query(text="q")))


def test_queries() -> None:
    for text, code in (("", "invalid_tool_input"), ("  ", "invalid_tool_input"), ("q" * 401, "query_too_long")):
        with pytest.raises(WebProblem, match=code):
            search("searxng", answering(200, SEARXNG), Query(text=text))


def test_no_provider() -> None:
    assert open_searcher(WebConfig(), {}, nobody) is None
    assert open_searcher(WebConfig(search="brave", search_key_env="NOT_SET"), {}, nobody) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"search": "searxng"}, {"search": "brave"}, {"search": "tavily"}, {"proxy": "x:1"}, {"search_url": "ftp://x"},
    ],
)  # fmt: skip
def test_wrong_configuration(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`"):
        WebConfig(**wrong)


# -- the model provider's own search

RESULT = {
    "type": "web_search_result",
    "url": "https://a.com/1",
    "title": "A",
    "encrypted_content": "??",
    "page_age": "May 1",
}
OTHER = {**RESULT, "url": "https://b.org/x", "title": "B", "page_age": None}
CITATION = {
    "type": "web_search_result_location",
    "url": "https://a.com/1",
    "title": "A",
    "cited_text": "a is good",
    "encrypted_index": "?",
}


def by_model(content: list[dict[str, Any]], query: Query) -> list[Hit]:
    turn = {"content": content, "template": False}
    searcher = open_searcher(WebConfig(search="anthropic"), {}, SideRequest(ScriptedModel({"turns": [turn]})))
    assert searcher is not None
    return asyncio.run(searcher.search(query))


def found(content: Any) -> list[dict[str, Any]]:
    return [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": content},
        {"type": "text", "text": "A is said to be good, says https://evil.example/", "citations": [CITATION, CITATION]},
    ]


def test_anthropic() -> None:
    hits = by_model(found([RESULT, OTHER, RESULT]), Query(text="q"))
    assert hits == [
        Hit(url="https://a.com/1", title="A", snippet="a is good", age="May 1"),
        Hit(url="https://b.org/x", title="B"),
    ]
    assert (
        by_model(found([RESULT, OTHER]), Query(text="q", rules=Rules(blocked=("a.com",))))[0].url == "https://b.org/x"
    )


def test_anthropic_failures() -> None:
    error = {"type": "web_search_tool_result_error", "error_code": "too_many_requests"}
    with pytest.raises(WebProblem, match="too_many_requests"):
        by_model(found(error), Query(text="q"))
    with pytest.raises(WebProblem, match="did not search"):
        by_model([{"type": "text", "text": "I'd rather not."}], Query(text="q"))


def test_anthropic_gets_the_rules() -> None:
    seen: list[dict[str, Any]] = []

    async def ask(**request: Any) -> list[dict[str, Any]]:
        seen.append(request)
        return found([RESULT])

    searcher = open_searcher(WebConfig(search="anthropic", search_model="small"), {}, ask)
    assert searcher is not None
    query = Query(text="q", rules=Rules(allowed=("a.com",)), location={"country": "FR"})
    asyncio.run(searcher.search(query))
    assert seen[0]["model"] == "small"
    assert seen[0]["tool"] == {
        "type": "web_search_20250305",
        "name": "web_search",
        "max_uses": 1,
        "allowed_domains": ["a.com"],
        "user_location": {"type": "approximate", "country": "FR"},
    }
    json.dumps(seen)
