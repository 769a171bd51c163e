"""What is committed names no machine and no package registry, and agrees with itself on the version."""

from __future__ import annotations

import re
import subprocess
import tomllib

from house_modules import ROOT

import hostler

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOMES = re.compile(r"/(?:home|Users)/(?!agent\b)[a-z]\w*|/root/|[A-Z]:\\Users")
REGISTRIES = re.compile(
    r"https?://[^\s\"'<>]*(?:pypi|pythonhosted|npmjs|registry|artifact|simple/)|--(?:extra-)?index-url|find-links"
)
LOCKS = (
    "requirements.lock", "requirements-dev.lock", "tests/contract/sdk-0.lock", "tests/workspace/ntro-cli.lock",
    "tests/workspace/ntro-mcp.lock", "deploy/temporal-worker/temporal.lock", "scripts/pip.lock",
)  # fmt: skip


def tracked() -> dict[str, str]:
    """Every committed text file, this one left out."""
    names = [name for name in listed() if not name.endswith("test_repository.py")]
    return {name: (ROOT / name).read_text(errors="ignore") for name in names if (ROOT / name).is_file()}


def listed() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return list(filter(None, done.stdout.split("\0")))
    # An export without its history: the folders that hold what is committed.
    folders = ("src", "tests", "docs", "scripts", "bench", "agents", ".ci")
    found = [*ROOT.glob("*.*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return [str(path.relative_to(ROOT)) for path in found if "__pycache__" not in path.parts and path.suffix != ".so"]


def test_no_machine_paths_and_no_registries() -> None:
    found = []
    for name, text in tracked().items():
        for number, line in enumerate(text.splitlines(), 1):
            if HOMES.search(line) or REGISTRIES.search(line):
                found.append(f"{name}:{number}: {line.strip()[:120]}")
    assert found == []


def test_every_locked_package_has_hashes() -> None:
    for name in LOCKS:
        pins = re.split(r"\n(?=\S)", (ROOT / name).read_text().strip())
        assert pins, name
        assert [pin for pin in pins if not re.match(r"[\w.-]+(\[[\w,]+\])?==\S+.*\n +--hash=sha256:", pin)] == [], name


def test_locks_hold_what_the_project_asks_for() -> None:
    runtime, dev = ((ROOT / name).read_text() for name in LOCKS[:2])
    asked = [re.split(r"[><=;\[ ]", item)[0] for item in PROJECT["project"]["dependencies"]]
    assert [name for name in asked if not re.search(rf"^{name}==", runtime, re.MULTILINE)] == []
    tools = [item.replace(" ", "") for item in PROJECT["dependency-groups"]["dev"]]
    assert [pin for pin in tools if not re.search(rf"^{pin}\s", dev, re.MULTILINE)] == []
    pins = [line.split(" \\")[0] for line in runtime.splitlines() if "==" in line]
    assert [pin for pin in pins if pin not in dev] == [], "the two locks differ: run scripts/lock"


def test_one_version() -> None:
    assert PROJECT["project"]["version"] == hostler.__version__
