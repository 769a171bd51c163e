"""What is measured of sandboxes in containers, beside the engine's own commands in the same run.

It runs where an engine is named: `BENCH_ENGINE=unix:///path python bench/run.py --only containers`; the image
(`BENCH_IMAGE`, else `hostler-sandbox`) must be there. `BENCH_CLI` is the engine's own command with its options.
"""

from __future__ import annotations

import asyncio
import os
import shlex

from hostler.sandbox.bubblewrap import DEFAULTS
from hostler.sandbox.contract import NO_NETWORK, Sandbox, SandboxSpec, Shell
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.ground import Settings
from hostler.sandbox.engine.http import Address
from rows import MS, Bench, Row, now, p


async def containers(bench: Bench) -> list[Row]:
    """Start to first output, warm commands, rest and resume."""
    engine, image = os.environ.get("BENCH_ENGINE", ""), os.environ.get("BENCH_IMAGE", "hostler-sandbox")
    if not engine:
        return []
    count = max(3, int(20 * bench.scale))
    cold, warm, resumed = [], [], []
    settings = Settings(address=Address.parse(engine), image=image)
    backend = EngineBackend(bench.folder / "containers", settings, limits=DEFAULTS)
    await backend.provision(SandboxSpec(key="first", network=NO_NETWORK))  # brings the programs
    await backend.destroy("first")
    for number in range(count):
        spec = SandboxSpec(key=f"box_{number}", network=NO_NETWORK)
        begin = now()
        sandbox = await backend.provision(spec)
        await _ran(sandbox, "first")
        cold.append((now() - begin) / MS)
        warm += [await _ran(sandbox, f"c{index}") for index in range(20)]
        await backend.hibernate(spec.key)
        begin = now()
        await _ran(await backend.provision(spec), "again")
        resumed.append((now() - begin) / MS)
        await backend.destroy(spec.key)
    await backend.aclose(stop=True)
    raw_run, raw_exec = await _raw(os.environ.get("BENCH_CLI", "podman"), image, count)
    return [
        Row(name="container: start -> first command done", unit="ms", value=p(cold, 0.5), p99=p(cold, 0.99),
            raw=p(raw_run, 0.5), note="raw: run bash -c true"),
        Row(name="container: warm command in its shell", unit="ms", value=p(warm, 0.5), p99=p(warm, 0.99),
            raw=p(raw_exec, 0.5), target=8, note="raw: exec bash -c true"),
        Row(name="container: resume after a rest -> first command done", unit="ms", value=p(resumed, 0.5),
            p99=p(resumed, 0.99)),
    ]  # fmt: skip


async def _ran(sandbox: Sandbox, call_id: str) -> float:
    begin = now()
    result = await sandbox.run(call_id, Shell(script="true"))
    spent = (now() - begin) / MS
    assert result.exit_code == 0, result
    await sandbox.acknowledge(call_id)
    return spent


async def _raw(command: str, image: str, count: int) -> tuple[list[float], list[float]]:
    limits = ["--network", "none", "--ulimit", "nofile=16384:16384", "--ulimit", "nproc=32768:32768"]
    name = f"hostler-bench-{os.getpid()}"
    run = [await _cli(command, "run", "--rm", *limits, image, "bash", "-c", "true") for _ in range(count)]
    await _cli(command, "run", "-d", "--name", name, *limits, image, "sleep", "600")
    try:
        execs = [await _cli(command, "exec", name, "bash", "-c", "true") for _ in range(count)]
    finally:
        await _cli(command, "rm", "-f", name)
    return run, execs


async def _cli(command: str, *words: str) -> float:
    begin = now()
    none = asyncio.subprocess.DEVNULL  # for stderr too: what podman leaves behind keeps it open
    process = await asyncio.create_subprocess_exec(*shlex.split(command), *words, stdin=none, stdout=none, stderr=none)
    assert await process.wait() == 0, words
    return (now() - begin) / MS


ROWS = [containers]
