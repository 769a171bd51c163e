"""One real server for a module of these tests, and the unmodified published client against it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from ntro.workspace import Client
from workspace_world import World

from commands.command import hostler
from running import Server

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("workspace") / "data") as started:
        yield started


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return Client(host=f"{server.base_url}/v1", api_key=server.key)


@pytest.fixture
def world(client: Client) -> World:
    return World(client, next(_numbers))


@pytest.fixture
def other(client: Client) -> World:
    """Another tenant."""
    return World(client, next(_numbers))


@pytest.fixture
def another(server: Server) -> Client:
    """Somebody with a key of their own."""
    made = hostler("keys", "create", "another", "--data-dir", server.data_dir)
    return Client(host=f"{server.base_url}/v1", api_key=made.stdout.strip())
