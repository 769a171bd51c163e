"""`hostler apply` against a running server: makes, changes, leaves alone, foresees, and says where a file is wrong."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anthropic import Anthropic

from commands.command import complaint, hostler
from running import Server

Json = dict[str, Any]
REFERENCE = Path(__file__).parents[2] / "agents" / "audit-handover"
WORKER = "name: worker\nmodel: claude-opus-5-5\n"
FULL = """
name: everything
model: {id: claude-opus-5-5, effort: low}
description: |
  Two
  lines
system_file: prompts/system.md
tools:
  - type: custom
    name: get_weather
    description: The weather.
    input_schema: {type: object}
  - type: bash
  - type: mcp_toolset
    mcp_server_name: crm
  - type: read
    permission_policy: {type: always_ask}
mcp_servers:
  - {type: url, name: crm, url: "https://mcp.example.com/mcp"}
multiagent:
  type: multiagent_20261001
  advisor: {type: enabled, model: claude-opus-5-5}
metadata:
  team: a
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("apply") / "data") as server:
        yield server


def run(server: Server, *arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    environ = {"HOSTLER_BASE_URL": server.base_url, "HOSTLER_API_KEY": server.key}
    return hostler("apply", *arguments, **{"environ": environ, **more})


def told(server: Server, *arguments: object) -> Json:
    """What `--json` says of one file."""
    done = run(server, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return dict(json.loads(line))


def get(server: Server, path: str) -> Any:
    return httpx2.get(server.base_url + path, headers=server.headers).json()


def write(folder: Path, text: str, name: str = "agent.yaml") -> Path:
    file = folder / name
    file.write_text(text)
    return file


@pytest.fixture
def full(tmp_path: Path) -> Path:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "system.md").write_text("You help.\nBriefly.\n")
    return write(tmp_path, FULL.replace("everything", f"everything {tmp_path.name}"))


def test_everything_arrives_and_a_second_time_changes_nothing(server: Server, full: Path) -> None:
    made = told(server, full)
    assert (made["action"], made["type"], made["version"]) == ("created", "agent", 1)
    agent = get(server, f"/v1/agents/{made['id']}")
    assert (agent["system"], agent["description"]) == ("You help.\nBriefly.\n", "Two\nlines\n")
    assert agent["metadata"] == {"team": "a", "hostler_apply": "true"}
    assert [tool["type"] for tool in agent["tools"]] == ["custom", "agent_toolset_20260401", "mcp_toolset"]
    builtins = agent["tools"][1]
    assert builtins["default_config"]["enabled"] is False
    configs = [(item["name"], item["enabled"], item["permission_policy"]["type"]) for item in builtins["configs"]]
    assert configs == [("bash", True, "always_allow"), ("read", True, "always_ask")]
    assert agent["multiagent"]["advisor"] == {"type": "enabled", "model": "claude-opus-5-5"}
    assert told(server, "--dry-run", full)["action"] == "unchanged"
    again = told(server, full)
    assert (again["action"], again["id"], again["version"], again["changed"]) == ("unchanged", made["id"], 1, [])
    assert get(server, f"/v1/agents/{made['id']}") == agent


def test_what_changes_is_said_and_foreseen(server: Server, full: Path) -> None:
    made = told(server, full)
    text = full.read_text().replace("  - type: bash\n", "").replace("team: a", "team: b").replace("effort: low", "")
    full.write_text(text)
    (full.parent / "prompts" / "system.md").write_text("You help.\n")
    foreseen = told(server, "--dry-run", full)
    assert (foreseen["action"], foreseen["dry_run"], foreseen["version"]) == ("updated", True, 1)
    assert sorted(foreseen["changed"]) == ["metadata", "system", "tools"], "a default that the server picks stays open"
    assert get(server, f"/v1/agents/{made['id']}")["version"] == 1
    done = run(server, full)
    assert done.stdout.splitlines() == [
        f"agent {made['name']}: updated {made['id']}, version 2",
        "  model: effort low -> medium",
        "  system: text of 19 characters -> text of 10 characters",
        "  tools: [custom get_weather, agent_toolset_20260401 with bash/read, mcp_toolset crm] -> "
        "[custom get_weather, mcp_toolset crm, agent_toolset_20260401 with read]",
        "  metadata: team a -> b",
    ]


def test_what_a_file_leaves_out_goes_back_to_its_default(server: Server, full: Path) -> None:
    made = told(server, full)
    write(full.parent, f"name: {made['name']}\nmodel: claude-opus-5-5\n")
    after = told(server, full)
    assert sorted(after["changed"]) == [
        "description", "mcp_servers", "metadata", "model", "multiagent", "system", "tools",
    ]  # fmt: skip
    agent = get(server, f"/v1/agents/{made['id']}")
    assert (agent["tools"], agent["mcp_servers"], agent["multiagent"]) == ([], [], None)
    assert (agent["system"], agent["description"]) == (None, None)
    assert agent["metadata"] == {"hostler_apply": "true"}
    assert told(server, full)["action"] == "unchanged"


def test_callable_agents_and_several_files(server: Server, tmp_path: Path) -> None:
    worker = told(server, write(tmp_path, WORKER.replace("worker", f"w {tmp_path.name}")))
    lead = write(
        tmp_path,
        f"name: lead {tmp_path.name}\nmodel: m\ncallable_agents:\n  - {{type: agent, id: {worker['id']}}}\n",
        "lead.yaml",
    )
    made = told(server, lead)
    pinned = {"type": "agent", "id": worker["id"], "version": 1}
    assert get(server, f"/v1/agents/{made['id']}")["multiagent"] == {"type": "coordinator", "agents": [pinned]}
    assert told(server, "--dry-run", lead)["action"] == told(server, lead)["action"] == "unchanged"
    done = run(server, tmp_path / "agent.yaml", lead)
    assert [line.split(": ")[1].split()[0] for line in done.stdout.splitlines()] == ["unchanged", "unchanged"]


def test_members_by_name(server: Server, tmp_path: Path) -> None:
    name = f"helper {tmp_path.name}"
    helper = write(tmp_path, WORKER.replace("worker", name), "helper.yaml")
    entry = f"{{type: agent, name: {name}}}"
    for number, roster in enumerate((
        f"callable_agents: [{entry}]",
        f"multiagent: {{type: coordinator, agents: [{entry}, {{type: self}}]}}",
        f"multiagent: {{type: multiagent_20261001, subagents: {{type: enabled, predefined_agents: [{entry}]}}}}",
    )):  # fmt: skip
        lead = write(tmp_path, f"name: lead {number} {tmp_path.name}\nmodel: claude-opus-5-5\n{roster}\n", "lead.yaml")
        if number == 0:
            said = complaint(run(server, lead))
            assert f"lead.yaml, line 3: callable_agents.0.name: no agent named {name} was applied there" in said
            assert run(server, "--dry-run", helper, lead).stdout.count("would be created") == 2
        assert run(server, helper, lead).returncode == 0
        assert told(server, lead)["action"] == told(server, "--dry-run", lead)["action"] == "unchanged"
    helper_id = told(server, helper)["id"]
    shown = get(server, f"/v1/agents/{told(server, lead)['id']}")["multiagent"]["subagents"]["predefined_agents"]
    assert shown == [{"type": "agent", "id": helper_id, "version": 1}]


def test_an_agent_made_by_someone_else_is_left_alone(server: Server, tmp_path: Path) -> None:
    name = f"taken {tmp_path.name}"
    body = {"name": name, "model": "claude-opus-5-5"}
    other = httpx2.post(f"{server.base_url}/v1/agents", headers=server.headers, json=body).json()
    file = write(tmp_path, WORKER.replace("worker", name))
    done = run(server, "--dry-run", file)
    assert done.stdout.splitlines()[0] == f"agent {name}: would be created"
    assert "1 more of this name" in done.stdout
    made = told(server, file)
    assert (made["action"], made["same_name"]) == ("created", 1)
    assert get(server, f"/v1/agents/{other['id']}") == other
    httpx2.post(f"{server.base_url}/v1/agents/{made['id']}/archive", headers=server.headers)
    assert told(server, file)["action"] == "created", "an archived one is gone"


def test_an_environment(server: Server, tmp_path: Path) -> None:
    name = f"place {tmp_path.name}"
    file = write(tmp_path, f"name: {name}\nconfig:\n  type: cloud\n")
    made = told(server, file)
    assert (made["type"], made["action"], made["version"]) == ("environment", "created", None)
    assert told(server, "--dry-run", file)["action"] == told(server, file)["action"] == "unchanged"
    write(tmp_path, f"name: {name}\ndescription: d\nconfig:\n  type: cloud\n  networking: {{type: limited}}\n")
    assert sorted(told(server, "--dry-run", file)["changed"]) == ["config", "description"]
    assert sorted(told(server, file)["changed"]) == ["config", "description"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "line 1: not valid YAML"),
        ("- a", "Input should be a mapping"),
        ("", "Input should be a mapping"),
        ("name: a\nname: b\nmodel: m", "line 2: the key name is there twice"),
        ("name: a\nmodle: m", "line 2: modle: unknown key; did you mean model?"),
        ("name: a", "model: Field required"),
        ("model: m", "name: Field required"),
        ("name: a\nmodel: m\nsystem: !!python/object:os.system x", "line 3: the tag"),
        ("name: a\nmodel: m\nsystem: s\nsystem_file: f", "line 4: system_file: give either"),
        ("name: a\nmodel: m\nsystem_file: nowhere.md", "line 3: system_file: there is no file"),
        ("name: a\nmodel: m\ntools:\n  - type: bash\n  - type: bash", "line 5: tools.1: bash is there twice"),
        (
            "name: a\nmodel: m\ntools:\n  - type: agent_toolset_20260401\n  - type: bash",
            "line 5: tools.1: bash belongs into configs of agent_toolset_20260401",
        ),
        ("name: a\nmodel: m\ntools: bash", "line 3: tools: Input should be a list"),
        ("name: a\nmodel: m\nmetadata: {hostler_apply: x}", "line 3: metadata.hostler_apply"),
        ("name: a\nmodel: m\nmetadata: &x {<<: *y}", "line 3: not valid YAML: found undefined alias"),
        ("a: &a [1]\nname: a\nmodel: m\nmetadata: {<<: {b: c}}", "line 4: a key has to be plain text"),
        ("a: &a {b: *a}\nname: a", "too deeply nested"),
        ("name: a\nmodel: m\nmetadata:\n  a: .inf", "line 4: '.inf' can't be sent as JSON"),
        ('name: a\nmodel: m\nsystem: "\\ud800"', "line 3: "),
        ('name: a\n"\\e[1m": m', "line 2: a key has to be plain text"),
        ("a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]", "too many"),
        ("name: a\n---\nname: b", "line 2: not valid YAML: but found another document"),
    ],
)  # fmt: skip
def test_a_file_that_is_wrong_names_its_line(tmp_path: Path, text: str, says: str) -> None:
    file = write(tmp_path, text)
    said = complaint(hostler("apply", file, "--api-key", "k", "--base-url", "http://127.0.0.1:9"))
    assert said.startswith(str(file))
    assert says in said


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            "tools:\n  - type: mcp_toolset\n    mcp_server_name: crm\n",
            "line 5: tools.0.mcp_server_name: mcp_servers has",
        ),
        (
            "tools:\n  - type: read\n  - type: bash\n    permission_policy:\n      type: maybe\n",
            "line 7: tools.0.configs.1",
        ),
        ("metadata:\n  team: 7\n", "line 4: metadata"),
        ("mcp_servers:\n  - {type: url, name: a, url: x}\n", "line 4: mcp_servers.0.url"),
        ("callable_agents:\n  - agent_none\n", "line 4: callable_agents.0: Agent agent_none"),
        (
            "tools:\n  - type: read\nskills:\n  - type: anthropic\n    skill_id: dox\n",
            "line 7: skills.0.skill_id: skill dox was not found",
        ),
    ],
)
def test_what_the_server_refuses_names_the_line(server: Server, tmp_path: Path, more: str, says: str) -> None:
    said = complaint(run(server, write(tmp_path, WORKER + more)))
    assert said.startswith(f"{tmp_path / 'agent.yaml'}, {says}")


