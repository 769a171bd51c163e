"""Starts bwrap with an init inside it, and finds and ends that init again by process id and start time.

Knows the command line of bwrap and of `hostler-init launch`; knows nothing of calls. Refuses to run as the host's root.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import select
import signal
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from hostler.sandbox import seccomp
from hostler.sandbox.contract import SandboxUnavailable
from hostler.sandbox.rootfs import UID, WRITABLE, Bind, Layout, outside
from hostler.sandbox.stacking import Overlay

_STAGE = "/tmp/hostler-stage"
_NAMESPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
    "--new-session",
)
_SHM_BYTES = 256 * 1024 * 1024
_TMPFS = [word for name in ("/run", "/root") for word in ("--size", str(64 * 1024 * 1024), "--tmpfs", name)]
_START_SECONDS = 15.0
_MOST_DESCRIPTORS = 65536
# A range that systemd gives to services without a name of their own; it also exists in containers with 65,536 ids.
_FIRST_UID, _UIDS = 61184, 4096


class Running(msgspec.Struct, frozen=True):
    """The init of a sandbox as the host sees it."""

    pid: int
    start_time: int
    boot_id: str


class Host(msgspec.Struct, frozen=True):
    """What a start needs and does not differ between sandboxes."""

    bwrap: Path
    init: Path
    binds: tuple[Bind, ...]  # read-only things of the host that every sandbox sees
    overlays: tuple[Overlay, ...] = ()
    system: bool = False  # the init and all else inside are root there, which is nobody outside


def sandbox_uid(key: str, *, system: bool = False) -> int | None:
    """The unprivileged user of a sandbox whose server is root; None when the server's own user will do. All builds of
    the system have the same one, since they begin with the same files."""
    if system:
        return _FIRST_UID + _UIDS if os.geteuid() == 0 else None
    return _FIRST_UID + zlib.crc32(key.encode()) % _UIDS if os.geteuid() == 0 else None


def descriptors() -> int:
    """How many a program inside may have: half of ours. Those on their way through sockets count for the user, who is
    ours too where the server is not root's, and the kernel refuses whoever has a limit below their number."""
    ours, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, min(_MOST_DESCRIPTORS, ours // 2))


class _Stage:
    """Names paths of the host so that bwrap reaches them: as they are, or, for root, below a folder of its own."""

    def __init__(self, uid: int | None) -> None:
        self.uid = uid
        self.options: list[str] = []

    def path(self, source: Path, name: str) -> str:
        if self.uid is None:
            return str(source)
        self.options += ["--stage", str(source), name]
        return f"{_STAGE}/{name}"

    def program(self, bwrap: Path) -> str:
        """bwrap with the libraries that its wheel has beside it, at the same distance."""
        if self.uid is None or str(bwrap).startswith("/usr/"):
            return str(bwrap)
        libraries = bwrap.parent.parent.with_name(bwrap.parent.parent.name + ".libs")
        if libraries.is_dir():
            self.path(libraries, f"bw/{libraries.name}")
        return self.path(bwrap.parent, f"bw/{bwrap.parent.parent.name}/{bwrap.parent.name}") + f"/{bwrap.name}"


def _bwrap_options(host: Host, layout: Layout, stage: _Stage, folders: Sequence[str]) -> list[str]:
    options = [*_NAMESPACES, *_as_user(0 if host.system else UID), "--as-pid-1", "--clearenv", "--hostname", "sandbox"]
    options += ["--ro-bind", stage.path(layout.root, "root"), "/"]
    for number, overlay in enumerate(host.overlays):
        options += _overlay_options(overlay, number, stage)
    for number, bind in enumerate(host.binds):
        source = str(bind.source) if _is_public(bind.source) else stage.path(bind.source, f"bind{number}")
        options += ["--ro-bind", source, bind.target]
    for name, inside in WRITABLE.items():
        options += ["--bind", stage.path(layout.files / name, f"files/{name}"), inside]
    for inside in outside(folders):
        options += ["--bind", stage.path(layout.extra(inside), f"files/{layout.extra(inside).name}"), inside]
    options += ["--dev", "/dev", "--perms", "1777", "--size", str(_SHM_BYTES), "--tmpfs", "/dev/shm"]
    options += ["--remount-ro", "/dev", "--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys"]
    for name in ("sysrq-trigger", "irq", "bus"):
        if Path("/proc", name).exists():
            options += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in ("keys", "key-users"):  # of the user who is the server's own too, where that is not root
        if Path("/proc", name).exists():
            options += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    options += _TMPFS if host.system else []
    return [*options, "--chdir", "/"]


def _as_user(uid: int) -> list[str]:
    return ["--uid", str(uid), "--gid", str(uid)]


def _overlay_options(overlay: Overlay, number: int, stage: _Stage) -> list[str]:
    options = []
    for place, lower in enumerate(overlay.lowers):
        options += ["--overlay-src", str(lower) if _is_public(lower) else stage.path(lower, f"over{number}/{place}")]
    if overlay.changes is None:
        return [*options, "--ro-overlay", overlay.target]
    changes = stage.path(overlay.changes, f"over{number}/changes")
    return [*options, "--overlay", f"{changes}/up", f"{changes}/work", overlay.target]


def _is_public(source: Path) -> bool:
    return str(source).startswith(("/usr/", "/etc/")) or str(source) in ("/usr", "/bin", "/sbin")


def command_line(
    host: Host,
    layout: Layout,
    uid: int | None,
    folders: Sequence[str] = (),
    *,
    listen: int,
    config: int,
    filter: int,
    info: int,
    groups: list[int],
) -> list[str]:
    """The whole command, from our launcher to the init inside."""
    stage = _Stage(uid)
    program = stage.program(host.bwrap)
    inner = [program, *_bwrap_options(host, layout, stage, folders), "--seccomp", str(filter), "--info-fd", str(info)]
    inner += ["--", "/opt/hostler/init", str(listen), str(config)]
    drop = [] if uid is None else ["--drop", str(uid), str(uid), *stage.options]
    joins = [word for fd in groups for word in ("--join", str(fd))]
    return [str(host.init), "launch", *joins, *drop, "--", *inner]


async def start(
    host: Host,
    layout: Layout,
    uid: int | None,
    config: list[str],
    listen: int,
    groups: list[int],
    started: Callable[[Running], None],
    folders: Sequence[str] = (),
) -> int:
    """Start a sandbox and return the process id of bwrap, a child that must be waited for.

    `started` hears of its init before the init does anything. Raises `SandboxUnavailable`.
    """
    read_info, write_info = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, read_info)
        ends = stack.enter_context(contextlib.ExitStack())
        ends.callback(os.close, write_info)
        files = [ends.enter_context(_memory(seccomp.program(system=host.system)))]
        text = "".join(f"{line}\0" for line in config).encode("utf-8", "surrogatepass")
        files.append(ends.enter_context(_memory(text)))
        argv = command_line(
            host, layout, uid, folders, listen=listen, config=files[1], filter=files[0], info=write_info, groups=groups
        )
        # bwrap has the reading end too: should we die now, its word does not fail, and its child is not left waiting
        # for it forever. The init ends by itself when nobody calls.
        child = spawn(argv, layout.log, [listen, read_info, write_info, *files, *groups])
        ends.close()
        info = await _read_info(read_info)
    try:
        pid = int(msgspec.json.decode(info)["child-pid"])
        started(running(pid))
    except (msgspec.MsgspecError, KeyError, ProcessLookupError) as error:
        raise SandboxUnavailable(f"bubblewrap did not start: {explain(layout.log)}") from error
    return child


