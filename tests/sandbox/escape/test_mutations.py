"""A probe that can't fail proves nothing: here a wall is taken away, and the probe must find the hole."""

from __future__ import annotations

import asyncio
import os
import secrets
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from hostler.sandbox import cgroups, files, launcher, rootfs, seccomp
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import Exec, Limits
from hostler.sandbox.rootfs import Bind
from hostler.sandbox.selfcheck import TRIALS, attempt
from hostler.sandbox.trials.kernel import _DESCRIPTORS
from sandbox.escape import test_host
from sandbox.escape.worlds import sandbox, told

Patch = pytest.MonkeyPatch


def _failing(folder: Path, names: list[str]) -> list[str]:
    """Those of the named trials that find something."""

    async def main() -> list[str]:
        backend = BubblewrapBackend(folder)
        try:
            trials = [trial for trial in TRIALS if trial.name in names]
            return [trial.name for trial in trials if not (await attempt(backend, trial)).ok]
        finally:
            await backend.aclose(stop=True)

    return asyncio.run(main())


def _without_filter(patch: Patch) -> None:
    patch.setattr(seccomp, "program", lambda **_: struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000))


def _without(option: str) -> Callable[[Patch], None]:
    def take_away(patch: Patch) -> None:
        patch.setattr(launcher, "_NAMESPACES", tuple(word for word in launcher._NAMESPACES if word != option))

    return take_away


def _with_the_servers_environment(patch: Patch) -> None:
    patch.setenv("SOME_PASSWORD", secrets.token_hex(8))
    real = rootfs.environment
    patch.setattr(rootfs, "environment", lambda extra, **more: real(extra, **more) | dict(os.environ))


def _with_a_folder_of_the_host(patch: Patch) -> None:
    found = rootfs.system_binds
    patch.setattr(rootfs, "system_binds", lambda: [*found(), Bind(Path("/usr/lib"), "/srv/lib")])


def _without_limits(patch: Patch) -> None:
    patch.setattr(cgroups, "find", lambda: None)
    patch.setattr(BubblewrapBackend, "_effective", lambda *_: Limits())


def _following_links(patch: Patch) -> None:
    patch.setattr(files, "_FOLDER", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _with_as_many_descriptors_as_the_server(patch: Patch) -> None:
    patch.setattr(launcher, "descriptors", lambda: 1 << 20)


HOLES: list[tuple[Callable[[Patch], None], list[str]]] = [
    (
        _without_filter,
        ["dangerous system calls are refused", "the init cannot be touched"],
    ),
    (_without("--unshare-net"), ["the host cannot be reached"]),
    (_without("--unshare-ipc"), ["sandboxes do not see each other"]),
    (_with_the_servers_environment, ["no secret of the server is inside"]),
    (_with_a_folder_of_the_host, ["no file of the host is inside"]),
    (_without_limits, ["files are limited", "threads are limited"]),
    (_following_links, ["outputs do not follow planted links", "no race leads outputs to the host"]),
]
if os.geteuid() != 0:  # root has no such limit
    HOLES.append((_with_as_many_descriptors_as_the_server, ["no sandbox starves another"]))


@pytest.mark.parametrize(("hole", "trials"), HOLES, ids=lambda value: getattr(value, "__qualname__", ""))
def test_trials_find_the_hole(
    folder: Path, monkeypatch: Patch, hole: Callable[[Patch], None], trials: list[str]
) -> None:
    hole(monkeypatch)
    assert sorted(_failing(folder, trials)) == sorted(trials)


def test_probes_of_the_host_find_what_is_bound_in(folder: Path, monkeypatch: Patch) -> None:
    mark, real = secrets.token_hex(16), launcher._bwrap_options
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:  # root's launcher hides the host's /tmp
        place = Path(name)
        place.chmod(0o755)
        paths = test_host._planted(place, mark)
        bound = ["--ro-bind", f"{place}/blobs", f"{place}/blobs"]
        monkeypatch.setattr(launcher, "_bwrap_options", lambda *args: [*real(*args), *bound])
        assert f"read {place}/blobs/ab/cd" in told(folder, test_host._READ, mark, *paths)


def test_probes_of_mounts_and_calls_find_what_is_open(folder: Path, monkeypatch: Patch) -> None:
    _without_filter(monkeypatch)
    real = launcher._bwrap_options

    def writable(*args: object) -> list[str]:
        options = real(*args)  # type: ignore[arg-type]
        options[options.index("--ro-bind")] = "--bind"
        return options

    monkeypatch.setattr(launcher, "_bwrap_options", writable)
    assert "/ can be written" in told(folder, test_host._MOUNTS)
    assert "name_to_handle_at" in told(folder, test_host._FOREIGN)


def test_probes_of_ports_find_an_open_one(folder: Path, monkeypatch: Patch) -> None:
    _without("--unshare-net")(monkeypatch)
    with pytest.raises(AssertionError, match="connected"):
        test_host.test_no_port_and_no_socket_of_the_host(folder)


def test_probes_of_descriptors_find_an_open_one(folder: Path) -> None:
    async def main() -> bytes:
        async with sandbox(folder) as inside:
            program = 'exec 7< /etc/passwd; exec python3 -c "$1"'
            return (await inside.run("c", Exec(argv=["bash", "-c", program, "-", _DESCRIPTORS]))).output

    assert b"/etc/passwd" in asyncio.run(main())
