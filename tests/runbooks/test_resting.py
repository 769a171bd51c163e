"""A task that only waits has no process: it gets one when its time comes, or somebody sends something."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from calling import BUNDLES, SCRIPT, workers

from running import Server
from workspaces import POLL_SECONDS, Workspace


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = "[runbooks]\nrest_seconds = 0.2\nspare_seconds = 0\n"
    with Server(tmp_path_factory.mktemp("resting") / "data", config=config, scripted=SCRIPT) as running:
        yield running


@pytest.fixture(scope="module")
def space(server: Server) -> Iterator[Workspace]:
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as client:
        yield Workspace(client, "byng")


def until(server: Server, count: int) -> None:
    late = time.monotonic() + 30
    while workers(server) != count:
        assert time.monotonic() < late, f"there are {workers(server)}"
        time.sleep(0.02)


def test_a_wait_has_no_process(server: Server, space: Workspace) -> None:
    workflow = space.deploy(BUNDLES / "gate", "GateWorkflow")
    task_id = space.start(workflow, {"seconds": 3})
    until(server, 1)
    until(server, 0)  # it pauses, and is started again when that is over
    assert space.wait(task_id, "BLOCKED")["status"] == "BLOCKED"
    until(server, 0)
    asked = f"/v1/workspace/tasks/{task_id}/queries"
    assert space.get(f"{asked}/so_far") == {"name": "so_far", "value": ["first", "paused"]}, "it gets one to answer"
    for name in ("run", "_gate", "nothing"):  # what is no query is not called
        refused = space.client.get(f"{asked}/{name}")
        assert (refused.status_code, f"no query {name}" in refused.text) == (400, True)
    until(server, 0)
    gate = space.get(f"/v1/workspace/tasks/{task_id}/next-step")["gate"]
    space.post(f"/v1/workspace/tasks/{task_id}/approve", {"gate": gate})
    until(server, 1)
    while (next_gate := space.get(f"/v1/workspace/tasks/{task_id}/next-step").get("gate")) in (gate, None):
        time.sleep(POLL_SECONDS)
    until(server, 0)
    server.restart()  # and a wait outlives the server, too
    space.client.base_url = server.base_url
    assert space.task(task_id)["status"] == "BLOCKED"
    assert workers(server) == 0
    space.post(f"/v1/workspace/tasks/{task_id}/reject", {"gate": next_gate})
    assert space.result(task_id) == ["first", "paused", "approved", "rejected"]
    assert space.client.get(f"{asked}/so_far").status_code == 409, "it is over"
    steps = [each["payload"]["name"] for each in space.logs(task_id, "step")]
    assert steps == ["first", "pause", "gate", "gate"]


def test_a_spare_process_is_kept_for_a_while_and_more_tasks_than_places_come_in_turn(tmp_path: Path) -> None:
    config = "[runbooks]\nspare_seconds = 1\ntasks_at_once = 2\n"
    with (
        Server(tmp_path / "data", config=config) as server,
        httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as client,
    ):
        space = Workspace(client, "byng")
        workflow = space.deploy(BUNDLES / "gate", "GateWorkflow")
        assert workers(server) == 0, "none before the first task"
        tasks = [space.start(workflow, {"seconds": 0, "number": number}) for number in range(5)]
        for task_id in tasks:  # whoever waits for a person leaves its place to others
            assert space.wait(task_id, "BLOCKED")["status"] == "BLOCKED"
        for task_id in tasks:
            for _ in range(2):
                gate = None
                while gate is None:
                    gate = space.get(f"/v1/workspace/tasks/{task_id}/next-step").get("gate")
                space.post(f"/v1/workspace/tasks/{task_id}/approve", {"gate": gate})
                while space.get(f"/v1/workspace/tasks/{task_id}/next-step").get("gate") == gate:
                    time.sleep(POLL_SECONDS)
            assert space.result(task_id)[-2:] == ["approved", "approved"]
        until(server, 0)


def test_children_come_in_turn_as_well(tmp_path: Path) -> None:
    """A runbook may start a thousand, each of which would have a process."""
    log = tmp_path / "shared" / "log"
    log.parent.mkdir()
    config = f'[runbooks]\ntasks_at_once = 2\nfolders = ["{log.parent}"]\nvariables = {{ LOG = "{log}" }}\n'
    with (
        Server(tmp_path / "data", config=config) as server,
        httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as client,
    ):
        space = Workspace(client, "byng")
        assert space.result(space.start(space.deploy(BUNDLES / "fan", "FanWorkflow"), {"children": 6})) == 6
    at_work = list(itertools.accumulate(1 if line == "begins" else -1 for line in log.read_text().split()))
    assert (len(at_work), at_work[-1]) == (12, 0)
    assert max(at_work) <= 2


def test_who_asks_until_the_end_is_told_when_it_is_over(space: Workspace) -> None:
    """There is a moment between a task's end and its process's, and one between its rest and the next process."""
    workflow = space.deploy(BUNDLES / "gate", "GateWorkflow")
    task_id = space.start(workflow, {"seconds": 0.3})
    asked = f"/v1/workspace/tasks/{task_id}/queries/so_far"

    def ask() -> set[int]:
        seen = set()
        with httpx2.Client(base_url=space.client.base_url, headers=space.client.headers, timeout=30) as client:
            while (status := client.get(asked).status_code) != 409:
                seen.add(status)
        return seen

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        gates: set[str | None] = {None}
        for _ in range(2):
            while (gate := space.get(f"/v1/workspace/tasks/{task_id}/next-step").get("gate")) in gates:
                time.sleep(POLL_SECONDS)
            space.post(f"/v1/workspace/tasks/{task_id}/approve", {"gate": gate})
            gates.add(gate)
        assert space.result(task_id)[-1] == "approved"
        # In its first moment it has nothing to say: its own answer is an error (400).
        assert set.union(*(each.result() for each in asking)) <= {200, 400}


ASKS = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}


def test_agents_and_children_are_waited_for_without_a_process(server: Server, space: Workspace) -> None:
    space.deploy(BUNDLES / "gate", "GateWorkflow")
    workflow = space.deploy(BUNDLES / "awaiting", "AwaitingWorkflow")
    agent = space.register(space.agent("asker", tools=[ASKS]), "asker")["id"]
    task_id = space.start(workflow, {"agent": agent})

    def approve(task: str) -> None:
        """What is waited for, once nobody has a process."""
        while not (gate := space.get(f"/v1/workspace/tasks/{task}/next-step").get("gate")) or gate in passed:
            time.sleep(POLL_SECONDS)
        until(server, 0)
        passed.add(gate)
        space.post(f"/v1/workspace/tasks/{task}/approve", {"gate": gate})

    passed: set[str] = set()
    approve(task_id)  # of one agent: its session goes on, and so does the task, to wait for the other
    until(server, 1)
    until(server, 0)
    server.kill()
    server.start()
    space.client.base_url = server.base_url
    assert space.wait(task_id, "BLOCKED")["status"] == "BLOCKED", "the other one still asks"
    assert workers(server) == 0, "and for that no process is started, even after a crash"
    approve(task_id)
    while not (children := [each["payload"]["task_id"] for each in space.logs(task_id, "child")]):
        time.sleep(POLL_SECONDS)
    approve(children[0])
    approve(children[0])
    drafted, reviewed = space.result(task_id)
    assert drafted == ["It said 1"] * 2
    assert reviewed[-2:] == ["approved", "approved"]
    assert len(space.sessions(task_id)) == 2
