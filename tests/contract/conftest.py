"""One server process for the whole tier, and a world for each flavour of client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from anthropic import Anthropic, AsyncAnthropic

from contract.world import DEADLINE, Blocking, Loop, World
from running import Server

CONFIG = """
[harness]
model_attempts = 3

[models.model."test-small"]
max_input_tokens = 10000
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("contract") / "data"
    with Server(folder, config=CONFIG, scripted=Path(__file__).with_name("script.json")) as server:
        yield server


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.base_url, headers=server.headers, timeout=DEADLINE) as client:
        yield client


@pytest.fixture(scope="session")
def world(server: Server, http: httpx2.Client) -> Iterator[World]:
    """The sync SDK."""
    with Anthropic(
        base_url=server.base_url, api_key=server.key, timeout=DEADLINE, _strict_response_validation=True
    ) as sdk:
        yield World(server, sdk, http)


@pytest.fixture(scope="session")
def async_world(server: Server, http: httpx2.Client) -> Iterator[World]:
    """The async SDK, used from sync tests."""
    loop = Loop()
    sdk = AsyncAnthropic(
        base_url=server.base_url, auth_token=server.key, timeout=DEADLINE, _strict_response_validation=True
    )
    yield World(server, Blocking(sdk, loop.run), http)
    loop.run(sdk.close())
    loop.close()


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest) -> World:
    """Both flavours, one after the other."""
    found: World = request.getfixturevalue("world" if request.param == "sync" else "async_world")
    return found
