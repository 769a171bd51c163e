"""What is measured of sandboxes alone, without a server above them, each beside the bare tool in the same run.

It must not need a network: what goes through the proxy is in `proxy_rows`.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import statistics
from collections.abc import AsyncIterator
from pathlib import Path

from hostler.sandbox import machine
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, Exec, Network, Sandbox, SandboxSpec, Shell
from hostler.sandbox.rawnet import RawNetwork
from rows import MS, Bench, Row, now, p

BARE = ["--unshare-all", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
AT_ONCE = 8


@contextlib.asynccontextmanager
async def backend(bench: Bench, raw: RawNetwork | None = None) -> AsyncIterator[BubblewrapBackend]:
    folder = bench.folder / "boxes"
    made = BubblewrapBackend(folder, raw=raw)
    try:
        yield made
    finally:
        for entry in sorted(folder.glob("box_*")):
            await made.destroy(entry.name)
        await made.aclose(stop=True)
        shutil.rmtree(folder, ignore_errors=True)


async def bare(*command: str) -> float:
    """Milliseconds of one command in a sandbox of bubblewrap alone."""
    start = now()
    process = await asyncio.create_subprocess_exec(str(machine.bubblewrap()), *BARE, *command)
    await process.wait()
    return (now() - start) / MS


async def ran(sandbox: Sandbox, call_id: str, script: str = "true") -> float:
    start = now()
    result = await sandbox.run(call_id, Shell(script=script))
    spent = (now() - start) / MS
    assert result.exit_code == 0, result
    await sandbox.acknowledge(call_id)
    return spent


async def boxes(bench: Bench) -> list[Row]:
    """Start to first output, warm commands, and stop and resume of a sandbox with its files."""
    count = max(5, int(40 * bench.scale))
    cold, warm, programs, resumed, raw = [], [], [], [], []
    async with backend(bench) as made:
        for number in range(count):
            spec = SandboxSpec(key=f"box_{number}", network=NO_NETWORK)
            start = now()
            sandbox = await made.provision(spec)
            await ran(sandbox, "first")
            cold.append((now() - start) / MS)
            warm += [await ran(sandbox, f"c{index}") for index in range(10)]
            begin = now()
            await sandbox.run("program", Exec(argv=["/bin/true"]))
            programs.append((now() - begin) / MS)
            await made.hibernate(spec.key)
            start = now()
            await ran(await made.provision(spec), "again")
            resumed.append((now() - start) / MS)
            await made.destroy(spec.key)
            raw.append(await bare("bash", "-c", "true"))
    return [
        Row(name="sandbox: start -> first command done", unit="ms", value=p(cold, 0.5), p99=p(cold, 0.99),
            raw=p(raw, 0.5), target=60, note="raw: bwrap bash -c true"),
        Row(name="sandbox: warm command in its shell", unit="ms", value=p(warm, 0.5), p99=p(warm, 0.99),
            raw=p(raw, 0.5), target=8),
        Row(name="sandbox: a program of its own", unit="ms", value=p(programs, 0.5), p99=p(programs, 0.99),
            raw=p(raw, 0.5)),
        Row(name="sandbox: resume after a stop -> first command done", unit="ms", value=p(resumed, 0.5),
            p99=p(resumed, 0.99), target=60),
    ]  # fmt: skip


async def open_boxes(bench: Bench) -> list[Row]:
    """What an interface of its own adds to a start, the two kinds in turns, where this machine can give one."""
    count = max(5, int(40 * bench.scale))
    closed, opened = [], []
    async with backend(bench, RawNetwork()) as made:
        for number in range(2 * count):
            network, times = ((NO_NETWORK, closed), (Network(), opened))[number % 2]
            spec = SandboxSpec(key=f"box_{number}", network=network)
            start = now()
            await ran(await made.provision(spec), "first")
            times.append((now() - start) / MS)
            await made.destroy(spec.key)
    note = "raw: without a network" if RawNetwork().check().ok else "this machine gives no interface"
    return [
        Row(name="sandbox with raw TCP and UDP: start -> first command done", unit="ms", value=p(opened, 0.5),
            p99=p(opened, 0.99), raw=p(closed, 0.5), target=60, note=note),
    ]  # fmt: skip


async def live_boxes(bench: Bench) -> list[Row]:
    """A thousand sandboxes that live at once: what each costs, and whether commands in them stay quick."""
    count = max(20, int(1000 * bench.scale))
    bare_bytes = await _bare_memory(max(10, count // 20))
    async with backend(bench) as made:
        before, gate = _available(), asyncio.Semaphore(AT_ONCE)

        async def start(number: int) -> Sandbox:
            async with gate:
                sandbox = await made.provision(SandboxSpec(key=f"box_{number}", network=NO_NETWORK))
                await ran(sandbox, "first")
                return sandbox

        begin = now()
        live = await asyncio.gather(*(start(number) for number in range(count)))
        spent = (now() - begin) / MS
        each = (before - _available()) / count
        warm = [await ran(sandbox, "again") for sandbox in live]
    return [
        Row(name=f"{count} live sandboxes: memory of each, its bash included", unit="MiB", value=round(each / 2**20, 2),
            raw=round(bare_bytes / 2**20, 2), note="raw: bwrap bash, waiting"),
        Row(name=f"{count} live sandboxes: start of each, {AT_ONCE} at once", unit="ms", value=round(spent / count, 1)),
        Row(name=f"{count} live sandboxes: warm command in any", unit="ms", value=round(statistics.median(warm), 2),
            p99=p(warm, 0.99), target=8),
    ]  # fmt: skip


async def _bare_memory(count: int) -> float:
    before = _available()
    waiting = [
        await asyncio.create_subprocess_exec(
            str(machine.bubblewrap()), "--die-with-parent", *BARE, "bash", "-c", "echo; read",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(count)
    ]  # fmt: skip
    for process in waiting:
        assert process.stdout is not None
        await process.stdout.readline()
    each = (before - _available()) / count
    for process in waiting:
        process.kill()
        await process.wait()
    return each


def _available() -> int:
    """Bytes that the machine has free, or could have at once."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/meminfo does not say MemAvailable")


ROWS = [boxes, open_boxes, live_boxes]
