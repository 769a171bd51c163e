"""Which key opens what at /mcp, and that one which is taken back opens nothing any more, in mid-session, too."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from running import Server
from workspace_mcp.mcp_world import Caller, Firm, Office, awaited

PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream"}


def knock(server: Server, **headers: str) -> httpx2.Response:
    with httpx2.Client(trust_env=False, timeout=60) as http:
        return http.post(f"{server.base_url}/mcp", json=PING, headers={**ACCEPT, **headers})


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer"},
        {"authorization": "Basic c2VjcmV0"},
        {"authorization": "Bearer sk-hostler-wrong"},
        {"authorization": "Bearer sk-hostler-agent-wrong"},
        {"x-api-key": "wrong"},
        {"x-hostler-session": "sesn_1"},
    ],
)
def test_without_a_valid_key_there_is_nothing(server: Server, headers: dict[str, str]) -> None:
    answer = knock(server, **headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer ")
    assert answer.json()["statusCode"] == 401


def test_a_key_counts_in_either_header(server: Server) -> None:
    assert knock(server, authorization=f"Bearer {server.key}").json()["result"] == {}
    assert knock(server, **{"x-api-key": server.key}).json()["result"] == {}


def test_a_rotated_key_opens_nothing_any_more_in_mid_session(server: Server, office: Office) -> None:
    agent = office.agent("clerk")
    fresh: list[str] = []

    async def work(client: Any) -> str:
        assert (await client.call_tool("ntro_whoami", {})).structured_content["id"] == agent.id
        fresh.append(agent.rotate())
        with pytest.raises(Exception, match=r".+"):
            await client.call_tool("ntro_whoami", {})
        return "refused"

    assert Caller(server.base_url, agent.key).talk(work) == "refused"
    assert knock(server, authorization=f"Bearer {agent.key}").status_code == 401
    assert Caller(server.base_url, fresh[0]).call("ntro_whoami")["id"] == agent.id
    office.firm.ask("DELETE", f"/v1/workspace/registry/agents/{agent.id}")
    assert knock(server, authorization=f"Bearer {fresh[0]}").status_code == 401


def test_a_revoked_key_opens_nothing_any_more(server: Server, firm: Firm, office: Office) -> None:
    for key in (firm.key(), firm.key("--tenant", office.slug)):
        assert Caller(server.base_url, key).call("ntro_whoami")["name"] == "some"
        firm.revoke(key)
        awaited(lambda key=key: knock(server, **{"x-api-key": key}).status_code, lambda status: status == 401)


def test_an_agents_key_ends_with_its_tenant(server: Server, office: Office) -> None:
    agent = office.agent("clerk")
    assert Caller(server.base_url, agent.key).call("ntro_whoami")["tenant"]["slug"] == office.slug
    office.firm.ask("DELETE", f"/v1/workspace/tenants/{office.slug}")
    assert knock(server, authorization=f"Bearer {agent.key}").status_code == 401


def test_a_tenants_key_sees_its_tenant_alone(server: Server, firm: Firm, office: Office, other: Office) -> None:
    caller = Caller(server.base_url, firm.key("--tenant", office.slug))
    mine, theirs = office.start("review"), other.start("review")
    office.until(mine, "review"), other.until(theirs, "review")
    assert caller.call("ntro_whoami")["kind"] == "tenant"
    assert [each["slug"] for each in caller.call("ntro_tenant_list")["items"]] == [office.slug]
    assert caller.call("ntro_tenant_get")["slug"] == office.slug
    assert [each["id"] for each in caller.call("ntro_run_list")["items"]] == [mine]
    assert caller.call("ntro_task_get", task_id=mine)["id"] == mine
    assert "Field required" in caller.refused("ntro_task_get")
    for tool in ("get", "next_step", "approve", "reject", "cancel", "list_files"):
        assert caller.refused(f"ntro_task_{tool}", task_id=theirs) == f"Task {theirs} was not found.", tool
    assert "not found" in caller.refused("ntro_tenant_get", tenant_id=other.slug)
    assert "not found" in caller.refused("ntro_entity_list", tenant_id=other.slug)
    assert "not found" in caller.refused("ntro_workflow_get", workflow_id=other.workflows["review"])
    assert "not found" in caller.refused("ntro_workflow_run", workflow_id=other.workflows["review"])
    assert "not found" in caller.refused("ntro_agent_get", agent_id=other.agent("clerk").id)
    assert "key of the server" in caller.refused("ntro_tenant_create", name="X", slug="x")
    assert other.until(theirs, "review")["action"] == "review"


def test_an_agents_key_opens_no_other_api(server: Server, office: Office) -> None:
    agent = office.agent("clerk")
    with httpx2.Client(base_url=server.base_url, trust_env=False, timeout=60) as http:
        headers = {**server.headers, "authorization": f"Bearer {agent.key}"}
        assert http.get("/v1/agents", headers=headers).status_code == 401
        assert http.get("/v1/workspace/tenants", headers=headers).status_code == 403
