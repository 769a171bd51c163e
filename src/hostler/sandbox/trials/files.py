"""Trials of inputs and outputs: what the agent sees of the host's files, and what the host takes from the agent's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from hostler.sandbox.contract import OUTPUTS, SKILLS, UPLOADS, WORKSPACE, Exec, Mount, Sandbox
from hostler.sandbox.lab import Failed, Lab, Trials, expect, expect_equal, until

TRIALS = Trials()


def _source(lab: Lab, text: str, name: str = "source") -> Path:
    path = lab.folder / name
    path.write_text(text)
    path.chmod(0o600)
    return path


@TRIALS
async def inputs_are_readable_and_read_only(lab: Lab) -> None:
    """An input is where its target says, also by /uploads, and cannot be changed, renamed or deleted there."""
    source = _source(lab, "input")
    mounts = [Mount(source=source, target=f"{UPLOADS}/deep/er/in.txt"), Mount(source=source, target="/data/in.txt")]
    sandbox = await lab.sandbox(mounts=mounts)
    expect_equal(
        await lab.text(sandbox, f"cat {UPLOADS}/deep/er/in.txt /uploads/deep/er/in.txt /data/in.txt"), "input" * 3, "it"
    )
    for target in (f"{UPLOADS}/deep/er/in.txt", "/data/in.txt"):
        script = f"echo no > {target} || rm -f {target} || mv {target} /tmp/ || chmod 777 {target}"
        script += f" || touch $(dirname {target})/new"
        expect((await lab.shell(sandbox, script)).exit_code != 0, f"{target} can be changed")
    expect_equal(source.read_text(), "input", "the host's file")


@TRIALS
async def executable_inputs_run(lab: Lab) -> None:
    """An executable input can be run, whatever mode the host's file has; others can't; it stays read-only, and what
    turns from one into the other is exchanged."""
    source = _source(lab, "#!/bin/sh\necho ran\n")
    place, beside = f"{SKILLS}/some/scripts/run", f"{SKILLS}/some/SKILL.md"
    mounts = [Mount(source=source, target=place, executable=True), Mount(source=source, target=beside)]
    sandbox = await lab.sandbox(mounts=mounts)
    expect_equal(await lab.text(sandbox, place), "ran", "what it said")
    expect((await lab.shell(sandbox, beside)).exit_code == 126, "a plain input can be run")
    for change in (
        f"echo x >> {place}",
        f"rm {place}",
        f"chmod 700 {place}",
        f"touch {SKILLS}/some/x",
        f"mv {SKILLS} /tmp",
    ):
        expect((await lab.shell(sandbox, change)).exit_code != 0, f"{change} is possible")
    await sandbox.set_mounts([Mount(source=source, target=beside, executable=True)])
    expect_equal(await lab.text(sandbox, f"{beside}; ls -A {SKILLS}/some"), "ran\nSKILL.md", "what is left")
    expect_equal(source.stat().st_mode & 0o777, 0o600, "the mode of the host's file")


@TRIALS
async def inputs_come_while_it_lives(lab: Lab) -> None:
    """The inputs of a live sandbox can be changed: added, exchanged, taken away; what is the agent's own stays."""
    first = [Mount(source=_source(lab, "one"), target=target) for target in (f"{UPLOADS}/a", f"{WORKSPACE}/sub/c")]
    sandbox = await lab.sandbox(mounts=first)
    other = _source(lab, "two", "other")
    targets = (f"{UPLOADS}/a", f"{UPLOADS}/b/b", f"{WORKSPACE}/sub/c", "/new/top/d")
    await sandbox.set_mounts([Mount(source=other, target=target) for target in targets])
    expect_equal(await lab.text(sandbox, f"cat {' '.join(targets)}"), "twotwoonetwo", "the inputs")
    await sandbox.set_mounts([])
    seen = await lab.text(sandbox, f"cat {WORKSPACE}/sub/c; ls -A {UPLOADS} /new/top | xargs")
    expect_equal(seen, f"one{UPLOADS}: /new/top:", "what is left")


@TRIALS
async def inputs_do_not_follow_planted_links(lab: Lab) -> None:
    """A link of the agent's on the way to a target, or at it, is not followed to the host."""
    victim = lab.folder / "victim"
    victim.mkdir()
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, f"ln -s {victim} link; ln -s {victim}/file leaf; ln -s /tmp tmp")
    for target in (f"{WORKSPACE}/link/file", f"{WORKSPACE}/leaf", f"{WORKSPACE}/tmp/file"):
        try:
            await sandbox.set_mounts([Mount(source=_source(lab, "x"), target=target)])
        except ValueError:
            continue
    expect_equal(list(victim.iterdir()), [], "the host's folder")


@TRIALS
async def inputs_stay_out_of_the_system(lab: Lab) -> None:
    """A target that is relative, climbs, or lies among the system's files is refused."""
    sandbox = await lab.sandbox()
    source = _source(lab, "x")
    for target in ("relative", "/../x", "/a/../../x", "/a//b", "/", "/a/./b", "/usr/bin/x", "/etc/passwd", "/proc/x"):
        try:
            await sandbox.set_mounts([Mount(source=source, target=target)])
        except ValueError:
            continue
        raise Failed(f"a mount at {target!r} was accepted")


