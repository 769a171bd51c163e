"""`invoke` as the seed writes it, from a step of a deployed runbook on a real server: how it ends, what comes back."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from calling import BUNDLES, SCRIPT, Caller

from running import Server
from workspaces import POLL_SECONDS, TOOLS, Workspace

ASKS = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}
RATE = {"type": "custom", "name": "rate", "description": "A rate.", "input_schema": {"type": "object"}}


def session_of(workspace: Workspace, task_id: str) -> dict[str, Any]:
    (session,) = workspace.sessions(task_id)
    return session


def test_the_final_message_and_no_file(caller: Caller) -> None:
    result = caller.call("no file, please")
    assert (result["status"], result["output_text"], result["output_files"]) == ("completed", "I made nothing.", [])
    assert result["agent_id"] == caller.agent
    assert result["error"] is None
    assert result["raw"]["usage"]["output_tokens"] > 0
    assert result["raw"]["stop_reason"] == {"type": "end_turn"}


def test_what_is_imported_from_this_package_is_the_same(caller: Caller, workspace: Workspace, tmp_path: Path) -> None:
    """On Temporal, too: tests/temporal."""
    ours = shutil.copytree(BUNDLES / "caller", tmp_path / "ours", ignore=shutil.ignore_patterns("__pycache__"))
    manifest = ours / "runbook.md"
    manifest.write_text(manifest.read_text().replace("slug: caller", "slug: ours"))
    program = (ours / "templates" / "workflow.py").read_text()
    (ours / "templates" / "workflow.py").write_text(program.replace("ntro.workflow.agents", "hostler.runbooks"))
    workflow = workspace.deploy(ours, "CallerWorkflow")
    result = workspace.result(workspace.start(workflow, {"agent": caller.agent, "say": "no file, please"}))
    assert (result["status"], result["output_text"]) == ("completed", "I made nothing.")


def test_two_files_come_back_once_each(caller: Caller) -> None:
    task_id = caller.start("two files, please")
    result = caller.workspace.result(task_id)
    assert [file["filename"] for file in result["output_files"]] == ["one.txt", "two.txt"]
    documents = caller.documents(task_id)
    assert sorted(each["filename"] for each in documents) == ["one.txt", "two.txt"]
    assert {each["source"] for each in documents} == {f"agent_output:{caller.agent}"}
    assert {each["id"] for each in documents} == {file["document_ref"] for file in result["output_files"]}
    content = caller.workspace.client.get(
        f"/v1/workspace/tasks/{task_id}/documents/{result['output_files'][1]['document_ref']}"
    )
    assert content.content == b"2\n"


def test_a_file_in_a_folder_with_a_name_of_many_scripts(caller: Caller) -> None:
    (file,) = caller.call("hidden names")["output_files"]
    assert file["filename"] == "Zürich — 3月.txt"


def test_a_file_that_is_too_large_fails_the_call_and_keeps_the_others(caller: Caller) -> None:
    result = caller.call("large file")
    assert result["status"] == "failed"
    assert result["error"].startswith("large.bin has 3 MB; a document may have 1 MB at most.")
    assert [file["filename"] for file in result["output_files"]] == ["small.txt"]


def test_a_file_that_not_even_the_session_keeps_fails_the_call(caller: Caller) -> None:
    result = caller.call("huge file")
    assert result["status"] == "failed"
    assert result["error"] == "huge.bin has 6.29 MB; a file may have 5 MB at most. It is still in the session."
    assert [file["filename"] for file in result["output_files"]] == ["small.txt"]


def test_a_refusal_says_why(caller: Caller) -> None:
    result = caller.call("refuse")
    assert result["status"] == "failed"
    assert result["error"] == "The model refused: cyber: It is against the rules."


def test_a_model_that_fails_again_and_again(caller: Caller) -> None:
    task_id = caller.start("fail")
    result = caller.workspace.result(task_id)
    assert result["status"] == "failed"
    assert result["error"].startswith("The model could not be reached, or failed again and again: ")
    events = caller.workspace.task(task_id)["executionEvents"]
    assert [event["failureMessage"] for event in events if event.get("failureMessage")] == [result["error"]]


def test_a_budget_that_is_used_up(caller: Caller, workspace: Workspace) -> None:
    budget = {"type": "limit", "max_list_cost": {"amount": "1", "currency": "USD"}}
    agent = workspace.register(workspace.agent("spender"), "spender", budget=budget)["id"]
    result = caller.call("spend", agent=agent)
    assert (result["status"], result["error"]) == ("failed", "The session's budget is used up.")


def test_a_tool_that_needs_leave_is_a_gate(caller: Caller, workspace: Workspace) -> None:
    agent = workspace.register(workspace.agent("asker", tools=[ASKS]), "asker")["id"]
    task_id = caller.start("ask", agent=agent)
    assert workspace.wait(task_id, "BLOCKED")["status"] == "BLOCKED"
    step = workspace.get(f"/v1/workspace/tasks/{task_id}/next-step")
    assert step["action"] == "review"
    assert step["pendingAction"]["payload"]["name"] == "bash"
    assert step["pendingAction"]["payload"]["input"]["command"].startswith("echo asked")
    workspace.post(f"/v1/workspace/tasks/{task_id}/approve", {"reason": "go on"})
    assert workspace.result(task_id)["output_text"] == "It said 1"
    confirmations = workspace.events(session_of(workspace, task_id)["id"], "user.tool_confirmation")
    assert [each["result"] for each in confirmations] == ["allow"]


def test_a_tool_that_is_refused(caller: Caller, workspace: Workspace) -> None:
    agent = workspace.register(workspace.agent("asker-2", tools=[ASKS]), "asker-2")["id"]
    task_id = caller.start("ask", agent=agent)
    workspace.wait(task_id, "BLOCKED")
    workspace.post(f"/v1/workspace/tasks/{task_id}/reject", {"reason": "not on a Sunday"})
    result = workspace.result(task_id)
    assert result["status"] == "completed"
    (confirmation,) = workspace.events(session_of(workspace, task_id)["id"], "user.tool_confirmation")
    assert (confirmation["result"], confirmation["deny_message"]) == ("deny", "not on a Sunday")


def test_a_question_that_is_answered_elsewhere_opens_the_gate_no_longer(caller: Caller, workspace: Workspace) -> None:
    """The session's own API takes the answer, too."""
    agent = workspace.register(workspace.agent("asker-3", tools=[ASKS]), "asker-3")["id"]
    task_id = caller.start("ask", agent=agent)
    workspace.wait(task_id, "BLOCKED")
    session = session_of(workspace, task_id)
    (use,) = workspace.events(session["id"], "agent.tool_use")
    event = {"type": "user.tool_confirmation", "tool_use_id": use["id"], "result": "allow"}
    workspace.post(f"/v1/sessions/{session['id']}/events", {"events": [event]})
    assert workspace.result(task_id)["status"] == "completed"


