"""Backends for the tests of this folder, each with a directory of its own."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "src"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short-lived data folder that no other user can enter, as an operator's would be."""
    with tempfile.TemporaryDirectory(prefix="hostler-test-") as path:
        yield Path(path) / "sandboxes"


@pytest.fixture(scope="session")
def child_environment() -> dict[str, str]:
    """The environment of a process that stands in for a server."""
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**keep, "PYTHONPATH": os.pathsep.join([str(SOURCES), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
