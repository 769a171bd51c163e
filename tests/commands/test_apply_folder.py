"""`hostler apply` of a folder: machine, vault, credential and agent in one go, again, half done, and as a diff."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from commands.command import complaint, hostler, records
from running import Server

Json = dict[str, Any]
# As the public page shows it: comments inside the block of text are part of it, and no prompt.
AGENT = """
name: audit-handover
model: claude-sonnet-4-6
description: |
  Produces an auditor handover .docx for a completed NAV close.

system: |
  # System message: what the agent is + how it should behave.
  # See agents/audit-handover/system-prompt.md

tools:
  - type: bash
  - type: write
  - type: read
  # mcp_toolset binds the MCP server.
  - type: mcp_toolset
    mcp_server_name: ntropii

mcp_servers:
  - type: url
    name: ntropii
    url: /mcp

skills:
  - skill_id: docx
    type: anthropic
    version: latest
"""
VAULT = """
credentials:
  - display_name: the CRM
    auth:
      type: static_bearer
      mcp_server_url: https://mcp.example.com/mcp
      token: {env: CRM_TOKEN}
  - auth:
      type: environment_variable
      secret_name: DEPLOY_KEY
      secret_value: {file: deploy.key}
      networking: {type: limited, allowed_hosts: [api.example.com]}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("apply") / "data") as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "agents" / "audit-handover"
    folder.mkdir(parents=True)
    name = f"audit-handover-{tmp_path.name}"
    (folder / "agent.yaml").write_text(AGENT.replace("name: audit-handover", f"name: {name}"))
    (folder / "system-prompt.md").write_text("You write handovers.\n")
    (folder / "README.md").write_text("# For people\n")
    (folder / "environment.yaml").write_text("config:\n  type: cloud\n  networking: {type: unrestricted}\n")
    (folder / "vault.yaml").write_text(VAULT)
    (folder / "deploy.key").write_text("secret-of-a-file\n")
    return folder


