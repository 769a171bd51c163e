"""Tenants, entities, registered agents, runbooks and tasks from the command line, against a real server."""

from __future__ import annotations

import json
import os
import pty
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from commands import bundles
from commands.command import complaint, hostler, spawn
from hostler.commands.deploying import Screen
from running import Server

Json = dict[str, Any]
MAKE = "mkdir -p /mnt/session/outputs; printf %s hello > /mnt/session/outputs/handover.docx"
SCRIPT = {"turns": [{"tools": [{"name": "bash", "input": {"command": MAKE}}]}, {"text": "handover.docx: done."}]}
AGENT = """
model: claude-opus-5-5
tools:
  - type: bash
  - type: mcp_toolset
    mcp_server_name: ntropii
    default_config: {enabled: false}
mcp_servers:
  - {type: url, name: ntropii, url: /mcp}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("workspace") / "data", scripted=SCRIPT) as server:
        yield server


@pytest.fixture
def tenant(server: Server, tmp_path: Path) -> str:
    """One of the test's own, with the entity `fund-one`."""
    slug = "t-" + tmp_path.name.replace("_", "-").lower()[-40:].lstrip("-")
    run(server, "tenant", "create", slug, "--name", f"Tenant {slug}")
    run(server, "entity", "create", "fund-one", "--tenant", slug, "--currency", "GBP")
    return slug


def environ(server: Server) -> dict[str, str]:
    return {"HOSTLER_BASE_URL": server.base_url, "HOSTLER_API_KEY": server.key}


def run(server: Server, *arguments: object, status: int = 0, **more: str) -> str:
    done = hostler(*arguments, environ={**environ(server), **more})
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout


def told(server: Server, *arguments: object, status: int = 0, **more: str) -> Any:
    return json.loads(run(server, *arguments, "--json", status=status, **more))


def refused(server: Server, *arguments: object, **more: str) -> str:
    return complaint(hostler(*arguments, environ={**environ(server), **more}))


def folder(tmp_path: Path) -> Path:
    made = tmp_path / "agents" / "drafter"
    made.mkdir(parents=True)
    (made / "agent.yaml").write_text(f"name: drafter {tmp_path.name}{AGENT}")
    (made / "system-prompt.md").write_text("You draft.\n")
    (made / "environment.yaml").write_text("config: {type: cloud, networking: {type: unrestricted}}\n")
    return made


def applied(server: Server, *arguments: object) -> dict[str, Json]:
    done = run(server, "apply", "--json", *arguments)
    assert "sk-hostler-agent-" not in done
    return {line["type"]: line for line in map(json.loads, done.splitlines())}


# -- tenants and entities --


def test_tenants_and_entities(server: Server, tenant: str) -> None:
    assert f"{tenant}  Tenant {tenant}" in run(server, "tenant", "list")
    (entity,) = told(server, "entity", "list", "--tenant", tenant)
    assert (entity["slug"], entity["currency"]) == ("fund-one", "GBP")
    run(server, "entity", "set", "fund-one", "--tenant", tenant, "--config", "a=1", "--config", "period=2026-03")
    run(server, "entity", "set", "fund-one", "--tenant", tenant, "--config", '{"b": {"c": 2}, "a": null}')
    (entity,) = told(server, "entity", "list", "--tenant", tenant)
    assert entity["config"] == {"period": "2026-03", "b": {"c": 2}}
    assert "fund-one" in run(server, "entity", "list")
    assert "Say --yes to do it" in refused(server, "tenant", "delete", tenant)
    assert "is closed" in run(server, "tenant", "delete", tenant, "--yes")


def test_what_is_refused(server: Server, tenant: str) -> None:
    assert "Tenant nobody was not found" in refused(server, "entity", "create", "e", "--tenant", "nobody")
    assert "slug" in refused(server, "tenant", "create", "Not A Slug")
    assert "give NAME=VALUE" in refused(server, "entity", "set", "fund-one", "--tenant", tenant, "--config", "x")
    assert "is no JSON object" in refused(server, "entity", "set", "fund-one", "--tenant", tenant, "--config", "{x")
    said = refused(server, "tenant", "list", "--api-key", "secret-of-mine")
    assert "doesn't accept the API key" in said
    assert "secret-of-mine" not in said
    assert "No server answers" in refused(server, "tenant", "list", "--server", "http://127.0.0.1:9")
    assert "is not an id" in refused(server, "task", "show", "..")


