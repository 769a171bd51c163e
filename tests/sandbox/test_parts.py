"""The parts of the backend that need no sandbox: the filter, files in hostile folders, specs that are refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import stat
import struct
from pathlib import Path

import pytest

from hostler.sandbox import disks, files, rootfs, seccomp
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, Check, CommandResult, Exec, Mount, SandboxSpec, SandboxUnavailable
from hostler.sandbox.live import BubblewrapSandbox


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_filter_jumps_stay_inside(machine: str) -> None:
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    assert len(code) < 4096
    for number, (operation, yes, no, _) in enumerate(code):
        if operation & 0x07 == 0x05:
            assert number + 1 + max(yes, no) < len(code)
    assert code[-1][0] == 0x06


def test_filter_knows_no_other_machine() -> None:
    assert not seccomp.supported("riscv64")
    with pytest.raises(ValueError, match="riscv64"):
        seccomp.program("riscv64")


def test_deep_and_locked_trees_are_deleted(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    locked = top / "locked"
    (locked / "in").mkdir(parents=True)
    (top / "link").symlink_to(tmp_path)
    (locked / "in").chmod(0)
    locked.chmod(0)
    assert disks.used_bytes(top, 1 << 40) == disks.ENDLESS
    files.remove_tree(top)
    files.remove_tree(top)
    assert list(tmp_path.iterdir()) == []


def test_an_input_in_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    layout = rootfs.Layout(tmp_path)
    rootfs.make_skeleton(layout, [])
    rootfs.make_writable(layout, None)
    source = tmp_path / "source"
    source.write_text("x")
    with pytest.raises(files.Blocked, match="folder"):
        files.place(layout, Mount(source=source, target="/workspace"), None)


@pytest.mark.parametrize("key", ["", "../x", "a/b", ".hidden", "a\0b", "x" * 200])
def test_keys_that_are_no_names_are_refused(folder: Path, key: str) -> None:
    backend = BubblewrapBackend(folder)
    with pytest.raises(ValueError, match="named"):
        asyncio.run(backend.provision(SandboxSpec(key=key)))
    assert not folder.exists()


@pytest.mark.parametrize("env", [{"A=B": "x"}, {"": "x"}, {"A": "\0"}])
def test_environments_that_cannot_be_are_refused(folder: Path, env: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="environment variable"):
        asyncio.run(BubblewrapBackend(folder).provision(SandboxSpec(key="k", env=env)))


def test_a_folder_that_cannot_be_made_is_an_unavailable_sandbox(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    backend = BubblewrapBackend(tmp_path / "file" / "sandboxes")
    with pytest.raises(SandboxUnavailable, match="directory"):
        asyncio.run(backend.provision(SandboxSpec(key="k")))


def test_probe_tries_a_start_and_names_each_limit(folder: Path) -> None:
    checks: dict[str, Check] = {check.name: check for check in BubblewrapBackend(folder).probe()}
    assert checks["sandbox: trial start"].ok, checks["sandbox: trial start"].detail
    limits = {name.removeprefix("sandbox limit: ") for name in checks if name.startswith("sandbox limit: ")}
    assert limits == {"memory", "processes", "cpu", "file size", "disk"}
    assert all(check.ok or check.remedy for check in checks.values())


def test_files_with_many_names_count_once_and_empty_ones_count(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (top / "big").write_bytes(b"x" * 1_000_000)
    for number in range(20):
        os.link(top / "big", top / f"again{number}")
    assert 1_000_000 <= disks.used_bytes(top, 1 << 40) < 1_100_000
    for number in range(300):
        (top / f"empty{number}").touch()
    assert disks.used_bytes(top, 1 << 40) > 2_000_000
    assert disks.used_bytes(tmp_path / "gone", 1) == 0


def test_counting_follows_no_link_and_leaves_modes_as_they_were(tmp_path: Path) -> None:
    top, outside = tmp_path / "top", tmp_path / "outside"
    (top / "locked").mkdir(parents=True)
    outside.mkdir()
    (outside / "big").write_bytes(b"x" * 1_000_000)
    (top / "locked" / "in").write_bytes(b"x" * 100_000)
    (top / "link").symlink_to(outside)
    (top / "locked").chmod(0)
    assert 100_000 <= disks.used_bytes(top, 1 << 40) < 1_000_000
    assert stat.S_IMODE((top / "locked").stat().st_mode) == 0
    (top / "locked").chmod(0o700)


def test_a_nearly_full_disk_ends_what_runs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> CommandResult:
        backend = BubblewrapBackend(folder)
        sandbox = await backend.provision(SandboxSpec(key="k", network=NO_NETWORK))
        call = asyncio.create_task(sandbox.run("c", Exec(argv=["sh", "-c", "echo begun; sleep 60"])))
        monkeypatch.setattr(disks, "_RESERVE_BYTES", 1 << 62)
        monkeypatch.setattr(disks, "_RESERVE_SHARE", 1.1)
        watch = disks.Disks(folder, lambda: [sandbox])  # type: ignore[list-item]
        while not call.done():
            await watch.look_at_reserve()
            await asyncio.sleep(0.05)
        await backend.destroy("k")
        await backend.aclose(stop=True)
        return call.result()

    result = asyncio.run(main())
    assert result.exit_code is None
    assert b"nearly full" in result.errors


def test_a_fault_does_not_end_the_watch_over_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked: list[int] = []
    again = asyncio.Event()

    def live() -> list[BubblewrapSandbox]:
        looked.append(1)
        if len(looked) < 3:
            raise RuntimeError("a fault")
        again.set()
        return []

    async def main() -> None:
        watching = asyncio.create_task(disks.Disks(tmp_path, live).watch())
        async with asyncio.timeout(10):
            await again.wait()
        watching.cancel()
        await asyncio.wait({watching})

    monkeypatch.setattr(disks, "LOOK_SECONDS", 0.001)
    asyncio.run(main())
    assert "cannot look at what the sandboxes keep on the disk" in caplog.text


def test_a_server_with_many_descriptors_ends_its_sandboxes(folder: Path) -> None:
    """select() knows no descriptor above 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert hard >= 2048, "the test needs descriptors"
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with contextlib.ExitStack() as stack:
        for _ in range(1100):
            stack.enter_context(open("/dev/null"))

        async def main() -> None:
            backend = BubblewrapBackend(folder)
            await backend.provision(SandboxSpec(key="k", network=NO_NETWORK))
            await backend.hibernate("k")
            assert await backend.find("k") is None
            await backend.destroy("k")
            await backend.aclose(stop=True)

        try:
            asyncio.run(main())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(folder.iterdir()) == []
