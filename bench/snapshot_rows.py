"""What is measured of snapshots: 50 MB of an agent's files into one and back, beside `tar | zstd` of the same files.

Half of them are random bytes, so they compress to a half, as a mix of sources and data would.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from hostler.sandbox.contract import NO_NETWORK, SandboxSpec
from rows import MS, Bench, Row, now, p
from sandbox_rows import backend, ran

FILES, FILE_BYTES = 500, 100_000
FILL = f"for n in $(seq {FILES}); do head -c {FILE_BYTES // 2} /dev/urandom; head -c {FILE_BYTES // 2} /dev/zero; done"


async def piped(script: str, folder: Path) -> float:
    """Milliseconds of a shell script."""
    start = now()
    process = await asyncio.create_subprocess_exec("sh", "-c", script, cwd=folder)
    assert await process.wait() == 0
    return (now() - start) / MS


async def snapshots(bench: Bench) -> list[Row]:
    """Write and restore, each time into nothing."""
    rounds = max(3, int(8 * bench.scale))
    written, restored, raw_written, raw_restored = [], [], [], []
    raw = shutil.which("zstd") is not None
    async with backend(bench) as made:
        spec = SandboxSpec(key="box_full", network=NO_NETWORK)
        await ran(await made.provision(spec), "fill", f"{FILL} | split -b {FILE_BYTES} - file")
        await made.hibernate(spec.key)
        files = bench.folder / "boxes" / spec.key / "files"
        for number in range(rounds):
            target, plain = bench.folder / f"snapshot{number}", bench.folder / f"plain{number}"
            start = now()
            snapshot = await made.snapshot(spec.key, target)
            written.append((now() - start) / MS)
            assert snapshot is not None
            start = now()
            await made.restore(f"box_{number}", target, snapshot)
            restored.append((now() - start) / MS)
            await made.destroy(f"box_{number}")
            if raw:
                plain.mkdir()
                raw_written.append(await piped(f"tar -cf - . | zstd -q -3 -o {plain}.tar.zst", files))
                raw_restored.append(await piped(f"zstd -q -dc {plain}.tar.zst | tar -xf -", plain))
                shutil.rmtree(plain)
                os.unlink(f"{plain}.tar.zst")
            target.unlink()
    size = f"{FILES * FILE_BYTES // 10**6} MB in {FILES} files"
    return [
        Row(name=f"snapshot of {size}, synced", unit="ms", value=p(written, 0.5), p99=p(written, 0.99), target=300,
            raw=p(raw_written, 0.5) if raw else None, note="raw: tar | zstd -3, not synced"),
        Row(name=f"restore of {size}", unit="ms", value=p(restored, 0.5), p99=p(restored, 0.99), target=500,
            raw=p(raw_restored, 0.5) if raw else None, note="raw: zstd -d | tar -x"),
    ]  # fmt: skip


ROWS = [snapshots]
