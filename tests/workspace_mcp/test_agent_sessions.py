"""Agents that call this server back from their sessions: each sees the task that has called it, and no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from running import Server
from workspace_mcp.mcp_world import SCRIPT, Agent, Caller, Firm, Office, awaited

SESSION = "x_hostler_session"


def seen(agent: Agent, session_id: str) -> dict[str, Any]:
    """What ntro_task_get gave in a session."""
    (result,) = agent.results(session_id)
    assert not result["is_error"], result
    found: dict[str, Any] = json.loads(result["content"][0]["text"])
    return found


def caller(agent: Agent, **headers: str) -> Caller:
    return Caller(agent.office.firm.server.base_url, agent.key, **headers)


def test_an_agent_gets_the_task_of_its_session_without_naming_it(office: Office) -> None:
    agent = office.agent("clerk")
    task_id = agent.called("look")
    end = office.until(task_id, "done", "error_terminal")
    assert end["action"] == "done", end
    found = seen(agent, agent.sessions()[0]["id"])
    assert found["id"] == task_id
    assert [(step["name"], step["status"]) for step in found["steps"]] == [("ask", "IN_PROGRESS")]
    assert found["context"]["say"] == "look"
    assert "executionEvents" not in found
    assert agent.key not in json.dumps(found)


def test_two_sessions_of_one_agent_never_see_each_others_tasks(office: Office) -> None:
    agent = office.agent("clerk")
    tasks = [agent.held("look, then hold one"), agent.held("look, then hold two")]
    by_task = {seen(agent, session["id"])["id"]: session["id"] for session in agent.sessions()}
    assert set(by_task) == set(tasks)
    one, two = (caller(agent, x_hostler_session=by_task[task_id]) for task_id in tasks)
    assert one.call("ntro_task_get")["id"] == tasks[0]
    assert two.call("ntro_task_get")["id"] == tasks[1]
    assert one.refused("ntro_task_get", task_id=tasks[1]) == f"Task {tasks[1]} was not found."
    assert one.call("ntro_whoami")["tasks"] == [tasks[0]]
    assert [each["id"] for each in two.call("ntro_run_list")["items"]] == [tasks[1]]


def test_elsewhere_an_agent_with_several_tasks_says_which(office: Office) -> None:
    agent = office.agent("clerk")
    assert "You work on no task" in caller(agent).refused("ntro_task_get")
    first = agent.held()
    assert caller(agent).call("ntro_task_get")["id"] == first
    second = agent.held("hold again")
    said = caller(agent).refused("ntro_task_get")
    assert first in said
    assert second in said
    assert "task_id" in said
    assert caller(agent).call("ntro_task_get", task_id=second)["id"] == second
    office.firm.ask("POST", f"/v1/workspace/tasks/{first}/cancel")
    awaited(lambda: caller(agent).call("ntro_whoami")["tasks"], lambda tasks: tasks == [second])
    assert caller(agent).refused("ntro_task_get", task_id=first) == f"Task {first} was not found."


def test_a_session_that_no_task_has_begun_has_none(office: Office) -> None:
    """Somebody talks to the agent, while a task of it is at work, too."""
    agent = office.agent("clerk")
    agent.held()
    ask = office.firm.ask
    begun = {"agent": agent.native_id, "environment_id": agent.environment, "vault_ids": [agent.vault]}
    session_id = ask("POST", "/v1/sessions", **begun)["id"]
    event = {"type": "user.message", "content": [{"type": "text", "text": "look"}]}
    ask("POST", f"/v1/sessions/{session_id}/events", events=[event])
    (result,) = awaited(lambda: agent.results(session_id), bool)
    assert result["is_error"]
    assert "No task waits for this session" in result["content"][0]["text"]


def test_a_session_of_another_agent_opens_nothing(office: Office, other: Office) -> None:
    agent, stranger, foreigner = office.agent("clerk"), office.agent("stranger"), other.agent("clerk")
    task_id = agent.held()
    session_id = agent.sessions()[0]["id"]
    for each in (stranger, foreigner):
        assert "No task" in caller(each, x_hostler_session=session_id).refused("ntro_task_get")
        assert "not found" in caller(each, x_hostler_session=session_id).refused("ntro_task_get", task_id=task_id)
        assert "not found" in caller(each).refused("ntro_task_get", task_id=task_id)
    assert caller(agent, x_hostler_session=session_id).call("ntro_task_get")["id"] == task_id
    assert "No task" in caller(agent, x_hostler_session="sesn_unknown").refused("ntro_task_get")


@pytest.mark.parametrize("url", ["http://localhost:{port}/mcp", "https://hostler.invalid/base/mcp/"])
def test_every_name_of_this_server_is_dialled_where_it_listens(tmp_path: Path, url: str) -> None:
    """The public one does not even resolve here, and a proxy of the environment is not asked."""
    environ = {
        "HOSTLER_PUBLIC_URL": "https://hostler.invalid/base",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "NO_PROXY": "",
    }
    with Server(tmp_path / "data", scripted=SCRIPT, environ=environ) as server:
        office = Office(Firm(server), "byng")
        agent = office.agent("clerk", url=url.format(port=server.base_url.rpartition(":")[2]))
        task_id = agent.called("look")
        end = office.until(task_id, "done", "error_terminal")
        assert end["action"] == "done", end
        found = seen(agent, agent.sessions()[0]["id"])
        assert found["id"] == task_id
        assert found["links"]["workflow_ui"] == f"https://hostler.invalid/base/console/tasks/{task_id}"
        office.firm.http.close()
