"""Probes of what the server unpacks itself: a snapshot of a sandbox, which an imported archive brings from anybody.

Each archive is well-formed as a tar, and lies about one thing. Either it is damage that is told, or it is made whole.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hostler.sandbox import snapshots
from hostler.sandbox.contract import SnapshotDamaged
from hostler.sandbox.packing import Budget, TooMuch
from hostler.sandbox.rootfs import Layout
from hostler.sandbox.tarstream import FIFO, FOLDER, HARD_LINK, SYMLINK, Member, Writer

LIES: dict[str, list[Member]] = {
    "a path that climbs": [Member(path=b"workspace/../../x", size=1)],
    "an absolute path": [Member(path=b"/workspace/x", size=1)],
    "a NUL in a path": [Member(path=b"workspace/a\0b", size=1)],
    "a NUL in a link": [Member(path=b"workspace/a", kind=SYMLINK, link=b"x\0y")],
    "a NUL in an attribute": [Member(path=b"workspace/a", size=1, xattrs={b"user.x\0y": b"1"})],
    "a capability": [Member(path=b"workspace/a", size=1, xattrs={b"security.capability": b"1"})],
    "a file larger than any": [Member(path=b"workspace/a", size=2**62, extents=[])],
    "data beyond any end": [Member(path=b"workspace/a", size=2**62, extents=[(2**61, 1)])],
    "a way through a link": [
        Member(path=b"workspace/l", kind=SYMLINK, link=b"/tmp"),
        Member(path=b"workspace/l/x", size=1),
    ],
    "a folder that turns into a link": [
        Member(path=b"workspace/d", kind=FOLDER),
        Member(path=b"workspace/d", kind=SYMLINK, link=b"/"),
        Member(path=b"workspace/d/x", size=1),
    ],
    "another name of what lies behind a link": [
        Member(path=b"workspace/l", kind=SYMLINK, link=b"/etc"),
        Member(path=b"workspace/h", kind=HARD_LINK, link=b"workspace/l/passwd"),
    ],
    "another name of what lies outside": [Member(path=b"workspace/h", kind=HARD_LINK, link=b"workspace/../../../x")],
    "another name of a folder": [Member(path=b"workspace/h", kind=HARD_LINK, link=b"home")],
    "a pipe in place of a file": [Member(path=b"workspace/a", size=1), Member(path=b"workspace/a", kind=FIFO)],
    "a file in place of a folder of ours": [Member(path=b"workspace", size=1)],
    "a folder that is nobody's": [Member(path=b"root/etc/x", size=1)],
    "an odd folder of an environment": [Member(path=b"at/../../x", size=1)],
    "too long a name": [Member(path=b"workspace/" + b"a" * 300, size=1)],
    "too long a link": [Member(path=b"workspace/a", kind=SYMLINK, link=b"x" * 5000)],
}


def _unpack(place: Path, members: list[Member], limit: int = 10**8) -> Layout:
    """Write an archive of these, look through it as an import does, and make a sandbox's folders of it."""
    archive, layout = place / "archive", Layout(place / "key")

    def fill(writer: Writer) -> None:
        for member in members:
            writer.add(member, [b"x" * member.data_bytes] if member.data_bytes else [])

    written = snapshots.write(archive, fill)
    snapshots.check(archive, Budget(limit))
    snapshots.restore(layout, archive, written, 61184 if os.geteuid() == 0 else None, Budget(limit))
    return layout


@pytest.mark.parametrize("members", LIES.values(), ids=LIES.keys())
def test_an_archive_that_lies_is_damage_and_leaves_nothing(tmp_path: Path, members: list[Member]) -> None:
    with pytest.raises(SnapshotDamaged):
        _unpack(tmp_path, members)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_an_archive_of_zeros_is_no_bomb(tmp_path: Path) -> None:
    """A gigabyte packs into kilobytes: what comes out counts, by bytes and by names."""
    with pytest.raises(TooMuch):
        _unpack(tmp_path, [Member(path=b"workspace/a", size=30_000_000)], limit=10_000_000)
    with pytest.raises(TooMuch):
        _unpack(tmp_path, [Member(path=b"workspace/%d" % n) for n in range(3000)], limit=10_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_rights_in_an_archive_are_the_agents_own(tmp_path: Path) -> None:
    layout = _unpack(tmp_path, [Member(path=b"workspace/a", size=1, mode=0o6777)])
    about = (layout.files / "workspace" / "a").lstat()
    assert about.st_uid != 0
    assert not stat.S_IMODE(layout.folder.lstat().st_mode) & 0o077
