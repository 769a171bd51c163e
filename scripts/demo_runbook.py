"""The second half of the demonstration: a runbook that has an agent write a Word document, by the command line alone.

Each command is printed as a person would type it. The folders `agents/audit-handover` and `runbooks/nav-audit-handover`
are what it uses; it must not reach past the server's two APIs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
AGENT = "agents/audit-handover"
RUNBOOK = "runbooks/nav-audit-handover"
SAMPLE = f"{RUNBOOK}/sample/period-2026-03.json"
TENANT, ENTITY, PERIOD = "byng", "meadow-court", "2026-03"


class RunbookFailed(Exception):
    """Says which command failed, and what it said."""


class Demo:
    """Commands against one server. `tell` prints a heading."""

    def __init__(self, url: str, key: str, tell: Callable[[str], None]) -> None:
        self.url = url
        self.key = key
        self._tell = tell
        self._environ = {**os.environ, "HOSTLER_BASE_URL": url, "HOSTLER_API_KEY": key}

    def run(self, folder: Path) -> tuple[Path, str, str]:
        """The document, a link to the task's page, and one to the session's."""
        self._tell("A tenant, an entity, and the agent of a folder, registered with the tenant")
        self._hostler("tenant", "create", TENANT, "--name", "Byng Capital")
        self._hostler("apply", AGENT, "--tenant", TENANT)
        (agent,) = json.loads(self._hostler("agent", "list", "--tenant", TENANT, "--json", quiet=True))
        self._hostler("entity", "create", ENTITY, "--tenant", TENANT, "--config", f"audit_agent_id={agent['id']}")

        self._tell("A runbook, deployed and started: its agent drafts the auditor's handover")
        self._hostler("runbook", "deploy", RUNBOOK, "--tenant", TENANT)
        place = ("--tenant", TENANT, "--entity", ENTITY, "--period", PERIOD)
        self._hostler("runbook", "run", RUNBOOK, *place, "--input", f"@{SAMPLE}")
        (started,) = json.loads(self._hostler("task", "list", "--json", quiet=True))
        task = self._waited(started["id"])
        if task["status"] != "BLOCKED":
            raise RunbookFailed(f"the task is {task['status']}, and was to wait for a person: {task.get('failure')}")

        self._tell("A person reads the draft and approves it")
        self._hostler("task", "approve", task["id"], "--reason", "Agrees with the books.")
        self._hostler("task", "files", task["id"], "--save", str(folder))
        (document,) = folder.glob("*.docx")
        session = self._session(task["id"])
        return document, self.link(f"/console/tasks/{task['id']}"), self.link(f"/console/sessions/{session}")

    def _waited(self, task_id: str) -> dict[str, Any]:
        """The task once it waits for a person, or is over; each step is told as it is done."""
        told: set[str] = set()
        while True:
            task: dict[str, Any] = self._ask("GET", f"/v1/workspace/tasks/{task_id}")
            for each in task.get("steps", ()):
                if each["status"] == "COMPLETED" and each["name"] not in told:
                    told.add(each["name"])
                    print(f"    done: {each['title']}", flush=True)
            if task["status"] in ("BLOCKED", "COMPLETED", "FAILED"):
                return task
            time.sleep(0.2)

    def _session(self, task_id: str) -> str:
        """The session that the agent worked in: the task's journal names it."""
        logs = self._ask("GET", f"/v1/workspace/tasks/{task_id}/logs")
        return next(str(each["payload"]["session_id"]) for each in logs if each["type"] == "agent")

    def link(self, page: str) -> str:
        """An address that opens one page without a key, for twelve hours."""
        return str(self._ask("POST", "/console/links", {"path": page})["url"])

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def _hostler(self, *arguments: str, quiet: bool = False) -> str:
        if not quiet:
            print(f"  $ hostler {' '.join(arguments)}", flush=True)
        command = [sys.executable, "-m", "hostler.cli", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=self._environ, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise RunbookFailed(f"`hostler {' '.join(arguments)}` ended with {done.returncode}: {said}")
        for line in [] if quiet else done.stdout.strip().splitlines():
            print(f"    {line}", flush=True)
        return done.stdout