# -- agents --


def test_an_agent_by_hand(server: Server, tenant: str, tmp_path: Path) -> None:
    made = applied(server, folder(tmp_path))
    path = f"anthropic://agents/{made['agent']['id']}"
    options = ("--environment", made["environment"]["id"], "--budget", "2.50", "--agent-version", 1)
    said = run(server, "agent", "create", "--path", path, "--tenant", tenant, "--name", "drafter", *options)
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    assert lines["external_ref"].strip() == path
    key = lines["api_key"].strip()
    assert key.startswith("sk-hostler-agent-")
    assert "shown this once" in said
    agent_id = lines["id"].strip()
    shown = run(server, "agent", "info", agent_id)
    assert key not in shown
    assert f"...{key[-4:]}" in shown
    assert "2.50 USD" in shown
    assert run(server, "agent", "list", "--tenant", tenant).splitlines()[1].split()[0] == "drafter"
    assert run(server, "agent", "test", agent_id).startswith("ok   ")
    rotated = told(server, "agent", "rotate-key", agent_id)
    assert rotated["apiKey"] not in ("", key)
    assert "there is" not in run(server, "agent", "delete", agent_id, "--yes")
    assert told(server, "agent", "list", "--tenant", tenant) == []


def test_agents_that_can_t_be_registered_or_called(server: Server, tenant: str) -> None:
    def said(path: str, *more: object, **environ: str) -> str:
        return refused(server, "agent", "create", "--path", path, "--tenant", tenant, "--name", "a", *more, **environ)

    assert "the scheme s3:// is unknown" in said("s3://agents/x")
    assert "externalRef" in said("anthropic://agents/a?version=2")
    assert "can't be called from here yet" in said("openai://assistants/x")
    assert "this environment variable is not set" in said("anthropic://agents/a", "--server-key-env", "NO_SUCH_KEY")
    assert "give dollars" in said("anthropic://agents/a", "--budget", "1.001")
    made = told(
        server, "agent", "create", "--path", "anthropic://agents/agent_none", "--tenant", tenant, "--name", "no"
    )
    gone = run(server, "agent", "test", made["id"], status=1)
    assert gone.startswith("FAIL ")
    far = ("--base-url", "https://agents.example.com", "--server-key-env", "FAR_KEY")
    done = hostler(
        "agent", "create", "--path", "anthropic://agents/agent_far", "--tenant", tenant, "--name", "far", *far,
        environ={**environ(server), "FAR_KEY": "secret-of-mine"},
    )  # fmt: skip
    assert "https://agents.example.com" in done.stdout
    assert "secret-of-mine" not in done.stdout + done.stderr
    assert "It is registered, but can't be called yet: " in done.stderr


def test_apply_registers_and_keeps_the_key_in_the_vault(server: Server, tenant: str, tmp_path: Path) -> None:
    place = folder(tmp_path)
    diff = hostler("apply", "--diff", "--tenant", tenant, place, environ=environ(server))
    assert diff.returncode == 1
    assert diff.stdout.count("--- /dev/null") == 5
    made = applied(server, "--tenant", tenant, place)
    assert {line["action"] for line in made.values()} == {"created"}
    registered = told(server, "agent", "info", made["registered agent"]["id"])
    assert registered["vaultIds"] == [made["vault"]["id"]]
    assert registered["environmentId"] == made["environment"]["id"]
    assert credential(server, made)["metadata"]["hostler_key"] == registered["apiKeyHint"]
    assert credential(server, made)["auth"]["mcp_server_url"] == f"{server.base_url}/mcp"
    assert {line["action"] for line in applied(server, "--tenant", tenant, place).values()} == {"unchanged"}
    assert run(server, "apply", "--diff", "--tenant", tenant, place) == ""
    run(server, "agent", "rotate-key", registered["id"])
    anew = applied(server, "--tenant", tenant, place)
    assert [kind for kind, line in anew.items() if line["action"] == "updated"] == ["credential"]
    assert applied(server, "--tenant", tenant, place)["credential"]["action"] == "unchanged"


