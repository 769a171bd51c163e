"""Agents, versions and environments through the strict official SDK: every endpoint, every documented parameter."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import anthropic
import pytest

from contract.world import BUILTINS, WEATHER, World, unknown_fields

ALLOW = {"type": "always_allow"}
ASK = {"type": "always_ask"}


def test_an_agent_with_everything(either: World) -> None:
    agent = either.beta.agents.create(
        name="Full",
        model={"id": "claude-opus-5-5", "effort": {"type": "low"}, "speed": "standard"},
        system="You judge.",
        description="A judge.",
        tools=[BUILTINS, WEATHER],
        metadata={"team": "a"},
        execution_identity={"type": "service_account"},
    )
    assert agent.id.startswith("agent_")
    assert (agent.type, agent.version, agent.archived_at) == ("agent", 1, None)
    assert (agent.name, agent.system, agent.description, agent.metadata) == (
        "Full", "You judge.", "A judge.", {"team": "a"},
    )  # fmt: skip
    assert agent.model.to_dict() == {
        "id": "claude-opus-5-5", "effort": {"type": "low"}, "speed": "standard", "inference_geo": None,
    }  # fmt: skip
    assert agent.execution_identity.type == "service_account"
    assert (agent.skills, agent.mcp_servers) == ([], [])
    assert agent.tools[1].to_dict() == WEATHER
    assert agent.created_at.tzinfo is not None
    assert either.beta.agents.retrieve(agent.id) == agent


def test_a_bare_agent_is_filled_in(either: World) -> None:
    agent = either.beta.agents.create(name="Bare", model="claude-opus-5-5")
    assert agent.model.effort.type in ("low", "medium", "high", "xhigh", "max")
    assert (agent.system, agent.description, agent.tools, agent.metadata) == (None, None, [], {})
    assert agent.execution_identity.type == "service_account"


def test_toolsets_come_back_resolved(either: World) -> None:
    def echo(**toolset: Any) -> Any:
        return either.agent({**BUILTINS, **toolset}).tools[0].to_dict()

    assert echo() == {
        "type": "agent_toolset_20260401",
        "default_config": {"enabled": True, "permission_policy": ALLOW},
        "configs": [],
    }
    assert echo(default_config={"enabled": False}, configs=[{"name": "bash", "enabled": True}]) == {
        "type": "agent_toolset_20260401",
        "default_config": {"enabled": False, "permission_policy": ALLOW},
        "configs": [{"type": "bash", "name": "bash", "enabled": True, "permission_policy": ALLOW}],
    }
    configs = [{"name": name, "permission_policy": ASK} for name in ("bash", "read", "write", "edit", "glob", "grep")]
    resolved = echo(configs=configs)["configs"]
    assert [(config["name"], config["enabled"], config["permission_policy"]) for config in resolved] == [
        (config["name"], True, ASK) for config in configs
    ]


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ([BUILTINS, BUILTINS], "only one"),
        ([{**BUILTINS, "configs": [{"name": "bash"}, {"name": "bash"}]}], "duplicate"),
        ([{**BUILTINS, "configs": [{"name": "telnet"}]}], "telnet|name"),
        ([{**BUILTINS, "default_config": {"permission_policy": {"type": "sometimes"}}}], "permission_policy"),
        ([WEATHER, WEATHER], "duplicate"),
        ([{**WEATHER, "name": "bash"}], "built-in"),
        ([{**WEATHER, "name": "mcp__x"}], "reserved"),
        ([{**WEATHER, "name": "ant__x"}], "reserved"),
        ([{**WEATHER, "name": "no spaces"}], "name"),
        ([{**WEATHER, "description": ""}], "description"),
        ([{**WEATHER, "input_schema": {"type": "string"}}], "object"),
        ([{**WEATHER, "input_schema": {"type": "object", "anyOf": []}}], "anyOf"),
        ([{"type": "teleport"}], "tools"),
    ],
)
def test_wrong_tools_are_refused(world: World, tools: list[Any], said: str) -> None:
    with pytest.raises(anthropic.BadRequestError, match=said) as refused:
        world.beta.agents.create(name="Wrong", model="claude-opus-5-5", tools=tools)
    assert refused.value.type == "invalid_request_error"


def test_versions(either: World) -> None:
    first = either.agent(WEATHER, system="one", metadata={"keep": "1", "drop": "2"}, description="D")
    second = either.beta.agents.update(first.id, system="two", version=1, metadata={"drop": None, "add": "3"})
    assert (second.version, second.system, second.description) == (2, "two", "D")
    assert second.metadata == {"keep": "1", "add": "3"}
    assert [tool.type for tool in second.tools] == ["custom"], "what is omitted stays"
    assert either.beta.agents.update(first.id, system="two").version == 2, "no change, no version"
    third = either.beta.agents.update(first.id, system="", tools=[], description=None, name="Other")
    assert (third.version, third.system, third.description, third.tools, third.name) == (3, None, None, [], "Other")
    assert either.beta.agents.retrieve(first.id, version=1) == first
    assert [agent.version for agent in either.beta.agents.versions.list(first.id)] == [3, 2, 1]
    assert [agent.version for agent in either.beta.agents.versions.list(first.id, limit=1)] == [3, 2, 1]
    with pytest.raises(anthropic.NotFoundError):
        either.beta.agents.retrieve(first.id, version=9)


def test_the_model_is_replaced_whole_but_keeps_its_effort(either: World) -> None:
    agent = either.agent(model={"id": "claude-opus-5-5", "effort": "low"})
    assert either.beta.agents.update(agent.id, model={"id": "claude-opus-5-5"}).model.effort.type == "low"
    assert either.beta.agents.update(agent.id, model="claude-sonnet-5-5").model.id == "claude-sonnet-5-5"


def test_a_list_of_agents(either: World) -> None:
    agents = [either.agent(name=f"Listed {number}") for number in range(5)]
    made = [agent.id for agent in agents]
    either.beta.agents.archive(made[0])
    since: Any = {"created_at_gte": agents[0].created_at}
    listed = [agent.id for agent in either.beta.agents.list(**since, limit=2)]
    assert listed == made[:0:-1], "newest first, without the archived one, across pages"
    assert [agent.id for agent in either.beta.agents.list(**since, include_archived=True)] == made[::-1]
    assert list(either.beta.agents.list(created_at_lte=agents[0].created_at - timedelta(days=3650))) == []
    page = either.beta.agents.list(**since, limit=2)
    assert [agent.id for agent in page.data] == made[:2:-1]
    assert page.has_next_page()
    after = page.get_next_page()
    assert [agent.id for agent in after.data] == made[2:0:-1]
    assert not after.has_next_page()


def test_an_archived_agent_stays_readable_only(either: World) -> None:
    agent = either.agent()
    archived = either.beta.agents.archive(agent.id)
    assert archived.archived_at is not None
    assert either.beta.agents.archive(agent.id) == archived
    assert either.beta.agents.retrieve(agent.id) == archived
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        either.beta.agents.update(agent.id, name="No")
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        either.session(agent=agent.id)


# -- environments

PACKAGES: dict[str, Any] = {"apt": [], "cargo": [], "gem": [], "go": [], "npm": [], "pip": []}


def test_an_environment_is_filled_in(either: World) -> None:
    made = either.beta.environments.create(name="Plain")
    assert made.id.startswith("env_")
    shown = made.to_dict()
    assert shown["type"] == "environment"
    assert shown["state"] == "active"
    assert shown["scope"] == "organization"
    assert (shown["metadata"], shown["archived_at"]) == ({}, None)
    config = shown["config"]
    assert (config["type"], config["networking"]) == ("cloud", {"type": "unrestricted"})
    assert {name: config["packages"][name] for name in PACKAGES} == PACKAGES
    assert isinstance(made.created_at, str), "environments' timestamps are strings"
    assert either.beta.environments.retrieve(made.id) == made


def test_forms_of_an_environment_s_config(either: World) -> None:
    for config in ({"type": "cloud"}, {"type": "cloud", "networking": {"type": "unrestricted"}, "packages": PACKAGES}):
        assert either.beta.environments.create(name="E", config=config).config.type == "cloud"
    old = either.http.post("/v1/environments", json={"name": "Old", "config": {"type": "anthropic_cloud"}})
    assert old.json()["config"]["type"] == "cloud", "the old name of it"
    limited = either.beta.environments.create(name="L", config={"type": "cloud", "networking": {"type": "limited"}})
    assert limited.config.networking.to_dict() == {
        "type": "limited", "allowed_hosts": [], "allow_mcp_servers": False, "allow_package_managers": False,
    }  # fmt: skip


def test_a_changed_environment_holds_for_sandboxes_that_start_later(either: World) -> None:
    made = either.beta.environments.create(name="Changing")
    early, late = (either.session(BUILTINS, environment_id=made.id) for _ in range(2))
    either.turn(early, "run: echo proxy=$HTTPS_PROXY")
    either.beta.environments.update(made.id, config={"type": "cloud", "networking": {"type": "limited"}})
    for session_id, expected in ((early, "proxy=http"), (late, "proxy=")):
        either.turn(session_id, "run: echo proxy=$HTTPS_PROXY | cut -c -10")
        said = [event for event in either.raw(session_id) if event["type"] == "agent.tool_result"][-1]
        assert said["content"][0]["text"].strip() == expected


def test_an_environment_s_life(either: World) -> None:
    made = either.beta.environments.create(name="Life", description="D", metadata={"a": "1", "b": "2", "c": "3"})
    changed = either.beta.environments.update(made.id, name="New", metadata={"a": None, "b": "", "d": "4"})
    assert (changed.name, changed.description, changed.metadata) == ("New", "D", {"c": "3", "d": "4"})
    assert made.id in [found.id for found in either.beta.environments.list(limit=100)]
    assert either.beta.environments.archive(made.id).archived_at is not None
    assert made.id not in [found.id for found in either.beta.environments.list(limit=100)]
    assert made.id in [found.id for found in either.beta.environments.list(limit=100, include_archived=True)]
    with pytest.raises(anthropic.BadRequestError) as refused:
        either.beta.environments.update(made.id, name="No")
    assert type(refused.value).__name__ == "BetaEnvironmentArchivedError"
    with pytest.raises(anthropic.BadRequestError, match="archived"):
        either.beta.sessions.create(agent=either.agent().id, environment_id=made.id)
    assert either.beta.environments.delete(made.id).to_dict() == {"id": made.id, "type": "environment_deleted"}
    with pytest.raises(anthropic.NotFoundError):
        either.beta.environments.retrieve(made.id)


def test_environments_page(either: World) -> None:
    made = [either.beta.environments.create(name=f"Paged {number}").id for number in range(3)]
    seen = [found.id for found in either.beta.environments.list(limit=2) if found.id in made]
    assert seen == made[::-1]


def test_an_environment_in_use_is_not_deleted(either: World) -> None:
    used = either.beta.environments.create(name="Used").id
    either.beta.sessions.create(agent=either.agent().id, environment_id=used)
    with pytest.raises(anthropic.APIStatusError) as refused:
        either.beta.environments.delete(used)
    assert refused.value.status_code in (400, 409)


def test_the_type_of_an_environment_s_config_stays(either: World) -> None:
    made = either.beta.environments.create(name="Typed")
    with pytest.raises(anthropic.BadRequestError):
        either.beta.environments.update(made.id, config={"type": "self_hosted"})


def test_web_tools(either: World) -> None:
    """The SDK sends and reads every field of their configs; what is unset is null or left out, as it is documented."""
    location = {"type": "approximate", "city": "Lyon", "country": "FR", "region": "ARA", "timezone": "Europe/Paris"}
    named = {"type": "except", "tools": [{"type": "tool_reference", "name": "get_weather"}]}
    fetch = {
        "name": "web_fetch",
        "allowed_domains": ["example.com"],
        "max_content_tokens": 1000,
        "url_sources": {"client_tool_results": named, "user_input": "all"},
    }
    search = {"name": "web_search", "blocked_domains": ["example.org/x"], "user_location": location}
    agent = either.agent({**BUILTINS, "configs": [fetch, search]}, WEATHER)
    assert unknown_fields(agent) == []
    assert either.beta.agents.retrieve(agent.id) == agent
    shown, searched = agent.tools[0].configs
    assert (shown.allowed_domains, shown.blocked_domains, shown.max_content_tokens) == (["example.com"], None, 1000)
    assert shown.url_sources.to_dict() == {
        "client_tool_results": named, "server_tool_results": None, "user_input": {"type": "all"},
    }  # fmt: skip
    assert searched.user_location.to_dict() == location
    plain = either.agent({**BUILTINS, "configs": [{"name": "web_fetch"}]}).tools[0].configs[0].to_dict()
    assert set(plain) == {"type", "name", "enabled", "permission_policy", "url_sources"}
    assert plain["url_sources"] is None