def spawn(argv: list[str], log: Path, fds: list[int]) -> int:
    """Start the launcher with an empty environment and these descriptors; return its process id.

    Not with `subprocess`: its objects complain when the process outlives them, and outliving is the point.
    """
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1),
        (os.POSIX_SPAWN_OPEN, 2, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in fds),  # onto itself: stays open in the program
    ]
    try:
        return os.posix_spawn(argv[0], argv, {}, file_actions=actions, setsid=True, setsigmask=[])
    except OSError as error:
        raise SandboxUnavailable(f"cannot run {argv[0]}: {error}") from error


async def _read_info(fd: int) -> bytes:
    return await read_word(fd, b"}", _START_SECONDS)


async def read_word(fd: int, end: bytes, seconds: float) -> bytes:
    """Read a pipe up to `end` or to its end. Raises `SandboxUnavailable` when that takes too long."""
    loop, data, done = asyncio.get_running_loop(), bytearray(), asyncio.Event()

    def readable() -> None:
        with contextlib.suppress(BlockingIOError):
            part = os.read(fd, 4096)
            data.extend(part)
            if not part or data.rstrip().endswith(end):
                done.set()

    loop.add_reader(fd, readable)
    try:
        async with asyncio.timeout(seconds):
            await done.wait()
    except TimeoutError:
        raise SandboxUnavailable("bubblewrap did not answer") from None
    finally:
        loop.remove_reader(fd)
    return bytes(data)


