"""The unmodified client of the published package against a real server: what is made, listed, changed and deleted."""

from __future__ import annotations

import pytest
import sample_bundles as bundles
from ntro.workspace import Client
from ntro.workspace.exceptions import AuthenticationError, ConflictError, NotFoundError, NtroAPIError
from workspace_world import World

from running import Server


def test_who_calls(server: Server, client: Client) -> None:
    me = client.identity.whoami_sync()
    assert (me.orgId, me.roles, me.name) == ("hostler", ["admin"], "HOSTLER_API_KEY")
    assert me.email == f"{me.id}@hostler.invalid"
    with pytest.raises(AuthenticationError) as refused:
        Client(host=f"{server.base_url}/v1", api_key="sk-hostler-wrong").identity.whoami_sync()
    assert refused.value.status_code == 401
    with pytest.raises(AuthenticationError):
        Client(host=f"{server.base_url}/v1").tenants.list_sync()


def test_tenants(client: Client) -> None:
    made = client.tenants.create_sync(name="Byng Group", slug="byng", dataPlatform="managed-postgres")
    assert (made.status.value, made.config, made.entityCount) == ("ACTIVE", {}, 0)
    again = client.tenants.create_sync(name="Byng Group", slug="byng", dataPlatform="managed-postgres")
    assert again.id == made.id  # as when an answer got lost
    with pytest.raises(ConflictError, match="slug: there is a tenant byng already"):
        client.tenants.create_sync(name="Another", slug="byng", dataPlatform="managed-postgres")
    changed = client.tenants.update_sync("byng", config={"ai": {"provider": "ANTHROPIC"}})
    assert changed.config == {"ai": {"provider": "ANTHROPIC"}}
    for ref in (made.id, "byng", "Byng Group"):
        assert client.tenants.get_sync(ref).id == made.id
    client.entities.create_sync("byng", name="One", slug="one")
    assert client.tenants.get_sync("byng").entityCount == 1
    assert made.id in [each.id for each in client.tenants.list_sync()]
    assert made.id in [each.id for each in client.tenants.list_sync(status="ACTIVE")]
    assert made.id not in [each.id for each in client.tenants.list_sync(status="FAILED")]
    with pytest.raises(NotFoundError) as missing:
        client.tenants.get_sync("nobody")
    assert (missing.value.message, missing.value.detail) == ("Tenant nobody was not found.", "Not Found")


def test_a_tenant_on_a_platform_of_its_own(client: Client) -> None:
    platform = client.integrations.create_data_platform_sync(name="Flakes", provider="SNOWFLAKE", config={"a": 1})
    with pytest.raises(NtroAPIError, match="dataPlatformConfigId: Field required"):
        client.tenants.create_sync(name="S", slug="snow", dataPlatform="snowflake")
    with pytest.raises(NotFoundError):
        client.tenants.create_sync(name="S", slug="snow", dataPlatform="snowflake", dataPlatformConfigId="none")
    made = client.tenants.create_sync(name="S", slug="snow", dataPlatform="snowflake", dataPlatformConfigId=platform.id)
    assert [each["id"] for each in client.integrations.list_platform_tenants_sync(platform.id)] == [made.id]


def test_entities(client: Client, world: World) -> None:
    made = client.entities.create_sync(
        world.tenant.slug, name="4 High Court Ltd.", slug="4hc", type="spv", jurisdiction="UK", currency="GBP",
        schema_="hc", config={"audit_agent_id": "x"},
    )  # fmt: skip
    assert (made.tenantId, made.schema_, made.config, made.warnings) == (
        world.tenant.id, "hc", {"audit_agent_id": "x"}, None,
    )  # fmt: skip
    like = client.entities.create_sync(world.tenant.id, name="4 high-court LTD", slug="4hc-2")
    assert like.warnings is not None
    assert like.warnings[0].existing["id"] == made.id
    with pytest.raises(ConflictError):
        client.entities.create_sync(world.tenant.slug, name="Other", slug="4hc")
    assert client.entities.update_sync(world.tenant.slug, "4hc", config={}).config == {}
    assert client.entities.get_sync(world.tenant.id, made.id).slug == "4hc"
    slugs = [each.slug for each in client.entities.list_sync(world.tenant.slug)]
    assert slugs == [world.entity.slug, "4hc", "4hc-2"]
    assert made.id in [each.id for each in client.entities.list_sync()]
    with pytest.raises(NotFoundError):
        client.entities.get_sync(world.tenant.slug, "none")


