"""A real server with `--data-plane` and without: what a runbook stores is served, and is there after a kill."""

from __future__ import annotations

from pathlib import Path

import httpx2
import pytest

from hostler.ids import new_id
from running import Server
from tenantdata import new_database
from workspaces import Workspace

WORKFLOW = """
from ntro.workflow import NtroWorkflow, runbook

from .activities import keep


@runbook.defn
class KeeperWorkflow(NtroWorkflow):
    @runbook.run
    async def run(self, context):
        return await runbook.execute_activity(keep, args=[context, runbook.info().workflow_id])
"""
ACTIVITIES = """
from ntro.data import get_data_plane
from ntro.ingest import insert_submitted_document, list_submitted_documents
from ntro.workflow import activity


@activity.defn
async def keep(context, task_id):
    db = await get_data_plane(context["tenant_slug"])
    await insert_submitted_document(
        db, entity_slug="one", period="2026-04", source="made", filename="a b.txt", content_type="text/plain",
        data_bytes=b"kept " * 1000, task_id=task_id,
    )
    return [each.filename for each in await list_submitted_documents(db, entity_slug="one", source_prefix="ma")]
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "keeper"
    (folder / "templates").mkdir(parents=True)
    files = {"__init__.py": "", "workflow.py": WORKFLOW, "activities.py": ACTIVITIES}
    for name, text in files.items():
        (folder / "templates" / name).write_text(text)
    (folder / "runbook.md").write_text(
        "---\nslug: keeper\nname: Keeper\nversion: 1.0.0\nstate: draft\nauthor: a\n---\n"
    )
    return folder


def client(server: Server) -> httpx2.Client:
    return httpx2.Client(base_url=server.base_url, headers={"authorization": f"Bearer {server.key}"}, timeout=60.0)


def run(at: Workspace, bundle: Path) -> str:
    return at.start(at.deploy(bundle, "KeeperWorkflow", activityModules=["activities"]), {})


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_a_runbook_stores_is_served(
    tmp_path: Path, bundle: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    environ = {}
    if kind == "postgresql":
        url = request.getfixturevalue("postgres_url").replace("/postgres?", f"/{new_id('d').lower()}_{{tenant}}?")
        environ["HOSTLER_DATA_PLANE"] = url
    with Server(tmp_path / "data", environ=environ) as server:
        with client(server) as asking:
            for tenant in ("byng", "acme"):
                at = Workspace(asking, tenant)
                task_id = run(at, bundle)
                assert at.result(task_id) == ["a b.txt"]  # its own, and not the other tenant's
        server.kill()
        server.start()
        with client(server) as asking:
            (document,) = asking.get(f"/v1/workspace/tasks/{task_id}/documents").json()
            assert (document["filename"], document["sizeBytes"], document["source"]) == ("a b.txt", 5000, "made")
            content = asking.get(f"/v1/workspace/tasks/{task_id}/documents/{document['id']}").content
            assert content == b"kept " * 1000
        assert (tmp_path / "data" / "data-plane").exists() is (kind == "sqlite")


def test_a_second_tenant_on_one_database_is_told_why(tmp_path: Path, bundle: Path, postgres_url: str) -> None:
    config = f'[server]\ndata_plane = "{new_database(postgres_url)}"\n'
    with Server(tmp_path / "data", config=config) as server, client(server) as asking:
        first = Workspace(asking, "byng")
        assert first.result(run(first, bundle)) == ["a b.txt"]
        second = Workspace(asking, "acme")
        task = second.wait(run(second, bundle))
        assert task["status"] == "FAILED"
        ended = second.logs(task["id"], "ended")[0]["payload"]["error"]
        assert ended["type"] == "DataPlaneError"
        assert "belongs to the tenant 'byng', so 'acme' can't have it too" in ended["message"]
