"""Sessions whose agents have MCP servers, from the outside: what is listed, called, asked, shown and cut."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from contract.world import BUILTINS, INTERRUPT, World, only, unknown_fields, verdict
from databases import Databases
from hostler.ids import new_id
from mcptools.conftest import Serve, Start
from mcptools.processes import HERE, Process, calls

ALLOW = {"type": "always_allow"}
SCRIPT = calls(
    ("add", "mcp__real__add", {"a": 1, "b": 2}),
    ("fail", "mcp__real__fail", {"why": "because"}),
    ("show", "mcp__real__show", {}),
    ("repeat", "mcp__real__repeat", {}),
    ("huge", "mcp__real__huge", {"characters": 250_000}),
    ("large", "mcp__real__huge", {"characters": 3_000_000}),
    ("wait", "mcp__real__wait", {"seconds": 600}),
    ("slow", "mcp__real__wait", {"seconds": 3, "steps": 30}),
    ("stuck", "mcp__real__wait", {"seconds": 60}),
    ("grow", "mcp__real__grow", {}),
    ("grown", "mcp__real__grown", {}),
    ("wrong", "mcp__real__add", {"a": "one"}),
    ("surroundings", "mcp__real__surroundings", {}),
    ("read the end", "bash", {"command": "tail -q -c 4 $(find / -path '*tool_outputs/*.txt' 2>/dev/null)"}),
)


def session(world: World, url: str, *more: Any, policy: Any = ALLOW, configs: Any = (), created: Any = None) -> str:
    """A session whose agent has one server, named real, and these further tools; `created` goes into its creation."""
    default = {"permission_policy": policy}
    toolset = {"type": "mcp_toolset", "mcp_server_name": "real", "default_config": default, "configs": list(configs)}
    server = {"type": "url", "name": "real", "url": url}
    return world.session(agent=world.agent(toolset, *more, mcp_servers=[server]).id, **(created or {}))


@pytest.fixture
def real(start: Start) -> Process:
    return start()


def test_a_call_and_its_events(serve: Serve, real: Process, databases: Databases) -> None:
    world = serve(scripted=SCRIPT, database=databases.url(new_id("t").lower()))
    session_id = session(world, real.url)
    events = world.turn(session_id, "add")
    (use,) = only(events, "agent.mcp_tool_use")
    assert (use.name, use.mcp_server_name, use.input) == ("add", "real", {"a": 1, "b": 2})
    assert (use.evaluated_permission, use.evaluation.type) == ("allow", "always_allow")
    (result,) = only(events, "agent.mcp_tool_result")
    assert (result.mcp_tool_use_id, result.is_error) == (use.id, False)
    assert [block.text for block in result.content] == ["3"]
    assert world.last_text(session_id) == "3"
    assert real.noted() == ["add 1 2"]
    assert unknown_fields(world.listed(session_id)) == []


@pytest.mark.parametrize("transport", ["sse", "stdio", "http --json"])
def test_every_transport(serve: Serve, start: Start, tmp_path: Path, transport: str) -> None:
    if transport == "stdio":
        world = serve(scripted=SCRIPT, config=stdio(tmp_path / "ledger"))
        url = "stdio:files"
    else:
        world, url = serve(scripted=SCRIPT), start(*transport.split()).url
    session_id = session(world, url)
    events = world.turn(session_id, "add")
    assert world.last_text(session_id) == "3"
    assert only(events, "session.error") == []


def stdio(ledger: Path, **more: Any) -> str:
    lines = ["[mcp.stdio.files]", f"command = {sys.executable!r}", f'args = ["{HERE / "real_server.py"}", "stdio",']
    lines[-1] += f' "--ledger", "{ledger}"]'
    return "\n".join([*lines, *(f"{name} = {value}" for name, value in more.items()), ""])


def test_a_program_gets_its_own_environment_only(serve: Serve, tmp_path: Path) -> None:
    config = stdio(tmp_path / "ledger", env='{ PLAIN = "one" }', env_from='["SECRET"]', cwd=f'"{tmp_path}"')
    environ = {"SECRET": "s3cret", "OTHER": "hidden", "HOSTLER_MODEL_API_KEY": "sk-model"}
    world = serve(scripted=SCRIPT, config=config, environ=environ)
    events = world.turn(session(world, "stdio:files"), "surroundings")
    said = only(events, "agent.mcp_tool_result")[0].content[0].text
    assert '"PLAIN": "one"' in said
    assert '"SECRET": "s3cret"' in said
    assert "hidden" not in said
    assert "HOSTLER" not in said
    assert f'"CWD": "{tmp_path}"' in said


def test_a_program_that_is_not_configured_is_refused(serve: Serve, tmp_path: Path) -> None:
    world = serve(scripted=SCRIPT, config=stdio(tmp_path / "ledger"))
    agent = world.agent().id
    body = {"mcp_servers": [{"type": "url", "name": "x", "url": "stdio:other"}],
            "tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]}  # fmt: skip
    said = "mcp_servers.0.url: this server's configuration has no stdio MCP server of that name"
    new = {"name": "a", "model": "claude-opus-5-5", **body}
    whole = {"type": "agent_with_overrides", "id": agent, **body}
    made = world.session(agent=agent)
    for path, sent in [
        ("/v1/agents", new),
        (f"/v1/agents/{agent}", {"version": 1, **body}),
        ("/v1/sessions", {"agent": whole, "environment_id": world.environment}),
        (f"/v1/sessions/{made}", {"agent": body}),
    ]:
        answer = world.http.post(path, json=sent)
        assert answer.status_code == 400, path
        assert said in answer.json()["error"]["message"]


def test_asking_first_is_the_default(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    session_id = session(world, real.url, policy=None)
    for answer, wanted in (("allow", ["add 1 2"]), ("deny", ["add 1 2"])):
        events = world.turn(session_id, "add")
        (use,) = only(events, "agent.mcp_tool_use")
        assert (use.evaluated_permission, use.evaluation.type) == ("ask", "always_ask")
        assert events[-1].stop_reason.event_ids == [use.id]
        more = {"deny_message": "Not now."} if answer == "deny" else {}
        events = world.turn(session_id, verdict(use.id, answer, **more))
        (result,) = only(events, "agent.mcp_tool_result")
        assert result.is_error is (answer == "deny")
        assert real.noted() == wanted
    assert "Not now." in world.last_text(session_id)


def test_an_allowed_call_runs_after_a_restart(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    session_id = session(world, real.url, policy=None)
    (use,) = only(world.turn(session_id, "add"), "agent.mcp_tool_use")
    world.server.kill()
    world.server.start()
    events = world.turn(session_id, verdict(use.id, "allow"))
    assert only(events, "agent.mcp_tool_result")[0].content[0].text == "3"


def test_configs_enable_and_allow_tools_one_by_one(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    configs = [{"name": "add", "permission_policy": {"type": "always_ask"}}, {"name": "fail", "enabled": False}]
    session_id = session(world, real.url, configs=configs)
    assert only(world.turn(session_id, "add"), "agent.mcp_tool_use")[0].evaluated_permission == "ask"
    world.turn(session_id, INTERRUPT)
    events = world.turn(session_id, "fail")
    assert only(events, "agent.mcp_tool_use") == []
    (use,) = only(events, "agent.tool_use")
    assert (use.evaluated_permission, use.evaluation) == ("deny", None)
    assert "has been denied" in world.last_text(session_id)


def test_content_of_all_kinds(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    (result,) = only(world.turn(session(world, real.url), "show"), "agent.mcp_tool_result")
    kinds = ["text", "image", "text", "text", "text", "document", "text"]
    assert [block.type for block in result.content] == kinds
    assert result.content[1].source.media_type == "image/png"
    assert result.content[3].text == "[resource file:///a.md (text/markdown)]\n# A"
    assert result.content[5].source.media_type == "application/pdf"
    assert "https://example.com/b" in result.content[6].text


def test_errors_of_tools_are_results(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    session_id = session(world, real.url)
    for word in ("fail", "wrong"):
        events = world.turn(session_id, word)
        (result,) = only(events, "agent.mcp_tool_result")
        assert result.is_error is True
        assert result.content[0].text
        assert only(events, "session.error") == []


def test_a_long_result_is_kept_in_the_sandbox(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    session_id = session(world, real.url, BUILTINS)
    for word, size in (("huge", 250_000), ("large", 3_000_000)):
        (result,) = only(world.turn(session_id, word), "agent.mcp_tool_result")
        (block,) = result.content
        assert len(block.text) < 25_000
        assert f"{size} characters in all" in block.text
    world.turn(session_id, "read the end")
    assert world.last_text(session_id).strip() == "end end"


def test_a_long_result_without_a_sandbox_is_cut(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    (result,) = only(world.turn(session(world, real.url), "huge"), "agent.mcp_tool_result")
    assert "the whole could not be kept" in result.content[0].text


def test_an_interrupt_ends_a_call_at_once(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    session_id = session(world, real.url)
    with world.stream(session_id) as stream:
        world.send(session_id, {"type": "user.message", "content": [{"type": "text", "text": "wait"}]})
        stream.until("agent.mcp_tool_use")
        real.until_noted("wait began")
        world.send(session_id, INTERRUPT)
        events = stream.until("session.status_idle")
    (result,) = only(events, "agent.mcp_tool_result")
    assert result.is_error is True
    real.until_noted("wait cancelled")
    world.turn(session_id, "add")
    assert world.last_text(session_id) == "3", "the connection is still good"


def test_progress_keeps_a_call_alive_and_silence_ends_it(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT, config="[mcp]\ncall_seconds = 1.5\n")
    session_id = session(world, real.url)
    world.turn(session_id, "slow")
    assert world.last_text(session_id) == "done"
    world.turn(session_id, "stuck")
    assert "outcome of this call is unknown" in world.last_text(session_id)
    real.until_noted("wait cancelled")


def test_a_changed_list_is_listed_again(serve: Serve, real: Process) -> None:
    world = serve(scripted=SCRIPT)
    session_id = session(world, real.url)
    world.turn(session_id, "grow")
    world.turn(session_id, "grown")
    assert world.last_text(session_id) == "I am new"


def test_a_stopping_server_leaves_no_program_behind(serve: Serve, tmp_path: Path) -> None:
    world = serve(scripted=SCRIPT, config=stdio(tmp_path / "ledger").replace('"stdio",', '"stdio", "--stubborn",'))
    session_id = session(world, "stdio:files")
    world.turn(session_id, "add")
    pid = int((tmp_path / "ledger").read_text().split()[1])
    assert Path(f"/proc/{pid}").exists()
    world.server.stop()
    assert not Path(f"/proc/{pid}").exists()
