"""The page that started this, end to end: an agent of a folder, registered, called by the reference runbook's step, its
document judged and kept, the gate approved, the outcome recorded. All by the command line and HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from commands.command import hostler
from reference.handover import problems
from running import Server
from workspaces import Workspace

ROOT = Path(__file__).resolve().parent.parent.parent
AGENT = ROOT / "agents" / "audit-handover"
RUNBOOK = ROOT / "runbooks" / "nav-audit-handover"
SAMPLE = json.loads((RUNBOOK / "sample" / "period-2026-03.json").read_text())


class Office:
    """A tenant with the reference agent and the reference runbook."""

    def __init__(self, server: Server, client: httpx2.Client) -> None:
        self.server = server
        self.workspace = Workspace(client, "byng")
        self.applied = [json.loads(line) for line in self.hostler("apply", str(AGENT), "--tenant", "byng").splitlines()]
        (self.agent,) = json.loads(self.hostler("agent", "list", "--tenant", "byng"))
        self.workflow = self.workspace.deploy(RUNBOOK, "NavAuditHandoverWorkflow")

    def hostler(self, *arguments: str) -> str:
        place = {"HOSTLER_BASE_URL": self.server.base_url, "HOSTLER_API_KEY": self.server.key}
        done = hostler(*arguments, "--json", environ=place)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def office(server: Server) -> Iterator[Office]:
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=60) as client:
        yield Office(server, client)


def test_the_folder_makes_all_that_the_agent_needs(office: Office) -> None:
    made = {each["kind"] if "kind" in each else each["type"]: each for each in office.applied}
    assert len(made) == 5, sorted(made)
    again = [json.loads(line) for line in office.hostler("apply", str(AGENT), "--tenant", "byng").splitlines()]
    assert {each["action"] for each in again} == {"unchanged"}
    native = office.workspace.get(f"/v1/agents/{office.agent['externalRef'].rpartition('/')[2]}")
    assert native["mcp_servers"][0]["url"] == f"{office.server.base_url}/mcp"
    (credential,) = office.workspace.get(f"/v1/vaults/{office.agent['vaultIds'][0]}/credentials")["data"]
    assert (credential["auth"]["type"], credential["auth"]["mcp_server_url"]) == (
        "static_bearer",
        f"{office.server.base_url}/mcp",
    )


def test_a_period_goes_in_and_a_document_comes_out(office: Office) -> None:
    workspace = office.workspace
    context: dict[str, Any] = {"period": "2026-03", "audit_agent_id": office.agent["id"], **SAMPLE}
    task_id = workspace.start(office.workflow, context)
    task = workspace.wait(task_id, "BLOCKED")
    assert task["status"] == "BLOCKED", task.get("failure")
    (session,) = workspace.sessions(task_id)
    (document,) = workspace.get(f"/v1/workspace/tasks/{task_id}/documents")
    assert document["source"] == f"agent_output:{office.agent['id']}"
    content = workspace.client.get(f"/v1/workspace/tasks/{task_id}/documents/{document['id']}").content
    said = workspace.events(session["id"], "user.message")[0]["content"][0]["text"]
    last = workspace.events(session["id"], "agent.message")[-1]["content"][0]["text"]
    assert problems(said, document["filename"], content, last) == []
    workspace.post(f"/v1/workspace/tasks/{task_id}/approve", {"reason": "Agrees with the books."})
    outcome = workspace.result(task_id)
    assert outcome["decision"] == "approved"
    link = workspace.post("/console/links", {"path": f"/console/tasks/{task_id}"})["url"]
    with httpx2.Client(follow_redirects=True) as browser:
        page = browser.get(link)
    assert page.status_code == 200
    assert document["filename"] in page.text
    assert "Draft auditor handover" in page.text


def test_an_entity_without_an_agent_skips_the_step(office: Office) -> None:
    task_id = office.workspace.start(office.workflow, {"period": "2026-03", **SAMPLE})
    outcome = office.workspace.result(task_id)
    assert outcome["decision"] == "skipped"
    assert office.workspace.sessions(task_id) == []
