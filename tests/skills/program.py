"""Runs the programs of the pre-built skills as an agent would: from another folder, by their path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hostler.skills import requirements

PROGRAMS = {"docx": "word.py", "xlsx": "sheet.py", "pptx": "slides.py", "pdf": "pdf.py"}


class Program:
    """The program of one skill, in a folder of its own."""

    def __init__(self, skill_id: str, folder: Path) -> None:
        self.path = requirements.FOLDER / skill_id / "scripts" / PROGRAMS[skill_id]
        self.folder = folder

    def run(self, *words: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error::SyntaxWarning", str(self.path), *map(str, words)]
        quiet = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            command, env=quiet, input=stdin, capture_output=True, text=True, cwd=self.folder, timeout=120, check=False
        )

    def __call__(self, *words: object, stdin: str = "") -> str:
        """What it prints when all goes well."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def json(self, *words: object, stdin: str = "") -> Any:
        return json.loads(self(*words, stdin=stdin))

    def refusal(self, *words: object, stdin: str = "") -> str:
        """The one line with which it refuses."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 2, done.stdout + done.stderr
        (line,) = done.stderr.strip().splitlines()[-1:]
        assert "Traceback" not in done.stderr
        return line

    def problems(self, *words: object) -> list[str]:
        """What its check finds."""
        done = self.run("check", *words)
        answer = json.loads(done.stdout)
        assert done.returncode == (0 if answer["ok"] else 1), done.stderr
        assert answer["ok"] == (answer["problems"] == [])
        found: list[str] = answer["problems"]
        return found

    def write(self, name: str, content: str | dict[str, Any] | list[Any]) -> Path:
        path = self.folder / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path
