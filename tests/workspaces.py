"""A client of the Workspace API for tests: a tenant, its agents, bundles, tasks. It knows the server by HTTP only."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

TOOLS = [{"type": "agent_toolset_20260401"}]
POLL_SECONDS = 0.02
WAIT_SECONDS = 60.0
Json = dict[str, Any]


class Workspace:
    """`ask` may do more than call: try again after a death of the server, say."""

    def __init__(
        self, client: httpx2.Client, tenant: str, ask: Callable[[Callable[[], Any]], Any] | None = None
    ) -> None:
        self.client = client
        self.tenant = tenant
        self._ask = ask or (lambda work: work())
        self.tenant_id = self.post(
            "/v1/workspace/tenants", {"name": tenant, "slug": tenant, "dataPlatform": "managed-postgres"}
        )["id"]
        self.entity_id = self.post(f"/v1/workspace/tenants/{tenant}/entities", {"name": "One", "slug": "one"})["id"]

    # -- HTTP --

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """Raises AssertionError with the server's words."""
        return self._answered("POST", path, json=body, headers=headers)

    def get(self, path: str, **query: Any) -> Any:
        return self._answered("GET", path, params=query)

    def _answered(self, method: str, path: str, **more: Any) -> Any:
        def ask() -> Any:
            answer = self.client.request(method, path, **more)
            assert answer.status_code < 300, f"{answer.status_code} {answer.text}"
            return answer.json()

        return self._ask(ask)

    # -- what there is --

    def agent(self, name: str = "a", **fields: Any) -> str:
        """A managed agent; its id."""
        return str(self.post("/v1/agents", {"name": name, "model": "scripted", "tools": TOOLS, **fields})["id"])

    def register(self, native_id: str, name: str, **fields: Any) -> Json:
        """A registered agent, with its key."""
        reference = {"kind": "claude_managed", "externalRef": f"anthropic://agents/{native_id}"}
        body = {"tenantId": self.tenant, "name": name, **reference, **fields}
        return dict(self.post("/v1/workspace/registry/agents", body))

    def deploy(self, folder: Path, workflow_class: str, **fields: Any) -> str:
        """Deploy a bundle, and bind it to the entity; the workflow's id."""
        slug = folder.name
        files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.[pm][yd]")}
        body = {
            "tenantSlug": self.tenant,
            "version": "1.0.0",
            "workflowClass": workflow_class,
            "files": files,
            **fields,
        }
        self.post(f"/v1/runbooks/{slug}/deploy", body)
        binding = {"runbookSlug": slug, "entityId": self.entity_id, "name": slug}
        return str(self.post("/v1/workspace/registry/workflows", binding)["id"])

    # -- tasks --

    def start(self, workflow_id: str, context: Json, *, once: str = "") -> str:
        body = {"tenantId": self.tenant, "workflowId": workflow_id, "context": context}
        return str(self.post("/v1/workspace/tasks", body, **({"Idempotency-Key": once} if once else {}))["id"])

    def task(self, task_id: str) -> Json:
        return dict(self.get(f"/v1/workspace/tasks/{task_id}"))

    def wait(self, task_id: str, *statuses: str) -> Json:
        """Until it is so, or over."""
        late = time.monotonic() + WAIT_SECONDS
        while (task := self.task(task_id))["status"] not in (*statuses, "COMPLETED", "FAILED"):
            assert time.monotonic() < late, f"it is {task['status']}: {self.logs(task_id)}"
            time.sleep(POLL_SECONDS)
        return task

    def logs(self, task_id: str, kind: str = "") -> list[Json]:
        logs: list[Json] = self.get(f"/v1/workspace/tasks/{task_id}/logs")
        return [each for each in logs if kind in ("", each["type"])]

    def result(self, task_id: str) -> Any:
        """What it returned, once it has."""
        task = self.wait(task_id)
        assert task["status"] == "COMPLETED", task.get("failure")
        return self.logs(task_id, "ended")[0]["payload"]["result"]

    def sessions(self, task_id: str) -> list[Json]:
        """The sessions that serve a task."""
        found: list[Json] = self.get("/v1/sessions", limit=100, include_archived=True)["data"]
        return [each for each in found if each["metadata"].get("task_id") == task_id]

    def events(self, session_id: str, kind: str = "") -> list[Json]:
        events: list[Json] = self.get(f"/v1/sessions/{session_id}/events", limit=1000)["data"]
        return [each for each in events if kind in ("", each["type"])]
