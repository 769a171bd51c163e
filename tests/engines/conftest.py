"""Container engines of the tests' own, one of each kind in a test process, and backends on them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engines import daemons
from hostler.sandbox.contract import Limits
from hostler.sandbox.edge.egress import EgressProxy
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.ground import Settings
from hostler.sandbox.engine.http import Address

KINDS = [kind for kind in ("docker", "podman") if daemons.available(kind)]
LIMITS = Limits(memory_bytes=1 << 30, processes=512, file_bytes=4 << 30, disk_bytes=None)

MakeBackend = Callable[..., EngineBackend]


@pytest.fixture(scope="session", params=KINDS)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a running engine that has the test image."""
    with tempfile.TemporaryDirectory(prefix="he-") as path, daemons.running(request.param, Path(path) / "e") as address:
        yield address


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hostler-test-") as path:
        yield Path(path) / "sandboxes"


@pytest.fixture
def make_backend(engine: str, folder: Path) -> MakeBackend:
    """A new backend on the same folder each time, as a new server process would have it."""

    def make(proxy: EgressProxy | None = None, where: Path = folder) -> EngineBackend:
        settings = Settings(address=Address.parse(engine), image=daemons.IMAGE)
        return EngineBackend(where, settings, limits=LIMITS, egress=proxy.serve if proxy else None)

    return make
