"""A tenant with an entity of its own for a test, and what the published client makes for them."""

from __future__ import annotations

import time
from typing import Any

import sample_bundles
from ntro.workspace import Client

SECONDS = 60.0


class World:
    """A tenant with an entity of its own, and what is made for them."""

    def __init__(self, client: Client, number: int) -> None:
        self.client = client
        self.tenant = client.tenants.create_sync(name=f"T{number}", slug=f"t{number}", dataPlatform="managed-postgres")
        self.entity = client.entities.create_sync(self.tenant.id, name=f"E{number}", slug=f"e{number}", currency="GBP")

    def workflow(self, slug: str, **more: Any) -> Any:
        self.client.runbooks.deploy_sync(slug, **sample_bundles.deployment(slug, self.tenant.slug))
        return self.client.workflows.create_sync(runbookSlug=slug, entityId=self.entity.id, **more)

    def run(self, slug: str, **context: Any) -> Any:
        """A task of a new workflow."""
        workflow = self.workflow(slug)
        return self.client.tasks.create_sync(tenantId=self.tenant.slug, workflowId=workflow.id, context=context)

    def until(self, task_id: str, *actions: str) -> dict[str, Any]:
        return until(self.client, task_id, *actions)


def until(client: Client, task_id: str, *actions: str) -> dict[str, Any]:
    """The next step of a task, once it is one of these."""
    deadline = time.monotonic() + SECONDS
    while True:
        step: dict[str, Any] = client.tasks.next_step_sync(task_id)
        if step["action"] in actions:
            return step
        assert step["action"] == "wait", step
        assert time.monotonic() < deadline, step
        time.sleep(0.05)
