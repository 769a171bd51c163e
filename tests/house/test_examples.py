"""What the README and the quickstart tell a newcomer to run does run: against a real server, in a real sandbox."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import docx
import pytest
from house_modules import ROOT

KEY = "sk-house-test"


def clean() -> dict[str, str]:
    """The environment, without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HOSTLER_", "ANTHROPIC_"))}
    return {**kept, "HOSTLER_SCRIPTED": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base URL of `hostler serve` with the built-in script as its model."""
    folder = tmp_path_factory.mktemp("server")
    command = [sys.executable, "-m", "hostler.cli", "serve", "--port", "0", "--data-dir", str(folder)]
    log = (folder / "log").open("w+")
    with subprocess.Popen(
        command, env={**clean(), "HOSTLER_API_KEY": KEY}, stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        yield first.split()[-1]
        process.terminate()
        process.stdout.read()
        assert process.wait(15) == 0, (folder / "log").read_text()
    log.close()


def run_page(page: Path, server: str, folder: Path) -> str:
    """Run all Python of a page as one program, as a reader would who pastes it block by block."""
    program = "\n".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    environment = {**clean(), "ANTHROPIC_BASE_URL": server, "ANTHROPIC_API_KEY": KEY}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_example(server: str, tmp_path: Path) -> None:
    example = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert [len(part.splitlines()) <= most for part, most in zip(example, (16, 20, 12), strict=True)] == [True] * 3
    lines = run_page(ROOT / "README.md", server, tmp_path).splitlines()
    assert "agent.tool_result Hello from /workspace" in lines
    assert lines[-1] == "session.status_idle"


def test_the_quickstart(server: str, tmp_path: Path) -> None:
    said = run_page(ROOT / "docs" / "quickstart.md", server, tmp_path)
    assert "saved report.md" in said
    assert "3 rows" in (tmp_path / "report.md").read_text()
    assert said.count("report.md") > 2  # the last turn lists the outputs


def test_the_demo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py")],
        env={**clean(), "DEMO_KEEP_SECONDS": "0"}, cwd=tmp_path, capture_output=True, text=True, timeout=170,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = tmp_path.glob("demo-data/*/report.md")
    assert report.read_text() in done.stdout
    assert "By region" in report.read_text()
    (document,) = tmp_path.glob("demo-data/*/audit-handover-2026-03.docx")
    headings = [each.text for each in docx.Document(str(document)).paragraphs if each.style.name == "Heading 1"]
    assert len([each for each in headings if re.match(r"[1-8]\.? ", each)]) == 8
    assert "/console/tasks/" in done.stdout
    assert "/console/sessions/" in done.stdout


def test_the_demo_fails_with_a_clear_message(tmp_path: Path) -> None:
    """The server is replaced by one that can't start."""
    broken = tmp_path / "site" / "hostler"
    broken.mkdir(parents=True)
    (broken / "__init__.py").touch()
    (broken / "cli.py").write_text("raise SystemExit('no')")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py")],
        env={**clean(), "PYTHONPATH": str(tmp_path / "site")}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "The demo failed: the server did not start." in done.stderr
    assert "server.log" in done.stderr
