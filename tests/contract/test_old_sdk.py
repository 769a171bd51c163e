"""The 0.12x generation of the official SDK, in an interpreter of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from contract.old_sdk import SCENARIOS
from running import Server

ROOT = Path(__file__).resolve().parent.parent.parent
VARIABLE = "HOSTLER_OLD_SDK_PYTHON"
VERSION = "0.125.0"


@pytest.fixture(scope="session")
def old_python() -> str:
    """The interpreter with the old SDK; one is made where nobody has, but never in CI, where it must be set up."""
    named = os.environ.get(VARIABLE)
    if named:
        return named
    if os.environ.get("CI") == "true":
        pytest.fail(f"{VARIABLE} is not set: it must name a Python with anthropic=={VERSION}; scripts/test sets it")
    made = subprocess.run(
        ["scripts/venv", ".venv-sdk0", "tests/contract/sdk-0.lock"], cwd=ROOT, capture_output=True, text=True
    )
    if made.returncode:
        pytest.fail(f"no Python with anthropic=={VERSION}: set {VARIABLE}, or mend this:\n{made.stdout}{made.stderr}")
    return str(ROOT / ".venv-sdk0" / "bin" / "python")


@pytest.fixture(scope="session")
def outcomes(server: Server, old_python: str) -> dict[str, dict[str, Any]]:
    """What each scenario came to; all of them are run once."""
    script = Path(__file__).with_name("old_sdk.py")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANTHROPIC_", "PYTHON"))}
    played = subprocess.run(
        [old_python, "-W", "ignore", str(script), server.base_url, server.key],
        capture_output=True,
        text=True,
        timeout=120,
        env=kept,
    )
    lines = [json.loads(line) for line in played.stdout.splitlines()]
    assert lines, f"{old_python} said nothing:\n{played.stderr}"
    return {line["name"]: line for line in lines}


def test_it_is_the_old_generation(outcomes: dict[str, dict[str, Any]]) -> None:
    assert outcomes["sdk"]["version"] == VERSION


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    assert name in outcomes, f"it hung, or one before it; played were {list(outcomes)}"
    if outcomes[name]["error"]:
        pytest.fail(outcomes[name]["error"])
