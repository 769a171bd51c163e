"""Trials of snapshots: what is kept of a sandbox, and what a hostile agent or archive can't make of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from hostler.sandbox import snapshots
from hostler.sandbox.contract import OUTPUTS, UPLOADS, WORKSPACE, Mount, Snapshot, SnapshotDamaged, SnapshotTooLarge
from hostler.sandbox.lab import Failed, Lab, Trials, expect, expect_equal
from hostler.sandbox.tarstream import FOLDER, HARD_LINK, SYMLINK, Member, Writer

TRIALS = Trials()

_ODD = f"""
cd {WORKSPACE}; mkdir -p deep/er; echo hi > deep/er/file; chmod 640 deep/er/file; ln deep/er/file hard; ln -s /etc soft
mkfifo pipe; chmod 600 pipe; truncate -s 3G sparse; printf x | dd of=sparse bs=1 seek=1G conv=notrunc status=none
printf odd > $'\\xff\\n'; chmod 000 deep/er; chmod 1750 deep; touch -d @1234567890.123456789 hard
python3 -c 'import os; os.setxattr("hard", "user.note", b"\\xff\\0x")' 2>/dev/null
for d in ~ /tmp /var/tmp /mnt/user {OUTPUTS}; do echo kept > $d/kept; done; export KEPT=yes; cd /tmp
"""
_LOOK = f"""
echo $KEPT $PWD; cd {WORKSPACE}; stat -c '%a %F' deep; chmod 700 deep/er; cat deep/er/file; stat -c '%a %h %.9Y' hard
readlink soft; stat -c '%F %a' pipe; stat -c %s sparse; du -k sparse | cut -f1
dd if=sparse bs=1 skip=1G count=1 status=none
cat $'\\xff\\n'; for d in ~ /tmp /var/tmp /mnt/user {OUTPUTS}; do cat $d/kept; done
python3 -c 'import os; print(os.listxattr("hard") in ([], ["user.note"]))'; touch deep/new
"""


async def _kept(lab: Lab, key: str, name: str = "snapshot") -> tuple[Path, Snapshot]:
    target = lab.folder / name
    snapshot = await lab.backend.snapshot(key, target)
    if snapshot is None:
        raise Failed("a sandbox that is there gave no snapshot")
    return target, snapshot


@TRIALS
async def a_snapshot_holds_everything(lab: Lab) -> None:
    """Files of every kind, modes, times, holes, odd names and the shell's state come back in another sandbox, as its
    own; what the host mounts is not part of it."""
    source = lab.folder / "input"
    source.write_text("in")
    spec = lab.spec(mounts=[Mount(source=source, target=f"{UPLOADS}/in")])
    sandbox = await lab.backend.provision(spec)
    await lab.shell(sandbox, _ODD)
    await lab.backend.hibernate(spec.key)
    target, snapshot = await _kept(lab, spec.key)
    content = target.read_bytes()
    expect_equal(snapshot, Snapshot(bytes=len(content), sha256=hashlib.sha256(content).hexdigest()), "the receipt")
    expect(len(content) < 1_000_000, "holes are stored")
    await lab.backend.destroy(spec.key)
    other = lab.spec()
    await lab.backend.restore(other.key, target, snapshot)
    found = await lab.text(await lab.backend.provision(other), _LOOK)
    lines = found.split("\n")
    wanted = ["yes /tmp", "1750 directory", "hi", "640 2 1234567890.123456789", "/etc", "fifo 600", str(3 * 1024**3)]
    expect_equal(lines[:7], wanted, "what came back")
    expect(int(lines[7]) < 1024, f"the holes are {lines[7]} KiB now")
    expect_equal(lines[8:], ["xoddkept", "kept", "kept", "kept", "kept", "True"], "what else came back")
    expect_equal(await lab.text(await lab.backend.provision(other), f"ls {UPLOADS}"), "", "the inputs")


@TRIALS
async def a_live_sandbox_gives_a_snapshot(lab: Lab) -> None:
    """A snapshot leaves a live sandbox as it is, shell and background processes included; without a sandbox there is
    none."""
    spec = lab.spec()
    expect(await lab.backend.snapshot(spec.key, lab.folder / "none") is None, "a sandbox that never was gave one")
    expect(not (lab.folder / "none").exists(), "there is a file of a sandbox that never was")
    sandbox = await lab.backend.provision(spec)
    await lab.shell(sandbox, "KEPT=yes; sleep 60 & echo one > file")
    target, snapshot = await _kept(lab, spec.key)
    expect_equal(await lab.text(sandbox, "echo $KEPT; jobs -r | wc -l; echo two > file"), "yes\n1", "the live one")
    await lab.backend.restore(spec.key, target, snapshot)
    sandbox = await lab.backend.provision(spec)
    expect_equal(
        await lab.text(sandbox, f"cat {WORKSPACE}/file; echo $KEPT; pgrep -c sleep"), "one\nyes\n0", "restored"
    )


@TRIALS
async def a_damaged_snapshot_changes_nothing(lab: Lab) -> None:
    """A snapshot that is cut, changed, missing or none at all is refused, and the sandbox that is there stays."""
    spec = lab.spec()
    sandbox = await lab.backend.provision(spec)
    await lab.shell(sandbox, "head -c 300000 /dev/urandom > file")
    target, snapshot = await _kept(lab, spec.key)
    await lab.shell(sandbox, "echo now > file")
    whole = target.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damaged in (whole[:-9], whole[:middle], changed, b"", b"no archive", None):
        target.unlink(missing_ok=True)
        if damaged is not None:
            target.write_bytes(damaged)
        await _refused(lab, spec.key, target, snapshot)
    target.write_bytes(whole)
    await _refused(lab, spec.key, target, msgspec.structs.replace(snapshot, sha256="0" * 64))
    expect_equal(await lab.text(await lab.backend.provision(spec), f"cat {WORKSPACE}/file"), "now", "the file")


async def _refused(lab: Lab, key: str, source: Path, snapshot: Snapshot) -> None:
    try:
        await lab.backend.restore(key, source, snapshot)
    except SnapshotDamaged:
        return
    raise Failed("a damaged snapshot was accepted")


@TRIALS
async def a_hostile_snapshot_reaches_nothing(lab: Lab) -> None:
    """Entries that climb, follow a link, name another place, replace what is there or carry a device are refused."""
    victim = lab.folder / "victim"
    victim.write_text("safe")
    outside = str(lab.folder).encode()
    link = Member(path=b"workspace/out", kind=SYMLINK, link=outside)
    tries: list[list[Member]] = [
        [Member(path=b"workspace/../../x")],
        [Member(path=b"/workspace/x")],
        [Member(path=b"etc/x")],
        [Member(path=b"workspace//x")],
        [Member(path=b"root/x")],
        [Member(path=b"workspace", kind=SYMLINK, link=outside)],
        [link, Member(path=b"workspace/out/victim")],
        [link, Member(path=b"workspace/out", kind=FOLDER)],
        [link, Member(path=b"workspace/out")],
        [Member(path=b"workspace/hard", kind=HARD_LINK, link=outside[1:] + b"/victim")],
        [link, Member(path=b"workspace/hard", kind=HARD_LINK, link=b"workspace/out/victim")],
        [Member(path=b"workspace/device", kind=b"3")],
        [Member(path=b"workspace/a", xattrs={b"security.capability": b"x"})],
    ]
    for number, members in enumerate(tries):
        spec, target = lab.spec(), lab.folder / f"hostile{number}"

        def fill(writer: Writer, members: list[Member] = members) -> None:
            for member in members:
                writer.add(member)

        await _refused(lab, spec.key, target, snapshots.write(target, fill))
    expect_equal(victim.read_text(), "safe", "the host's file")


@TRIALS
async def snapshots_are_bounded(lab: Lab) -> None:
    """A sandbox with more than the limit gives no snapshot and no file, and goes on."""
    spec = lab.spec()
    sandbox = await lab.backend.provision(spec)
    await lab.shell(sandbox, "head -c 3000000 /dev/zero > file")
    target = lab.folder / "large"
    try:
        await lab.backend.snapshot(spec.key, target, limit_bytes=1_000_000)
    except SnapshotTooLarge:
        pass
    else:
        raise Failed("a snapshot larger than its limit was made")
    expect_equal([path.name for path in lab.folder.iterdir()], [], "files that are left")
    expect_equal(await lab.text(sandbox, "wc -c < file"), "3000000", "the file")
