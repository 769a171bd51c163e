"""Snapshots of sandboxes in containers, beyond the conformance trials: other folders, failures, and hostile words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engines.conftest import MakeBackend
from engines.said import Said
from hostler.sandbox import snapshots
from hostler.sandbox.container import records, transfer
from hostler.sandbox.contract import NO_NETWORK, SandboxSpec, SandboxUnavailable, Shell, Snapshot, SnapshotDamaged
from hostler.sandbox.engine import spec as words
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.packing import Budget, TooMuch
from hostler.sandbox.tarstream import FOLDER, HARD_LINK, SYMLINK, Member, Writer

ONE, OTHER = "sesn_one", "sesn_other"
FOLDERS = ["/data/repository", "/srv2"]


def _with(make: MakeBackend, work: Callable[[EngineBackend], Awaitable[None]]) -> None:
    async def main() -> None:
        backend = make()
        try:
            await work(backend)
        finally:
            for key in (ONE, OTHER):
                await backend.destroy(key)
            await backend.aclose(stop=True)

    asyncio.run(main())


def _spec(key: str) -> SandboxSpec:
    return SandboxSpec(key=key, network=NO_NETWORK, folders=FOLDERS)


async def _say(backend: EngineBackend, key: str, script: str) -> str:
    sandbox = await backend.provision(_spec(key))
    result = await sandbox.run(f"call {script}", Shell(script=script))
    return result.output.decode()


async def _volumes(backend: EngineBackend, key: str) -> list[str]:
    return await backend.engine.volumes(f"{words.SESSION_LABEL}={key}")


def test_folders_beyond_the_usual_ones_come_back(make_backend: MakeBackend, tmp_path: Path) -> None:
    async def work(backend: EngineBackend) -> None:
        await _say(
            backend, ONE, "mkdir -p /data/repository/a; echo one > /data/repository/a/b; echo two > /srv2/c; x=7"
        )
        live = await backend.snapshot(ONE, tmp_path / "live")
        await backend.hibernate(ONE)
        resting = await backend.snapshot(ONE, tmp_path / "resting")
        assert live is not None
        assert resting is not None
        assert await backend.find(ONE) is None  # it rests again
        await backend.restore(OTHER, tmp_path / "resting", resting)
        again = await backend.snapshot(OTHER, tmp_path / "again")  # it has not run yet
        assert again is not None
        await backend.restore(ONE, tmp_path / "again", again)
        for key in (OTHER, ONE):
            said = await _say(
                backend, key, "cat /data/repository/a/b /srv2/c; echo $x; stat -c %u /srv2; echo new > /srv2/c"
            )
            assert said == "one\ntwo\n7\n1000\n"

    _with(make_backend, work)


def test_a_restore_that_fails_leaves_nothing(
    make_backend: MakeBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(backend: EngineBackend) -> None:
        await _say(backend, ONE, "echo kept > file")
        kept = await backend.snapshot(ONE, tmp_path / "kept")
        assert kept is not None
        whole = transfer.unpack

        async def fails(*given: object) -> None:
            await whole(*given)  # type: ignore[arg-type]
            raise SandboxUnavailable("the engine is gone")

        with monkeypatch.context() as patched:
            patched.setattr(transfer, "unpack", fails)
            with pytest.raises(SandboxUnavailable, match="the engine is gone"):
                await backend.restore(OTHER, tmp_path / "kept", kept)
        assert await _volumes(backend, OTHER) == []
        assert await backend.snapshot(OTHER, tmp_path / "none") is None
        waiting = asyncio.create_task(backend.restore(OTHER, tmp_path / "kept", kept))
        while not await _volumes(backend, OTHER):  # noqa: ASYNC110 -- it is the engine that is asked
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait({waiting})
        assert waiting.cancelled()
        assert await _volumes(backend, OTHER) == []
        await backend.restore(OTHER, tmp_path / "kept", kept)
        assert await _say(backend, OTHER, "cat file") == "kept\n"

    _with(make_backend, work)


def _words(
    kind: bytes, path: bytes = b"", size: int = 0, *, top: int = 0, link: bytes = b"", extents: int = 0
) -> bytes:
    head = (kind[0], bool(extents), top, 0o644, size, 0, 0, len(path), len(link), 0, extents)
    return records._RECORD.pack(*head) + path + link


@pytest.mark.parametrize(
    "said",
    [
        b"",
        _words(b"0", b"../out") + _words(b"E"),
        _words(b"0", b"/etc/passwd") + _words(b"E"),
        _words(b"0", b"a//b") + _words(b"E"),
        _words(b"1", b"a", link=b"../b") + _words(b"E"),
        _words(b"0", b"a", top=1) + _words(b"E"),
        _words(b"3", b"a") + _words(b"E"),
        _words(b"0", b"a", 1 << 63) + _words(b"E"),
        _words(b"0", b"a", 5, extents=1) + records._EXTENT.pack(3, 9) + bytes(9) + _words(b"E"),
        _words(b"0", b"a", 5) + b"abc",
        _words(b"X", b"no memory"),
    ],
)
def test_what_a_bent_program_says_is_no_snapshot(tmp_path: Path, said: bytes) -> None:
    with pytest.raises(SandboxUnavailable):
        records.write(Said(said), ["/workspace"], b"", tmp_path / "file", Budget(None))
    assert [*tmp_path.iterdir()] == []


def test_endless_files_are_too_much(tmp_path: Path) -> None:
    with pytest.raises(TooMuch):
        records.write(Said(_words(b"0", b"a", 1 << 60)), ["/workspace"], b"", tmp_path / "file", Budget(1 << 20))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "members",
    [
        [Member(path=b"workspace/a"), Member(path=b"workspace/a")],
        [Member(path=b"workspace/a"), Member(path=b"workspace/a/b")],
        [Member(path=b"workspace/a/b")],
        [Member(path=b"workspace/a", kind=FOLDER), Member(path=b"workspace/b", kind=HARD_LINK, link=b"workspace/a")],
        [Member(path=b"workspace/b", kind=HARD_LINK, link=b"workspace/a")],
        [Member(path=b"tmp/a"), Member(path=b"workspace/b", kind=HARD_LINK, link=b"tmp/a")],
        [Member(path=b"workspace/" + b"a" * 256)],
        [Member(path=b"workspace/a", kind=SYMLINK)],
        [Member(path=b"workspace/a", kind=SYMLINK, link=b"a" * 5000)],
        [Member(path=b"at/0123", kind=FOLDER)],
        [Member(path=b"at/%016x" % number, kind=FOLDER) for number in range(65)],
    ],
)
def test_an_archive_that_contradicts_itself_is_refused_before_anything_is_made(
    tmp_path: Path, members: list[Member]
) -> None:
    def fill(writer: Writer) -> None:
        for member in members:
            writer.add(member)

    written = snapshots.write(tmp_path / "file", fill)
    with pytest.raises(SnapshotDamaged):
        records.check(tmp_path / "file", written, Budget(None))
    with pytest.raises(SnapshotDamaged):
        records.check(tmp_path / "gone", Snapshot(bytes=0, sha256=""), Budget(None))
