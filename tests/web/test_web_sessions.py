"""Whole sessions that look things up: the real server, the official SDK, a site on this machine, a scripted model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.world import BUILTINS, IDLE, INTERRUPT, WEATHER, World, message, only, result, sync_world, unknown_fields
from running import Server
from web.site import Site

SCRIPT: dict[str, Any] = {
    "rules": [
        {
            "when": {"user_text_matches": r"^tell (\S+)"},
            "turns": [{"text": "Noted."}],
        },
        {
            "when": {"user_text_matches": r"^weather"},
            "turns": [{"tools": [{"name": "get_weather", "input": {"city": "x"}}]}, {"text": "Well."}],
        },
        {
            "when": {"user_text_matches": r"^search (.*)"},
            "turns": [
                {"tools": [{"name": "web_search", "input": {"query": "{{1}}"}}]},
                {"text": "{{last_tool_result}}"},
            ],
        },
        {
            "when": {"user_text_matches": r"^many (\S+) (\S+)"},
            "turns": [
                {
                    "tools": [
                        {"name": "web_fetch", "input": {"url": url}} for url in ("{{1}}", "{{2}}", "{{1}}", "{{2}}")
                    ]
                },
                {"text": "All read."},
            ],
        },
        {
            "when": {"user_text_matches": r"^leak (\S+)\|(\S+)"},
            "turns": [{"tools": [{"name": "web_fetch", "input": {"url": "http://{{1}}{{2}}"}}]}, {"text": "Tried."}],
        },
        {
            "when": {"user_text_matches": r"(?:fetch|echo) (\S+)", "tool_offered": "web_fetch"},
            "turns": [
                {"tools": [{"name": "web_fetch", "input": {"url": "{{1}}"}}]},
                {"text": "Read: {{last_tool_result}}"},
            ],
        },
    ],
    "otherwise": {"text": "Nothing to do."},
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with Site() as site:
        yield site


def config(site: Site, search: bool = True) -> str:
    lines = ["[web]", f'allow_private_hosts = ["{site.host}"]']
    return "\n".join([*lines, 'search = "searxng"', f'search_url = "{site.url}"'] if search else lines)


@pytest.fixture(scope="module")
def world(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("web") / "data"
    with Server(folder, config=config(site), scripted=SCRIPT) as server, sync_world(server) as world:
        yield world


def answer(events: list[Any]) -> Any:
    """The one tool result of a turn."""
    (found,) = only(events, "agent.tool_result")
    assert unknown_fields(found) == []
    return found


def failure(events: list[Any]) -> str:
    found = answer(events)
    assert found.is_error
    return str(found.content[0].text)


def web(*configs: dict[str, Any]) -> dict[str, Any]:
    return {**BUILTINS, "configs": list(configs)}


def test_a_page_that_the_user_named(world: World, site: Site) -> None:
    session_id = world.session(BUILTINS)
    events = world.turn(session_id, f"fetch {site.url}/a?b=1")
    (use,) = only(events, "agent.tool_use")
    assert (use.name, use.evaluated_permission) == ("web_fetch", "allow")
    (block,) = answer(events).content
    assert (block.type, block.source.type, block.source.media_type) == ("document", "text", "text/plain")
    assert block.title == "Page"
    assert block.source.data == f"This is /a. [more]({site.url}/linked)"
    assert "/a?b=1" in site.requests
    used = world.beta.sessions.retrieve(session_id).usage.server_tool_use
    assert (used.web_fetch_requests, used.web_search_requests) == (0, 0)


def test_a_link_of_that_page(world: World, site: Site) -> None:
    session_id = world.session(BUILTINS)
    world.turn(session_id, f"fetch {site.url}/a")
    script = world.turn(session_id, f"leak {site.host}|/linked")
    assert not answer(script).is_error
    assert "url_not_in_prior_context" in failure(world.turn(session_id, f"leak {site.host}|/linked2"))


def test_an_agent_cannot_send_out_what_it_knows(world: World, site: Site) -> None:
    """A URL that the model put together is refused, however it tries: also through its shell and through an error."""
    session_id = world.session(BUILTINS)
    before = len(site.requests)
    for _ in range(2):  # the refusal must not put the URL into the conversation either
        text = failure(world.turn(session_id, f"leak {site.host}|/?stolen=secret"))
        assert text.startswith("url_not_in_prior_context: ")
        assert "stolen" not in text
    assert len(site.requests) == before


def test_search_then_fetch(world: World, site: Site) -> None:
    session_id = world.session(BUILTINS)
    found = answer(world.turn(session_id, "search good bread"))
    (hit,) = found.content
    assert (hit.type, hit.source, hit.title) == ("search_result", f"{site.url}/found", "Found")
    assert (hit.content[0].text, hit.citations.enabled) == ("about good bread", False)
    assert "This is /found" in answer(world.turn(session_id, f"leak {site.host}|/found")).content[0].source.data
    usage = world.beta.sessions.retrieve(session_id).usage
    assert (usage.server_tool_use.web_fetch_requests, usage.server_tool_use.web_search_requests) == (0, 1)
    assert int(usage.list_cost.amount) >= 1  # a cent


def test_custom_tools_give_urls_and_url_sources_take_them_away(world: World, site: Site) -> None:
    for sources, allowed in (
        ({}, True),
        ({"client_tool_results": "none"}, False),
        ({"client_tool_results": {"type": "only", "tools": [{"type": "tool_reference", "name": "get_weather"}]}}, True),
    ):
        session_id = world.session(web({"name": "web_fetch", "url_sources": sources}), WEATHER)
        (use,) = only(world.turn(session_id, "weather"), "agent.custom_tool_use")
        world.turn(session_id, result(use.id, f"see {site.url}/weather"))
        assert answer(world.turn(session_id, f"leak {site.host}|/weather")).is_error is not allowed
    session_id = world.session(web({"name": "web_fetch", "url_sources": {"user_input": "none"}}))
    assert "url_not_in_prior_context" in failure(world.turn(session_id, f"fetch {site.url}/a"))


@pytest.mark.parametrize("config", [{"allowed_domains": ["example.com"]}, {"blocked_domains": ["example.org"]}])
def test_domain_rules(world: World, config: dict[str, Any]) -> None:
    session_id = world.session(web({"name": "web_fetch", **config}))
    assert failure(world.turn(session_id, "fetch http://www.example.org/")).startswith("url_not_allowed: ")


def test_private_addresses(world: World, site: Site) -> None:
    session_id = world.session(BUILTINS)
    for url in (world.server.base_url, "http://169.254.169.254/latest/", "http://localhost:9/", f"{site.url}/away"):
        assert failure(world.turn(session_id, f"fetch {url}")).startswith("url_not_allowed: ")


def test_max_content_tokens(world: World, site: Site) -> None:
    session_id = world.session(web({"name": "web_fetch", "max_content_tokens": 2}))
    (block,) = answer(world.turn(session_id, f"fetch {site.url}/a")).content
    assert block.source.data == "This is"
    assert "only its beginning" in block.context


def test_side_by_side(world: World, site: Site) -> None:
    session_id = world.session(BUILTINS)
    events = world.turn(session_id, f"many {site.url}/one {site.url}/two")
    results = {found.tool_use_id: found.content[0].source.data for found in only(events, "agent.tool_result")}
    uses = only(events, "agent.tool_use")
    assert len(results) == len(uses) == 4
    for use in uses:
        assert f"/{use.input['url'].rpartition('/')[2]}. " in results[use.id]


def test_asking_first(world: World, site: Site) -> None:
    session_id = world.session(web({"name": "web_fetch", "permission_policy": {"type": "always_ask"}}))
    (use,) = only(world.turn(session_id, f"fetch {site.url}/asked"), "agent.tool_use")
    assert use.evaluated_permission == "ask"
    assert "/asked" not in site.requests
    events = world.turn(session_id, {"type": "user.tool_confirmation", "tool_use_id": use.id, "result": "allow"})
    assert not answer(events).is_error
    assert "/asked" in site.requests


def test_an_interrupt_in_mid_fetch(world: World, site: Site) -> None:
    session_id = world.session(BUILTINS)
    site.asked.clear()
    with world.stream(session_id) as stream:
        world.send(session_id, message(f"fetch {site.url}/slow/interrupted"))
        while "/slow/interrupted" not in site.requests:
            assert site.asked.wait(20)
            site.asked.clear()
        world.send(session_id, INTERRUPT)
        events = stream.until(IDLE)
    assert "interrupted" in failure(events)
    assert not answer(world.turn(session_id, f"fetch {site.url}/after")).is_error


def test_tools_that_are_off_or_have_no_provider(site: Site, tmp_path: Path) -> None:
    server = Server(tmp_path / "data", config=config(site, search=False), scripted=SCRIPT)
    with server, sync_world(server) as world:
        session_id = world.session(BUILTINS)
        assert not answer(world.turn(session_id, f"fetch {site.url}/a")).is_error
        denied = answer(world.turn(session_id, "search anything"))
        assert "Permission to use web_search has been denied" in denied.content[0].text
        off = world.session(web({"name": "web_fetch", "enabled": False}))
        events = world.turn(off, f"fetch {site.url}/a")
        assert not only(events, "agent.tool_use"), "it was not offered"
        limited = world.beta.environments.create(
            name="closed", config={"type": "cloud", "networking": {"type": "limited"}}
        ).id
        closed = world.beta.sessions.create(agent=world.agent(BUILTINS).id, environment_id=limited).id
        assert not only(world.turn(closed, f"fetch {site.url}/a"), "agent.tool_use")


def test_a_kill_in_mid_fetch(site: Site, tmp_path: Path) -> None:
    """The page may have been got, so it is not got again: the model is told that the outcome is unknown."""
    server = Server(tmp_path / "data", config=config(site), scripted=SCRIPT)
    with server:
        with sync_world(server) as world:
            session_id = world.session(BUILTINS)
            site.asked.clear()
            world.send(session_id, message(f"fetch {site.url}/slow/killed"))
            while "/slow/killed" not in site.requests:
                assert site.asked.wait(20)
                site.asked.clear()
            server.kill()
        server.start()
        with sync_world(server) as world:
            with world.stream(session_id) as stream:
                if not only(world.raw(session_id), IDLE):
                    stream.until(IDLE)
            (found,) = only(world.raw(session_id), "agent.tool_result")
            assert found["is_error"]
            assert "outcome is unknown" in found["content"][0]["text"]
            assert site.requests.count("/slow/killed") == 1
            # What the session has shown is known from the log alone.
            world.turn(session_id, f"tell {site.url}/told")
        server.restart()
        with sync_world(server) as world:
            assert not answer(world.turn(session_id, f"leak {site.host}|/told")).is_error
