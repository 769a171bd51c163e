"""MCP servers and toolsets of agents: what is filled in, and the rules between the two lists wherever they change."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import httpx2
import msgspec
import pytest

from databases import Databases
from hostler.errors import InvalidRequest
from hostler.ids import new_id
from hostler.log.entries import Draft
from hostler.services import resolve
from hostler.services.agent_rules import check_network, check_references
from hostler.wire.agents import ModelConfig, ServiceAccountIdentity, SessionAgent, Skill
from hostler.wire.environments import CloudConfig, LimitedNetwork, Packages
from hostler.wire.tools import McpServer, ToolParams
from serving import Server, ok, refused

Json = dict[str, Any]
ASK = {"type": "always_ask"}
ALLOW = {"type": "always_allow"}


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def server_of(name: str = "crm", url: str = "https://mcp.example.com/mcp") -> Json:
    return {"type": "url", "name": name, "url": url}


def toolset(name: str = "crm", **more: Any) -> Json:
    return {"type": "mcp_toolset", "mcp_server_name": name, **more}


def post(http: httpx2.Client, **fields: Any) -> httpx2.Response:
    return http.post("/v1/agents", json={"name": "a", "model": "claude-opus-5-5", **fields})


@pytest.fixture
def connected(http: httpx2.Client) -> Json:
    return ok(post(http, mcp_servers=[server_of()], tools=[toolset()]))


def test_a_toolset_asks_first_where_nothing_is_said(connected: Json) -> None:
    assert connected["mcp_servers"] == [server_of()]
    default = {"enabled": True, "permission_policy": ASK}
    assert connected["tools"] == [{**toolset(), "configs": [], "default_config": default}]


def test_a_config_inherits_what_it_leaves_out(http: httpx2.Client) -> None:
    default = {"enabled": False, "permission_policy": {"type": "auto"}}
    configs = [{"name": "find", "enabled": True}, {"name": "drop", "permission_policy": ASK}]
    tools = [toolset(default_config=default, configs=configs)]
    resolved = ok(post(http, mcp_servers=[server_of()], tools=tools))["tools"][0]
    assert resolved["default_config"] == default
    assert resolved["configs"] == [
        {"name": "find", "enabled": True, "permission_policy": {"type": "auto"}},
        {"name": "drop", "enabled": False, "permission_policy": ASK},
    ]


def test_every_policy_is_accepted_on_both_kinds_of_toolset(http: httpx2.Client) -> None:
    for policy in (ALLOW, ASK, {"type": "auto"}):
        default = {"enabled": True, "permission_policy": policy}
        tools = [toolset(default_config=default), {"type": "agent_toolset_20260401", "default_config": default}]
        made = ok(post(http, mcp_servers=[server_of()], tools=tools))
        assert [tool["default_config"] for tool in made["tools"]] == [default, default]


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pass@mcp.example.com/mcp?x=1",
        "http://127.0.0.1:9000",
        "https://[::1]:8443/mcp",
        "HTTPS://A.example",
    ],
)
def test_urls_that_are_fine(http: httpx2.Client, url: str) -> None:
    made = ok(post(http, mcp_servers=[server_of(url=url)], tools=[toolset()]))
    assert made["mcp_servers"][0]["url"] == url


@pytest.mark.parametrize(
    "url",
    [
        "",
        "mcp.example.com",
        "ftp://x/y",
        "https://",
        "https://a b",
        "https://x:99999/",
        "https://[",
        "file:///etc/passwd",
    ],
)
def test_urls_that_are_not(http: httpx2.Client, url: str) -> None:
    said = refused(post(http, mcp_servers=[server_of(url=url)], tools=[toolset()]))
    assert said.startswith("mcp_servers.0.url: ")


def test_a_refused_url_is_never_repeated(http: httpx2.Client) -> None:
    said = refused(post(http, mcp_servers=[server_of(url="ftp://me:hunter2@x/")], tools=[toolset()]))
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("servers", "tools", "says"),
    [
        ([], [toolset()], "tools.0.mcp_server_name: mcp_servers has no server named crm"),
        ([server_of()], [], "mcp_servers.0: no mcp_toolset in tools refers to server crm"),
        ([server_of()], [toolset(), toolset()], "tools.1.mcp_server_name: server crm already has an mcp_toolset"),
        ([server_of(), server_of()], [toolset()], "mcp_servers.1.name: duplicate server name crm"),
        ([server_of("")], [toolset("")], "mcp_servers.0.name"),
        ([server_of("x" * 256)], [toolset("x" * 256)], "mcp_servers.0.name"),
        ([server_of(url="https://x/" + "y" * 2040)], [toolset()], "mcp_servers.0.url"),
        ([server_of(str(n)) for n in range(21)], [toolset(str(n)) for n in range(21)], "mcp_servers"),
        ([{**server_of(), "type": "stdio"}], [toolset()], "mcp_servers.0.type"),
        ([{**server_of(), "authorization_token": "t"}], [toolset()], "mcp_servers.0.authorization_token"),
        ([server_of()], [toolset(configs=[{"name": "a"}, {"name": "a"}])], "tools.0.configs.1.name: duplicate"),
        ([server_of()], [toolset(configs=[{"name": "a" * 129}])], "tools.0.configs.0.name"),
        ([server_of()], [toolset(default_config={"permission_policy": {"type": "maybe"}})], "permission_policy"),
        (
            [server_of()],
            [toolset(configs=[{"name": str(n)} for n in range(250)]), {"type": "agent_toolset_20260401"}],
            "tools: at most 256 tools are allowed over all toolsets, there are 258",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(
    http: httpx2.Client, servers: list[Json], tools: list[Json], says: str
) -> None:
    assert says in refused(post(http, mcp_servers=servers, tools=tools))
    assert ok(http.get("/v1/agents"))["data"] == []


def test_an_update_is_judged_by_what_results(http: httpx2.Client, connected: Json) -> None:
    url = f"/v1/agents/{connected['id']}"
    assert "no mcp_toolset" in refused(http.post(url, json={"tools": []}))
    assert "no server named crm" in refused(http.post(url, json={"mcp_servers": None}))
    assert "no server named crm" in refused(http.post(url, json={"mcp_servers": [server_of("other")]}))
    moved = ok(http.post(url, json={"mcp_servers": [server_of(url="https://other.example.com/")]}))
    assert (moved["version"], moved["tools"]) == (2, connected["tools"])
    assert ok(http.post(url, json={"mcp_servers": moved["mcp_servers"], "tools": [toolset()]}))["version"] == 2
    cleared = ok(http.post(url, json={"mcp_servers": [], "tools": None}))
    assert (cleared["version"], cleared["mcp_servers"], cleared["tools"]) == (3, [], [])


def test_overrides_are_judged_by_what_results(http: httpx2.Client, connected: Json, environment: Json) -> None:
    def create(**overrides: Any) -> httpx2.Response:
        agent = {"type": "agent_with_overrides", "id": connected["id"], **overrides}
        return http.post("/v1/sessions", json={"agent": agent, "environment_id": environment["id"]})

    assert "agent.tools.0.mcp_server_name" in refused(create(mcp_servers=[]))
    assert "agent.mcp_servers.0" in refused(create(tools=None))
    assert "agent.mcp_servers.0.url" in refused(create(mcp_servers=[server_of(url="x")]))
    both = ok(create(mcp_servers=[server_of("b")], tools=[toolset("b")]))["agent"]
    assert (both["mcp_servers"], both["tools"][0]["mcp_server_name"]) == ([server_of("b")], "b")
    none = ok(create(mcp_servers=None, tools=[]))["agent"]
    assert (none["mcp_servers"], none["tools"]) == ([], [])
    assert ok(http.get(f"/v1/agents/{connected['id']}"))["version"] == 1


def test_a_session_changes_its_own_servers(
    server: Server, http: httpx2.Client, connected: Json, environment: Json
) -> None:
    session = ok(http.post("/v1/sessions", json={"agent": connected["id"], "environment_id": environment["id"]}))
    url = f"/v1/sessions/{session['id']}"
    assert "agent.tools.0.mcp_server_name" in refused(http.post(url, json={"agent": {"mcp_servers": []}}))
    assert "agent.mcp_servers.0" in refused(http.post(url, json={"agent": {"tools": []}}))
    same = {"mcp_servers": connected["mcp_servers"], "tools": [toolset()]}
    assert ok(http.post(url, json={"agent": same}))["agent"] == session["agent"]
    assert ok(http.get(f"{url}/events"))["data"] == []
    changed = ok(http.post(url, json={"agent": {"mcp_servers": [server_of("b")], "tools": [toolset("b")]}}))["agent"]
    assert changed == {**session["agent"], "mcp_servers": changed["mcp_servers"], "tools": changed["tools"]}
    assert changed["mcp_servers"] == [server_of("b")]
    (event,) = ok(http.get(f"{url}/events"))["data"]
    assert (event["type"], event["agent"]) == ("session.updated", changed)
    assert not {"title", "metadata", "budget"} & event.keys()
    assert ok(http.get(f"/v1/agents/{connected['id']}")) == connected
    server.append(session["id"], Draft(type="session.status_running"), status="running")
    assert "while the session is running" in refused(http.post(url, json={"agent": {"mcp_servers": []}}))


def test_a_limited_network_has_to_allow_the_servers(http: httpx2.Client, connected: Json) -> None:
    config = {"type": "cloud", "networking": {"type": "limited"}}
    environment = ok(http.post("/v1/environments", json={"name": "e", "config": config}))
    body = {"agent": connected["id"], "environment_id": environment["id"]}
    assert "doesn't allow MCP server crm" in refused(http.post("/v1/sessions", json=body))
    without = {"type": "agent_with_overrides", "id": connected["id"], "mcp_servers": [], "tools": []}
    session = ok(http.post("/v1/sessions", json={**body, "agent": without}))
    update = {"agent": {"mcp_servers": [server_of()], "tools": [toolset()]}}
    assert "doesn't allow" in refused(http.post(f"/v1/sessions/{session['id']}", json=update))


@pytest.mark.parametrize(
    ("hosts", "any_server", "allowed"),
    [
        (["mcp.example.com"], False, True),
        (["MCP.example.com"], False, True),
        (["*.example.com"], False, True),
        (["example.com"], False, False),
        (["*.com.evil"], False, False),
        ([], True, True),
    ],
)
def test_hosts_of_a_limited_network(hosts: list[str], any_server: bool, allowed: bool) -> None:
    network = LimitedNetwork(allowed_hosts=hosts, allow_mcp_servers=any_server, allow_package_managers=False)
    config = CloudConfig(networking=network, packages=Packages(apt=[], cargo=[], gem=[], go=[], npm=[], pip=[]))
    agent = SessionAgent(
        id="agent_1", version=1, name="a", description=None, model=ModelConfig(id="m"), system=None, tools=[],
        mcp_servers=[McpServer(name="crm", url="https://mcp.Example.com/mcp")], skills=[],
        execution_identity=ServiceAccountIdentity(),
    )  # fmt: skip
    if allowed:
        check_network(agent, config)
    else:
        with pytest.raises(InvalidRequest, match="doesn't allow MCP server crm"):
            check_network(agent, config)


@pytest.mark.parametrize(
    ("toolset", "fine"),
    [
        ({}, True),
        ({"configs": [{"name": "read", "enabled": False}]}, False),
        ({"default_config": {"enabled": False}}, False),
        ({"default_config": {"enabled": False}, "configs": [{"name": "read", "enabled": True}]}, True),
        (None, False),
    ],
)
def test_skills_need_the_read_tool(toolset: Json | None, fine: bool) -> None:
    sent = [] if toolset is None else [{"type": "agent_toolset_20260401", **toolset}]

    agent: Any = SimpleNamespace(
        tools=resolve.tools(msgspec.convert(sent, list[ToolParams])),
        mcp_servers=[],
        skills=[Skill(type="anthropic", skill_id="docx", version="1")],
    )
    if fine:
        check_references(agent)
    else:
        with pytest.raises(InvalidRequest, match="skills: an agent reads its skills with the read tool"):
            check_references(agent, "agent.")