def test_a_custom_tool_s_result_comes_from_a_person(caller: Caller, workspace: Workspace) -> None:
    agent = workspace.register(workspace.agent("rater", tools=[RATE]), "rater")["id"]
    task_id = caller.start("custom", agent=agent)
    workspace.wait(task_id, "BLOCKED")
    said = caller.workspace.client.post(f"/v1/workspace/tasks/{task_id}/approve", json={})
    assert said.status_code == 400, "an answer without the answer"
    workspace.post(f"/v1/workspace/tasks/{task_id}/approve", {"reason": "1.17"})
    assert workspace.result(task_id)["output_text"] == "The rate is 1.17"


def test_the_time_that_a_person_takes_does_not_count(caller: Caller, workspace: Workspace) -> None:
    agent = workspace.register(workspace.agent("asker-4", tools=[ASKS]), "asker-4")["id"]
    task_id = caller.start("ask", agent=agent, seconds=4)
    workspace.wait(task_id, "BLOCKED")
    (session,) = workspace.sessions(task_id)
    stream = f"/v1/sessions/{session['id']}/events/stream"
    with workspace.client.stream("GET", stream, timeout=5) as quiet, pytest.raises(httpx2.ReadTimeout):
        quiet.read()  # nothing happens for longer than the call may take
    assert workspace.task(task_id)["status"] == "BLOCKED"
    workspace.post(f"/v1/workspace/tasks/{task_id}/approve", {})
    assert workspace.result(task_id)["status"] == "completed"


