"""The tools for people: what the published server's tools do, mended; and what all of them say of themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mcp import MCPError

from running import Server
from workspace_mcp.mcp_world import Caller, Office

DOCS = Path(__file__).parents[2] / "docs" / "mcp-server.md"
PUBLISHED = {
    "ntro_whoami", "ntro_integration_create", "ntro_integration_test", "ntro_tenant_create", "ntro_entity_create",
    "ntro_workflow_create", "ntro_workflow_run",
}  # fmt: skip
READS = {"whoami", "task_get", "task_next_step", "run_list", "task_list_files", "task_file_get", "tenant_list",
         "tenant_get", "entity_list", "workflow_list", "workflow_get", "runbook_list", "runbook_get"}  # fmt: skip
HANDS_IN = {"task_file_ingest", "task_data_ingest", "steps_define", "steps_progress"}


def tools(caller: Caller) -> dict[str, Any]:
    async def work(client: Any) -> Any:
        return (await client.list_tools()).tools

    return {tool.name: tool for tool in caller.talk(work)}


def test_every_tool_says_what_it_does_and_takes(boss: Caller) -> None:
    told, page = tools(boss), DOCS.read_text()
    assert set(told) >= PUBLISHED
    for name, tool in told.items():
        assert f"`{name}`" in page, f"{name} is not in {DOCS.name}"
        assert len(tool.description) > 10
        schema = tool.input_schema
        assert (schema["type"], schema["additionalProperties"]) == ("object", False), name
        text = json.dumps(schema)
        assert "$ref" not in text, name
        assert "null" not in text or name == "ntro_workflow_update", "what may be left out is left out"
    step = told["ntro_steps_define"].input_schema["properties"]["steps"]["items"]["properties"]
    assert set(step) == {"id", "title", "icon"}


def test_an_agent_is_offered_what_it_may_use(server: Server, office: Office) -> None:
    agent = office.agent("clerk")
    caller = Caller(server.base_url, agent.key)
    assert set(tools(caller)) == {f"ntro_{name}" for name in READS | HANDS_IN}
    task_id = agent.held()
    for name in ("approve", "reject", "cancel"):
        assert "for people" in caller.refused(f"ntro_task_{name}", task_id=task_id)
    assert "leave them out" in caller.refused("ntro_run_list", tenant_id=office.slug)
    assert "for people" in caller.refused("ntro_workflow_run", workflow_id=office.workflows["review"])
    assert office.until(task_id, "review")["action"] == "review"


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_task_from_its_start_to_its_approval(server: Server, office: Office, mode: str) -> None:
    caller = Caller(server.base_url, server.key, mode=mode)
    run = caller.call(
        "ntro_workflow_run", tenant_id=office.slug, workflow_id="review", entity_id=office.entity["slug"],
        period="2026-03", priority="HIGH", dry_run=True, context={"say": mode},
    )  # fmt: skip
    assert (run["context"]["period"], run["context"]["dry_run"], run["priority"]) == ("2026-03", True, "HIGH")
    office.until(run["id"], "review")
    step = caller.call("ntro_task_next_step", task_id=run["id"])
    assert (step["action"], step["status"], step["pendingAction"]["payload"]) == ("review", "BLOCKED", {"total": 3})
    assert caller.call("ntro_run_list", status="BLOCKED", tenant_id=office.slug)["items"][0]["id"] == run["id"]
    found = caller.call("ntro_run_list", tenant_id=office.slug, entity_id=office.entity["slug"])
    assert (found["total"], found["items"][0]["id"]) == (1, run["id"])
    caller.call("ntro_task_approve", task_id=run["id"], reason="It is.", gate=step["gate"])
    office.until(run["id"], "done")
    found = caller.call("ntro_task_get", task_id=run["id"])
    assert (found["status"], found["result"]["type"], found["result"]["comments"]) == (
        "COMPLETED",
        "approved",
        "It is.",
    )
    assert "is over" in caller.refused("ntro_task_reject", task_id=run["id"], reason="Late.")


def test_rejecting_and_cancelling(boss: Caller, office: Office) -> None:
    one, two = office.start("review"), office.start("review", say="two")
    office.until(one, "review"), office.until(two, "review")
    boss.call("ntro_task_reject", task_id=one, reason="No.")
    office.until(one, "done")
    assert boss.call("ntro_task_get", task_id=one)["result"]["type"] == "rejected"
    boss.call("ntro_task_cancel", task_id=two)
    office.until(two, "error_terminal")
    assert boss.call("ntro_task_get", task_id=two)["failure"]["type"] == "Cancelled"


def test_the_registry(boss: Caller, office: Office) -> None:
    tenant = boss.call("ntro_tenant_create", name="Acme", slug=f"acme-{office.slug}")
    assert tenant["dataPlatform"] == "managed-postgres"
    made = boss.call(
        "ntro_entity_create", tenant_id=tenant["slug"], name="SPV", slug="spv", currency="GBP", schema="nav_spv"
    )
    assert (made["tenantId"], made["schema_"]) == (tenant["id"], "nav_spv")
    assert [each["slug"] for each in boss.call("ntro_entity_list", tenant_id=tenant["slug"])["items"]] == ["spv"]
    workflow = boss.call(
        "ntro_workflow_create", runbook_slug="review", entity_id="spv", tenant_id=tenant["slug"], name="Monthly",
        schedule="0 8 5 * *", timezone="Europe/London",
    )  # fmt: skip
    assert workflow["nextRunAt"]
    changed = boss.call("ntro_workflow_update", workflow_id=workflow["id"], schedule=None, description="By hand.")
    assert "schedule" not in changed
    assert (changed["description"], changed["timezone"]) == ("By hand.", "Europe/London")
    assert boss.call("ntro_workflow_get", workflow_id=workflow["id"]) == changed
    assert "review" in [each["slug"] for each in boss.call("ntro_runbook_list", search="Review")["items"]]
    assert boss.call("ntro_runbook_get", slug="review")["version"] == "1.0.0"
    agent = office.agent("clerk")
    shown = boss.call("ntro_agent_get", agent_id=agent.id)
    assert shown["id"] == agent.id
    assert agent.key not in json.dumps(shown)
    assert "apiKey" not in shown
    assert [each["id"] for each in boss.call("ntro_agent_list", tenant_id=office.slug)["items"]] == [agent.id]


def test_data_connections(boss: Caller) -> None:
    made = boss.call("ntro_integration_create", name="DB", provider="DATABRICKS", config={"clientSecret": "s3cr3t"})
    assert made["config"]["clientSecret"] == "********"
    assert boss.call("ntro_integration_test", id=made["id"])["message"]
    assert boss.read(f"ntro://integrations/{made['id']}")["id"] == made["id"]


def test_what_is_wrong_is_said_and_where(boss: Caller, office: Office) -> None:
    assert "Extra inputs" in boss.refused("ntro_task_get", task="x")
    assert boss.refused("ntro_workflow_run").startswith("workflow_id: Field required")
    assert "status" in boss.refused("ntro_run_list", status="CANCELLED")
    assert "tenant_id: Field required" in boss.refused("ntro_run_list", entity_id=office.entity["id"])
    assert "U+0000" in boss.refused("ntro_task_get", task_id="a\0b")
    assert "not found" in boss.refused("ntro_task_get", task_id="nothing")
    assert boss.refused("ntro_tenant_create", name="X", slug="Not A Slug").startswith("slug: ")
    assert "steps" in boss.refused("ntro_steps_define", steps=[])
    assert "Only an agent" in boss.refused("ntro_steps_progress", step_id="a", status="active")
    with pytest.raises(MCPError, match="no tool"):
        boss.raw("ntro_nothing")


def test_resources(server: Server, boss: Caller, office: Office) -> None:
    task_id = office.start("review")
    office.until(task_id, "review")
    assert boss.read("ntro://whoami")["kind"] == "server"
    assert office.slug in [each["slug"] for each in boss.read("ntro://tenants")]
    assert boss.read(f"ntro://tenants/{office.slug}")["id"] == office.tenant["id"]
    assert office.entity["id"] in [each["id"] for each in boss.read("ntro://entities")]
    assert office.workflows["review"] in [each["id"] for each in boss.read("ntro://workflows")]
    assert boss.read(f"ntro://workflows/{office.workflows['review']}")["runbookSlug"] == "review"
    assert boss.read(f"ntro://tasks/{task_id}")["status"] == "BLOCKED"
    assert task_id in [each["id"] for each in boss.read("ntro://schedule")]
    assert isinstance(boss.read("ntro://integrations"), list)
    with pytest.raises(MCPError, match="There is no resource"):
        boss.read("ntro://keys")
    agent = office.agent("clerk")
    mine = Caller(server.base_url, agent.key)
    with pytest.raises(MCPError, match="not found"):
        mine.read(f"ntro://tasks/{task_id}")
    with pytest.raises(MCPError, match="not for agents"):
        mine.read("ntro://integrations")
    assert mine.read("ntro://schedule") == {"items": [], "total": 0}
    held = agent.held()
    assert mine.read(f"ntro://tasks/{held}")["id"] == held


def test_what_is_listed_beside_the_tools(boss: Caller) -> None:
    async def work(client: Any) -> Any:
        resources, templates = await client.list_resources(), await client.list_resource_templates()
        prompts = (await client.list_prompts()).prompts
        said = await client.get_prompt("run_nav", {"tenant_slug": "byng", "entity_slug": "spv-1", "period": "2026-03"})
        return (
            [str(each.uri) for each in resources.resources],
            [each.uri_template for each in templates.resource_templates],
            {each.name: [it.name for it in each.arguments if it.required] for each in prompts},
            said.messages[0].content.text,
        )

    resources, templates, prompts, text = boss.talk(work)
    assert "ntro://whoami" in resources
    assert "ntro://tasks/{id}" in templates
    assert prompts == {
        "onboard_spv": ["tenant_slug", "spv_name"],
        "run_nav": ["tenant_slug", "entity_slug", "period"],
        "platform_status": [],
    }
    assert "spv-1" in text
    assert "2026-03" in text
    named = {word for word in text.replace(",", " ").replace(".", " ").split() if word.startswith("ntro_")}
    assert named
    assert named <= set(tools(boss))


def test_secrets_in_configurations_are_not_for_agents(server: Server, office: Office) -> None:
    config = {"ai": {"provider": "ANTHROPIC", "api_key": "s3cr3t"}, "limits": {"token_count": 5}}
    office.firm.ask("PATCH", f"/v1/workspace/tenants/{office.slug}", config=config)
    agent = office.agent("clerk")
    task_id = agent.held()
    caller = Caller(server.base_url, agent.key)
    for said in (caller.call("ntro_task_get"), caller.call("ntro_tenant_get"), caller.read(f"ntro://tasks/{task_id}")):
        assert "s3cr3t" not in json.dumps(said)
        assert "ANTHROPIC" in json.dumps(said)
