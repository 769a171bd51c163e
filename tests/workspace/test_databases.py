"""The stories of the other modules on PostgreSQL: the same statements have to say the same there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import test_published_client
import test_refusals
import test_workspace_tasks
from ntro.workspace import Client
from workspace_world import World

from databases import Databases
from running import Server

STORIES: list[Callable[..., None]] = [
    test_published_client.test_tenants,
    test_published_client.test_entities,
    test_published_client.test_agents,
    test_published_client.test_workflows,
    test_published_client.test_capabilities,
    test_published_client.test_integrations,
    test_published_client.test_runbooks,
    test_published_client.test_a_tenant_that_ends,
    test_workspace_tasks.test_from_start_to_end,
    test_workspace_tasks.test_the_gate_of_a_task_below,
    test_workspace_tasks.test_a_start_sent_again_is_one_task,
    test_workspace_tasks.test_a_gate_can_be_named,
    test_workspace_tasks.test_a_file_for_a_gate,
    test_workspace_tasks.test_cancelled,
    test_refusals.test_places_and_methods,
    test_refusals.test_what_comes_at_once_is_made_once,
]


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("postgres")
    with Server(folder / "data", database=Databases(folder, postgres_url).url("workspace")) as server:
        yield server


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_on_postgresql(story: Callable[..., None], on_postgres: Server, tmp_path: Path) -> None:
    client = Client(host=f"{on_postgres.base_url}/v1", api_key=on_postgres.key)
    wanted = inspect.signature(story).parameters
    given: dict[str, Any] = {"server": on_postgres, "client": client}
    if "world" in wanted:
        given["world"] = World(client, 100 + STORIES.index(story))
    if "http" in wanted:
        with test_refusals.connected(on_postgres) as http:
            story(**{name: {**given, "http": http}[name] for name in wanted})
        return
    story(**{name: given[name] for name in wanted})