def test_agents(client: Client, world: World) -> None:
    made = client.agents.create_sync(
        tenantId=world.tenant.slug, kind="claude_managed", name="audit", externalRef="anthropic://agents/agent_1"
    )
    assert (made.externalRef, made.kind) == ("anthropic://agents/agent_1", "claude_managed")
    assert made.mcpUrl is not None
    assert made.mcpUrl.endswith("/mcp")
    assert [each.id for each in client.agents.list_sync(world.tenant.slug)] == [made.id]
    assert made.id in [each.id for each in client.agents.list_sync()]
    version = client.agents.create_version_sync(made.id, changelog="first")
    assert (version.version, version.agentId) == (1, made.id)
    assert client.agents.create_version_sync(made.id, changelog="first").id == version.id
    found = client.agents.get_sync(made.id)
    assert [each.version for each in found.versions or []] == [1]
    client.agents.delete_sync(made.id)
    with pytest.raises(NotFoundError):
        client.agents.get_sync(made.id)


def test_workflows(client: Client, world: World) -> None:
    made = world.workflow("quick", name="nightly", schedule="0 2 * * *", timezone="Europe/London", description="d")
    assert (made.runbookSlug, made.entityId, made.schedule) == ("quick", world.entity.id, "0 2 * * *")
    assert (made.entity or {})["slug"] == world.entity.slug
    again = world.workflow("quick", name="nightly", schedule="0 2 * * *", timezone="Europe/London", description="d")
    assert again.id == made.id
    with pytest.raises(ConflictError):
        world.workflow("quick", name="nightly")
    changed = client.workflows.update_sync(made.id, schedule=None, timezone=None, default_config={"note": "n"})
    assert (changed.schedule, changed.timezone, changed.defaultConfig) == (None, None, {"note": "n"})
    assert client.workflows.update_sync(made.id, name="daily").name == "daily"
    assert client.workflows.get_sync("daily").id == made.id
    assert made.id in [each.id for each in client.workflows.list_sync()]
    with pytest.raises(NotFoundError, match="There is no runbook nothing"):
        client.workflows.create_sync(runbookSlug="nothing", entityId=world.entity.id)
    with pytest.raises(NotFoundError, match="version 9"):
        client.workflows.create_sync(runbookSlug="quick", runbookVersion="9", entityId=world.entity.id)
    for wrong in ({"schedule": "every day"}, {"schedule": "61 * * * *"}, {"schedule": "* * * * * *"}):
        with pytest.raises(NtroAPIError, match="schedule:"):
            client.workflows.create_sync(runbookSlug="quick", entityId=world.entity.id, **wrong)
    with pytest.raises(NtroAPIError, match="timezone: 'Mars/One'"):
        client.workflows.update_sync(made.id, schedule="0 1 * * *", timezone="Mars/One")


def test_capabilities(client: Client) -> None:
    made = client.workflows.create_capability_sync(name="nav", version="1", description="d")
    assert client.workflows.create_capability_sync(name="nav", version="1").id == made.id
    assert client.workflows.create_capability_sync(name="nav", version="2").id != made.id


def test_integrations(client: Client, world: World) -> None:
    config = {"workspaceUrl": "https://x.example", "clientId": "c", "clientSecret": "hush", "deep": [{"token": "t"}]}
    made = client.integrations.create_data_platform_sync(name="D", provider="DATABRICKS", region="UK", config=config)
    assert made.config == {**config, "clientSecret": "********", "deep": [{"token": "********"}]}
    again = client.integrations.create_data_platform_sync(name="D", provider="DATABRICKS", region="UK", config=config)
    assert again.id == made.id
    other = {**config, "clientSecret": "another"}
    another = client.integrations.create_data_platform_sync(name="D", provider="DATABRICKS", region="UK", config=other)
    assert another.id != made.id
    assert client.integrations.get_data_platform_sync(made.id) == made
    assert {made.id, another.id} <= {each.id for each in client.integrations.list_data_platforms_sync()}
    tested = client.integrations.test_connection_sync(made.id)
    assert tested.success is False
    assert "does not connect to DATABRICKS" in tested.message
    with pytest.raises(NtroAPIError) as refused:
        client.integrations.discover_schemas_sync(made.id)
    assert refused.value.status_code == 501
    mailbox = client.integrations.create_email_sync(tenantId=world.tenant.slug, address="a@b.example")
    assert (mailbox.tenantId, mailbox.provider) == (world.tenant.id, "microsoft-graph")
    kinds = {each["id"]: each["kind"] for each in client.integrations.list_all_sync()}
    assert (kinds[made.id], kinds[mailbox.id]) == ("data", "email")


