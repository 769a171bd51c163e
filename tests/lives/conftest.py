"""Servers for the tests of what outlives a turn; each test that changes the settings starts its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from databases import Databases
from failures.client import Api
from running import Server

CONFIG = "[harness]\ncheckpoint_seconds = 0.2\nretry_base = 0.02\n"


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("lives")
    database = None
    if request.param == "postgresql":
        database = Databases(folder, request.getfixturevalue("postgres_url")).url("lives")
    with Server(folder / "data", config=CONFIG, database=database, preload=False) as server:
        yield server


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    with Api(server) as api:
        yield api


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server of the test's own, with the arguments of `Server`; it ends with the test."""
    started: list[Server] = []

    def start(name: str = "data", **options: Any) -> Server:
        server = Server(tmp_path / name, **{"config": CONFIG, **options})
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.close()