async def _read(sandbox: Sandbox, path: str) -> bytes:
    return b"".join([chunk async for chunk in sandbox.read_output(path)])


@TRIALS
async def outputs_are_listed_and_read(lab: Lab) -> None:
    """Regular files below the outputs are listed with their size and read whole, whatever their name."""
    sandbox = await lab.sandbox()
    await lab.shell(
        sandbox, f"cd {OUTPUTS}; mkdir -p a/b; head -c 3000000 /dev/zero > a/b/big; echo hi > 'né w'; ln big x"
    )
    found = {file.path: file.size_bytes for file in await sandbox.outputs()}
    expect_equal(found, {"a/b/big": 3_000_000, "né w": 3}, "the outputs")
    expect_equal(len(await _read(sandbox, "a/b/big")), 3_000_000, "the bytes read")


@TRIALS
async def outputs_do_not_follow_planted_links(lab: Lab) -> None:
    """Links, pipes and sockets among the outputs are neither listed nor read, and nobody waits for a pipe."""
    secret = _source(lab, "secret")
    sandbox = await lab.sandbox()
    script = (
        f"cd {OUTPUTS}; ln -s {secret} leak; ln -s {lab.folder} folder; ln -s / root; mkfifo pipe; echo ok > fine; "
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")'"
    )
    await lab.shell(sandbox, script)
    expect_equal([file.path for file in await sandbox.outputs()], ["fine"], "the outputs")
    for path in ("leak", "folder/source", "root/etc/passwd", "pipe", "sock", "../home", "/etc/passwd", "gone", ""):
        try:
            await _read(sandbox, path)
        except FileNotFoundError:
            continue
        raise Failed(f"{path!r} was read")


_SWAP = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
folder, victim = sys.argv[1:]
os.makedirs(f"{folder}/way", exist_ok=True)
for name in ("secret", "leaf"):
    open(f"{folder}/way/{name}", "w").write("own")
os.symlink(victim, f"{folder}/link")
os.symlink(f"{victim}/secret", f"{folder}/leaf")
os.mkfifo(f"{folder}/pipe")
open(f"{folder}/plain", "w").write("own")
pairs = (("way", "link"), ("leaf", "way/leaf"), ("plain", "pipe"))
pairs = [tuple(f"{folder}/{name}".encode() for name in pair) for pair in pairs]
open("/tmp/swapping", "w").close()
while True:
    for one, other in pairs:
        libc.renameat2(-100, one, -100, other, 2)  # exchanges them at once