def test_apply_finishes_what_was_interrupted(server: Server, tenant: str, tmp_path: Path) -> None:
    place = folder(tmp_path)
    made = applied(server, "--tenant", tenant, place)
    before = told(server, "agent", "info", made["registered agent"]["id"])
    path = f"/v1/vaults/{made['vault']['id']}/credentials/{made['credential']['id']}"
    assert httpx2.delete(server.base_url + path, headers=server.headers).status_code == 200
    again = applied(server, "--tenant", tenant, place)
    assert [kind for kind, line in again.items() if line["action"] != "unchanged"] == ["credential"]
    after = told(server, "agent", "info", before["id"])
    assert after["apiKeyHint"] == credential(server, again)["metadata"]["hostler_key"]
    (place / "environment.yaml").write_text("name: another place\nconfig: {type: cloud}\n")
    moved = applied(server, "--tenant", tenant, place)
    assert (moved["registered agent"]["action"], moved["registered agent"]["changed"]) == ("updated", ["environmentId"])


def test_apply_with_a_tenant_says_what_is_in_the_way(server: Server, tenant: str, tmp_path: Path) -> None:
    place = folder(tmp_path)
    said = refused(server, "apply", "--tenant", "nobody", place)
    assert "There is no tenant nobody: make it with `hostler tenant create nobody`" in said
    made = applied(server, place)
    path = "anthropic://agents/agent_other"
    other = told(server, "agent", "create", "--path", path, "--tenant", tenant, "--name", made["agent"]["name"])
    said = refused(server, "apply", "--tenant", tenant, place)
    assert f"`hostler agent delete {other['id']}`, then apply again" in said
    run(server, "agent", "delete", other["id"], "-y")
    far = (place / "agent.yaml").read_text().replace("url: /mcp", "url: https://mcp.example.com/mcp")
    (place / "agent.yaml").write_text(far)
    assert "the agent has no MCP server with the URL" in run(server, "apply", "--tenant", tenant, place)


def credential(server: Server, made: dict[str, Json]) -> Json:
    path = f"{server.base_url}/v1/vaults/{made['vault']['id']}/credentials"
    (found,) = httpx2.get(path, headers=server.headers).json()["data"]
    return dict(found)


# -- runbooks and tasks --


