"""The published MCP server, unmodified, over stdio: its tools and resources against a real server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from published import Mcp, program
from workspace_world import World

from running import Server


@pytest.fixture(scope="module")
def mcp(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mcp]:
    path = program("HOSTLER_NTRO_MCP", ".venv-ntro-mcp", "tests/workspace/ntro-mcp.lock", "ntro-mcp")
    home: Path = tmp_path_factory.mktemp("mcp")
    with Mcp(path, home, f"{server.base_url}/v1", server.key) as started:
        yield started


def test_tools(mcp: Mcp, world: World) -> None:
    assert len(mcp.ask("tools/list")["tools"]) == 8
    assert mcp.ok("ntro_whoami")["orgId"] == "hostler"
    made = mcp.ok("ntro_integration_create", name="I", provider="DATABRICKS", region="UK", config={"token": "t"})
    assert made["config"] == {"token": "********"}
    assert mcp.ok("ntro_integration_test", id=made["id"])["success"] is False
    entity = mcp.ok("ntro_entity_create", tenant_id=world.tenant.slug, name="M", slug="m", currency="GBP")
    assert entity["tenantId"] == world.tenant.id
    workflow = world.workflow("quick")
    task = mcp.ok("ntro_workflow_run", tenant_id=world.tenant.slug, workflow_id=workflow.id, period="2026-03")
    assert world.until(task["id"], "done")["result"]["period"] == "2026-03"


def test_tools_that_can_not_work(mcp: Mcp, world: World) -> None:
    """What they send lacks what the API wants, or they call what their client has not."""
    wrong = [
        ("ntro_tenant_create", {"name": "X", "slug": "x"}),
        ("ntro_workflow_create", {"name": "X"}),
        ("ntro_workflow_deploy", {"workflow_id": "w", "workflow_version_id": "v"}),
    ]
    for name, arguments in wrong:
        assert mcp.tool(name, **arguments)["isError"] is True


def test_resources(mcp: Mcp, world: World) -> None:
    workflow = world.workflow("review")
    task = world.client.tasks.create_sync(tenantId=world.tenant.slug, workflowId=workflow.id)
    world.until(task.id, "review")
    assert mcp.read("ntro://whoami")["orgId"] == "hostler"
    assert world.tenant.id in [each["id"] for each in mcp.read("ntro://tenants")]
    assert mcp.read(f"ntro://tenants/{world.tenant.slug}")["id"] == world.tenant.id
    assert world.entity.id in [each["id"] for each in mcp.read("ntro://entities")]
    assert workflow.id in [each["id"] for each in mcp.read("ntro://workflows")]
    assert mcp.read(f"ntro://workflows/{workflow.id}")["runbookSlug"] == "review"
    assert mcp.read(f"ntro://tasks/{task.id}")["status"] == "BLOCKED"
    assert task.id in [each["id"] for each in mcp.read("ntro://schedule")]
    made = mcp.ok("ntro_integration_create", name="R", provider="SNOWFLAKE", region="UK", config={})
    assert made["id"] in [each["id"] for each in mcp.read("ntro://integrations")]
    assert mcp.read(f"ntro://integrations/{made['id']}")["name"] == "R"