def explain(log: Path) -> str:
    """What bwrap or our launcher said before it gave up, with a hint for the usual reason."""
    try:
        text = log.read_bytes()[-2000:].decode(errors="replace").strip()
    except OSError:
        text = ""
    return _with_hint(text)


def _with_hint(text: str) -> str:
    hints = {
        "user namespace": "this machine does not let ordinary users make user namespaces; see docs/sandbox.md",
        "uid map": "this machine does not let ordinary users make user namespaces; see docs/sandbox.md",
        "proc": "this container hides parts of /proc, so a sandbox cannot have its own; see docs/sandbox.md",
        "mount namespace": "root here lacks the right to mount (CAP_SYS_ADMIN); run the server as an ordinary user",
    }
    hint = next((hint for word, hint in hints.items() if word in text), "")
    return f"{text or 'it ended without a word'}{' - ' + hint if hint else ''}"


def trial(bwrap: Path, init: Path, overlay: Path | None = None) -> str | None:
    """Start a sandbox without a session that ends at once; return why it does not start, None when it does. `overlay`
    is an empty folder: then the sandbox changes /usr for itself, in there."""
    uid = sandbox_uid("trial")
    stage = _Stage(uid)
    program = stage.program(bwrap)
    more, script = [], ":"
    if overlay is not None:
        overlay.chmod(0o755)
        for folder in (overlay / "up", overlay / "work"):
            folder.mkdir()
            if uid is not None:
                os.chown(folder, uid, uid)
        place = stage.path(overlay, "overlay")
        more = ["--overlay-src", "/usr", "--overlay", f"{place}/up", f"{place}/work", "/usr"]
        script = ": > /usr/hostler-trial"
    drop = [] if uid is None else ["--drop", str(uid), str(uid), *stage.options]
    options = [*_NAMESPACES, *_as_user(UID), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", *more]
    argv = [str(init), "launch", *drop, "--", program, *options, "--", "/bin/sh", "-c", script]
    done = subprocess.run(argv, env={}, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, timeout=15, check=False)
    return None if done.returncode == 0 else _with_hint(done.stderr[-2000:].decode(errors="replace").strip())


def running(pid: int) -> Running:
    """Describe a process so that it cannot be taken for a later one of the same id. Raises ProcessLookupError."""
    try:
        start_time = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        return Running(pid, start_time, Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    except (FileNotFoundError, IndexError) as error:
        raise ProcessLookupError(pid) from error


def end(init: Running) -> None:
    """Kill the init of a sandbox, and with it all that is inside; wait until it is gone. No-op when it is not there."""
    try:
        handle = os.pidfd_open(init.pid)
    except (ProcessLookupError, OSError):
        return
    try:
        if running(init.pid) == init:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            gone = select.poll()  # select() takes no descriptor above 1023
            gone.register(handle, select.POLLIN)
            gone.poll(5000)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


@contextlib.contextmanager
def _memory(data: bytes) -> Iterator[int]:
    fd = os.memfd_create("hostler", os.MFD_CLOEXEC)
    try:
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)
