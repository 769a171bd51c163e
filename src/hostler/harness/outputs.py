"""Collects what an agent wrote to its outputs folder as files of the session, before the session turns idle.

A file is known by its path; size and modification time tell whether it changed. A changed one keeps its file id. Doing
it twice changes nothing, so a crash in between costs nothing. It must not read anything but through the sandbox.
"""

from __future__ import annotations

import mimetypes
import re
from pathlib import PurePosixPath
from typing import Any

from sqlalchemy import bindparam, insert, select, update

from hostler import clock
from hostler.errors import RequestTooLarge
from hostler.harness.act import provisioned
from hostler.harness.deps import Deps
from hostler.harness.run import Run
from hostler.ids import new_id
from hostler.sandbox.contract import OutputFile, Sandbox
from hostler.store.sql import Tx
from hostler.store.tables import files

_KNOWN = select(files.c.output_path, files.c.output_tag).where(
    files.c.session_id == bindparam("s"), files.c.output_path.is_not(None)
)
_CHANGE = (
    update(files)
    .where(files.c.session_id == bindparam("s"), files.c.output_path == bindparam("path"))
    .values(blob=bindparam("blob_"), size_bytes=bindparam("size"), output_tag=bindparam("tag"))
    .returning(files.c.id)
)
_ADD = insert(files)
_FORBIDDEN = re.compile(r'[<>:"|?*\\/\x00-\x1f\x7f]')


async def collect(run: Run, deps: Deps) -> list[str]:
    """Store every output that is new or changed, as long as all of them together are not too much: a file may claim
    gigabytes that the sandbox's disk does not hold. Returns what is to be said of those that stay in the sandbox.
    Raises SandboxUnavailable, and Unavailable when nothing is kept."""
    sandbox = run.wake.sandbox or await deps.sandboxes.find(run.session_id)
    if sandbox is None and run.wake.session.worked:
        sandbox = await provisioned(run.wake, deps)  # it died with files of this turn in its folder
    found = await sandbox.outputs() if sandbox is not None else []
    if sandbox is None or not found:
        return []
    known = await deps.log.store.read(lambda: _known(run.session_id))
    room, left = deps.config.outputs_bytes, []
    for output in found:
        if known.get(_shown(output.path)) == _tag(output):
            room -= output.size_bytes
        elif output.size_bytes > deps.config.output_bytes:
            left.append(_said(output, f"a file may have {_mb(deps.config.output_bytes)} at most"))
        elif output.size_bytes > room:
            left.append(_said(output, f"all of a session may have {_mb(deps.config.outputs_bytes)} at most"))
        else:
            room -= await _collect_one(run, deps, sandbox, output)
    return left


async def _collect_one(run: Run, deps: Deps, sandbox: Sandbox, output: OutputFile) -> int:
    """Store one output; return the bytes that it had."""
    try:
        blob = await deps.blobs.write(sandbox.read_output(output.path), limit=deps.config.output_bytes)
    except (FileNotFoundError, RequestTooLarge):
        return 0  # gone, or grown too large meanwhile
    await deps.log.store.write(lambda: _store(run.session_id, output, blob.name, blob.size))
    return blob.size


def _said(output: OutputFile, limit: str) -> str:
    return f"{_shown(output.path)[:300]} has {_mb(output.size_bytes)}; {limit}."


def _mb(size: int) -> str:
    return f"{size / 1e6:,.3g} MB" if size < 1e9 else f"{size / 1e9:,.3g} GB"


def _known(session_id: str) -> Tx[dict[str, str]]:
    rows = yield _KNOWN, {"s": session_id}
    return {row[0]: row[1] for row in rows}


def _store(session_id: str, output: OutputFile, blob: str, size: int) -> Tx[None]:
    tag = _tag(output)
    changed = yield _CHANGE, {"s": session_id, "path": _shown(output.path), "blob_": blob, "size": size, "tag": tag}
    if not changed:
        yield _ADD, _row(session_id, output, blob, size, tag)


def _row(session_id: str, output: OutputFile, blob: str, size: int, tag: str) -> dict[str, Any]:
    name = _FORBIDDEN.sub("_", PurePosixPath(_shown(output.path)).name)[:255]
    return {
        "id": new_id("file"),
        "filename": name,
        "mime_type": mimetypes.guess_type(name)[0] or "application/octet-stream",
        "size_bytes": size,
        "downloadable": 1,
        "session_id": session_id,
        "blob": blob,
        "output_path": _shown(output.path),
        "output_tag": tag,
        "created_at": clock.now(),
        "expires_at": None,
    }


def _shown(path: str) -> str:
    """The path as text: bytes that are not UTF-8 are written out, since neither the database nor JSON can hold them."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _tag(output: OutputFile) -> str:
    return f"{output.size_bytes}:{output.mtime_ns}"
