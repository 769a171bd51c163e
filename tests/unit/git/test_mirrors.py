"""Mirrors beside a real host: what is fetched once, kept within bounds, and mended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from githost import GitHost
from hostler.git.hosts import GitConfig, Remote
from hostler.git.mirrors import Mirrors
from hostler.git.room import GitRoom


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    with GitHost(tmp_path / "host") as host:
        yield host


def with_room(
    folder: Path, host: GitHost, work: Callable[[GitRoom, Callable[[str], Remote]], Awaitable[None]], **config: int
) -> None:
    async def main() -> None:
        room = GitRoom(folder, GitConfig(hosts=(host.address,), **config), os.environ)  # type: ignore[arg-type]
        try:
            await work(room, lambda name: room.hosts.remote(host.url(name)))
        finally:
            await room.aclose()

    asyncio.run(main())


async def listed(mirrors: Mirrors, remote: Remote) -> bytes:
    view = await mirrors.view(remote, None)
    async with mirrors.upload_pack(view, None) as parts:
        return b"".join([part async for part in parts])


def test_many_readers_fetch_once(tmp_path: Path, host: GitHost) -> None:
    tip = host.repository("o/r").commit({"a": b"1"})

    async def work(room: GitRoom, remote: Callable[[str], Remote]) -> None:
        found = await asyncio.gather(*(listed(room.mirrors, remote("o/r")) for _ in range(8)))
        assert all(tip.encode() in listing for listing in found)
        assert host.packs() == 1

    with_room(tmp_path / "cache", host, work)


def test_the_copies_used_longest_ago_go_first(tmp_path: Path, host: GitHost) -> None:
    for name in ("o/a", "o/b"):
        host.repository(name).commit({"big": os.urandom(700_000)})

    async def work(room: GitRoom, remote: Callable[[str], Remote]) -> None:
        for name in ("o/a", "o/b", "o/b", "o/a"):
            await listed(room.mirrors, remote(name))
        assert host.packs() == 3, "a, b, and a again, which had to make room"
        assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1

    with_room(tmp_path / "cache", host, work, cache_mb=1)


def test_a_mirror_that_a_power_failure_has_spoilt_is_made_again(tmp_path: Path, host: GitHost) -> None:
    repository = host.repository("o/r")
    repository.commit({"a": b"1"})

    async def first(room: GitRoom, remote: Callable[[str], Remote]) -> None:
        await listed(room.mirrors, remote("o/r"))

    with_room(tmp_path / "cache", host, first)
    (mirror,) = (tmp_path / "cache").glob("*/mirror.git")
    (mirror / "packed-refs.lock").touch()
    (mirror / "refs/heads/main.lock").touch()
    (mirror / "objects/pack/tmp_pack_x").write_bytes(b"half")
    (tmp_path / "cache/.gone-x").mkdir()
    tip = repository.commit({"a": b"2"})

    async def second(room: GitRoom, remote: Callable[[str], Remote]) -> None:
        assert tip.encode() in await listed(room.mirrors, remote("o/r"))

    with_room(tmp_path / "cache", host, second)
    assert not list((tmp_path / "cache").glob("**/tmp_pack_x"))
    assert not list((tmp_path / "cache").glob(".gone-*"))


def test_a_view_names_no_ref_but_those_listed(tmp_path: Path, host: GitHost) -> None:
    repository = host.repository("o/r")
    repository.commit({"a": b"1"})
    repository.commit({"a": b"2"}, "hidden")

    async def work(room: GitRoom, remote: Callable[[str], Remote]) -> None:
        assert b"hidden" in await listed(room.mirrors, remote("o/r"))
        (repository.folder / "refs/heads/hidden").unlink()
        assert b"hidden" not in await listed(room.mirrors, remote("o/r"))

    with_room(tmp_path / "cache", host, work)
