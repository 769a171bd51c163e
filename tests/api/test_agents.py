"""Agents: create, versions, updates, archive, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from databases import Databases
from hostler.ids import new_id
from serving import ok, refused

Json = dict[str, Any]


@pytest.fixture
def database_url(databases: Databases) -> str | None:
    return databases.url(new_id("t").lower())


def test_create_resolves_what_was_left_out(agent: Json) -> None:
    assert agent["version"] == 1
    assert agent["model"] == {
        "id": "claude-opus-5-5",
        "effort": {"type": "medium"},
        "inference_geo": None,
        "speed": "standard",
    }
    assert agent["tools"] == [
        {
            "type": "agent_toolset_20260401",
            "configs": [],
            "default_config": {"enabled": True, "permission_policy": {"type": "always_allow"}},
        }
    ]
    assert agent["system"] is None
    assert agent["metadata"] == {}
    assert agent["execution_identity"] == {"type": "service_account"}


def test_update_makes_a_version_only_when_something_changes(http: httpx2.Client, agent: Json) -> None:
    url = f"/v1/agents/{agent['id']}"
    assert ok(http.post(url, json={"name": "a"}))["version"] == 1
    changed = ok(http.post(url, json={"system": "be brief", "metadata": {"k": "v"}, "version": 1}))
    assert (changed["version"], changed["system"], changed["metadata"]) == (2, "be brief", {"k": "v"})
    conflict = http.post(url, json={"version": 1})
    refused(conflict, 409)
    assert conflict.headers["x-should-retry"] == "false"
    cleared = ok(http.post(url, json={"system": None, "metadata": {"k": None}, "tools": []}))
    assert (cleared["version"], cleared["system"], cleared["metadata"], cleared["tools"]) == (3, None, {}, [])
    assert ok(http.get(url, params={"version": 2}))["system"] == "be brief"
    assert ok(http.get(url))["version"] == 3
    refused(http.get(url, params={"version": 9}), 404)
    first = ok(http.get(f"{url}/versions", params={"limit": 2}))
    assert [item["version"] for item in first["data"]] == [3, 2]
    second = ok(http.get(f"{url}/versions", params={"limit": 2, "page": first["next_page"]}))
    assert [item["version"] for item in second["data"]] == [1]
    assert second["next_page"] is None


def test_a_model_sent_without_effort_keeps_it_and_drops_the_geo(http: httpx2.Client) -> None:
    model = {"id": "claude-opus-5-5", "effort": "low", "inference_geo": "us"}
    agent = ok(http.post("/v1/agents", json={"name": "a", "model": model}))
    after = ok(http.post(f"/v1/agents/{agent['id']}", json={"model": "claude-opus-5-5"}))["model"]
    assert (after["effort"], after["inference_geo"]) == ({"type": "low"}, None)
    other = ok(http.post(f"/v1/agents/{agent['id']}", json={"model": "claude-sonnet-5-5"}))["model"]
    assert other["effort"] != {"type": "low"}


def test_archive_is_final_and_can_be_repeated(http: httpx2.Client, agent: Json) -> None:
    url = f"/v1/agents/{agent['id']}"
    archived = ok(http.post(f"{url}/archive"))
    assert archived["archived_at"] is not None
    assert ok(http.post(f"{url}/archive", json={}))["archived_at"] == archived["archived_at"]
    refused(http.post(url, json={"name": "b"}))
    assert ok(http.get("/v1/agents"))["data"] == []
    assert len(ok(http.get("/v1/agents", params={"include_archived": "true"}))["data"]) == 1


def test_pages_are_newest_first_and_stable(http: httpx2.Client) -> None:
    made = [ok(http.post("/v1/agents", json={"name": str(n), "model": "m"}))["name"] for n in range(5)]
    seen: list[str] = []
    page = None
    while True:
        found = ok(http.get("/v1/agents", params={"limit": 2, **({"page": page} if page else {})}))
        seen += [item["name"] for item in found["data"]]
        page = found["next_page"]
        if page is None:
            break
    assert seen == made[::-1]
    assert refused(http.get("/v1/agents", params={"page": "page_!!"})) == "invalid page cursor"


def custom(**changes: Any) -> Json:
    return {"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object"}, **changes}


@pytest.mark.parametrize(
    ("tools", "says"),
    [
        ([{"type": "agent_toolset_20260401", "configs": [{"name": "sh"}]}], "tools.0.configs.0.name"),
        ([{"type": "agent_toolset_20260401", "configs": [{"name": "bash"}, {"name": "bash"}]}], "duplicate"),
        ([{"type": "agent_toolset_20260401"}, {"type": "agent_toolset_20260401"}], "tools.1: only one"),
        ([{"type": "bash"}], "tools.0.type: Invalid value 'bash'"),
        ([{"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "no"}}}], "policy"),
        ([{"type": "nothing"}], "tools.0.type: Invalid value 'nothing'"),
        ([custom(name="bash")], "built-in"),
        ([custom(name="lookup\n")], "tools.0.name"),
        ([custom(name="mcp__x")], "mcp__ is reserved"),
        ([custom(name="a b")], "tools.0.name"),
        ([custom(), custom()], "duplicate tool name t"),
        ([custom(description="")], "tools.0.description"),
        ([custom(input_schema={"type": "string"})], "tools.0.input_schema.type"),
        ([custom(input_schema={"type": "object", "anyOf": []})], "input_schema.anyOf"),
        ([custom(input_schema={"type": "object", "properties": {"a b": {}}})], "input_schema.properties"),
        ([custom(input_schema={"type": "object", "properties": {"a": {"$ref": "#/x"}}})], "$ref"),
    ],
)
def test_refused_tools(http: httpx2.Client, tools: list[Json], says: str) -> None:
    assert says in refused(http.post("/v1/agents", json={"name": "a", "model": "m", "tools": tools}))


@pytest.mark.parametrize(
    "field",
    [
        {"execution_identity": {"type": "aws_role", "role_arn": "arn"}},
        {"model": {"id": "claude-haiku-4-5", "speed": "fast"}},
        {"model": {"id": "some-local-model", "effort": "high"}},
        {"model": {"id": "some-local-model", "inference_geo": "us"}},
        {"model": {"id": "claude-opus-4-5", "inference_geo": "us"}},
        {"model": {"id": "claude-opus-5-5", "inference_geo": "eu"}},
    ],
)
def test_what_is_not_honoured_is_refused_by_name(http: httpx2.Client, field: Json) -> None:
    assert next(iter(field)) in refused(http.post("/v1/agents", json={"name": "a", "model": "m", **field}))


def test_empty_values_of_what_is_not_there_are_fine(http: httpx2.Client) -> None:
    body = {
        "name": "a",
        "model": "m",
        "mcp_servers": [],
        "skills": None,
        "multiagent": None,
        "execution_identity": None,
    }
    ok(http.post("/v1/agents", json=body))


def test_too_much_metadata(http: httpx2.Client, agent: Json) -> None:
    refused(http.post("/v1/agents", json={"name": "a", "model": "m", "metadata": {str(n): "" for n in range(17)}}))
    for n in range(2):
        patch = {f"{n}-{m}": "" for m in range(9)}
        response = http.post(f"/v1/agents/{agent['id']}", json={"metadata": patch})
        assert response.status_code == (200, 400)[n]
