"""The tar that is written here: others read it, it reads itself, and damage of any kind is told, in bounded memory."""

from __future__ import annotations

import io
import random
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hostler.sandbox import snapshots
from hostler.sandbox.contract import SnapshotDamaged
from hostler.sandbox.packing import Budget, Stopped, TooMuch, pack
from hostler.sandbox.tarstream import (
    FIFO,
    FOLDER,
    HARD_LINK,
    MAX_RECORDS,
    SYMLINK,
    BadTar,
    Member,
    Reader,
    Writer,
)

LONG = b"/".join([b"x" * 200] * 10)
MEMBERS = [
    (Member(path=b"top", kind=FOLDER, mode=0o755, mtime_ns=1), []),
    (Member(path=b"top/file", size=5, mode=0o4640, mtime_ns=1_234_567_890_123_456_789), [b"he", b"llo"]),
    (Member(path=b"top/empty", mtime_ns=-1), []),
    (Member(path=LONG, size=513, xattrs={b"user.a": b"\xff\0\n="}), [b"y" * 513]),
    (Member(path=b"\xff\n", kind=SYMLINK, link=b"\xfe" * 150), []),
    (Member(path=b"pipe", kind=FIFO, mode=0o600), []),
    (Member(path=b"hard", kind=HARD_LINK, link=b"top/file"), []),
    (Member(path=b"holes", size=3 * 2**30, extents=[(0, 3), (2**31, 4)]), [b"abc", b"defg"]),
    (Member(path=b"only holes", size=7, extents=[]), []),
]  # fmt: skip


def written() -> bytes:
    out = io.BytesIO()
    writer = Writer(out.write)
    for member, chunks in MEMBERS:
        writer.add(member, chunks)
    writer.end()
    return out.getvalue()


def read(data: bytes) -> list[tuple[Member, bytes]]:
    reader = Reader(io.BytesIO(data).read)
    return [(member, b"".join(chunk for _, chunk in reader.chunks(member))) for member in reader.members()]


def test_it_reads_what_it_writes() -> None:
    assert read(written()) == [(member, b"".join(chunks)) for member, chunks in MEMBERS]
    assert list(Reader(io.BytesIO(written()).read).members()) == [m for m, _ in MEMBERS]  # skipped


def test_others_read_it() -> None:
    with tarfile.open(fileobj=io.BytesIO(written())) as archive:
        found = {info.name: info for info in archive}
        assert [name.encode("utf-8", "surrogateescape") for name in found] == [member.path for member, _ in MEMBERS]
        assert archive.extractfile(found["top/file"]).read() == b"hello"  # type: ignore[union-attr]
        holes = found["holes"]
        assert (holes.size, holes.sparse) == (3 * 2**30, [(0, 3), (2**31, 4)])
        assert found["hard"].linkname == "top/file"


def test_damage_is_told() -> None:
    data = written()
    chance = random.Random(7)
    for end in range(0, len(data) - 1024, 97):
        with pytest.raises(BadTar):
            read(data[:end])
    for _ in range(3000):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 2, 20))):
            damaged[chance.randrange(len(data))] = chance.randrange(256)
        try:
            read(bytes(damaged))
        except BadTar:
            continue


@pytest.mark.parametrize("more", [{"mtime_ns": 10**28}, {"mtime_ns": -(10**28) + 1}, {"size": 2**63, "extents": []}])
def test_numbers_that_no_system_has_are_damage(more: dict[str, Any]) -> None:
    out = io.BytesIO()
    Writer(out.write).add(Member(path=b"a", **more))
    with pytest.raises(BadTar):
        read(out.getvalue() + bytes(1024))


def test_a_compressed_archive_whose_end_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "a"
    snapshots.write(file, lambda writer: writer.add(Member(path=b"workspace/a", size=5), [b"hello"]))
    whole = file.read_bytes()
    snapshots.check(file, Budget(None))
    for end in range(len(whole)):
        file.write_bytes(whole[:end])
        with pytest.raises(SnapshotDamaged):
            snapshots.check(file, Budget(None))
    file.write_bytes(whole + b"\0")
    with pytest.raises(SnapshotDamaged):
        snapshots.check(file, Budget(None))


def claiming(size: int, kind: bytes = b"x") -> bytes:
    """A header that claims more than there is."""
    out = io.BytesIO()
    writer = Writer(out.write)
    writer.add(Member(path=b"a"))
    block = bytearray(out.getvalue()[:512])
    block[124:136] = b"%011o\0" % size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    block[156:157] = kind
    return bytes(block)


def test_claims_are_bounded() -> None:
    asked: list[int] = []

    def give(count: int) -> bytes:
        asked.append(count)
        return claiming(8**11 - 1) if len(asked) == 1 else bytes(count)

    with pytest.raises(BadTar):
        list(Reader(give).members())
    assert max(asked) <= MAX_RECORDS


def test_packing_is_bounded_and_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 10_000)
    for index in range(10):
        (tmp_path / f"empty{index}").touch()
    sink = Writer(lambda data: len(data))
    pack(tmp_path, b"w", sink, Budget(100_000))
    with pytest.raises(TooMuch):
        pack(tmp_path, b"w", sink, Budget(40_000))
    with pytest.raises(Stopped):
        pack(tmp_path, b"w", sink, Budget(None, lambda: True))
    deep = tmp_path / "/".join("d" * 250)
    deep.mkdir(parents=True)
    with pytest.raises(TooMuch):
        pack(tmp_path, b"w", sink, Budget(None))


def test_what_cannot_be_read_is_read_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "locked" / "file").write_bytes(b"hi")
    (tmp_path / "locked" / "file").chmod(0)
    (tmp_path / "locked").chmod(0)
    out = io.BytesIO()
    writer = Writer(out.write)
    pack(tmp_path, b"w", writer, Budget(None))
    writer.end()
    found = {member.path: (member.mode, data) for member, data in read(out.getvalue())}
    assert found[b"w/locked/file"] == (0, b"hi")
    assert found[b"w/locked"] == (0, b"")
    assert (tmp_path / "locked").stat().st_mode & 0o7777 == 0
    (tmp_path / "locked").chmod(0o700)
    assert (tmp_path / "locked" / "file").stat().st_mode & 0o7777 == 0
