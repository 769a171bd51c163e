"""One server with a scripted model, as the one that agents live on, for all of these tests in a process."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from attempting import Activities, new_database
from calling import SCRIPT

from running import Server
from workspaces import Workspace

ASKS = {"type": "agent_toolset_20260401", "default_config": {"permission_policy": {"type": "always_ask"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("temporal") / "data", scripted=SCRIPT) as running:
        yield running


@pytest.fixture(scope="module")
def activities(server: Server, postgres_url: str) -> Iterator[Activities]:
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as client:
        yield Activities(server, Workspace(client, "byng"), new_database(postgres_url))


@pytest.fixture(scope="module")
def agent(activities: Activities) -> str:
    workspace = activities.workspace
    return str(workspace.register(workspace.agent(), "plain")["id"])


@pytest.fixture(scope="module")
def asker(activities: Activities) -> str:
    """It asks a person before it uses a tool."""
    workspace = activities.workspace
    return str(workspace.register(workspace.agent("asker", tools=[ASKS]), "asker")["id"])