def test_a_dry_run_looks_at_tools_itself(server: Server, tmp_path: Path) -> None:
    file = write(tmp_path, WORKER + "tools:\n  - type: telepathy\n")
    assert "line 4: tools.0.type: Invalid value 'telepathy'" in complaint(run(server, "--dry-run", file))


def test_nothing_is_sent_while_one_file_is_wrong(server: Server, tmp_path: Path) -> None:
    name = f"first {tmp_path.name}"
    good = write(tmp_path, WORKER.replace("worker", name))
    bad = write(tmp_path, "name: [", "bad.yaml")
    complaint(run(server, good, bad))
    assert name not in [agent["name"] for agent in get(server, "/v1/agents?limit=100")["data"]]


def test_servers_that_can_t_be_used(server: Server, tmp_path: Path) -> None:
    file = write(tmp_path, WORKER)
    assert "no API key" in complaint(hostler("apply", file))
    assert "no API key" in complaint(hostler("apply", file, environ={"ANTHROPIC_API_KEY": "sk-ant"}))
    said = complaint(hostler("apply", file, "--api-key", "k", "--base-url", "http://127.0.0.1:9"))
    assert "No server answers at http://127.0.0.1:9" in said
    said = complaint(run(server, file, "--api-key", "secret-of-mine"))
    assert "doesn't accept the API key" in said
    assert "secret-of-mine" not in said
    assert "nonsense is no server's address" in complaint(run(server, file, "--base-url", "nonsense"))
    assert "not an agents API" in complaint(run(server, file, "--base-url", f"{server.base_url}/healthz?"))
    through = {"HTTP_PROXY": "http://127.0.0.1:9", "HOSTLER_BASE_URL": server.base_url, "HOSTLER_API_KEY": server.key}
    assert hostler("apply", "--dry-run", file, environ=through).returncode == 0, "no proxy on the way to this machine"
    assert "characters that neither can have" in complaint(run(server, file, "--api-key", "k\u20ac"))
    pasted = {"ANTHROPIC_BASE_URL": server.base_url, "ANTHROPIC_API_KEY": server.key}
    assert hostler("apply", "--dry-run", file, environ=pasted).returncode == 0