def test_secrets_are_not_in_the_database(server: Server, client: Client) -> None:
    client.integrations.create_data_platform_sync(name="X", provider="GCP_BIGQUERY", config={"privateKey": "sesame-77"})
    for file in server.data_dir.rglob("*"):
        assert not file.is_file() or b"sesame-77" not in file.read_bytes(), file
    assert "sesame-77" not in server.log()


def test_runbooks(client: Client, world: World) -> None:
    deployed = client.runbooks.deploy_sync("review", **bundles.deployment("review", world.tenant.slug))
    assert (deployed.runbook, deployed.version, deployed.result["status"]) == ("review", "1.0.0", "deployed")
    again = client.runbooks.deploy_sync("review", **bundles.deployment("review", world.tenant.id))
    assert again.result["digest"] == deployed.result["digest"]
    (listed,) = client.runbooks.list_sync(search="adds", tags="sums", jurisdiction="UK", classification="demo")
    assert (listed.slug, listed.state, listed.stepCount, listed.tags) == ("review", "published", 1, ["sums"])
    assert client.runbooks.list_sync(tags="sums,others") == []
    assert client.runbooks.list_sync(state="draft") == []
    found = client.runbooks.get_sync("review")
    assert (found.author, found.steps[0].label, "# review" in found.content) == ("us", "Load numbers", True)
    files = {each.path: each.content for each in client.runbooks.templates_sync("review").templates}
    assert files["templates/models.py"] == bundles.REVIEW["templates/models.py"]
    skill = client.skills.get_sync("review")
    assert (skill.slug, skill.content) == ("review", bundles.REVIEW["runbook.md"])
    said = client.runbooks.feedback_sync("review", "good", task_id="t")
    assert client.runbooks.feedback_sync("review", "good", task_id="t")["id"] == said["id"]
    for missing in (client.runbooks.get_sync, client.runbooks.templates_sync, client.skills.get_sync):
        with pytest.raises(NotFoundError):
            missing("nothing")
    with pytest.raises(NotFoundError):
        client.runbooks.feedback_sync("nothing", "x")


def test_a_bundle_that_is_refused(client: Client, world: World) -> None:
    good = bundles.deployment("review", world.tenant.slug)
    wrong = [
        ({"files": {"templates/../../x.py": "", **good["files"]}}, "files:"),
        ({"files": {}}, "templates/workflow.py is missing"),
        ({"version": "2.0.0"}, "its version is '1.0.0'"),
        ({"workflow_class": "no class"}, "workflowClass"),
        ({"tenant_slug": "nobody"}, "Tenant nobody was not found"),
    ]
    for change, message in wrong:
        with pytest.raises(NtroAPIError, match=message):
            client.runbooks.deploy_sync("review", **{**good, **change})


def test_a_tenant_that_ends(client: Client, world: World) -> None:
    task = world.run("review")
    world.until(task.id, "review")
    ended = client.tenants.deprovision_sync(world.tenant.slug)
    assert ended.status.value == "DEPROVISIONING"
    assert client.tenants.deprovision_sync(world.tenant.slug).id == ended.id
    over = world.until(task.id, "error_terminal")
    assert over["failure"]["type"] == "Cancelled"
    with pytest.raises(ConflictError):
        client.entities.create_sync(world.tenant.slug, name="N", slug="n")
    with pytest.raises(ConflictError):
        client.tasks.create_sync(tenantId=world.tenant.slug, workflowId=task.workflowId)
    assert client.tasks.get_sync(task.id).status.value == "FAILED"
