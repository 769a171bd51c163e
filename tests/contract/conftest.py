"""One server process for the whole tier, and a world for each flavour of client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from anthropic import AsyncAnthropic

pytest.register_assert_rewrite("contract.world", "contract.scenarios", "contract.teams")

from contract.world import CONFIG, DEADLINE, SCRIPT, Blocking, Loop, World, sync_world  # noqa: E402
from githost import GitHost  # noqa: E402
from running import Server  # noqa: E402


@pytest.fixture(scope="session")
def git_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitHost]:
    """A host of repositories that the server allows."""
    with GitHost(tmp_path_factory.mktemp("git")) as host:
        yield host


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, git_host: GitHost) -> Iterator[Server]:
    config = CONFIG + git_host.config
    with Server(tmp_path_factory.mktemp("contract") / "data", config=config, scripted=SCRIPT, preload=False) as server:
        yield server


@pytest.fixture(scope="session")
def world(server: Server) -> Iterator[World]:
    """The sync SDK."""
    with sync_world(server) as world:
        yield world


@pytest.fixture(scope="session")
def async_world(server: Server, world: World) -> Iterator[World]:
    """The async SDK, used from sync tests."""
    loop = Loop()
    sdk = AsyncAnthropic(
        base_url=server.base_url, auth_token=server.key, timeout=DEADLINE, _strict_response_validation=True
    )
    yield World(server, Blocking(sdk, loop.run), world.http)
    loop.run(sdk.close())
    loop.close()


@pytest.fixture(params=["sync", "async"])
def either(request: pytest.FixtureRequest) -> World:
    """Both flavours, one after the other."""
    found: World = request.getfixturevalue("world" if request.param == "sync" else "async_world")
    return found
