"""A tenant with runbooks and an agent for a test, and the official MCP client with any key.

Everything goes over HTTP, as clients do it; nothing is put into the database from aside.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from commands.command import hostler
from running import Server

SECONDS = 60.0
HOLD = {
    "type": "custom",
    "name": "hold",
    "description": "Waits for somebody.",
    "input_schema": {"type": "object", "properties": {}},
}
SCRIPT: dict[str, Any] = {
    "name": "agents",
    "rules": [
        {
            "when": {"user_text_matches": "look, then hold"},
            "turns": [
                {"tools": [{"name": "mcp__home__ntro_task_get", "input": {}}]},
                {"tools": [{"name": "hold", "input": {}}]},
                {"text": "Seen."},
            ],
        },
        {
            "when": {"user_text_matches": "look"},
            "turns": [
                {"tools": [{"name": "mcp__home__ntro_task_get", "input": {}}]},
                {"text": "{{last_tool_result}}"},
            ],
        },
        {
            "when": {"user_text_matches": "hold"},
            "turns": [{"tools": [{"name": "hold", "input": {}}]}, {"text": "Held."}],
        },
    ],
    "otherwise": {"text": "You said: {{last_user_text}}"},
}
_MODELS = """
from pydantic import BaseModel

class Ctx(BaseModel):
    tenant_slug: str
    entity_slug: str
    task_id: str
    audit_agent_id: str | None = None
    say: str = ""
"""
_HEAD = """
from ntro.workflow import NtroWorkflow, runbook, ui_step
from ntro.workflow.agents import invoke
from .models import Ctx

@runbook.defn
class {name}(NtroWorkflow):
"""
AUDIT = """
    @ui_step(name="ask", title="Ask the agent")
    async def _ask(self, ctx):
        result = await invoke(agent_id=ctx.audit_agent_id, input=ctx.say, tenant_slug=ctx.tenant_slug,
                              entity_slug=ctx.entity_slug, task_id=ctx.task_id)
        return {"text": result.output_text, "status": result.status}

    @runbook.run
    async def run(self, ctx: Ctx):
        return await self._ask(ctx)
"""
REVIEW = """
    @ui_step(name="look", title="Look")
    async def _look(self, ctx):
        return await self.wait_for_action(payload={"total": 3}, reason="Is it right?")

    @runbook.run
    async def run(self, ctx: Ctx):
        return await self._look(ctx)
"""
COLLECT = """
    def __init__(self):
        super().__init__()
        self.document = None

    @runbook.signal
    def submitted(self, document):
        self.document = document

    @ui_step(name="upload", title="Upload")
    async def _upload(self, ctx):
        args = {"source": "bank", "schema_slug": "s", "signal_task_id": runbook.info().workflow_id,
                "signal_name": "submitted"}
        await self.await_signal_with_action(
            predicate=lambda: self.document is not None,
            action={"kind": "submit_file", "reason": "The statement, please.", "args": args},
        )
        return self.document

    @runbook.run
    async def run(self, ctx: Ctx):
        return await self._upload(ctx)
"""
RUNBOOKS = {"audit": AUDIT, "review": REVIEW, "collect": COLLECT}


def bundle(slug: str) -> dict[str, str]:
    return {
        "runbook.md": f"---\nslug: {slug}\nname: {slug.title()}\nversion: 1.0.0\nstate: published\nauthor: us\n---\n",
        "templates/__init__.py": "",
        "templates/models.py": _MODELS,
        "templates/workflow.py": _HEAD.replace("{name}", f"{slug.title()}Workflow") + RUNBOOKS[slug],
    }


class Firm:
    """A server, seen by somebody with a key of it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        headers = {**server.headers, "content-type": "application/json"}
        self.http = httpx2.Client(base_url=server.base_url, headers=headers, timeout=SECONDS)

    def ask(self, method: str, path: str, **body: Any) -> Any:
        answer = self.http.request(method, path, json=body or None)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def key(self, *options: str) -> str:
        """A new key, made at the command line."""
        return self._keys("create", "some", *options).splitlines()[-1]

    def revoke(self, key: str) -> None:
        """At the command line, too: another process than the server's."""
        (line,) = [line for line in self._keys("list").splitlines() if key[-4:] in line]
        self._keys("revoke", line.split()[0])

    def _keys(self, *arguments: str) -> str:
        done = hostler("keys", *arguments, "--data-dir", self.server.data_dir)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class Office:
    """A tenant of its own, with an entity and the runbooks above."""

    def __init__(self, firm: Firm, slug: str) -> None:
        self.firm = firm
        self.slug = slug
        made = {"name": slug.title(), "slug": slug, "dataPlatform": "managed-postgres"}
        self.tenant = firm.ask("POST", "/v1/workspace/tenants", **made)
        self.entity = firm.ask("POST", f"/v1/workspace/tenants/{slug}/entities", name=f"E {slug}", slug=f"e-{slug}")
        self.workflows = {name: self._bound(name) for name in RUNBOOKS}

    def _bound(self, name: str) -> str:
        deploy = {"tenantSlug": self.slug, "version": "1.0.0", "workflowClass": f"{name.title()}Workflow"}
        self.firm.ask("POST", f"/v1/runbooks/{name}/deploy", **deploy, files=bundle(name))
        bound = {"runbookSlug": name, "entityId": self.entity["id"]}
        return str(self.firm.ask("POST", "/v1/workspace/registry/workflows", **bound)["id"])

    def start(self, name: str, **context: Any) -> str:
        asked = {"tenantId": self.slug, "workflowId": self.workflows[name], "context": context}
        return str(self.firm.ask("POST", "/v1/workspace/tasks", **asked)["id"])

    def agent(self, name: str, *, url: str | None = None) -> Agent:
        return Agent(self, name, url or f"{self.firm.server.base_url}/mcp")

    def until(self, task_id: str, *actions: str) -> dict[str, Any]:
        return awaited(
            lambda: self.firm.ask("GET", f"/v1/workspace/tasks/{task_id}/next-step"),
            lambda step: step["action"] in actions,
        )