def test_a_runbook_from_its_folder_to_its_documents(server: Server, tenant: str, tmp_path: Path) -> None:
    agent_id = applied(server, "--tenant", tenant, folder(tmp_path))["registered agent"]["id"]
    run(server, "entity", "set", "fund-one", "--tenant", tenant, "--config", f"audit_agent_id={agent_id}")
    loads = bundles.ACTIVITIES.replace(
        'raise RuntimeError("it was really called")', 'return Balance(total=3, currency="GBP", lines=[])'
    )
    bundle = bundles.write(tmp_path / "bundle", activities=loads)
    assert "  new: templates/workflow.py" in run(server, "runbook", "deploy", bundle, "--tenant", tenant)
    assert "  nothing is new" in run(server, "runbook", "deploy", bundle, "--tenant", tenant)
    bundles.write(tmp_path / "bundle", activities=loads + "# more\n")
    assert "  changed: templates/activities.py" in run(server, "runbook", "deploy", bundle, "--tenant", tenant)
    assert "monthly-close  1.0.0" in run(server, "runbook", "list")
    place = ("--tenant", tenant, "--entity", "fund-one", "--period", "2026-03")
    begun = told(server, "runbook", "run", bundle, *place)
    assert begun["context"]["period"] == "2026-03"
    task_id = begun["id"]
    assert told(server, "runbook", "run", "monthly-close", *place)["id"] != task_id, "each run is a task of its own"
    waits(server, task_id, "submit_file")
    assert f"hostler task files {task_id} --upload FILE" in run(server, "task", "show", task_id)
    (tmp_path / "march.csv").write_text("a,b\n")
    run(server, "task", "files", task_id, "--upload", tmp_path / "march.csv", "--source", "bank_statement")
    waits(server, task_id, "review")
    assert "approved" in run(server, "task", "approve", task_id, "--reason", "fine", "--corrections", "row=1")
    waits(server, task_id, "review", step="sign")
    shown = run(server, "task", "show", task_id)
    assert "done Draft" in shown
    assert "wait Sign" in shown
    assert "rejected" in run(server, "task", "reject", task_id)
    done = over(server, task_id)
    assert done["status"] == "COMPLETED"
    assert (done["result"]["signed"], done["result"]["file"]) == ("rejected", "march.csv")
    assert done["result"]["review"]["comments"] == "fine"
    assert done["result"]["review"]["corrections"] == {"row": 1}
    files = told(server, "task", "files", task_id, "--save", tmp_path / "saved")
    assert {each["filename"] for each in files} == {"march.csv", "handover.docx"}
    assert "text/csv" in {each["contentType"] for each in files}, "as its name says"
    assert (tmp_path / "saved" / "handover.docx").read_text() == "hello"
    assert {each["source"] for each in files} == {"bank_statement", f"agent_output:{agent_id}"}
    run(server, "task", "files", task_id, "--save", tmp_path / "saved")
    assert len(list((tmp_path / "saved").iterdir())) == 2, "saved again, nothing is doubled"


def test_waiting_for_a_task(server: Server, tenant: str, tmp_path: Path) -> None:
    quick = bundles.PARENT.replace("await self._collect(ctx)", '[{"source": ctx["n"]}]')
    front = bundles.FRONT.replace("monthly-close", "collect")
    bundle = bundles.write(tmp_path / "b", workflow=quick, activities="", models="", front=front)
    run(server, "runbook", "deploy", bundle, "--tenant", tenant)
    place = ("--tenant", tenant, "--entity", "fund-one")
    (tmp_path / "input.json").write_text('{"n": 7}')
    said = run(server, "runbook", "run", "collect", *place, "--input", f"@{tmp_path / 'input.json'}", "--wait")
    assert 'result: {"sources": [7]}' in said
    failed = told(server, "runbook", "run", "collect", *place, "--wait", status=1)
    assert (failed["status"], failed["failure"]["type"]) == ("FAILED", "KeyError")
    slow = bundles.write(
        tmp_path / "b", workflow=bundles.PARENT, activities="", models="", front=front.replace("1.0.0", "1.0.1")
    )
    child = bundles.child(tmp_path / "child")
    run(server, "runbook", "deploy", child, "--tenant", tenant)
    run(server, "runbook", "deploy", slow, "--tenant", tenant)
    left = hostler("runbook", "run", "collect", *place, "--wait", "--seconds", "2", environ=environ(server))
    assert left.returncode == 1
    assert "It is not over after 2 seconds, and goes on." in left.stderr
    (task,) = [each for each in told(server, "task", "list", "--tenant", tenant) if not each.get("closedAt")]
    waits(server, task["id"], "submit_file")
    assert told(server, "task", "show", task["id"])["status"] == "BLOCKED"
    assert "being cancelled" in run(server, "task", "cancel", task["id"])
    assert over(server, task["id"])["failure"]["type"] == "Cancelled"
    assert run(server, "task", "cancel", task["id"]) == f"{task['id']} is over: FAILED.\n"
    assert f"page: {server.base_url}/console/tasks/{task['id']}" in run(server, "task", "show", task["id"])
    assert task["id"] in run(server, "task", "list", "--tenant", tenant, "--entity", "fund-one")


