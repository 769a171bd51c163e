"""Outputs are read in threads, which go on when nobody waits any more."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hostler.sandbox import live
from hostler.sandbox.live import BubblewrapSandbox


def test_a_read_that_was_given_up_takes_nothing_of_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "out.txt").write_bytes(b"output")
    (tmp_path / "secret").write_bytes(b"secret")
    begun, go_on, over = threading.Event(), threading.Event(), threading.Event()
    got: list[bytes | Exception] = []
    read = live._read

    def late(file: Any) -> bytes:
        begun.set()
        go_on.wait(30)
        try:
            got.append(read(file))
        except ValueError as closed:
            got.append(closed)
        over.set()
        return b""

    monkeypatch.setattr(live, "_read", late)

    async def main() -> None:
        sandbox: Any = SimpleNamespace(layout=SimpleNamespace(outputs=tmp_path / "outputs"))
        chunks = BubblewrapSandbox.read_output(sandbox, "out.txt")
        reading = asyncio.ensure_future(anext(aiter(chunks)))
        await asyncio.to_thread(begun.wait, 30)
        reading.cancel()
        await asyncio.wait({reading})
        with (tmp_path / "secret").open("rb", buffering=0) as another:  # which gets the number that is free now
            go_on.set()
            await asyncio.to_thread(over.wait, 30)
            assert another.read() == b"secret"

    asyncio.run(main())
    assert [type(each) for each in got] == [ValueError]