"""


@contextlib.asynccontextmanager
async def _swapping(lab: Lab, sandbox: Sandbox, folder: str, victim: Path) -> AsyncIterator[None]:
    call_id = lab.call_id()
    program = Exec(argv=["python3", "-c", _SWAP, folder, str(victim)])
    swapping = asyncio.create_task(sandbox.run(call_id, program))

    async def begun() -> bool:
        return (await lab.run(sandbox, Exec(argv=["test", "-e", "/tmp/swapping"]))).exit_code == 0

    await until(begun, "the swapping did not begin")
    yield
    expect(not swapping.done(), "the swapping ended before")
    await sandbox.cancel(call_id)
    await swapping


def _rounds() -> Iterator[int]:
    """Rounds of a race, as many as some seconds allow: one may take a millisecond or, in a container, many more."""
    until = time.monotonic() + 3
    for number in range(60):
        yield number
        if number >= 5 and time.monotonic() > until:
            return


@TRIALS
async def no_race_leads_outputs_to_the_host(lab: Lab) -> None:
    """While the agent exchanges folders for links and files for pipes, no file of the host is listed or read, and
    nobody waits for a pipe."""
    _source(lab, "host", "secret")
    sandbox = await lab.sandbox()
    async with _swapping(lab, sandbox, OUTPUTS, lab.folder):
        for _ in _rounds():
            async with asyncio.timeout(30):
                listed = [output.path for output in await sandbox.outputs()]
                for path in {*listed, "way/secret", "link/secret", "leaf", "way/leaf", "plain", "pipe"}:
                    with contextlib.suppress(FileNotFoundError):
                        expect_equal(await _read(sandbox, path), b"own", f"what was read as {path}")


@TRIALS
async def no_race_leads_inputs_to_the_host(lab: Lab) -> None:
    """While the agent exchanges a folder on the way for a link, no input is placed outside."""
    source = _source(lab, "in")
    victim = lab.folder / "victim"
    victim.mkdir()
    victim.chmod(0o777)
    sandbox = await lab.sandbox()
    async with _swapping(lab, sandbox, WORKSPACE, victim):
        for number in _rounds():
            async with asyncio.timeout(30):
                await sandbox.set_mounts([Mount(source=source, target=f"{WORKSPACE}/way/in{number}")])
    expect_equal(list(victim.iterdir()), [], "the host's folder")


@TRIALS
async def odd_outputs_harm_nobody(lab: Lab) -> None:
    """Reading an output that nobody may read, that is leased, or whose name is no text ends in its bytes or in
    FileNotFoundError."""
    sandbox = await lab.sandbox()
    program = (
        f"import fcntl, os, signal, time\nos.chdir('{OUTPUTS}')\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\n"
        "for name in (b'\\xff', b'new\\nline', b'x' * 255, b'locked', b'leased'): open(name, 'w').write('hi')\n"
        "os.chmod('locked', 0)\nfd = os.open('leased', os.O_RDWR)\n"
        "try: fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\nexcept OSError: pass\n"
        "open('/tmp/ready', 'w').close()\ntime.sleep(30)\n"
    )
    call_id = lab.call_id()
    running = asyncio.create_task(sandbox.run(call_id, Exec(argv=["python3", "-c", program])))

    async def ready() -> bool:
        return (await lab.run(sandbox, Exec(argv=["test", "-e", "/tmp/ready"]))).exit_code == 0

    await until(ready, "the outputs were not made")
    read = {}
    for output in await sandbox.outputs():
        try:
            async with asyncio.timeout(5):
                read[output.path] = await _read(sandbox, output.path)
        except FileNotFoundError:
            read[output.path] = b"hi"
    await sandbox.cancel(call_id)
    await running
    expect({"\udcff", "new\nline", "x" * 255} <= set(read) and set(read.values()) == {b"hi"}, f"found {read}")


@TRIALS
async def an_input_whose_way_is_blocked_is_left_out(lab: Lab) -> None:
    """What the agent has put where an input would go costs it that input, and nothing else."""
    spec = lab.spec(mounts=[Mount(source=_source(lab, "in"), target=f"{WORKSPACE}/in/data")])
    sandbox = await lab.backend.provision(spec)
    await lab.shell(sandbox, "rm -rf in; ln -s /etc in; mkdir -p x/data")
    await sandbox.set_mounts([*spec.mounts, Mount(source=_source(lab, "in"), target=f"{WORKSPACE}/x/data")])
    await lab.backend.hibernate(spec.key)
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, "readlink in; ls -d x/data"), "/etc\nx/data", "what the agent made")


@TRIALS
async def locked_folders_cost_their_content(lab: Lab) -> None:
    """An agent that takes away the rights to its own folders loses what would be in them, and nothing else ever."""
    spec = lab.spec()
    sandbox = await lab.backend.provision(spec)
    await lab.shell(sandbox, f"mkdir sub; echo x > {OUTPUTS}/x; chmod 0 sub {OUTPUTS} {WORKSPACE} ~ /tmp; exit")
    expect(all(output.path == "x" for output in await sandbox.outputs()), "there are other outputs")
    for target in (f"{WORKSPACE}/in", f"{WORKSPACE}/sub/in"):
        await sandbox.set_mounts([Mount(source=_source(lab, "x"), target=target)])
    await lab.shell(sandbox, "chmod 0 .; exit")
    await lab.backend.hibernate(spec.key)
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, f"chmod 755 {OUTPUTS}; cat {OUTPUTS}/x"), "x", "the next life")
    expect_equal([output.path for output in await sandbox.outputs()], ["x"], "the outputs")


@TRIALS
async def files_survive_hibernation(lab: Lab) -> None:
    """Everything the agent wrote, wherever it may write, is there after hibernation; destroy leaves nothing."""
    spec = lab.spec(mounts=[Mount(source=_source(lab, "in"), target=f"{UPLOADS}/in")])
    sandbox = await lab.backend.provision(spec)
    places = f"{WORKSPACE} ~ /tmp /mnt/user {OUTPUTS}"
    await lab.shell(sandbox, f"for d in {places}; do echo kept > $d/kept; done")
    await lab.backend.hibernate(spec.key)
    sandbox = await lab.backend.provision(spec)
    expect_equal(
        await lab.text(sandbox, f"for d in {places}; do cat $d/kept; done; cat {UPLOADS}/in"),
        "kept\n" * 5 + "in",
        "files",
    )
    await lab.shell(sandbox, "mkdir -p locked/in; chmod 000 locked/in locked")
    await lab.backend.destroy(spec.key)
    await lab.backend.destroy(spec.key)
    sandbox = await lab.backend.provision(spec)
    expect_equal(await lab.text(sandbox, "ls -A /workspace ~ /tmp | grep -c kept"), "0", "files after destroy")


@TRIALS
async def a_full_tmp_cripples_nothing(lab: Lab) -> None:
    """/tmp is on the session's disk, not in memory of its own that a few files fill up."""
    sandbox = await lab.sandbox()
    found = await lab.text(
        sandbox, "stat -f -c %T /tmp /var/tmp; fallocate -l 700M /tmp/big && echo ok; rm -f /tmp/big"
    )
    expect("tmpfs" not in found and found.endswith("ok"), f"/tmp is {found!r}")
