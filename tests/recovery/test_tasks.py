"""kill -9 at every point of a task: with the real server it comes to the same end, and nothing is done twice."""

from __future__ import annotations

import sqlite3
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mortal import Mortal

from workspaces import Workspace

BUNDLES = Path(__file__).with_name("bundles")
LOST = (httpx2.TransportError,)
COMMAND = "echo drafted >> /mnt/session/outputs/draft.txt"
SLOWLY = "slowly"  # with this in its mark an agent takes so long that its task rests
SLOW_SECONDS = 2.5


def rule(said: str, command: str) -> dict[str, Any]:
    tool = {"name": "bash", "input": {"command": command}}
    return {"when": {"user_text_contains": said}, "turns": [{"tools": [tool]}, {"text": "It is drafted."}]}


SCRIPT = {"name": "tasks", "rules": [rule(SLOWLY, f"{COMMAND}; sleep {SLOW_SECONDS}"), rule("draft", COMMAND)]}
POINTS = [
    "before:start_task",
    "after:start_task",
    "before:task:advance",
    "after:worker",
    "before:task:activity",
    "after:task:activity",
    "before:task:activity 2",
    "after:task:activity 3",
    "before:task:step",
    "after:task:step",
    "before:task:agent",
    "before:post:sessions",
    "after:post:sessions",
    "before:post:events",
    "after:post:events",
    "before:insert_document",
    "after:insert_document",
    "after:task:agent",
    "before:task:step 2",
    "after:task:step 2",
    "before:task:start_child",
    "after:task:start_child",
    "before:task:ended",
    "after:task:ended",
    "before:task:child_ended",
    "after:task:child_ended",
    "before:task:waiting",
    "after:task:waiting",
    "before:task:waited",
    "after:task:waited",
    "before:decide",
    "after:decide",
    "before:task:waited 2",
    "after:task:waited 2",
    "before:task:activity 5",
    "after:task:activity 5",
    "before:task:ended 2",
    "after:task:ended 2",
]
# Where its agent takes long, and it needs no process meanwhile.
RESTS = [
    "before:task:rest",
    "after:task:rest",
    "before:task:at_rest",
    "after:task:at_rest",
    "before:task:agent",
    "after:task:agent",
    "after:worker 2",
    "after:append:agent.tool_result",
]
# Where an agent's session is at work: what it does is journalled by the session, beside the task.
SESSIONS = ["before:append:agent.tool_use", "after:append:agent.tool_result", "after:append:session.status_idle"]


class World:
    """A server with a tenant, an agent and two runbooks, on which tasks are run one after another."""

    def __init__(self, folder: Path) -> None:
        self.effects = folder / "effects" / "log"
        self.effects.parent.mkdir()
        self.effects.touch()
        config = f'[runbooks]\nrest_seconds = 0.3\nspare_seconds = 0\nvariables = {{ EFFECTS = "{self.effects}" }}\n'
        config += f'folders = ["{self.effects.parent}"]\n'
        self.server = Mortal(folder, harness="retry_base = 0.2\nretry_limit = 0.5", config=config, scripted=SCRIPT)
        self.server.start()
        self.workspace = Workspace(self.server.client, "byng", self.surely)
        self.agent = self.workspace.register(self.workspace.agent(), "drafter")["id"]
        self.workspace.deploy(BUNDLES / "below", "BelowWorkflow")
        self.workflow = self.workspace.deploy(BUNDLES / "whole", "WholeWorkflow")

    def surely(self, ask: Callable[[], Any]) -> Any:
        """Ask until there is an answer, whatever deaths come in between."""
        while True:
            try:
                return ask()
            except LOST:
                self.server.wait_killed()
                self.server.start()

    def run(self, *points: str, mark: str = "") -> tuple[str, dict[str, Any]]:
        """A task from its beginning to its end; its mark, and what it comes to."""
        mark += uuid.uuid4().hex[:8]
        self.server.order("*", *points)
        task_id = self.workspace.start(self.workflow, {"agent": self.agent, "mark": mark}, once=mark)
        self.workspace.wait(task_id, "BLOCKED")
        self.workspace.post(f"/v1/workspace/tasks/{task_id}/approve", {"reason": mark})
        task = self.workspace.wait(task_id)
        assert task["status"] == "COMPLETED", f"{task['failure']}\n{self.server.log()[-4000:]}"
        return mark, task

    def documents(self, task_id: str) -> list[Any]:
        (file,) = (self.server.data_dir / "data-plane").rglob("ingest.db")
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as database:
            query = "SELECT filename, source FROM submitted_documents WHERE task_id = ?"
            return database.execute(query, (task_id,)).fetchall()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("tasks"))
    yield made
    made.server.close()


@pytest.fixture(autouse=True)
def no_orders(world: World) -> Iterator[None]:
    world.server.ensure()
    yield
    world.server.ensure()


def check(world: World, *points: str, mark: str = "") -> list[Any]:
    mark, task = world.run(*points, mark=mark)
    assert world.server.orders() == [], "it did not die"
    task_id = task["id"]
    loaded = [f"{mark}:load:{number}" for number in range(3)]
    logs = world.workspace.logs(task_id)
    assert logs[-1]["type"] == "ended"
    result = [loaded, "completed", "It is drafted.", ["draft.txt"], f"{mark}:below", "late", "approved", "1"]
    assert logs[-1]["payload"]["result"] == result
    steps = Counter(each["payload"]["name"] for each in logs if each["type"] == "step")
    assert steps == dict.fromkeys(["load", "draft", "late", "review", "keep"], 1)
    (session,) = world.workspace.sessions(task_id)
    assert len(world.workspace.events(session["id"], "user.message")) == 1
    assert world.documents(task_id) == [("draft.txt", f"agent_output:{world.agent}")]
    effects = Counter(line for line in world.effects.read_text().splitlines() if line.startswith(mark))
    assert set(effects) == {*loaded, f"{mark}:below"}
    assert sum(effects.values()) <= 4 + 3, "only what was under way in the moment of a death is done again"
    if not any("activity" in point for point in points):
        assert max(effects.values()) == 1
    return logs


def test_a_task_without_a_death(world: World) -> None:
    check(world)


@pytest.mark.parametrize("point", POINTS + SESSIONS)
def test_a_task_survives_a_kill_at(world: World, point: str) -> None:
    check(world, point)


def test_a_task_survives_one_death_after_another(world: World) -> None:
    check(world, "after:task:activity", "after:post:sessions", "before:insert_document", "after:task:step 3")


@pytest.mark.parametrize("point", RESTS)
def test_a_task_at_rest_survives_a_kill_at(world: World, point: str) -> None:
    logs = check(world, point, mark=SLOWLY)
    assert "resting" in {each["type"] for each in logs} or point == "before:task:rest"


def test_a_task_at_rest_survives_one_death_after_another(world: World) -> None:
    check(world, "before:task:at_rest", "before:task:at_rest", "after:append:agent.tool_result", mark=SLOWLY)
