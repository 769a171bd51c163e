"""The configs of `web_fetch` and `web_search`: what is accepted and shown, and what is refused in which words."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from hostler.log.entries import Draft
from serving import Server, ok, refused

Json = dict[str, Any]
CUSTOM = {"type": "custom", "name": "crm", "description": "d", "input_schema": {"type": "object"}}


def toolset(*configs: Json) -> Json:
    return {"type": "agent_toolset_20260401", "configs": list(configs)}


def fetch(**fields: Any) -> Json:
    return {"name": "web_fetch", **fields}


def search(**fields: Any) -> Json:
    return {"name": "web_search", **fields}


def create(http: httpx2.Client, *tools: Json) -> httpx2.Response:
    return http.post("/v1/agents", json={"name": "a", "model": "claude-opus-5-5", "tools": list(tools)})


def resolved(http: httpx2.Client, config: Json, *tools: Json) -> Json:
    made = ok(create(http, toolset(config), *tools))
    assert ok(http.get(f"/v1/agents/{made['id']}")) == made
    shown: Json = made["tools"][0]["configs"][0]
    return shown


def tool(name: str) -> Json:
    return {"type": "tool_reference", "name": name}


POLICY = {"type": "always_allow"}


def test_what_is_shown_of_plain_configs(http: httpx2.Client) -> None:
    shown = resolved(http, fetch())
    assert shown == {
        "type": "web_fetch", "name": "web_fetch", "enabled": True, "permission_policy": POLICY, "url_sources": None,
    }  # fmt: skip
    nulls = dict.fromkeys(("allowed_domains", "blocked_domains", "max_content_tokens", "url_sources"))
    assert resolved(http, fetch(**nulls)) == shown
    shown = resolved(http, search(allowed_domains=None, blocked_domains=None, user_location=None))
    assert shown == {"type": "web_search", "name": "web_search", "enabled": True, "permission_policy": POLICY}
    assert resolved(http, {"name": "bash"}).keys() == {"type", "name", "enabled", "permission_policy"}


def test_what_is_shown_of_full_configs(http: httpx2.Client) -> None:
    shown = resolved(
        http,
        fetch(
            type="web_fetch", enabled=False, permission_policy={"type": "always_ask"}, max_content_tokens=1,
            allowed_domains=["Docs.Example.com"],
            url_sources={"user_input": "none", "client_tool_results": {"type": "only", "tools": [tool("crm")]}},
        ),
        CUSTOM,
    )  # fmt: skip
    assert (shown["enabled"], shown["allowed_domains"], shown["max_content_tokens"]) == (False, ["Docs.Example.com"], 1)
    assert shown["url_sources"] == {
        "client_tool_results": {"type": "only", "tools": [tool("crm")]},
        "server_tool_results": None,
        "user_input": {"type": "none"},
    }
    location = {"type": "approximate", "city": "Lyon", "country": "FR", "timezone": "Europe/Paris"}
    shown = resolved(http, search(blocked_domains=["a.com/b"], user_location={**location, "region": None}))
    assert shown["user_location"] == location
    assert shown["blocked_domains"] == ["a.com/b"]


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("all", {"type": "all"}),
        ({"type": "none"}, {"type": "none"}),
        ({"type": "except", "tools": [tool("web_search")]}, {"type": "except", "tools": [tool("web_search")]}),
        (None, None),
    ],
)
def test_forms_of_url_sources(http: httpx2.Client, sent: Any, shown: Any) -> None:
    config = resolved(http, fetch(url_sources={"server_tool_results": sent}))
    assert config["url_sources"] == {"client_tool_results": None, "server_tool_results": shown, "user_input": None}


AT = "tools.0.configs.0"


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            fetch(allowed_domains=["a.com"], blocked_domains=["b.com"]),
            f"{AT}: Only one of allowed_domains or blocked_domains may be set.",
        ),
        (
            fetch(allowed_domains=[]),
            f"{AT}.allowed_domains: Empty list of domains is ambiguous. Provide at least one domain or null.",
        ),
        (
            search(blocked_domains=[]),
            f"{AT}.blocked_domains: Empty list of domains is ambiguous. Provide at least one domain or null.",
        ),
        (
            fetch(allowed_domains=["127.0.0.1"]),
            f'{AT}.allowed_domains.0: IP addresses are not supported; provide a plain hostname like "example.com"',
        ),
        (fetch(blocked_domains=["a.com", "localhost"]), f"{AT}.blocked_domains.1: local names"),
        (fetch(allowed_domains=["a.com/b"]), f"{AT}.allowed_domains.0: paths"),
        (fetch(allowed_domains=["com"]), f"{AT}.allowed_domains.0: "),
        (fetch(allowed_domains=[f"d{number}.com" for number in range(65)]), f"{AT}.allowed_domains: at most 64"),
        (fetch(allowed_domains=[1]), f"{AT}.allowed_domains.0: "),
        (fetch(max_content_tokens=0), f"{AT}.max_content_tokens"),
        (fetch(user_location={"type": "approximate"}), f"{AT}.user_location: Extra inputs are not permitted"),
        (search(max_content_tokens=5), f"{AT}.max_content_tokens: Extra inputs are not permitted"),
        (search(url_sources={}), f"{AT}.url_sources: Extra inputs are not permitted"),
        ({"name": "bash", "allowed_domains": ["a.com"]}, f"{AT}.allowed_domains: Extra inputs are not permitted"),
        (search(type="web_fetch"), f"{AT}.type"),
        (
            fetch(url_sources=dict.fromkeys(("client_tool_results", "server_tool_results", "user_input"), "none")),
            "none",
        ),
        (fetch(url_sources={"user_input": "some"}), f"{AT}.url_sources.user_input"),
        (fetch(url_sources={"user_input": {"type": "only", "tools": [tool("crm")]}}), f"{AT}.url_sources.user_input"),
        (fetch(url_sources={"other": "all"}), f"{AT}.url_sources.other: Extra"),
        (
            fetch(url_sources={"client_tool_results": {"type": "only", "tools": [tool("no")]}}),
            f"{AT}.url_sources.client_tool_results.tools.0.name: no is not a custom tool",
        ),
        (
            fetch(url_sources={"server_tool_results": {"type": "only", "tools": [tool("bash")]}}),
            f"{AT}.url_sources.server_tool_results.tools.0.name: Input should be 'web_search' or 'web_fetch'",
        ),
        (fetch(url_sources={"client_tool_results": {"type": "only", "tools": []}}), "client_tool_results.tools"),
        (
            fetch(url_sources={"client_tool_results": {"type": "except", "tools": [tool("crm")] * 129}}),
            "client_tool_results.tools",
        ),
        (
            search(user_location={"type": "approximate", "country": "XX"}),
            f"{AT}.user_location.country: not a country the search provider supports",
        ),
        (search(user_location={"type": "approximate", "country": "fr"}), "not a country"),
        (
            search(user_location={"type": "approximate", "timezone": "Mars/Base"}),
            f"{AT}.user_location.timezone: not an",
        ),
        (search(user_location={"type": "exact"}), f"{AT}.user_location.type"),
        (search(user_location={"type": "approximate", "planet": "x"}), f"{AT}.user_location.planet: Extra"),
    ],
)
def test_refused(http: httpx2.Client, config: Json, says: str) -> None:
    assert says in refused(create(http, toolset(config), CUSTOM))


def test_a_limited_environment_confines_allowed_domains(server: Server, http: httpx2.Client) -> None:
    limited = {"type": "cloud", "networking": {"type": "limited"}}
    environment = ok(http.post("/v1/environments", json={"name": "e", "config": limited}))["id"]
    inside = toolset(fetch(enabled=False, allowed_domains=["a.com"]), search(blocked_domains=["b.com"]))
    outside = toolset(fetch(allowed_domains=["a.com"]))
    agent = ok(create(http, outside))["id"]
    body = {"agent": agent, "environment_id": environment}
    says = "agent.tools.0.configs.0.allowed_domains.0: a.com is not among the allowed_hosts"
    assert says in refused(http.post("/v1/sessions", json=body))
    override = {"type": "agent_with_overrides", "id": agent, "tools": [inside]}
    session = ok(http.post("/v1/sessions", json={**body, "agent": override}))["id"]
    assert says in refused(http.post(f"/v1/sessions/{session}", json={"agent": {"tools": [outside]}}))
    assert server.append(session, Draft(type="session.status_idle", fields={"stop_reason": {"type": "end_turn"}}))
    ok(http.post(f"/v1/sessions/{session}", json={"agent": {"tools": [toolset()]}}))
