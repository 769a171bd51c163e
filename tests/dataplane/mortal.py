"""Stores a document again and again, each time in a process that kills itself one line later than the one before.

Started as `mortal.py FOLDER URL CONTENT STEP`; prints at which line it did not die. It must be single-threaded where it
forks.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
import threading
import uuid
from pathlib import Path
from types import FrameType
from typing import Any

from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.records import Document

WATCHED = ("sqlite.py", "postgres.py", "contents.py", "plane.py")


def document(number: int, content: Path) -> Document:
    data = content.read_bytes()
    return Document(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"document-{number}")), entity_slug="spv", source="agent_output:a",
        filename=f"{number}.bin", content_type="application/octet-stream", size=len(data),
        sha256=hashlib.sha256(data).hexdigest(), task_id=str(number),
    )  # fmt: skip


def die_at(line: int) -> None:
    """Kill this process when so many lines of the data plane have run, in whichever thread."""
    left = [line]

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.endswith(WATCHED) or "dataplane" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)


async def store(folder: Path, url: str | None, number: int, content: Path, line: int) -> None:
    plane = await DataPlane.open(folder, DataPlaneConfig(tenant_connections=1), url)
    await plane.fetch("byng", "SELECT 1")
    die_at(line)
    await plane.insert_document("byng", document(number, content), content)
    sys.settrace(None)
    threading.settrace(None)  # type: ignore[arg-type]


async def check(folder: Path, url: str | None, numbers: range, content: Path) -> None:
    """Every one is whole or not there; stored again, each is there once."""
    plane = await DataPlane.open(folder, DataPlaneConfig(), url)
    for number in numbers:
        wanted = document(number, content)
        before = await plane.documents("byng", task_id=str(number))
        stored = await plane.insert_document("byng", wanted, content)
        assert before in ([], [stored]), number
        assert await plane.documents("byng", task_id=str(number)) == [stored], number
        assert (stored.size, stored.sha256) == (wanted.size, wanted.sha256)
        digest = hashlib.sha256()
        async for chunk in plane.content("byng", stored.id):
            digest.update(chunk)
        assert digest.hexdigest() == wanted.sha256, number
    print(numbers[-1], flush=True)
    await plane.aclose()


def main(folder: Path, url: str | None, content: Path, step: int) -> None:
    for number in range(1, 100_000, step):
        child = os.fork()
        if child == 0:
            asyncio.run(store(folder, url, number, content, number))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            asyncio.run(check(folder, url, range(1, number + 1, step), content))
            return
        assert os.WTERMSIG(status) == signal.SIGKILL


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] or None, Path(sys.argv[3]), int(sys.argv[4]))