def test_steps_on_a_terminal(server: Server, tenant: str, tmp_path: Path) -> None:
    quick = bundles.PARENT.replace("await self.collect_documents(", "(lambda **_: [])(")
    front = bundles.FRONT.replace("monthly-close", "collect")
    bundle = bundles.write(tmp_path / "b", workflow=quick, activities="", models="", front=front)
    run(server, "runbook", "deploy", bundle, "--tenant", tenant)
    ours, theirs = pty.openpty()
    try:
        place = ("--tenant", tenant, "--entity", "fund-one", "--wait")
        process = spawn("runbook", "run", "collect", *place, environ=environ(server), stderr=theirs)
        os.close(theirs)
        out, _ = process.communicate(timeout=240)
        shown = _all(ours)
    finally:
        os.close(ours)
    assert process.returncode == 0
    assert "\x1b[J" in shown, "drawn in place"
    assert "done Collect" in shown + out


def test_what_is_drawn_in_place_is_taken_away_whole(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    screen = Screen(quiet=False)
    screen._live = True
    found = {"id": "a", "title": "t", "status": "IN_PROGRESS", "steps": [{"name": "x" * 60, "status": "COMPLETED"}]}
    screen.show(found)
    screen.show(found)
    assert "\x1b" not in capsys.readouterr().err, "what has not changed is not drawn again"
    screen.show({**found, "status": "COMPLETED"})
    assert capsys.readouterr().err.startswith("\x1b[3A\x1b[J"), "the second line takes two of the terminal"


def test_what_can_t_be_deployed_or_run(server: Server, tenant: str, tmp_path: Path) -> None:
    bundle = bundles.write(tmp_path / "b", workflow="x = (")
    said = refused(server, "runbook", "deploy", bundle, "--tenant", tenant)
    assert "templates/workflow.py, line 1: WORKFLOW_PY_IMPORT_ERROR" in said
    bundles.write(tmp_path / "b")
    assert "nobody" in refused(server, "runbook", "deploy", bundle, "--tenant", "nobody")
    place = ("--tenant", tenant, "--entity", "fund-one")
    assert "nothing-here" in refused(server, "runbook", "run", "nothing-here", *place)
    assert "fund-two" in refused(server, "runbook", "run", "x", "--tenant", tenant, "--entity", "fund-two")
    assert "there is no runbook.md" in refused(server, "runbook", "run", tmp_path, *place)
    assert "can't be read" in refused(server, "runbook", "run", "x", *place, "--input", "@nowhere")
    elsewhere = ("agent", "create", "--path", "anthropic://agents/a", "--tenant", tenant, "--name", "a", "--base-url")
    assert "--server-key-env" in refused(server, *elsewhere, "https://other.example.com")
    assert "is no server's address" in refused(server, "task", "list", "--server", "localhost:8400")
    assert "say whose with --tenant" in refused(server, "task", "list", "--entity", "fund-one")
    assert "was not found" in refused(server, "task", "approve", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff")


def test_help_teaches() -> None:
    for group in ("agent", "entity", "runbook", "task", "tenant"):
        assert "Commands:" in hostler(group, "--help").stdout


def waits(server: Server, task_id: str, action: str, *, step: str | None = None) -> None:
    """Follow the task until it waits for this."""
    for _ in looks():
        found = ask(server, f"{task_id}/next-step")
        assert found["action"] not in ("done", "error_terminal"), found
        if found["action"] == action and step in (None, found.get("stepId")):
            return
    raise AssertionError(found)


def over(server: Server, task_id: str) -> Json:
    for _ in looks():
        found = ask(server, task_id)
        if found["status"] in ("COMPLETED", "FAILED"):
            return found
    raise AssertionError(found)


def looks() -> Iterator[None]:
    """Again and again, for as long as a busy machine may take."""
    until = time.monotonic() + 240
    while time.monotonic() < until:
        yield
        time.sleep(0.1)


def ask(server: Server, path: str) -> Json:
    url = f"{server.base_url}/v1/workspace/tasks/{path}"
    return dict(httpx2.get(url, headers={"authorization": f"Bearer {server.key}"}).raise_for_status().json())


def _all(descriptor: int) -> str:
    """What was written to a terminal whose other end is closed."""
    read = b""
    while True:
        try:
            chunk = os.read(descriptor, 65536)
        except OSError:
            return read.decode()
        if not chunk:
            return read.decode()
        read += chunk
