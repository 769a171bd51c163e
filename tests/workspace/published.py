"""The published programs, unmodified, each from a virtual environment of its own: `ntro` and `ntro-mcp`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


def program(variable: str, folder: str, lock: str, name: str) -> str:
    """The program; its environment is made where nobody has, but never in CI, where it must be set up."""
    if named := os.environ.get(variable):
        return named
    if os.environ.get("CI") == "true":
        pytest.fail(f"{variable} is not set: it must name the published {name}; scripts/test sets it")
    made = subprocess.run(["scripts/venv", folder, lock], cwd=ROOT, capture_output=True, text=True)
    if made.returncode:
        pytest.fail(f"no {name}: set {variable}, or mend this:\n{made.stdout}{made.stderr}")
    return str(ROOT / folder / "bin" / name)


def clean(home: Path, **more: str) -> dict[str, str]:
    """An environment without anybody's settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NTRO_", "PYTHON", "HOSTLER_"))}
    return {**kept, "NTRO_HOME": str(home), "HOME": str(home), "COLUMNS": "250", "PYTHONWARNINGS": "ignore", **more}


class Cli:
    """`ntro`, with a configuration of its own."""

    def __init__(self, path: str, home: Path) -> None:
        self._path = path
        self.home = home

    def __call__(self, *arguments: str, status: int = 0, **more: str) -> str:
        """Run a command; what it wrote. Fails where it ends with another status."""
        done = subprocess.run(
            [self._path, *arguments], capture_output=True, text=True, timeout=120, env=clean(self.home, **more),
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == status, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout if status == 0 else done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self("-o", "json", *arguments))


class Mcp:
    """`ntro-mcp` over its stdin and stdout, spoken to in plain JSON-RPC."""

    def __init__(self, path: str, home: Path, host: str, key: str) -> None:
        self._log = (home / "mcp.log").open("w")
        self._process = subprocess.Popen(
            [path, "--transport", "stdio", "--ntro-host", host, "--ntro-api-key", key],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True,
            env=clean(home),
        )  # fmt: skip
        self._number = 0

    def __enter__(self) -> Mcp:
        capabilities: dict[str, Any] = {}
        who = {"name": "test", "version": "1"}
        asked = {"protocolVersion": "2025-06-18", "capabilities": capabilities, "clientInfo": who}
        assert self.ask("initialize", asked)["serverInfo"]["name"] == "ntro"
        self._send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        with self._log, self._pipe(self._process.stdin), self._pipe(self._process.stdout):
            self._process.terminate()
            self._process.wait(20)

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        self._number += 1
        self._send({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params or {}})
        while True:
            line = self._pipe(self._process.stdout).readline()
            assert line, "it ended"
            said = json.loads(line)
            if said.get("id") == self._number:
                assert "error" not in said, said
                result: dict[str, Any] = said["result"]
                return result

    def tool(self, name: str, /, **arguments: Any) -> dict[str, Any]:
        """A tool's result; its `isError` tells whether it went wrong."""
        return self.ask("tools/call", {"name": name, "arguments": arguments})

    def ok(self, name: str, /, **arguments: Any) -> Any:
        result = self.tool(name, **arguments)
        assert not result.get("isError"), result
        return json.loads(result["content"][0]["text"])

    def read(self, uri: str) -> Any:
        return json.loads(self.ask("resources/read", {"uri": uri})["contents"][0]["text"])

    def _send(self, message: dict[str, Any]) -> None:
        pipe = self._pipe(self._process.stdin)
        pipe.write(json.dumps(message) + "\n")
        pipe.flush()

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe
