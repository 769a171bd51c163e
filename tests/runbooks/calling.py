"""What a scripted agent does in these tests, and a runbook that calls one. It knows the server by HTTP only."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from running import Server
from workspaces import Workspace

BUNDLES = Path(__file__).with_name("bundles")
OUTPUTS = "/mnt/session/outputs"
WORKER = b"hostler.runbooks.worker.process"


def rule(said: str, *turns: Any) -> dict[str, Any]:
    return {"when": {"user_text_contains": said}, "turns": list(turns)}


def bash(command: str) -> dict[str, Any]:
    return {"tools": [{"name": "bash", "input": {"command": command}}]}


SCRIPT = {
    "name": "invoke",
    "rules": [
        rule("no file", {"text": "I made nothing."}),
        rule("two files", bash(f"echo 1 > {OUTPUTS}/one.txt; echo 2 > {OUTPUTS}/two.txt"), {"text": "Two."}),
        rule("large file", bash(f"echo 1 > {OUTPUTS}/small.txt; truncate -s 3M {OUTPUTS}/large.bin"), {"text": "L."}),
        rule("huge file", bash(f"echo 1 > {OUTPUTS}/small.txt; truncate -s 6M {OUTPUTS}/huge.bin"), {"text": "H."}),
        rule("hidden names", bash(f"mkdir -p {OUTPUTS}/a; echo x > '{OUTPUTS}/a/Zürich — 3月.txt'"), {"text": "N."}),
        rule(
            "refuse",
            {
                "text": "No.",
                "stop_reason": "refusal",
                "stop_details": {"type": "refusal", "category": "cyber", "explanation": "It is against the rules."},
            },
        ),
        rule("fail", {"error": {"kind": "overloaded", "times": 0, "message": "too busy"}}),
        rule(
            "spend",
            {"text": "Dear.", "usage": {"output_tokens": 2_000_000}, "tools": bash("true")["tools"]},
            {"text": "!"},
        ),
        rule(
            "ask",
            {"text": "May I?", **bash("echo asked >> /tmp/asked; wc -l < /tmp/asked")},
            {"text": "It said {{last_tool_result}}"},
        ),
        rule("slow", bash(f"echo half > {OUTPUTS}/half.txt; sleep 60"), {"text": "Never."}),
        rule(
            "custom",
            {"tools": [{"name": "rate", "input": {"of": "EUR"}}]},
            {"text": "The rate is {{last_tool_result}}"},
        ),
    ],
}


def workers(server: Server) -> int:
    """How many processes the server has for tasks."""
    found = 0
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1]
            found += parent == str(server.pid) and WORKER in Path(f"/proc/{name}/cmdline").read_bytes()
        except (OSError, IndexError):
            continue
    return found


class Caller:
    """Calls an agent from a runbook's step."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.workflow = workspace.deploy(BUNDLES / "caller", "CallerWorkflow")
        self.agent = workspace.register(workspace.agent(), "plain")["id"]

    def start(self, say: str, **context: Any) -> str:
        return self.workspace.start(self.workflow, {"agent": self.agent, "say": say, **context})

    def call(self, say: str, **context: Any) -> dict[str, Any]:
        """What `invoke` returns."""
        return dict(self.workspace.result(self.start(say, **context)))

    def documents(self, task_id: str) -> list[dict[str, Any]]:
        return list(self.workspace.get(f"/v1/workspace/tasks/{task_id}/documents"))
