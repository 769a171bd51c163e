"""A task whose database goes: what it does meanwhile is not lost and not done again when it comes back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2

from failures.test_postgres import cut, url  # noqa: F401 - a fixture
from running import Server
from workspaces import POLL_SECONDS, Workspace

ACTIVITIES = """
import os
import time

from ntro.workflow import activity


@activity.defn
def work(number: int) -> int:
    folder = os.environ["FOLDER"]
    with open(f"{folder}/log", "a") as file:
        file.write(f"{number}\\n")
    while not os.path.exists(f"{folder}/go"):  # until the test has taken the database away
        time.sleep(0.01)
    return number
"""
WORKFLOW = """
from ntro.workflow import NtroWorkflow, runbook, ui_step

from .activities import work


@runbook.defn
class LongWorkflow(NtroWorkflow):
    @ui_step(name="work", title="Work")
    async def _work(self):
        return [await runbook.execute_activity(work, number) for number in range(3)]

    @runbook.run
    async def run(self, _: dict):
        return await self._work()
"""
ASKS = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}
TOOL = {"name": "bash", "input": {"command": "echo done"}}
SCRIPT = {
    "rules": [{"when": {}, "turns": [{"text": "May I?", "tools": [TOOL]}, {"text": "It is {{last_tool_result}}"}]}]
}
ASKING = """
from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke


@runbook.defn
class AskingWorkflow(NtroWorkflow):
    @ui_step(name="ask", title="Ask")
    async def _ask(self, given):
        return (await invoke(given["agent"], input="do it")).output_text

    @runbook.run
    async def run(self, given: dict):
        return await self._ask(given)
"""
FRONT = "---\nslug: long\nname: Long\nversion: 1.0.0\nstate: published\nauthor: Hostler\n---\n"


def bundle(folder: Path, workflow: str, activities: str = "") -> Path:
    (folder / "templates").mkdir(parents=True)
    (folder / "runbook.md").write_text(FRONT.replace("long", folder.name))
    for name, text in (("__init__", ""), ("activities", activities), ("workflow", workflow)):
        (folder / "templates" / f"{name}.py").write_text(text)
    return folder


def test_a_database_that_goes_in_mid_step(
    start: Callable[..., Server],
    postgres_url: str,
    url: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "log").touch()
    config = f'[runbooks]\nfolders = ["{folder}"]\nvariables = {{ FOLDER = "{folder}" }}\n'
    server = start(database=url, config=config)
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as client:
        workspace = Workspace(client, "byng")
        long = workspace.deploy(bundle(tmp_path / "long", WORKFLOW, ACTIVITIES), "LongWorkflow")
        task_id = workspace.start(long, {})
        while not (folder / "log").read_text():
            time.sleep(POLL_SECONDS)
        cut(postgres_url, url, closed=True)
        assert client.get(f"/v1/workspace/tasks/{task_id}").status_code == 503
        (folder / "go").touch()  # the activity returns while nothing can be written down
        while "waits" not in server.log():
            time.sleep(POLL_SECONDS)
        cut(postgres_url, url, closed=False)
        while client.get(f"/v1/workspace/tasks/{task_id}").status_code == 503:
            time.sleep(POLL_SECONDS)
        assert workspace.result(task_id) == [0, 1, 2]
        kinds = Counter(each["type"] for each in workspace.logs(task_id))
        assert (kinds["activity"], kinds["step"], kinds["ended"]) == (3, 1, 1)
    assert (folder / "log").read_text().split() == ["0", "1", "2"], "each was done once"


def test_a_database_that_goes_while_a_task_rests(
    start: Callable[..., Server],
    postgres_url: str,
    url: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    server = start(database=url, config="[runbooks]\nrest_seconds = 0.1\n", scripted=SCRIPT)
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as client:
        workspace = Workspace(client, "byng")
        asking = workspace.deploy(bundle(tmp_path / "asking", ASKING), "AskingWorkflow")
        agent = workspace.register(workspace.agent("asker", tools=[ASKS]), "asker")["id"]
        task_id = workspace.start(asking, {"agent": agent})
        while not workspace.logs(task_id, "resting"):
            time.sleep(POLL_SECONDS)
        workspace.wait(task_id, "BLOCKED")
        cut(postgres_url, url, closed=True)
        approve = f"/v1/workspace/tasks/{task_id}/approve"
        assert client.post(approve, json={}).status_code == 503
        cut(postgres_url, url, closed=False)
        while client.get(f"/v1/workspace/tasks/{task_id}").status_code == 503:
            time.sleep(POLL_SECONDS)
        workspace.post(approve, {})
        assert workspace.result(task_id) == "It is done"
        (session,) = workspace.sessions(task_id)
        assert len(workspace.events(session["id"], "user.message")) == 1
