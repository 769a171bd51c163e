"""Data planes for the tests of this tier."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.runbooks.dataplane.plane import DataPlane
from tenantdata import Adapter, Planes


@pytest.fixture(params=["sqlite", "postgresql"])
def planes(request: pytest.FixtureRequest, tmp_path: Path) -> Planes:
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else None
    return Planes(tmp_path / "data-plane", url)


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    """Runs the steps of one test on one loop: connections belong to it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def plane(planes: Planes, loop: asyncio.Runner) -> Iterator[DataPlane]:
    opened = loop.run(planes.open())
    yield opened
    loop.run(opened.aclose())


@pytest.fixture
def db(plane: DataPlane) -> Adapter:
    return Adapter(plane, "byng")
