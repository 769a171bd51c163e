"""A server that is killed between a commit and its answer: what the client sends again is done once."""

from __future__ import annotations

from pathlib import Path

from ntro.workspace import Client
from workspace_world import World

from running import Server


def test_starts_and_decisions(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        client = Client(host=f"{server.base_url}/v1", api_key=server.key)
        world = World(client, 1)
        workflow = world.workflow("twice")
        asked = {"tenantId": world.tenant.slug, "workflowId": workflow.id, "context": {"period": "2026-01"}}
        task = client.tasks.create_sync(**asked)
        server.kill()
        server.start()
        assert client.tasks.create_sync(**asked).id == task.id
        first = world.until(task.id, "review")["gate"]
        client.tasks.approve_sync(task.id)
        while world.until(task.id, "review")["gate"] == first:
            pass  # until the next gate is open
        server.kill()
        server.start()
        assert client.tasks.approve_sync(task.id).status.value == "BLOCKED"  # the same approval, sent again
        assert world.until(task.id, "review")["gate"] != first
        client.tasks.reject_sync(task.id, reason="seen")
        assert world.until(task.id, "done")["result"] == ["approved", "rejected"]
        assert [each.id for each in client.tasks.history_sync(world.tenant.slug, world.entity.slug)] == [task.id]
