"""Which URLs a session has shown, from where, and what can't smuggle one in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from stage import SESSION, Stage

from hostler.harness import prior_urls
from hostler.harness.prior_urls import PriorUrls, Wanted
from hostler.log.entries import Draft
from hostler.web.urls import parse

EVERYWHERE = Wanted()


def text(content: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}]


def said(content: str) -> Draft:
    return Draft(type="user.message", fields={"content": text(content)})


def called(name: str, result: Any, *, kind: str = "agent.tool", **fields: Any) -> list[Draft]:
    """A call and its result."""
    use = Draft(type=f"{kind}_use", fields={"name": name, "input": {"url": "https://input.example/"}})
    key = {"agent.tool": "tool_use_id", "agent.custom_tool": "custom_tool_use_id", "agent.mcp_tool": "mcp_tool_use_id"}
    kind = "user.custom_tool" if kind == "agent.custom_tool" else kind
    content = text(result) if isinstance(result, str) else result
    return [
        use,
        Draft(
            type=f"{kind}_result", fields={key[f"agent.{kind.partition('.')[2]}"]: use.id, "content": content, **fields}
        ),
    ]


def seen(folder: Path, drafts: list[Draft], *urls: str, wanted: Wanted = EVERYWHERE) -> list[str | None]:
    async def main() -> list[str | None]:
        stage = await Stage.open(folder, {"turns": [{"text": "x"}]})
        await stage.send(*drafts)
        prior = PriorUrls()
        found = [await prior.find(stage.log, SESSION, parse(url), wanted) for url in urls]
        await stage.store.close()
        return [str(url) if url else None for url in found]

    return asyncio.run(main())


def test_what_the_user_wrote(tmp_path: Path) -> None:
    document = {
        "type": "document",
        "title": "T",
        "source": {"type": "text", "media_type": "text/plain", "data": "https://d.org/x"},
    }
    linked = {"type": "image", "source": {"type": "url", "url": "https://i.org/y.png"}}
    message = Draft(
        type="user.message", fields={"content": [*text("Read https://a.com/p?q=1, and b.com/z."), document, linked]}
    )
    urls = ["https://a.com/p?q=1", "http://b.com/z", "https://d.org/x", "https://i.org/y.png"]
    assert seen(tmp_path, [message], *urls, "https://a.com/p?q=2", "https://evil.org/") == [*urls, None, None]


def test_what_an_outcome_names(tmp_path: Path) -> None:
    rubric = {"type": "text", "content": "as on https://rubric.org"}
    goal = Draft(type="user.define_outcome", fields={"description": "Sum up goal.org/x.", "rubric": rubric})
    assert all(seen(tmp_path, [goal], "https://goal.org/x", "https://rubric.org"))


def test_the_url_is_fetched_as_it_was_shown(tmp_path: Path) -> None:
    """So the choice of a spelling carries no message to whoever owns the URL."""
    spelled = ["HTTPS://A.com:443/%70/#secret", "http://a.com/p", "https://a.com/%70"]
    assert seen(tmp_path, [said("https://a.com/p")], *spelled) == ["https://a.com/p"] * 3


def test_results_of_tools(tmp_path: Path) -> None:
    hit = {
        "type": "search_result",
        "source": "https://hit.org/1",
        "title": "t",
        "content": text("https://in.hit/2"),
        "citations": {"enabled": False},
    }
    page = {
        "type": "document",
        "title": "x",
        "source": {"type": "text", "media_type": "text/plain", "data": "[a](https://page.org/3)"},
    }
    drafts = [
        *called("web_search", [hit]),
        *called("web_fetch", [page]),
        *called("crm", "https://crm.org/4", kind="agent.custom_tool"),
        *called("bash", "https://bash.org/5"),
        *called("notion", "https://mcp.org/6", kind="agent.mcp_tool", mcp_server_name="notion"),
        Draft(type="agent.message", fields={"content": text("https://model.org/7")}),
    ]
    urls = ["https://hit.org/1", "https://in.hit/2", "https://page.org/3", "https://crm.org/4"]
    never = ["https://bash.org/5", "https://mcp.org/6", "https://model.org/7", "https://input.example/"]
    assert seen(tmp_path, drafts, *urls, *never) == [*urls, None, None, None, None]


def test_an_error_that_repeats_its_input_opens_nothing(tmp_path: Path) -> None:
    drafts = [
        *called("web_fetch", "https://evil.org/?secret", is_error=True),
        *called("crm", "no such page: https://evil.org/?secret", kind="agent.custom_tool", is_error=True),
    ]
    assert seen(tmp_path, drafts, "https://evil.org/?secret") == [None]


def test_sources(tmp_path: Path) -> None:
    drafts = [
        said("https://user.org"),
        *called("web_search", "https://search.org"),
        *called("web_fetch", "https://fetch.org"),
        *called("crm", "https://crm.org", kind="agent.custom_tool"),
        *called("wiki", "https://wiki.org", kind="agent.custom_tool"),
    ]
    urls = [f"https://{name}.org/" for name in ("user", "search", "fetch", "crm", "wiki")]
    cases = {
        Wanted(user=False): urls[1:],
        Wanted(client_only=frozenset()): urls[:3],
        Wanted(server_only=frozenset({"web_search"})): [urls[0], urls[1], *urls[3:]],
        Wanted(server_except=frozenset({"web_search"})): [urls[0], *urls[2:]],
        Wanted(client_only=frozenset({"crm"})): urls[:4],
        Wanted(client_except=frozenset({"crm"})): [*urls[:3], urls[4]],
    }
    for number, (wanted, expected) in enumerate(cases.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert [url for url in seen(folder, drafts, *urls, wanted=wanted) if url] == expected


def test_it_follows_the_log_and_survives_compaction(tmp_path: Path) -> None:
    async def main() -> None:
        stage = await Stage.open(tmp_path, {"turns": [{"text": "x"}]})
        prior = PriorUrls()
        await stage.send(said("https://a.com"))
        assert await prior.find(stage.log, SESSION, parse("https://a.com"), EVERYWHERE)
        assert not await prior.find(stage.log, SESSION, parse("https://b.com"), EVERYWHERE)
        await stage.send(Draft(type="hostler.context_summary", fields={"text": "nothing"}))
        await stage.say("https://b.com")  # queued: said, though not taken up yet
        for url in ("https://a.com", "https://b.com"):
            for knowing in (prior, PriorUrls()):
                assert await knowing.find(stage.log, SESSION, parse(url), EVERYWHERE)
        await stage.store.close()

    asyncio.run(main())


def test_what_is_kept_is_bounded(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(prior_urls, "KEPT_URLS", 100)

    async def main() -> None:
        stage = await Stage.open(tmp_path, {"turns": [{"text": "x"}]})
        await stage.send(said(" ".join(f"https://a.com/{number}" for number in range(80))))
        prior = PriorUrls()
        for _ in range(3):
            assert await prior.find(stage.log, SESSION, parse("https://a.com/7"), EVERYWHERE)
            prior._sessions["other"] = prior_urls._Seen()
            prior._sessions["other"].absorb(await stage.log.read(SESSION))
            prior._bound()
            assert list(prior._sessions) == ["other"]
        await stage.store.close()

    asyncio.run(main())
