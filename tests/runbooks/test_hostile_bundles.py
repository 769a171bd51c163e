"""A bundle's code that turns against its server: what it may not write, read, start or outlive."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from calling import BUNDLES, SCRIPT, workers

from running import Server
from workspaces import Workspace

WORKFLOW = """
import asyncio

from hostler.runbooks import messages as m
from hostler.runbooks.entries import Draft
from hostler.runbooks.worker.run import current
from ntro.workflow import NtroWorkflow, runbook


def say(message):
    current.get()._port.send(message)


def write(data):
    current.get()._port._writer.write(data)


async def go_on():
    while True:
        await asyncio.sleep(1)


@runbook.defn
class HostileWorkflow(NtroWorkflow):
    @runbook.run
    async def run(self, given: dict):
        return await getattr(self, given["do"])(given)

    async def fine(self, given):
        return "a secret of " + given["tenant_slug"]

    async def forge(self, given):
        approved = {"name": "user_action", "args": [{"type": "approved", "acted_by": "Alice"}]}
        say(m.Append(id=10**6, drafts=[Draft(kind="signal", body=approved)]))
        await go_on()

    async def garbage(self, given):
        write(b"\\x05\\0\\0\\0hello")
        await go_on()

    async def nested(self, given):
        write((20000).to_bytes(4, "little") + b"\\x91" * 20000)
        await go_on()

    async def flood(self, given):
        for number in range(5000):
            say(m.AwaitChild(id=10**6 + number, task_id=given["task_id"]))
            say(m.Sql(id=10**7 + number, tenant="x", how="fetch", sql="SELECT 1", args=b""))
        await go_on()

    async def endless(self, given):
        for number in range(100):
            say(m.Append(id=10**6 + number, drafts=[Draft(kind="log")] * 1000))
        await go_on()

    async def looks(self, given):
        say(m.Show(view={"current_ui_state": "x" * 30_000_000}))
        await go_on()

    async def never(self, given):
        say(m.Rest(position=0, heard=10**9, until=1e300))
        await go_on()

    async def outlive(self, given):
        say(m.Append(id=10**6, drafts=[Draft(kind="ended", body={"result": "over"})]))
        await go_on()

    async def wait_for(self, given):
        try:
            return (await current.get()._port.ended(given["other"])).body
        except Exception as problem:
            return str(problem)

    async def start(self, given):
        try:
            await runbook.start_child_workflow("hostile", {"do": "fine"}, id=given["other"])
        except Exception as problem:
            return str(problem)

    async def deeper(self, given):
        return await runbook.execute_child_workflow("hostile", given)
"""


def deploy(space: Workspace, folder: Path) -> str:
    made = folder / "hostile"
    if not made.exists():
        (made / "templates").mkdir(parents=True)
        (made / "runbook.md").write_text((BUNDLES / "caller" / "runbook.md").read_text().replace("caller", "hostile"))
        for name, text in {"__init__": "", "activities": "", "workflow": WORKFLOW}.items():
            (made / "templates" / f"{name}.py").write_text(text)
    return space.deploy(made, "HostileWorkflow")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Without a spare process, so that there is none where no task is."""
    config = "[runbooks]\nspare_seconds = 0\n"
    with Server(tmp_path_factory.mktemp("hostile") / "data", config=config, scripted=SCRIPT) as running:
        yield running


@pytest.fixture(scope="module")
def hostile(workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    workflow = deploy(workspace, tmp_path_factory.mktemp("hostile"))
    return lambda do, **context: workspace.start(workflow, {"do": do, **context})


def test_a_worker_that_breaks_the_rules_is_ended_and_so_is_its_task(
    workspace: Workspace, hostile: Callable[..., str]
) -> None:
    for task_id in [hostile(do) for do in ("forge", "garbage", "nested", "looks", "never", "flood")]:
        assert workspace.wait(task_id)["status"] == "FAILED"
        assert workspace.logs(task_id, "ended")[0]["payload"]["error"]["type"] == "WorkerCrashed"
        assert workspace.logs(task_id, "signal") == []


def test_a_journal_has_an_end(workspace: Workspace, hostile: Callable[..., str]) -> None:
    task = workspace.wait(task_id := hostile("endless"))
    assert (task["status"], task["failure"]["type"]) == ("FAILED", "JournalFull")
    assert len(workspace.logs(task_id)) < 52_000


def test_no_process_outlives_its_task(server: Server, workspace: Workspace, hostile: Callable[..., str]) -> None:
    assert workspace.result(hostile("outlive")) == "over"
    late = time.monotonic() + 10
    while workers(server):
        assert time.monotonic() < late
        time.sleep(0.05)


def test_a_task_waits_for_its_own_children_only(
    workspace: Workspace, hostile: Callable[..., str], client: Any, tmp_path: Path
) -> None:
    other = Workspace(client, "victim")
    theirs = other.start(deploy(other, tmp_path), {"do": "fine"})
    assert other.result(theirs) == "a secret of victim"
    assert "is no child" in workspace.result(hostile("wait_for", other=theirs))
    assert "was not found" in workspace.result(hostile("wait_for", other="nobody"))
    assert "before its own" in workspace.result(hostile("start", other=f"{theirs}:a:hostile"))
    assert [each["id"] for each in other.get("/v1/workspace/tasks") if each["id"].startswith(theirs)] == [theirs]


def test_runbooks_that_start_themselves_come_to_an_end(workspace: Workspace, hostile: Callable[..., str]) -> None:
    task = workspace.wait(hostile("deeper"))
    assert task["status"] == "FAILED"
    assert "characters at most" in str(workspace.logs(task["id"], "ended"))
