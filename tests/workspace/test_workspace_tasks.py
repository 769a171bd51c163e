"""Tasks through the unmodified client: started, followed, decided on, failed, listed; and what is sent twice."""

from __future__ import annotations

import time

import httpx
import pytest
from ntro.workspace import Client
from ntro.workspace.exceptions import ConflictError, NotFoundError, NtroAPIError
from ntro.workspace.models.task import SignalAck
from workspace_world import World, until

from running import Server


def ask(server: Server, method: str, path: str, **more: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {server.key}", **more.pop("headers", {})}  # type: ignore[dict-item]
    return httpx.request(method, f"{server.base_url}/v1{path}", headers=headers, timeout=30, **more)  # type: ignore[arg-type]


def test_from_start_to_end(client: Client, world: World) -> None:
    client.tenants.update_sync(world.tenant.id, config={"note": "tenant", "fx": "EUR"})
    client.entities.update_sync(world.tenant.id, world.entity.id, config={"note": "entity", "bank": "b"})
    workflow = world.workflow("review", name="monthly", defaultConfig={"a": 1})
    context = {"period": "2026-03", "priority": "high", "task_id": "mine", "tenant_slug": "another"}
    task = client.tasks.create_sync(
        tenantId=world.tenant.slug, entityId=world.entity.slug, workflowId="monthly", context=context
    )
    assert (task.title, task.priority, task.workflowId) == ("monthly 2026-03", "high", workflow.id)
    assert task.context == {
        "note": "entity", "fx": "EUR", "bank": "b", "a": 1, "period": "2026-03", "priority": "high",
        "tenant_id": world.tenant.id, "tenant_slug": world.tenant.slug, "entity_id": world.entity.id,
        "entity_slug": world.entity.slug, "workflow_id": workflow.id, "task_id": task.id,
    }  # fmt: skip
    step = world.until(task.id, "review")
    assert (step["taskId"], step["stepId"], step["message"]) == (task.id, "look", "Are they right?")
    assert step["pendingAction"]["payload"]["total"] == 3
    blocked = client.tasks.get_sync(task.id)
    assert blocked.status.value == "BLOCKED"
    assert [(each.name, each.status.value) for each in blocked.steps] == [("load", "COMPLETED"), ("look", "BLOCKED")]
    assert task.id in [each["id"] for each in client.tasks.list_pending_sync()]
    assert task.id in [each.id for each in client.tasks.list_schedule_sync()]
    approved = client.tasks.approve_sync(task.id, reason="fine")
    assert approved.id == task.id
    done = world.until(task.id, "done")
    assert (done["result"]["total"], done["result"]["note"]) == (3, "entity")
    assert done["result"]["decision"] == {"type": "approved", "comments": "fine", "acted_by": "HOSTLER_API_KEY"}
    found = client.tasks.get_sync(task.id)
    assert (found.status.value, found.failure) == ("COMPLETED", None)
    assert found.execution is not None
    assert (found.execution.workflowType, found.execution.closedAt is not None) == ("review", True)
    kinds = [each.eventType for each in found.executionEvents]
    assert [kinds[0], kinds[-1], kinds.count("step")] == ["started", "ended", 2]
    assert [each.type for each in client.tasks.logs_sync(task.id)] == kinds
    assert [each.id for each in client.tasks.history_sync(world.tenant.slug, world.entity.slug)] == [task.id]
    assert task.id not in [each.id for each in client.tasks.list_schedule_sync()]
    assert [each.id for each in client.tasks.list_schedule_sync(workflow_id=workflow.id)] == [task.id]
    assert task.id not in [each["id"] for each in client.tasks.list_pending_sync()]
    assert client.tasks.list_incoming_sync() == []  # nothing is queued for a person to begin it


def test_rejected(client: Client, world: World) -> None:
    task = world.run("review")
    world.until(task.id, "review")
    assert client.tasks.reject_sync(task.id, reason="no").id == task.id
    assert world.until(task.id, "done")["result"]["decision"]["type"] == "rejected"
    with pytest.raises(ConflictError, match="is over"):
        client.tasks.approve_sync(task.id)


def test_a_failure_says_where(client: Client, world: World) -> None:
    task = world.run("fails", period="never")
    over = world.until(task.id, "error_terminal")
    assert over["failure"]["message"] == "never is no period"
    found = client.tasks.get_sync(task.id)
    assert found.failure is not None
    assert (found.failure.type, found.failure.activityName) == ("ValueError", "break_it")
    assert "break_it" in (found.failure.stackTrace or "")
    assert found.steps[0].status.value == "FAILED"
    again = client.tasks.create_sync(
        tenantId=world.tenant.slug, workflowId=task.workflowId, context={"period": "never"}
    )
    assert again.id != task.id  # what failed may be begun anew at once


def test_the_gate_of_a_task_below(client: Client, world: World) -> None:
    world.workflow("review")
    task = world.run("parent")
    step = world.until(task.id, "review")
    assert step["taskId"] == f"{task.id}:delegate:review"
    assert client.tasks.get_sync(task.id).status.value == "BLOCKED"
    assert task.id in [each["id"] for each in client.tasks.list_pending_sync()]
    below = client.tasks.get_sync(step["taskId"])
    assert below.status.value == "BLOCKED"
    acted = client.tasks.approve_sync(task.id)
    assert isinstance(acted, SignalAck)
    assert (acted.workflowId, acted.status) == (step["taskId"], "SIGNALED")
    assert world.until(task.id, "done")["result"]["below"]["total"] == 3


def test_a_decision_sent_again_opens_no_other_gate(client: Client, another: Client, world: World) -> None:
    task = world.run("twice")
    first = world.until(task.id, "review")
    assert client.tasks.approve_sync(task.id).id == task.id
    # The client knows nothing of an answer, and sends it again when the next gate is open already.
    second = until(another, task.id, "review")
    while second["gate"] == first["gate"]:
        second = until(another, task.id, "review")
    assert client.tasks.approve_sync(task.id).status.value == "BLOCKED"
    assert client.tasks.next_step_sync(task.id)["gate"] == second["gate"]
    # Whoever has looked in between means the gate that is there.
    client.tasks.approve_sync(task.id)
    assert world.until(task.id, "done")["result"] == ["approved", "approved"]


def test_a_gate_can_be_named(server: Server, client: Client, world: World) -> None:
    task = world.run("twice")
    gate = world.until(task.id, "review")["gate"]
    wrong = ask(server, "POST", f"/workspace/tasks/{task.id}/approve", json={"gate": "another"})
    assert wrong.status_code == 409
    assert ask(server, "POST", f"/workspace/tasks/{task.id}/approve", json={"gate": gate}).status_code == 200
    assert ask(server, "POST", f"/workspace/tasks/{task.id}/approve", json={"gate": gate}).status_code == 200
    rejected = ask(server, "POST", f"/workspace/tasks/{task.id}/reject", json={"gate": gate})
    assert rejected.status_code == 409
    step = world.until(task.id, "review")
    while step["gate"] == gate:
        step = world.until(task.id, "review")
    assert ask(server, "POST", f"/workspace/tasks/{task.id}/reject", json={"gate": step["gate"]}).status_code == 200
    assert world.until(task.id, "done")["result"] == ["approved", "rejected"]


def test_rows_are_changed_while_the_gate_stays_open(server: Server, client: Client, world: World) -> None:
    task = world.run("review")
    world.until(task.id, "review")
    body = {"action": "edit_cell", "rowId": "r1", "field": "amount", "value": 3}
    assert ask(server, "POST", f"/workspace/tasks/{task.id}/row-action", json=body).json()["status"] == "BLOCKED"
    bad = ask(server, "POST", f"/workspace/tasks/{task.id}/row-action", json={"action": "drop", "rowId": "r"})
    assert (bad.status_code, bad.json()["error"]) == (400, "Bad Request")
    edited = {"action": "edit_cell", "row_id": "r1", "field": "amount", "value": 3}
    deadline = time.monotonic() + 60
    while world.until(task.id, "review")["pendingAction"]["payload"].get("rows") != [edited]:
        assert time.monotonic() < deadline, "what the runbook made of it is not shown"
        time.sleep(0.05)
    client.tasks.approve_sync(task.id)
    rows = world.until(task.id, "done")["result"]["rows"]
    assert rows == [{"action": "edit_cell", "row_id": "r1", "field": "amount", "value": 3}]


def test_cancelled(server: Server, client: Client, world: World) -> None:
    world.workflow("review")
    task = world.run("parent")
    below = world.until(task.id, "review")["taskId"]
    for _ in range(2):
        assert ask(server, "POST", f"/workspace/tasks/{task.id}/cancel").status_code == 200
    for each in (task.id, below):
        assert world.until(each, "error_terminal")["failure"]["type"] == "Cancelled"
    assert client.tasks.get_sync(task.id).status.value == "FAILED"


def test_a_start_sent_again_is_one_task(server: Server, client: Client, world: World) -> None:
    workflow = world.workflow("review")
    asked = {"tenantId": world.tenant.slug, "workflowId": workflow.id, "context": {"period": "2026-01"}}
    task = client.tasks.create_sync(**asked)
    assert client.tasks.create_sync(**asked).id == task.id
    assert client.tasks.create_sync(**{**asked, "context": {"period": "2026-02"}}).id != task.id
    named = [
        ask(server, "POST", "/workspace/tasks", json=asked, headers={"idempotency-key": key}).json()["id"]
        for key in ("one", "one", "two")
    ]
    assert named[0] == named[1]
    assert len({task.id, *named}) == 3
    other = {**asked, "context": {"period": "2026-09"}}
    refused = ask(server, "POST", "/workspace/tasks", json=other, headers={"idempotency-key": "one"})
    assert (refused.status_code, "another task" in refused.json()["message"]) == (409, True)


def test_what_can_not_be_started(server: Server, client: Client, world: World) -> None:
    workflow = world.workflow("quick")
    other = client.entities.create_sync(world.tenant.id, name="Other", slug="other")
    wrong = [
        ({"tenantId": "nobody"}, NotFoundError, "Tenant nobody"),
        ({"entityId": "nothing"}, NotFoundError, "Entity nothing"),
        ({"workflowId": "nothing"}, NotFoundError, "Workflow nothing"),
        ({"entityId": other.slug}, NtroAPIError, "entityId: workflow"),
        ({"context": {"x": "y" * 1_100_000}}, NtroAPIError, "context: with what it is merged"),
    ]
    for change, error, message in wrong:
        with pytest.raises(error, match=message):
            client.tasks.create_sync(**{"tenantId": world.tenant.slug, "workflowId": workflow.id, **change})
    assert client.tasks.history_sync(world.tenant.slug, world.entity.slug) == []
    assert client.tasks.create_sync(
        tenantId=world.tenant.name, entityId=world.entity.name, workflowId="quick"
    ).workflowId == (workflow.id)


def test_unknown_tasks(server: Server, client: Client) -> None:
    for path in ("", "/next-step", "/logs"):
        assert ask(server, "GET", f"/workspace/tasks/none{path}").status_code == 404
    for path in ("/approve", "/reject", "/cancel", "/row-action", "/files?filename=x"):
        body = {"action": "reject_row", "rowId": 1} if path == "/row-action" else {}
        assert ask(server, "POST", f"/workspace/tasks/none{path}", json=body).status_code == 404


def test_what_runbooks_look_for_in_earlier_tasks(server: Server, client: Client, world: World) -> None:
    """`previous()` of a runbook reads this list without a client of its own."""
    task = world.run("quick", period="2026-02")
    world.until(task.id, "done")
    rows = ask(server, "GET", f"/workspace/tenants/{world.tenant.id}/entities/{world.entity.id}/tasks").json()
    assert isinstance(rows, list)
    assert [(row["workflowSlug"], row["status"], row["context"]["period"]) for row in rows] == [
        ("quick", "COMPLETED", "2026-02")
    ]
    assert rows[0]["updatedAt"] > rows[0]["createdAt"]


def test_a_file_for_a_gate(server: Server, client: Client, world: World) -> None:
    task = world.run("collect", period="2026-03")
    step = world.until(task.id, "submit_file")
    assert (step["pendingAction"]["args"]["source"], step["message"]) == ("bank", "The bank statement is needed.")
    place = f"/workspace/tasks/{task.id}/files"
    assert ask(server, "POST", place, content=b"x").status_code == 400
    assert ask(server, "POST", f"{place}?filename=../x", content=b"x").status_code == 400
    assert ask(server, "POST", f"{place}?filename=x.csv", content=b"").status_code == 400
    assert ask(server, "POST", f"{place}?filename=x.csv&source=other", content=b"x").status_code == 409
    sent = ask(
        server, "POST", f"{place}?filename=march.csv&source=bank", content=b"a,b\n1,2\n",
        headers={"content-type": "text/csv"},
    )  # fmt: skip
    assert sent.status_code == 200, sent.text
    document = world.until(task.id, "done")["result"]
    assert {**document, "document_ref": ""} == {
        "document_ref": "", "tenant_slug": world.tenant.slug, "entity_slug": world.entity.slug, "source": "bank",
        "filename": "march.csv", "content_type": "text/csv",
    }  # fmt: skip
    assert ask(server, "POST", f"{place}?filename=march.csv", content=b"x").status_code == 409
