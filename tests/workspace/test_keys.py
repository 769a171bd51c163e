"""Whom a key lets see what: the server's see all, a tenant's its own alone, an agent's nothing here."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from ntro.workspace import Client
from ntro.workspace.exceptions import AuthorizationError, NotFoundError
from workspace_world import World

from commands import command
from running import Server


def hostler(server: Server, *arguments: str, status: int = 0) -> str:
    done = command.hostler(*arguments, "--data-dir", server.data_dir)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def own(server: Server, world: World) -> Client:
    """Somebody of the world's tenant."""
    made = json.loads(hostler(server, "keys", "create", "byng", "--tenant", world.tenant.slug, "--json"))
    assert made["tenant"] == world.tenant.slug
    return Client(host=f"{server.base_url}/v1", api_key=made["key"])


def key_of(client: Client) -> str:
    return str(client._http._api_key)


def test_keys_of_a_tenant_are_made_and_listed(server: Server, world: World) -> None:
    made = json.loads(hostler(server, "keys", "create", "clerk", "--tenant", world.tenant.id, "--json"))
    listed = {each["id"]: each for each in json.loads(hostler(server, "keys", "list", "--json"))}
    assert listed[made["id"]]["tenant"] == world.tenant.slug
    assert f"clerk  tenant {world.tenant.slug}" in hostler(server, "keys", "list")
    assert "There is no tenant nobody" in hostler(server, "keys", "create", "x", "--tenant", "nobody", status=2)
    client = Client(host=f"{server.base_url}/v1", api_key=made["key"])
    assert client.identity.whoami_sync().roles == ["tenant"]


def test_a_tenant_sees_its_own(own: Client, client: Client, world: World) -> None:
    assert [each.id for each in own.tenants.list_sync()] == [world.tenant.id]
    assert [each.id for each in own.entities.list_sync()] == [world.entity.id]
    assert own.tenants.update_sync(world.tenant.slug, config={"a": 1}).config == {"a": 1}
    workflow = world.workflow("review", name="w")
    assert [each.id for each in own.workflows.list_sync()] == [workflow.id]
    task = own.tasks.create_sync(tenantId=world.tenant.slug, workflowId="w")
    world.until(task.id, "review")
    assert [each["id"] for each in own.tasks.list_pending_sync()] == [task.id]
    assert [each.id for each in own.tasks.list_schedule_sync()] == [task.id]
    assert own.tasks.approve_sync(task.id).id == task.id
    assert world.until(task.id, "done")["result"]["decision"]["acted_by"] == "byng"
    assert own.runbooks.get_sync("review").slug == "review"


def test_what_is_anothers_is_not_there(server: Server, own: Client, world: World, other: World) -> None:
    theirs = other.workflow("review", name="theirs")
    task = other.client.tasks.create_sync(tenantId=other.tenant.slug, workflowId=theirs.id)
    other.until(task.id, "review")
    agent = other.client.agents.create_sync(
        tenantId=other.tenant.slug, kind="claude_managed", name="a", externalRef="agent_9"
    )
    mail = other.client.integrations.create_email_sync(tenantId=other.tenant.slug)
    calls: list[Any] = [
        lambda: own.tenants.get_sync(other.tenant.slug),
        lambda: own.tenants.update_sync(other.tenant.id, config={}),
        lambda: own.entities.create_sync(other.tenant.slug, name="N", slug="n"),
        lambda: own.entities.list_sync(other.tenant.slug),
        lambda: own.entities.get_sync(other.tenant.slug, other.entity.slug),
        lambda: own.entities.get_sync(world.tenant.slug, other.entity.id),
        lambda: own.workflows.get_sync(theirs.id),
        lambda: own.workflows.update_sync(theirs.id, name="mine"),
        lambda: own.workflows.create_sync(runbookSlug="review", entityId=other.entity.id),
        lambda: own.tasks.create_sync(tenantId=other.tenant.slug, workflowId=theirs.id),
        lambda: own.tasks.create_sync(tenantId=world.tenant.slug, workflowId=theirs.id),
        lambda: own.tasks.get_sync(task.id),
        lambda: own.tasks.next_step_sync(task.id),
        lambda: own.tasks.logs_sync(task.id),
        lambda: own.tasks.approve_sync(task.id),
        lambda: own.tasks.reject_sync(task.id),
        lambda: own.tasks.history_sync(other.tenant.slug, other.entity.slug),
        lambda: own.agents.get_sync(agent.id),
        lambda: own.agents.delete_sync(agent.id),
        lambda: own.agents.list_sync(other.tenant.slug),
        lambda: own.agents.create_version_sync(agent.id),
        lambda: own.agents.create_sync(
            tenantId=other.tenant.slug, kind="claude_managed", name="b", externalRef="agent_9"
        ),
        lambda: own.integrations.create_email_sync(tenantId=other.tenant.slug),
    ]
    for number, call in enumerate(calls):
        with pytest.raises(NotFoundError):
            print(number, call())
    headers = {"authorization": f"Bearer {key_of(own)}"}
    place = f"{server.base_url}/v1/workspace"
    for path in ("/cancel", "/files?filename=x", "/row-action"):
        body = {"action": "reject_row", "rowId": 1} if path == "/row-action" else {}
        found = httpx.post(f"{place}/tasks/{task.id}{path}", json=body, headers=headers)
        assert (found.status_code, path) == (404, path)
    for path in ("rotate-key", "test"):
        assert httpx.post(f"{place}/registry/agents/{agent.id}/{path}", headers=headers).status_code == 404
    assert httpx.delete(f"{place}/registry/workflows/{theirs.id}", headers=headers).status_code == 404
    assert mail.id not in [each["id"] for each in own.integrations.list_all_sync()]
    for found in (own.tasks.list_pending_sync(), own.tasks.list_schedule_sync(), own.agents.list_sync()):
        assert found == []
    assert other.client.tasks.get_sync(task.id).status.value == "BLOCKED"


