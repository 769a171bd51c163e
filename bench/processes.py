"""Starts and ends what is measured: the server, the mock model, a bare ASGI server. It must not measure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from client import Connection

HERE = Path(__file__).parent
KEY = "bench-key"


class Mock:
    """The mock model in its own process."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "mock_model.py")]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        self._link = Connection(self.url, "none")

    async def first_token(self) -> float:
        """Milliseconds to the first token when the model is called directly."""
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hello"}]}).encode()
        reader, writer = await self._link._open()
        start = time.monotonic_ns()
        head = f"POST /v1/messages HTTP/1.1\r\nhost: mock\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        await reader.readuntil(b"text_delta")
        spent = (time.monotonic_ns() - start) / 1e6
        await reader.readuntil(b"message_stop")
        await reader.readuntil(b"0\r\n\r\n")
        return spent

    def close(self) -> None:
        self._link.close()
        self._process.kill()
        self._process.wait()


class Hostler:
    """The server in its own process, on one data folder and port."""

    def __init__(self, folder: Path, model_url: str, port: int) -> None:
        self._folder = folder
        self._port = port
        self.url = f"http://127.0.0.1:{port}"
        self._environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("ANTHROPIC_", "HOSTLER_", "PYTHONDONT"))},
            "PYTHONPYCACHEPREFIX": str(folder / "pycache"),  # as an installed package has it
            "PYTHONPATH": str(HERE.parent / "src"),
            "HOSTLER_API_KEY": KEY,
            "HOSTLER_MODEL_API_KEY": "none",
            "HOSTLER_MODEL_BASE_URL": model_url,
        }
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        log = (self._folder / "serve.log").open("ab")
        command = [sys.executable, "-m", "hostler.cli", "serve", "--port", str(self._port), "--data-dir"]
        command += [str(self._folder / "data")]
        if (config := self._folder / "hostler.toml").exists():
            command += ["--config", str(config)]
        self._process = await asyncio.to_thread(subprocess.Popen, command, env=self._environ, stdout=log, stderr=log)
        while True:
            link = self.connect()
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                status, _ = await link.raw("GET", "/healthz")
                link.close()
                if status == 200:
                    return
            if self._process.poll() is not None:
                raise RuntimeError(f"the server ended: {(self._folder / 'serve.log').read_text()[-2000:]}")
            await asyncio.sleep(0.005)

    def connect(self) -> Connection:
        return Connection(self.url, KEY)

    async def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self._process.wait, 15)

    async def end(self) -> None:
        """Stop for good: no sandbox is left behind."""
        from hostler.sandbox.backends import SandboxConfig, open_backend

        await self.stop()
        backend = open_backend(self._folder / "data" / "sandboxes", SandboxConfig(), os.environ)
        await backend.reap(set())
        await backend.aclose(stop=True)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def memory(self) -> int:
        """Resident bytes."""
        assert self._process is not None
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self) -> float:
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def count_entries(self, session: str) -> int:
        with contextlib.closing(sqlite3.connect(self._folder / "data" / "hostler.db")) as database:
            return int(database.execute("SELECT count(*) FROM entries WHERE session_id = ?", (session,)).fetchone()[0])

    async def progress(self, session: str, before: int) -> None:
        """Wait until a session's log has grown, by looking: there is nobody to tell us, the server has just started."""
        while await self.count_entries(session) <= before:  # noqa: ASYNC110
            await asyncio.sleep(0.005)

    async def fill(self, folder: Path, session: str, count: int) -> None:
        """Write a long log straight into the database: making it by turns would take minutes."""
        with contextlib.closing(sqlite3.connect(folder / "data" / "hostler.db", timeout=10)) as database:
            thread, last = database.execute(
                "SELECT thread_id, last_at FROM sessions WHERE id = ?", (session,)
            ).fetchone()
            rows = []
            for i in range(count):
                body = json.dumps(
                    {"id": f"sevt_{i:08}", "type": "agent.message", "content": [{"type": "text", "text": "x" * 200}]}
                )
                kind = "agent.message"
                rows.append((session, 10 + i, last + 1 + i, f"sevt_{i:08}", thread, kind, 0, None, body.encode()))
            database.executemany("INSERT INTO entries VALUES (?,?,?,?,?,?,?,?,?)", rows)
            database.execute(
                "UPDATE sessions SET next_seq = ?, last_at = ? WHERE id = ?", (10 + count, last + 1 + count, session)
            )
            database.commit()

    async def sandbox_baseline(self, folder: Path) -> float:
        """Milliseconds of `true` run on a sandbox with nothing above it."""
        from hostler.sandbox.backends import SandboxConfig, open_backend
        from hostler.sandbox.contract import SandboxSpec, Shell

        backend = open_backend(folder / "baseline", SandboxConfig(), os.environ)
        sandbox = await backend.provision(SandboxSpec(key="baseline"))
        spent = []
        for number in range(100):
            start = time.monotonic_ns()
            await sandbox.run(f"c{number}", Shell(script="true"))
            spent.append((time.monotonic_ns() - start) / 1e6)
            await sandbox.acknowledge(f"c{number}")
        await backend.destroy("baseline")
        await backend.aclose(stop=True)
        return round(sorted(spent)[50], 3)


@contextlib.asynccontextmanager
async def bare_asgi() -> AsyncIterator[Connection]:
    """The same HTTP server with an application that does nothing, for what HTTP itself costs."""
    program = (
        "import socket,uvicorn\n"
        "async def app(s,r,w):\n"
        "  await r()\n"
        "  await w({'type':'http.response.start','status':200,'headers':[(b'content-length',b'2')]})\n"
        "  await w({'type':'http.response.body','body':b'{}'})\n"
        "l=socket.socket(); l.bind(('127.0.0.1',0)); l.listen(128); print(l.getsockname()[1],flush=True)\n"
        "uvicorn.Server(uvicorn.Config(app,log_config=None,lifespan='off')).run(sockets=[l])\n"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = (await process.stdout.readline()).decode().strip()
        yield Connection(f"http://127.0.0.1:{port}", "none")
    finally:
        process.kill()
        await process.wait()
