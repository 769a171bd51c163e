"""What comes out of a build's container is made of nothing but data, whatever the stream says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engines.said import Said
from hostler.sandbox.container import collecting, records
from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.packing import Budget, TooMuch
from hostler.sandbox.unpacking import Misplaced


def _word(kind: bytes, path: bytes = b"", data: bytes = b"", *, link: bytes = b"", mode: int = 0o644) -> bytes:
    head = (kind[0], False, 0, mode, len(data), 0, 0, len(path), len(link), 0, 0)
    return records._RECORD.pack(*head) + path + link + data


TOP, END = _word(b"5", mode=0o755), _word(b"E")


def _collect(target: Path, *words: bytes, limit: int | None = None) -> None:
    collecting.unpack(Said(b"".join([TOP, *words])), target, Budget(limit))


def test_rights_are_the_servers_to_give(tmp_path: Path) -> None:
    target = tmp_path / "half"
    words = (
        _word(b"5", b"d", mode=0o7777),
        _word(b"0", b"d/tool", b"x", mode=0o6755),
        _word(b"1", b"d/same", link=b"d/tool"),
        _word(b"2", b"d/link", link=b"/etc/shadow"),
    )
    _collect(target, *words, END)
    assert (target / "d/tool").stat().st_mode & 0o7777 == 0o755
    assert (target / "d").stat().st_mode & 0o7777 == 0o777
    assert (target / "d/same").read_text() == "x"
    assert os.readlink(target / "d/link") == "/etc/shadow"
    assert (target / "d/tool").stat().st_uid == os.geteuid()


@pytest.mark.parametrize(
    "words",
    [
        [_word(b"2", b"out", link=b".."), _word(b"0", b"out/evil", b"x")],
        [_word(b"2", b"d", link=b"/tmp"), _word(b"5", b"d/e")],
        [_word(b"0", b"a", b"x"), _word(b"0", b"a", b"y")],
        [_word(b"0", b"a", b"x"), _word(b"5", b"a")],
        [_word(b"1", b"a", link=b"gone")],
        [_word(b"2", b"out", link=b"/etc/passwd"), _word(b"1", b"a/b", link=b"out")],
        [_word(b"0", b"", b"x")],
    ],
)
def test_nothing_is_made_through_a_link_or_twice(tmp_path: Path, words: list[bytes]) -> None:
    with pytest.raises(Misplaced):
        _collect(tmp_path / "half", *words, END)
    assert [path.name for path in tmp_path.iterdir()] == ["half"]


def test_a_stream_that_ends_or_never_ends(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable):
        _collect(tmp_path / "one", _word(b"0", b"a", b"x"))
    with pytest.raises(SandboxUnavailable):
        _collect(tmp_path / "two", _word(b"0", b"../a", b"x"), END)
    with pytest.raises(records.Unreadable, match="no memory"):
        _collect(tmp_path / "three", _word(b"X", b"no memory"))
    with pytest.raises(TooMuch):
        _collect(tmp_path / "four", *(_word(b"5", b"%d" % number) for number in range(100)), END, limit=100_000)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "three", "four"}
