"""The file tools, built once, and the double of a sandbox that runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from local_sandbox import LocalSandbox

NATIVE = Path(__file__).parents[3] / "src/hostler/sandbox/native"


@pytest.fixture(scope="session")
def tools_binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    built = tmp_path_factory.mktemp("native") / "tools"
    compiler = ["cc"] if shutil.which("cc") else [sys.executable, "-m", "ziglang", "cc"]
    flags = ["-static", "-O2", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*compiler, *flags, "-o", built, NATIVE / "tools.c"], check=True)
    return built


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    directory = tmp_path / "workspace"
    directory.mkdir()
    return directory


@pytest.fixture
def sandbox(tools_binary: Path, workspace: Path) -> LocalSandbox:
    return LocalSandbox(workspace, tools_binary)
