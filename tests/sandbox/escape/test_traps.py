"""Probes of what the server does with an agent's files from outside: a folder full of traps costs little and leaks
nothing."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from hostler.sandbox import files
from hostler.sandbox.contract import Exec, Limits, Mount, Shell
from sandbox.escape.worlds import said, sandbox


def test_no_more_names_are_looked_at_than_anybody_wants(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links and pipes are no outputs, but millions of them would all be in the server's memory."""
    monkeypatch.setattr(files, "MAX_LOOKED_AT", 1000)
    fill = (
        "import os\nos.chdir('/mnt/session/outputs')\n"
        "for f in range(5):\n os.mkdir(f'd{f}')\n for n in range(1000): os.symlink('x', f'd{f}/{n}')\n"
    )
    looked: list[str] = []
    real = os.stat

    def counted(path: object, **more: object) -> os.stat_result:
        looked.append(str(path))
        return real(path, **more)  # type: ignore[arg-type]

    async def main() -> None:
        async with sandbox(folder) as inside:
            await said(inside, fill)
            monkeypatch.setattr(files.os, "stat", counted)
            assert await inside.outputs() == []
            monkeypatch.undo()

    asyncio.run(main())
    assert 0 < len(looked) <= 1000


_TRAPS = """
cd /mnt/session/outputs
ln -s /etc/passwd a; ln -s /proc/self/environ b; ln -s /proc/1/cwd c; ln -s . loop; ln -s ../.. up
mkfifo pipe; mknod white c 0 0; ln -s /dev/zero endless; ln -s /dev/stdin input; ln -s pipe to-pipe
mkdir -p deep$(printf '/d%.0s' $(seq 200)) && touch deep/file; truncate -s 3G sparse; mkdir locked && chmod 0 locked
echo fine > fine; ln fine again; chmod 6777 again; touch $'new\\nline' $'\\033[2J' $'\\xff\\xfe' -- '-rf' '~' '$(id)'
python3 -c 'import socket; s = socket.socket(socket.AF_UNIX); s.bind("socket")'
"""


def test_outputs_full_of_traps(folder: Path) -> None:
    """Only plain files are outputs; names are bytes to be shown, not to be run; what is read is what is inside."""

    async def main() -> dict[str, bytes]:
        async with sandbox(folder) as inside:
            result = await inside.run("traps", Shell(script=_TRAPS))
            assert result.exit_code == 0, result
            found = {}
            async with asyncio.timeout(20):
                for output in await inside.outputs():
                    chunks = inside.read_output(output.path)
                    found[output.path] = await anext(chunks, b"")
                    await chunks.aclose()  # type: ignore[attr-defined]
            return found

    found = asyncio.run(main())
    plain = {"fine": b"fine\n", "again": b"fine\n", "deep/file": b""}
    names = ("new\nline", "\x1b[2J", "\udcff\udcfe", "-rf", "~", "$(id)")
    sparse = found.pop("sparse")
    assert found == plain | dict.fromkeys(names, b"")
    assert sparse.strip(b"\0") == b""
    assert len(sparse) <= 1 << 20


def test_a_set_user_id_file_is_nobodys_door(folder: Path) -> None:
    """What the agent gives the right to run as its user lies where no other user of the host gets to."""

    async def main() -> list[Path]:
        async with sandbox(folder) as inside:
            await inside.run("make", Shell(script="cp /bin/true /workspace/mine; chmod 6755 /workspace/mine"))
            made = inside.layout.files / "workspace" / "mine"
            about = made.lstat()
            assert about.st_mode & stat.S_ISUID
            assert about.st_uid != 0
            return [path for path in made.parents if not path.lstat().st_mode & stat.S_IXOTH]

    assert asyncio.run(main()), "anybody could run it"


def test_a_flood_of_output_in_one_line_costs_its_limit(folder: Path) -> None:
    """A line of a hundred megabytes is cut like any other output, and fills neither memory nor disk."""

    async def main() -> None:
        async with sandbox(folder, limits=Limits(disk_bytes=50_000_000)) as inside:
            script = "head -c 100000000 /dev/zero | tr '\\0' 'x'; head -c 1000000 /dev/zero | tr '\\0' 'y' >&2"
            result = await inside.run("flood", Shell(script=script))
            assert (result.exit_code, result.output_bytes) == (0, 101_000_000)
            assert len(result.output) <= 16 * 1024 * 1024
            assert result.output.startswith(b"xxx")
            assert result.output.endswith(b"yyy")
            result = await inside.run("after", Exec(argv=["echo", "alive"]))
            assert result.output == b"alive\n"

    asyncio.run(main())


def test_an_input_that_is_shared_cannot_be_held(folder: Path, tmp_path: Path) -> None:
    """An uploaded file is another name of the server's own where that is safe: no lease makes the server wait for it,
    no lock or mode of the agent's reaches it."""
    source = tmp_path / "blob"
    source.write_text("input")
    program = (
        "import fcntl, os\n"
        "fd = os.open('/mnt/session/uploads/in', os.O_RDONLY)\n"
        "for kind in (fcntl.F_WRLCK, fcntl.F_RDLCK):\n"
        " try: fcntl.fcntl(fd, fcntl.F_SETLEASE, kind); print('leased', kind)\n"
        " except OSError: pass\n"
        "for what in (lambda: os.fchmod(fd, 0), lambda: os.utime(fd), lambda: os.setxattr(fd, 'user.x', b'y'), "
        "lambda: os.link('/mnt/session/uploads/in', '/workspace/in'), "
        "lambda: os.open('/proc/self/fd/%d' % fd, os.O_RDWR)):\n"
        " try: print('changed', what())\n"
        " except OSError: pass\n"
    )

    async def main() -> None:
        mounts = [Mount(source=source, target="/mnt/session/uploads/in")]
        async with sandbox(folder, mounts=mounts) as inside:
            assert await said(inside, program) == ""
            assert source.read_text() == "input"

    asyncio.run(main())