class Agent:
    """An agent of this server whose MCP server is this server, with its key in a vault, registered for a tenant."""

    def __init__(self, office: Office, name: str, url: str) -> None:
        self.office = office
        ask = office.firm.ask
        self.environment = ask("POST", "/v1/environments", name=f"{office.slug}-{name}")["id"]
        self.vault = ask("POST", "/v1/vaults", display_name=name)["id"]
        toolset = {
            "type": "mcp_toolset",
            "mcp_server_name": "home",
            "default_config": {"permission_policy": {"type": "always_allow"}},
        }
        servers = [{"type": "url", "name": "home", "url": url}]
        made = {"name": name, "model": "claude-opus-5-5", "mcp_servers": servers, "tools": [toolset, HOLD]}
        self.native_id = ask("POST", "/v1/agents", **made)["id"]
        registered = ask(
            "POST",
            "/v1/workspace/registry/agents",
            tenantId=office.slug,
            kind="claude_managed",
            name=name,
            externalRef=f"anthropic://agents/{self.native_id}",
            environmentId=self.environment,
            vaultIds=[self.vault],
        )
        self.id, self.key = registered["id"], registered["apiKey"]
        auth = {"type": "static_bearer", "token": self.key, "mcp_server_url": url}
        ask("POST", f"/v1/vaults/{self.vault}/credentials", display_name="key", auth=auth)

    def called(self, say: str) -> str:
        """A new task that calls it."""
        return self.office.start("audit", audit_agent_id=self.id, say=say)

    def held(self, say: str = "hold") -> str:
        """A new task whose call of it waits, so that its key opens the task."""
        task_id = self.called(say)
        self.office.until(task_id, "review")
        return task_id

    def rotate(self) -> str:
        path = f"/v1/workspace/registry/agents/{self.id}/rotate-key"
        return str(self.office.firm.ask("POST", path)["apiKey"])

    def sessions(self) -> list[dict[str, Any]]:
        """Those of its calls, the newest first."""
        path = f"/v1/sessions?agent_id={self.native_id}"
        found: list[dict[str, Any]] = self.office.firm.ask("GET", path)["data"]
        return found

    def results(self, session_id: str) -> list[dict[str, Any]]:
        """What its MCP tools gave in a session."""
        events = self.office.firm.ask("GET", f"/v1/sessions/{session_id}/events")["data"]
        return [event for event in events if event["type"] == "agent.mcp_tool_result"]


def awaited(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + SECONDS
    while not good(found := ask()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


class Caller:
    """The official client with one key; each call connects anew unless it is within `talk`."""

    def __init__(self, base_url: str, key: str, *, mode: str = "auto", **headers: str) -> None:
        self.url = f"{base_url}/mcp"
        self.mode = mode
        self.headers = {
            "authorization": f"Bearer {key}",
            **{name.replace("_", "-"): it for name, it in headers.items()},
        }

    def call(self, name: str, /, **arguments: Any) -> Any:
        """The structured content of a result that is none of an error."""
        result = self.raw(name, **arguments)
        assert not result.is_error, result.content
        return result.structured_content

    def refused(self, name: str, /, **arguments: Any) -> str:
        """The text of a result that is an error."""
        result = self.raw(name, **arguments)
        assert result.is_error, result.structured_content
        return str(result.content[0].text)

    def raw(self, name: str, /, **arguments: Any) -> Any:
        return self.talk(lambda client: client.call_tool(name, arguments))

    def read(self, uri: str) -> Any:
        found = self.talk(lambda client: client.read_resource(uri))
        return json.loads(found.contents[0].text)

    def talk(self, work: Callable[[Client], Any]) -> Any:
        """What `work` gives or raises, less the groups that the client's scopes make of it."""
        raised: list[Exception] = []

        async def main() -> Any:
            async with (
                httpx2.AsyncClient(headers=self.headers, timeout=SECONDS, trust_env=False) as http,
                Client(streamable_http_client(self.url, http_client=http), mode=self.mode, cache=None) as client,
            ):
                try:
                    return await work(client)
                except Exception as problem:
                    raised.append(problem)

        found = asyncio.run(main())
        if raised:
            raise raised[0]
        return found