def test_the_api_itself_takes_no_short_forms(server: Server) -> None:
    body = {"name": "a", "model": "claude-opus-5-5", "tools": [{"type": "bash"}]}
    answer = httpx2.post(f"{server.base_url}/v1/agents", headers=server.headers, json=body)
    says = "tools.0.type: Invalid value 'bash'; expected agent_toolset_20260401, custom, mcp_toolset"
    assert (answer.status_code, answer.json()["error"]["message"]) == (400, says)


def test_the_reference_agent_applies_and_works(tmp_path: Path) -> None:
    """On a server of its own: its skill's packages can't be had there, and its MCP server isn't there."""
    script = {"turns": [
        {"tools": [{"name": "read", "input": {"file_path": "/mnt/skills/docx/SKILL.md"}}]},
        {"text": "{{last_tool_result}}"},
    ]}  # fmt: skip
    offline = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "0"}
    with Server(tmp_path / "data", scripted=script, environ=offline) as server:
        made = told(server, REFERENCE / "agent.yaml")
        place = told(server, REFERENCE / "environment.yaml")
        assert (made["action"], place["action"]) == ("created", "created")
        for path in ("agent.yaml", "environment.yaml"):
            assert told(server, REFERENCE / path)["action"] == "unchanged"
        agent = get(server, f"/v1/agents/{made['id']}")
        assert agent["system"] == (REFERENCE / "system-prompt.md").read_text()
        assert [(skill["type"], skill["skill_id"]) for skill in agent["skills"]] == [("anthropic", "docx")]
        client = Anthropic(base_url=server.base_url, api_key=server.key, max_retries=0)
        session = client.beta.sessions.create(agent=agent["id"], environment_id=place["id"])
        events = client.beta.sessions.events
        with events.stream(session.id) as stream:
            content = [{"type": "text", "text": "{}"}]
            events.send(session.id, events=[{"type": "user.message", "content": content}])  # type: ignore[list-item,typeddict-item]
            seen = list(itertools.takewhile(lambda event: event.type != "session.status_idle", stream))
    said = [event.content[0].text for event in seen if event.type == "agent.message"]
    assert said[0].startswith("---\nname: docx\n"), "the agent reads its skill"
    problems = [event.error.message for event in seen if event.type == "session.error"]
    assert any("ntropii" in problem for problem in problems), "without its MCP server it goes on, and says so"


def test_the_reference_environment_applies(server: Server) -> None:
    assert told(server, REFERENCE / "environment.yaml")["action"] == "created"
