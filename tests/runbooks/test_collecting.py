"""`collect_documents` with the reference child: a file for each source, in any order; both come back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from calling import BUNDLES

from running import Server
from workspaces import POLL_SECONDS, Workspace

INGEST = Path(__file__).resolve().parent.parent.parent / "runbooks" / "document-ingest"


def hand_in(workspace: Workspace, task_id: str, source: str, content: bytes, kind: str = "text/csv") -> None:
    path = f"/v1/workspace/tasks/{task_id}/files"
    named = {"filename": f"{source}.csv", "source": source}
    while (
        answer := workspace.client.post(path, params=named, content=content, headers={"content-type": kind})
    ).status_code == 409:  # the child that waits for it has not begun
        time.sleep(POLL_SECONDS)
    assert answer.status_code == 200, answer.text


def test_two_files_are_collected(server: Server, workspace: Workspace) -> None:
    workspace.deploy(INGEST, "DocumentIngestWorkflow")
    workflow = workspace.deploy(BUNDLES / "collector", "CollectorWorkflow")
    task_id = workspace.start(workflow, {})
    assert workspace.wait(task_id, "BLOCKED")["status"] == "BLOCKED"
    hand_in(workspace, task_id, "rent-roll", b"%PDF", "application/pdf")  # of no use: it is asked for again
    hand_in(workspace, task_id, "bank", b"a,b\n1,2\n")
    hand_in(workspace, task_id, "rent-roll", b"unit,rent\n1,900\n")
    collected: list[dict[str, Any]] = workspace.result(task_id)
    assert [(each["source"], each["filename"], each["size_bytes"]) for each in collected] == [
        ("bank", "bank.csv", 8),
        ("rent-roll", "rent-roll.csv", 16),
    ]
    children = [each["payload"]["task_id"] for each in workspace.logs(task_id, "child")]
    assert children == [f"{task_id}:collect:document-ingest:{source}" for source in ("bank", "rent-roll")]