def test_a_deadline_interrupts_and_archives_and_keeps_what_was_written(caller: Caller, workspace: Workspace) -> None:
    task_id = caller.start("slow", seconds=2)
    result = workspace.result(task_id)
    assert result["status"] == "failed"
    assert result["error"] == "The agent was not done after 2 seconds, and was interrupted."
    assert [file["filename"] for file in result["output_files"]] == ["half.txt"]
    session = session_of(workspace, task_id)
    assert session["archived_at"] is not None
    assert workspace.events(session["id"], "user.interrupt")


def test_a_call_that_nobody_waits_for_any_more_is_ended(caller: Caller, workspace: Workspace) -> None:
    task_id = caller.start("slow", give_up=1.5)
    assert workspace.result(task_id) is None
    assert ended(workspace, task_id)


def test_a_task_that_is_cancelled_takes_its_session_with_it(caller: Caller, workspace: Workspace) -> None:
    task_id = caller.start("slow")
    working(workspace, task_id)
    workspace.post(f"/v1/workspace/tasks/{task_id}/cancel")
    task = workspace.wait(task_id)
    assert (task["status"], task["failure"]["type"]) == ("FAILED", "Cancelled")
    assert ended(workspace, task_id)


def working(workspace: Workspace, task_id: str) -> dict[str, Any]:
    """The session, once its tool has begun."""
    while not (found := workspace.sessions(task_id)) or not workspace.events(found[0]["id"], "agent.tool_use"):
        time.sleep(POLL_SECONDS)
    return found[0]


def ended(workspace: Workspace, task_id: str) -> bool:
    """Once the session is archived."""
    while not (session := session_of(workspace, task_id))["archived_at"]:
        time.sleep(POLL_SECONDS)
    return bool(workspace.events(session["id"], "user.interrupt"))


def test_a_session_that_is_deleted_under_way(caller: Caller, workspace: Workspace) -> None:
    task_id = caller.start("slow")
    session = working(workspace, task_id)
    workspace.post(f"/v1/sessions/{session['id']}/events", {"events": [{"type": "user.interrupt"}]})
    result = workspace.result(task_id)
    assert result["status"] == "completed", "who interrupts it has the turn ended"


@pytest.mark.parametrize("agent", ["2f9a1a4e-0000-4000-8000-000000000000", "nonsense"])
def test_an_agent_that_nobody_knows(caller: Caller, agent: str) -> None:
    task = caller.workspace.wait(caller.start("x", agent=agent))
    assert task["status"] == "FAILED"
    assert f"Agent {agent} was not found" in task["failure"]["message"]


def test_an_agent_of_another_tenant(caller: Caller, client: httpx2.Client) -> None:
    other = Workspace(client, "other")
    agent = other.register(other.agent("theirs"), "theirs")["id"]
    task = caller.workspace.wait(caller.start("x", agent=agent))
    assert f"Agent {agent} was not found in tenant byng" in task["failure"]["message"]
    assert caller.workspace.sessions(task["id"]) == []


def test_a_call_for_another_tenant(caller: Caller) -> None:
    task = caller.workspace.wait(caller.start("x", tenant="other"))
    assert "it can't call an agent for other" in task["failure"]["message"]


def test_an_agent_that_is_gone_on_its_server(caller: Caller, workspace: Workspace) -> None:
    agent = workspace.register("agent_01AAAAAAAAAAAAAAAAAAAAAAAA", "gone")["id"]
    result = caller.call("x", agent=agent)
    assert result["status"] == "failed"
    assert "agent_01AAAAAAAAAAAAAAAAAAAAAAAA" in result["error"]
    assert "404" in result["error"]


