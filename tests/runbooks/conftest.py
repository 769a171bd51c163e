"""One server for each test module, with a scripted model and a tenant whose runbooks call agents on it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from calling import SCRIPT, Caller

from running import Server
from workspaces import Workspace


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = "[harness]\nretry_base = 0.01\nretry_limit = 0.02\nmodel_attempts = 2\noutput_bytes = 5_000_000\n"
    config += '[models.price."scripted"]\ninput = 0\noutput = 1000\n[runbooks]\ndocument_mb = 1\n'
    with Server(tmp_path_factory.mktemp("runbooks") / "data", config=config, scripted=SCRIPT) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=30) as made:
        yield made


@pytest.fixture(scope="module")
def workspace(client: httpx2.Client) -> Workspace:
    return Workspace(client, "byng")


@pytest.fixture(scope="module")
def caller(workspace: Workspace) -> Caller:
    return Caller(workspace)
