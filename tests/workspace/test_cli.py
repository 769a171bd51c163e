"""The published command line, unmodified: every command that can work works against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
import sample_bundles
from ntro.workspace import Client
from published import Cli, program
from workspace_world import World

from running import Server


@pytest.fixture(scope="module")
def path() -> str:
    return program("HOSTLER_NTRO_CLI", ".venv-ntro-cli", "tests/workspace/ntro-cli.lock", "ntro")


@pytest.fixture
def ntro(path: str, server: Server, tmp_path: Path) -> Cli:
    cli = Cli(path, tmp_path)
    cli(
        "auth", "login", "--no-interactive", "--name", "ours", "--host", f"{server.base_url}/v1",
        "--api-key", server.key, "--tenant", "none",
    )  # fmt: skip
    return cli


def on_disk(folder: Path, slug: str) -> Path:
    for path, text in sample_bundles.ALL[slug].items():
        file = folder / slug / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder / slug


def test_connections(ntro: Cli, path: str, server: Server, tmp_path: Path) -> None:
    assert "Connected as" in ntro("auth", "test")
    assert ntro.json("auth", "whoami")["orgId"] == "hostler"
    assert "ours" in ntro("auth", "list")
    assert "Default connection set to 'ours'" in ntro("auth", "set-default", "ours")
    ntro("auth", "login", "--no-interactive", "--name", "bad", "--host", f"{server.base_url}/v1", "--api-key", "wrong")
    said = ntro("-c", "bad", "auth", "whoami", status=1)
    assert "HTTP 401" in said
    assert "A valid API key is expected" in " ".join(said.split())


def test_tenants_and_entities(ntro: Cli, world: World) -> None:
    slug = f"cli-{world.tenant.slug}"
    made = ntro.json("tenant", "create", "--name", "C", "--slug", slug, "--data-platform", "managed-postgres")
    assert (made["slug"], made["status"]) == (slug, "ACTIVE")
    assert slug in ntro("tenant", "list")
    assert ntro.json("tenant", "info", slug)["id"] == made["id"]
    ntro("tenant", "ai", "set", slug, "--provider", "ANTHROPIC", "--default-model", "m")
    assert "ANTHROPIC" in ntro("tenant", "ai", "show", slug)
    assert ntro.json("tenant", "info", slug)["config"] == {"ai": {"provider": "ANTHROPIC", "models": {"default": "m"}}}
    ntro("tenant", "ai", "reset", slug)
    assert ntro.json("tenant", "info", slug)["config"] == {}
    entity = ntro.json(
        "entity", "create", "--name", "E", "--slug", "e", "--tenant", slug, "--type", "spv", "--jurisdiction", "UK",
        "--currency", "GBP", "--schema", "lost",
    )  # fmt: skip
    assert (entity["currency"], entity["schema_"]) == ("GBP", None)
    assert [each["slug"] for each in ntro.json("entity", "list", "--tenant", slug)] == ["e"]
    ntro("entity", "ai", "set", "e", "--tenant", slug, "--provider", "BEDROCK")
    assert "BEDROCK" in ntro("entity", "ai", "show", "e", "--tenant", slug)
    ntro("entity", "ai", "reset", "e", "--tenant", slug)
    again = ntro("tenant", "create", "--name", "D", "--slug", slug, "--data-platform", "managed-postgres", status=1)
    assert f"slug: there is a tenant {slug} already" in " ".join(again.split())


def test_integrations(ntro: Cli, world: World) -> None:
    made = ntro.json(
        "integration", "add", "databricks", "--name", "D", "--workspace-url", "https://x.example", "--catalog", "c",
        "--client-id", "i", "--client-secret", "hush", "--region", "UK",
    )  # fmt: skip
    assert made["config"]["clientSecret"] == "********"
    assert made["id"] in [each["id"] for each in ntro.json("integration", "list")]
    assert ntro.json("integration", "info", made["id"])["name"] == "D"
    assert "does not connect to DATABRICKS" in " ".join(ntro("integration", "test", made["id"], status=1).split())
    assert "HTTP 501" in ntro("integration", "discover", made["id"], status=1)
    mail = ntro.json("integration", "add", "email", "--tenant", world.tenant.slug, "--address", "a@b.example")
    assert mail["tenantId"] == world.tenant.id


def test_agents(ntro: Cli, client: Client, world: World) -> None:
    made = client.agents.create_sync(
        tenantId=world.tenant.id, kind="claude_managed", name="audit", externalRef="anthropic://agents/agent_2"
    )
    assert [each["id"] for each in ntro.json("agent", "list", "--tenant", world.tenant.slug)] == [made.id]
    assert ntro.json("agent", "info", made.id)["externalRef"] == "anthropic://agents/agent_2"
    assert "deleted" in ntro("agent", "delete", made.id, "--yes")
    assert "HTTP 404" in ntro("agent", "info", made.id, status=1)


def test_create_deploys_although_it_crashes_afterwards(ntro: Cli, client: Client, world: World, tmp_path: Path) -> None:
    """It sends the deploy, and then calls what it has not."""
    folder = on_disk(tmp_path, "fails")
    said = ntro("workflow", "create", "--path", str(folder), "--tenant", world.tenant.slug, status=1)
    assert "print_kv" in said
    found = client.runbooks.get_sync("fails")
    assert (found.version, found.content) == ("1.0.0", "")  # it sends no runbook.md
    assert {each.path for each in found.templates} >= {"templates/workflow.py", "templates/activities.py"}
    workflow = client.workflows.create_sync(runbookSlug="fails", entityId=world.entity.id)
    task = client.tasks.create_sync(tenantId=world.tenant.slug, workflowId=workflow.id, context={"period": "p"})
    assert world.until(task.id, "error_terminal")["failure"]["message"] == "p is no period"


def test_workflows_and_runs(ntro: Cli, client: Client, world: World) -> None:
    workflow = world.workflow("quick", name=f"quick-{world.tenant.slug}")
    assert workflow.id in [each["id"] for each in ntro.json("workflow", "list")]
    assert ntro.json("workflow", "info", workflow.id)["runbookSlug"] == "quick"
    said = ntro(
        "workflow", "run", workflow.name, "--tenant", world.tenant.slug, "--entity", world.entity.slug,
        "--period", "2026-03", "--priority", "high", "--wait",
    )  # fmt: skip
    assert "Run started" in said
    assert "Final status: TaskStatus.COMPLETED" in said
    (task,) = client.tasks.history_sync(world.tenant.id, world.entity.id)
    assert (task.title, task.priority) == (f"{workflow.name} 2026-03", "high")
    assert ntro.json("run", "status", task.id)["status"] == "COMPLETED"
    assert [each["id"] for each in ntro.json(
        "run", "history", "--tenant", world.tenant.slug, "--entity", world.entity.slug
    )] == [task.id]  # fmt: skip
    blocked = world.run("review")
    world.until(blocked.id, "review")
    assert blocked.id in [each["id"] for each in ntro.json("run", "list")]
    assert blocked.id in [each["id"] for each in ntro.json("run", "pending")]
    assert ntro.json("run", "incoming") == []
    assert "HTTP 404" in ntro("run", "status", "none", status=1)


def test_validate(ntro: Cli, tmp_path: Path) -> None:
    """It knows an engine's marker alone, which its own decorators set when that engine is to be used."""
    folder = on_disk(tmp_path, "quick")
    assert "WORKFLOW_DEFN_MISSING" in ntro("runbook", "validate", str(folder), status=1)
