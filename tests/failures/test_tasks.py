"""A task whose database goes in mid-step: what it does meanwhile is not lost and not done again when it comes back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

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
FRONT = "---\nslug: long\nname: Long\nversion: 1.0.0\nstate: published\nauthor: Hostler\n---\n"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "long"
    (folder / "templates").mkdir(parents=True)
    (folder / "runbook.md").write_text(FRONT)
    for name, text in (("__init__", ""), ("activities", ACTIVITIES), ("workflow", WORKFLOW)):
        (folder / "templates" / f"{name}.py").write_text(text)
    return folder


def test_a_database_that_goes_in_mid_step(
    start: Callable[..., Server],
    postgres_url: str,
    url: str,  # noqa: F811
    bundle: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    (folder / "log").touch()
    config = f'[runbooks]\nfolders = ["{folder}"]\nvariables = {{ FOLDER = "{folder}" }}\n'
    server = start(database=url, config=config)
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as client:
        workspace = Workspace(client, "byng")
        task_id = workspace.start(workspace.deploy(bundle, "LongWorkflow"), {})
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