def run(server: Server, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    known = {"HOSTLER_BASE_URL": server.base_url, "HOSTLER_API_KEY": server.key, "CRM_TOKEN": "secret-of-a-variable"}
    done = hostler("apply", *arguments, environ={**known, **environ})
    assert "secret-of" not in done.stdout + done.stderr
    return done


def told(server: Server, *arguments: object, status: int = 0, **environ: str) -> dict[str, Json]:
    """What `--json` says, by kind of object; of several credentials the last."""
    done = run(server, "--json", *arguments, **environ)
    assert done.returncode == status, done.stderr
    return {line["type"]: line for line in records(done.stdout)}


def actions(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line.split(": ")[1].split()[0] for line in done.stdout.splitlines() if not line.startswith(" ")]


def get(server: Server, path: str) -> Any:
    return httpx2.get(server.base_url + path, headers=server.headers).json()


def test_everything_in_one_go_and_nothing_the_second_time(server: Server, folder: Path) -> None:
    made = told(server, folder)
    assert {kind: line["action"] for kind, line in made.items()} == dict.fromkeys(
        ("environment", "vault", "credential", "agent"), "created"
    )
    agent = get(server, f"/v1/agents/{made['agent']['id']}")
    assert agent["system"] == "You write handovers.\n"
    assert agent["mcp_servers"] == [{"type": "url", "name": "ntropii", "url": f"{server.base_url}/mcp"}]
    assert agent["skills"][0]["skill_id"] == "docx"
    assert get(server, f"/v1/environments/{made['environment']['id']}")["name"] == agent["name"]
    vault = get(server, f"/v1/vaults/{made['vault']['id']}")
    assert vault["display_name"] == agent["name"]
    shown = get(server, f"/v1/vaults/{vault['id']}/credentials")["data"]
    assert sorted(each["auth"]["type"] for each in shown) == ["environment_variable", "static_bearer"]
    again = run(server, folder)
    assert actions(again) == ["unchanged"] * 5
    assert get(server, f"/v1/agents/{agent['id']}") == agent
    assert get(server, f"/v1/vaults/{vault['id']}/credentials")["data"] == shown
    diff = run(server, "--diff", folder)
    assert (diff.returncode, diff.stdout) == (0, "")


def test_a_diff_shows_lines_and_changes_nothing(server: Server, folder: Path) -> None:
    fresh = run(server, "--diff", folder)
    assert fresh.returncode == 1
    assert fresh.stdout.count("--- /dev/null") == 5
    made = told(server, folder)
    (folder / "system-prompt.md").write_text("You write handovers.\nBriefly.\n")
    text = (folder / "agent.yaml").read_text()
    (folder / "agent.yaml").write_text(text.replace("  - type: write\n", ""))
    done = run(server, "--diff", folder)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == f"--- agent {made['agent']['name']} (version 1)"
    changed = [line for line in done.stdout.splitlines()[2:] if line[0] in "+-"]
    assert "+  Briefly." in changed
    assert [line.split() for line in changed if "name:" in line] == [["-", "name:", "write"]]
    assert not any("bash" in line or "effort" in line for line in changed), "only what changes"
    assert get(server, f"/v1/agents/{made['agent']['id']}")["version"] == 1
    lines = told(server, "--diff", folder, status=1)
    assert "+  Briefly." in lines["agent"]["diff"]
    assert sorted(lines["agent"]["changed"]) == ["system", "tools"]
    assert lines["vault"]["diff"] == ""
    assert told(server, folder)["agent"]["version"] == 2
    assert run(server, "--diff", folder).returncode == 0


def test_a_prompt_of_its_own_and_one_of_several_files(server: Server, folder: Path) -> None:
    text = (folder / "agent.yaml").read_text()
    own = re.sub(r"system: \|\n(  #.*\n)+", "system: My own.\n", text)
    (folder / "agent.yaml").write_text(own)
    made = told(server, folder)
    assert get(server, f"/v1/agents/{made['agent']['id']}")["system"] == "My own."
    (folder / "template.md").write_text("# Outline\n")
    (folder / "agent.yaml").write_text(own.replace("system: My own.", "system_file: [system-prompt.md, template.md]"))
    told(server, folder)
    assert get(server, f"/v1/agents/{made['agent']['id']}")["system"] == "You write handovers.\n\n# Outline\n"
    (folder / "template.md").unlink()
    said = complaint(run(server, folder))
    assert f"{folder / 'agent.yaml'}, line" in said
    assert "system_file.1: there is no file" in said


def test_secrets_are_sent_once_and_again_when_told(server: Server, folder: Path) -> None:
    told(server, folder)
    gone = {"CRM_TOKEN": ""}
    assert actions(run(server, folder, **gone)) == ["unchanged"] * 5, "what is there needs no secret"
    said = complaint(run(server, "--renew-secrets", folder, **gone))
    assert "line 7: credentials.0.auth.token: the environment variable CRM_TOKEN is not set" in said
    done = run(server, "--renew-secrets", folder)
    assert actions(done) == ["unchanged", "unchanged", "updated", "updated", "unchanged"]


def test_what_is_half_done_is_finished(server: Server, folder: Path) -> None:
    said = complaint(run(server, folder, CRM_TOKEN=""))
    assert "CRM_TOKEN is not set" in said
    assert actions(run(server, "--dry-run", folder)) == ["would"] * 5, "nothing was made"
    (folder / "agent.yaml").write_text((folder / "agent.yaml").read_text() + "metadata: {a: [1]}\n")
    assert "metadata" in complaint(run(server, folder))
    (folder / "agent.yaml").write_text((folder / "agent.yaml").read_text().replace("metadata: {a: [1]}\n", ""))
    assert actions(run(server, folder)) == ["unchanged", "unchanged", "unchanged", "unchanged", "created"]


def test_a_credential_that_changes_or_goes(server: Server, folder: Path) -> None:
    made = told(server, folder)
    text = VAULT.replace("the CRM", "our CRM").replace("[api.example.com]", "[b.example.com]")
    (folder / "vault.yaml").write_text(text)
    done = run(server, folder)
    assert actions(done) == ["unchanged", "unchanged", "updated", "updated", "unchanged"]
    assert actions(run(server, folder)) == ["unchanged"] * 5
    shown = get(server, f"/v1/vaults/{made['vault']['id']}/credentials")["data"]
    assert {each.get("display_name") for each in shown} == {"our CRM", "DEPLOY_KEY"}
    (folder / "vault.yaml").write_text("credentials: []\n")
    assert run(server, folder).stdout.count("is not in the file any more") == 2
    (folder / "vault.yaml").write_text(text.replace("static_bearer", "mcp_oauth").replace("token:", "access_token:"))
    assert "is of another type, static_bearer; archive it first" in complaint(run(server, folder))


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("vault.yaml", "credentials: x", "line 1: credentials: Input should be a list"),
        ("vault.yaml", "credentials:\n  - token: abc", "line 2: credentials.0: Input should have `auth`"),
        ("vault.yaml", VAULT.replace("{env: CRM_TOKEN}", "secret-of-mine"), "line 7: credentials.0.auth.token: say"),
        ("vault.yaml", VAULT.replace("secret_name: DEPLOY_KEY", "x: y"), "credentials.1.auth.secret_name: Field"),
        ("vault.yaml", VAULT.replace("deploy.key", "nowhere"), "line 11: credentials.1.auth.secret_value: "),
        ("vault.yaml", "secrets: []", "line 1: secrets: unknown key; a vault has"),
        ("environment.yaml", "model: m", "line 1: model: unknown key; an environment has"),
        ("agent.yaml", "config: {}", "line 1: config: unknown key; an agent has"),
        ("agent.yml", "name: x", "agent.yaml is there, too"),
    ],
)  # fmt: skip
def test_files_that_are_wrong(server: Server, folder: Path, name: str, text: str, says: str) -> None:
    (folder / name).write_text(text)
    said = complaint(run(server, folder))
    assert said.startswith(str(folder / name))
    assert says in said


def test_folders_without_an_agent(server: Server, tmp_path: Path) -> None:
    assert "there is no agent.yaml in this folder" in complaint(run(server, tmp_path))
    (tmp_path / "environment.yaml").write_text(f"name: alone {tmp_path.name}\nconfig: {{type: cloud}}\n")
    assert actions(run(server, tmp_path)) == ["created"]
    assert "holds no agent, and --tenant registers one" in complaint(run(server, "--tenant", "t", tmp_path))
    assert json.loads(run(server, "--json", tmp_path).stdout)["action"] == "unchanged"
