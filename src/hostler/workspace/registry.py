"""Routes of registered agents, of workflows and of capabilities."""

from __future__ import annotations

from typing import Any

from hostler.runbooks.registry.agents import RegisteredAgents
from hostler.runbooks.registry.connections import Connections
from hostler.runbooks.registry.workflows import Workflows
from hostler.wire.workspace import (
    Agent,
    AgentCreate,
    AgentUpdate,
    CapabilityCreate,
    VersionCreate,
    WorkflowCreate,
    WorkflowUpdate,
)
from hostler.workspace.call import Call
from hostler.workspace.gate import Route

_AGENT = "/v1/workspace/registry/agents/{agent}"
_WORKFLOW = "/v1/workspace/registry/workflows/{workflow}"


def routes(agents: RegisteredAgents, workflows: Workflows, connections: Connections) -> list[Route]:
    async def add_capability(call: Call) -> Any:
        call.caller.must_be_wide("Registering a capability")
        return await connections.add_capability(await call.body(CapabilityCreate))

    return [
        *_of_agents(agents),
        *_of_workflows(workflows),
        Route("POST", "/v1/workspace/registry/capabilities", add_capability, 201),
    ]


def _of_agents(agents: RegisteredAgents) -> list[Route]:
    async def create(call: Call) -> Any:
        return _placed(call, await agents.create(await call.body(AgentCreate), call.scope))

    async def index(call: Call) -> Any:
        tenant = call.query("tenantId")["tenantId"]
        return [_placed(call, each) for each in await agents.all(tenant, call.scope)]

    async def retrieve(call: Call) -> Any:
        call.query()
        return _placed(call, await agents.get(call.params["agent"], call.scope))

    async def update(call: Call) -> Any:
        params = await call.body(AgentUpdate)
        return _placed(call, await agents.update(call.params["agent"], params, call.scope))

    async def delete(call: Call) -> Any:
        await agents.delete(call.params["agent"], call.scope)

    async def rotate_key(call: Call) -> Any:
        return _placed(call, await agents.rotate_key(call.params["agent"], call.scope))

    async def test(call: Call) -> Any:
        return await agents.test(call.params["agent"], call.scope)

    async def add_version(call: Call) -> Any:
        return await agents.add_version(call.params["agent"], await call.body(VersionCreate), call.scope)

    return [
        Route("POST", "/v1/workspace/registry/agents", create, 201),
        Route("GET", "/v1/workspace/registry/agents", index),
        Route("GET", _AGENT, retrieve),
        Route("PATCH", _AGENT, update),
        Route("DELETE", _AGENT, delete),
        Route("POST", f"{_AGENT}/rotate-key", rotate_key),
        Route("POST", f"{_AGENT}/test", test),
        Route("POST", f"{_AGENT}/versions", add_version, 201),
    ]


def _of_workflows(workflows: Workflows) -> list[Route]:
    async def create(call: Call) -> Any:
        return await workflows.create(await call.body(WorkflowCreate), call.scope)

    async def index(call: Call) -> Any:
        call.query()
        return await workflows.all(call.scope)

    async def retrieve(call: Call) -> Any:
        call.query()
        return await workflows.get(call.params["workflow"], call.scope)

    async def update(call: Call) -> Any:
        return await workflows.update(call.params["workflow"], await call.body(WorkflowUpdate), call.scope)

    async def delete(call: Call) -> Any:
        await workflows.delete(call.params["workflow"], call.scope)

    return [
        Route("POST", "/v1/workspace/registry/workflows", create, 201),
        Route("GET", "/v1/workspace/registry/workflows", index),
        Route("GET", _WORKFLOW, retrieve),
        Route("PATCH", _WORKFLOW, update),
        Route("DELETE", _WORKFLOW, delete),
    ]


def _placed(call: Call, agent: Agent) -> Agent:
    """With the address that it calls back."""
    agent.mcp_url = f"{call.base_url}/mcp"
    return agent
