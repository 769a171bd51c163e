"""A worker's process that behaves as none should: the server is rid of it, and knows how it ended."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import IO

import pytest
import uvloop

from hostler.runbooks import messages as m
from hostler.runbooks.workers import Gone, Worker


def begin(given: str = "") -> m.Begin:
    return m.Begin(task_id="t", folder="/", slug="s", workflow_class="W", modules=[], slugs=[], entries=[], input=given)


async def serve(message: m.OfWorker) -> m.Reply | None:
    return None


def write(folder: Path, code: str) -> None:
    (folder / "impostor.py").write_text(f"import os, struct, time\nos.read(0, 1)\n{code}")


def run(folder: Path, code: str, given: str = "") -> int:
    """The exit status of a process that does this in place of a worker."""
    write(folder, code)

    async def main() -> int:
        worker = await Worker.start({"PYTHONPATH": str(folder)}, "impostor")
        async with asyncio.timeout(30):
            status = await worker.run(begin(given), serve, stall_seconds=60)
        await worker.send(m.Cancel())  # somebody may not know yet
        with pytest.raises(Gone):
            await worker.query("so_far", 60)
        return status

    return asyncio.run(main())


def test_one_that_ends_in_the_middle_of_a_message(tmp_path: Path) -> None:
    assert run(tmp_path, "os._exit(7)", "x" * 1_000_000) == 7


def test_one_that_closes_its_socket_and_goes_on(tmp_path: Path) -> None:
    assert run(tmp_path, "os.close(0)\ntime.sleep(600)") < 0


@pytest.mark.parametrize("size", ["2**32 - 1", "5"])
def test_one_that_sends_no_messages(tmp_path: Path, size: str) -> None:
    with pytest.raises(m.BadMessage):
        run(tmp_path, f"os.write(0, struct.pack('<I', {size}) + b'hello')\ntime.sleep(600)")


def test_one_that_asks_without_end(tmp_path: Path) -> None:
    asked = m.framed(m.AwaitChild(id=1, task_id="t"))
    with pytest.raises(m.BadMessage, match="more is asked"):
        run(tmp_path, f"os.write(0, {asked!r} * 2)\ntime.sleep(600)")


def test_one_that_ends_while_it_is_asked(tmp_path: Path) -> None:
    write(tmp_path, "while b'so_far' not in os.read(0, 65536): pass\nos._exit(3)")

    async def main() -> int:
        worker = await Worker.start({"PYTHONPATH": str(tmp_path)}, "impostor")
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            runs = group.create_task(worker.run(begin(), serve, stall_seconds=60))
            with pytest.raises(Gone):  # at once, not when the time is up
                await worker.query("so_far", 60)
        return runs.result()

    assert asyncio.run(main()) == 3


class Closing:
    """A file that knows whether its number was still its own when it was closed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.fileno = file.fileno
        self.own: list[bool] = []

    def close(self) -> None:
        try:
            os.fstat(self._file.fileno())
            self.own.append(True)
        except OSError:
            self.own.append(False)
        self._file.close()


def test_what_it_said_last_and_nothing_is_closed_that_is_another_s(tmp_path: Path) -> None:
    """Between two closes of one number a thread may open a file, which is gone then."""
    lines = r"b'first\n\xff' + b'x' * 5000 + b'\nend'"
    write(tmp_path, f"os.write(2, b'gone\\n' * 100)\nos.write(2, {lines})")

    async def main() -> tuple[list[bool], list[str]]:
        worker = await Worker.start({"PYTHONPATH": str(tmp_path)}, "impostor")
        assert worker._process.stderr is not None
        worker._process.stderr = closing = Closing(worker._process.stderr)  # type: ignore[assignment]
        await worker.run(begin(), serve, stall_seconds=60)
        return closing.own, list(worker.last_lines)

    own, said = uvloop.run(main())
    assert own == [True]
    assert said == ["gone"] * 47 + ["first", "\ufffd" + "x" * 1999, "end"]