def test_what_wants_a_key_of_the_server(own: Client, world: World) -> None:
    calls: list[Any] = [
        lambda: own.tenants.create_sync(name="N", slug="n", dataPlatform="managed-postgres"),
        lambda: own.tenants.deprovision_sync(world.tenant.slug),
        lambda: own.runbooks.deploy_sync(
            "quick", tenant_slug=world.tenant.slug, version="1", workflow_class="X", files={}
        ),
        lambda: own.integrations.list_data_platforms_sync(),
        lambda: own.integrations.create_data_platform_sync(name="N", provider="SNOWFLAKE"),
        lambda: own.workflows.create_capability_sync(name="c"),
    ]
    for call in calls:
        with pytest.raises(AuthorizationError, match="a key of the server") as refused:
            call()
        assert refused.value.detail == "Forbidden"


def test_a_tenant_must_not_reach_beyond_itself_through_an_agent(server: Server, own: Client, world: World) -> None:
    place = f"{server.base_url}/v1/workspace/registry/agents"
    headers = {"authorization": f"Bearer {key_of(own)}"}
    asked = {
        "tenantId": world.tenant.slug, "kind": "claude_managed", "name": "mine", "externalRef": "anthropic://agents/a",
    }  # fmt: skip
    wider: list[dict[str, Any]] = [
        {"baseUrl": "https://other.example", "serverKey": "k"},
        {"environmentId": "env_1"},
        {"vaultIds": ["vlt_1"]},
    ]
    for more in wider:
        refused = httpx.post(place, json={**asked, **more}, headers=headers)
        assert refused.status_code == 403
        assert refused.json()["message"].startswith(f"{next(iter(more))}: reaches beyond")
    made = httpx.post(place, json=asked, headers=headers)
    assert made.status_code == 201
    for more in [*wider, {"baseUrl": None}, {"vaultIds": None}]:
        assert httpx.patch(f"{place}/{made.json()['id']}", json=more, headers=headers).status_code == 403


def test_keys_do_not_open_the_other_api(server: Server, own: Client, world: World) -> None:
    """Neither a tenant's key nor an agent's opens the managed agents' endpoints, nor an agent's this API."""
    managed = {name: value for name, value in server.headers.items() if name != "authorization"}
    headers = {"authorization": f"Bearer {key_of(own)}"}
    refused = httpx.get(f"{server.base_url}/v1/agents", headers={**managed, **headers})
    assert (refused.status_code, refused.json()["error"]["type"]) == (403, "permission_error")
    made = httpx.post(
        f"{server.base_url}/v1/workspace/registry/agents", headers=headers,
        json={"tenantId": world.tenant.slug, "kind": "claude_managed", "name": "z", "externalRef": "agent_1"},
    ).json()  # fmt: skip
    agents = {"authorization": f"Bearer {made['apiKey']}"}
    assert httpx.get(f"{server.base_url}/v1/agents", headers={**managed, **agents}).status_code == 401
    mine = httpx.get(f"{server.base_url}/v1/me", headers=agents)
    assert (mine.status_code, mine.json()["statusCode"], mine.json()["error"]) == (403, 403, "Forbidden")
    # The same path belongs to both: whoever says a version means the managed agents' skills.
    assert httpx.get(f"{server.base_url}/v1/skills/none", headers=headers).json()["statusCode"] == 404
    other = httpx.get(f"{server.base_url}/v1/skills/none", headers={**managed, "authorization": f"Bearer {server.key}"})
    assert other.json()["type"] == "error"


def test_a_revoked_key(server: Server, world: World) -> None:
    made = json.loads(hostler(server, "keys", "create", "gone", "--tenant", world.tenant.slug, "--json"))
    hostler(server, "keys", "revoke", made["id"])
    found = httpx.get(f"{server.base_url}/v1/me", headers={"authorization": f"Bearer {made['key']}"})
    assert found.status_code == 401
