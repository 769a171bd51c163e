"""MCP servers as processes of their own, and what they have noted down."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

HERE = Path(__file__).parent
SECONDS = 30.0


class Process:
    """One server. After a kill it can be started again, and has the same address then."""

    def __init__(self, folder: Path, *arguments: str, script: str = "real_server.py") -> None:
        self.ledger = folder / "ledger"
        self.port = 0
        self._script = HERE / script
        self._arguments = arguments
        self._log = folder / "mcp-server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{'sse' if 'sse' in self._arguments else 'mcp'}"

    def start(self) -> Process:
        command = [sys.executable, str(self._script), *self._arguments]
        command += ["--ledger", str(self.ledger), "--port", str(self.port)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        deadline = threading.Timer(SECONDS, self._process.kill)
        deadline.start()
        line = self._process.stdout.readline().split()
        deadline.cancel()
        assert line[:1] == [b"port"], self._log.read_text()
        self.port = int(line[1])
        return self

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(SECONDS)
            assert process.stdout is not None
            process.stdout.close()

    def noted(self) -> list[str]:
        """What it did, less the requests that it noted."""
        return [line for line in self._lines() if not line.startswith("http ")]

    def requests(self) -> list[str]:
        return [line for line in self._lines() if line.startswith("http ")]

    def until_noted(self, wanted: str) -> None:
        """Wait for another process to write a line."""
        end = time.monotonic() + SECONDS
        while wanted not in self.noted():
            assert time.monotonic() < end, (wanted, self.noted())
            time.sleep(0.01)

    def _lines(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def __enter__(self) -> Process:
        return self.start()

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.kill()


def calls(*rules: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    """A script: told one of these words, the model calls that tool with that input, and then says what it gave."""
    told = [
        {
            "when": {"user_text_equals": word},
            "turns": [{"tools": [{"name": name, "input": given}]}, {"text": "{{last_tool_result}}"}],
        }
        for word, name, given in rules
    ]
    return {
        "name": "mcp",
        "rules": [{"when": {"user_text_matches": "(?s)^say: (.*)"}, "turns": [{"text": "{{1}}"}]}, *told],
        "otherwise": {"text": "You said: {{last_user_text}}"},
    }