def test_what_it_does_can_be_read_beside_the_task(caller: Caller, server: Server) -> None:
    task_id = caller.start("two files, please")
    caller.workspace.result(task_id)
    with sqlite3.connect(f"file:{server.data_dir}/hostler.db?mode=ro", uri=True) as database:
        query = "SELECT kind, text FROM task_lines WHERE task_id = ? ORDER BY position"
        lines = database.execute(query, (task_id,)).fetchall()
    assert [kind for kind, _ in lines] == ["tool", "message", "idle"]
    assert lines[0][1].startswith("bash: echo 1")
    assert lines[1][1] == "Two."


class Elsewhere:
    """Another server of the same API."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.client = httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30)
        made = self.client.post("/v1/agents", json={"name": "far", "model": "scripted", "tools": TOOLS})
        self.agent = made.json()["id"]
        self.environment = self.client.post("/v1/environments", json={"name": "far"}).json()["id"]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("elsewhere")
    with Server(folder / "data", scripted=SCRIPT, key="sk-hostler-of-the-other-server") as running:
        made = Elsewhere(running)
        yield made
        made.client.close()


def test_an_agent_on_another_server(caller: Caller, workspace: Workspace, elsewhere: Elsewhere) -> None:
    place = {"baseUrl": elsewhere.server.base_url, "serverKey": elsewhere.server.key}
    fields = {**place, "environmentId": elsewhere.environment, "agentVersion": 1}
    agent = workspace.register(elsewhere.agent, "far", **fields)["id"]
    task_id = caller.start("two files", agent=agent)
    result = workspace.result(task_id)
    assert (result["status"], len(result["output_files"])) == ("completed", 2)
    assert workspace.sessions(task_id) == [], "it is not here"
    (session,) = elsewhere.client.get("/v1/sessions").json()["data"]
    assert session["id"] == result["session_id"]
    assert session["metadata"]["task_id"] == task_id
    assert len(caller.documents(task_id)) == 2


def test_another_server_wants_its_key_and_an_environment(
    caller: Caller, workspace: Workspace, elsewhere: Elsewhere
) -> None:
    place = {"baseUrl": elsewhere.server.base_url}
    wrong = workspace.register(
        elsewhere.agent, "locked-out", **place, serverKey="sk-hostler-wrong", environmentId=elsewhere.environment
    )["id"]
    result = caller.call("x", agent=wrong)
    assert result["status"] == "failed"
    assert "401" in result["error"]
    assert "sk-hostler-wrong" not in str(result)
    bare = workspace.register(elsewhere.agent, "bare", **place, serverKey=elsewhere.server.key)["id"]
    assert "has no environment" in caller.call("x", agent=bare)["error"]


def test_a_server_that_is_not_there(caller: Caller, workspace: Workspace) -> None:
    place = {"baseUrl": "http://127.0.0.1:9", "serverKey": "k", "environmentId": "env_1"}
    agent = workspace.register("agent_1", "nowhere", **place)["id"]
    result = caller.call("x", agent=agent, seconds=1)
    assert result["status"] == "failed"
    assert result["error"] == "After 1 seconds http://127.0.0.1:9 had not begun the session."


def test_calls_at_once_share_one_environment_and_go_on_without_it(caller: Caller, workspace: Workspace) -> None:
    def environments() -> list[str]:
        found = workspace.get("/v1/environments", limit=100)["data"]
        return [each["id"] for each in found if each["name"] == "runbooks" and each["archived_at"] is None]

    for made in environments():
        workspace.post(f"/v1/environments/{made}/archive")  # as if somebody tidied up
    tasks = [caller.start("no file", number=number) for number in range(4)]
    assert {workspace.result(task_id)["status"] for task_id in tasks} == {"completed"}
    (anew,) = environments()
    assert {session_of(workspace, task_id)["environment_id"] for task_id in tasks} == {anew}
