"""Probes of what belongs to the host: its files, mounts, ports, sockets and processes, from inside a sandbox.

Each program prints what it could do, so an empty answer is a boundary that held. The mutations show that each can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import platform
import re
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostler.sandbox.contract import Shell
from sandbox.escape.worlds import said, sandbox, told

_READ = """
import os, sys
mark, *paths = sys.argv[1:]
roots = ["", "/proc/self/root", "/proc/1/root", "/proc/1/cwd", "/proc/thread-self/root", "/proc/self/cwd"]
roots += ["/.." * 30, "/proc/self/fd/0/../../../../..", "/dev/fd/../root", "/proc/2/root"]
roots += [f"/proc/{process}/{way}" for process in os.listdir("/proc") if process.isdigit() for way in ("root", "cwd")]
for line in open("/proc/self/mountinfo"):
    roots.append(line.split()[4].rstrip("/") + "/.." * 30)
for path in paths:
    for root in roots:
        try:
            if mark in open(root + path).read():
                print("read", root + path)
        except OSError:
            pass
        if os.path.lexists(root + os.path.dirname(path)):
            print("seen", root + os.path.dirname(path))
"""


def _planted(place: Path, mark: str) -> list[str]:
    """Files beside the sandboxes, as the server's database, key and blobs are, and one of another session."""
    found = []
    for name in ("hostler.db", "secret.key", "blobs/ab/cd", "sandboxes/other/files/workspace/x"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(mark)
        path.chmod(0o644)
        found.append(str(path))
    return found


def test_no_file_of_the_server_or_of_another_session(folder: Path) -> None:
    """Also by the paths that mountinfo shows, and through the links of /proc; the modes would let anybody read."""
    mark = secrets.token_hex(16)
    paths = _planted(folder.parent, mark)
    assert told(folder, _READ, mark, *paths) == ""


def test_the_other_processes_of_the_host_do_not_exist(folder: Path) -> None:
    mark = secrets.token_hex(16)
    with subprocess.Popen(
        [sys.executable, "-c", "input()", mark], stdin=subprocess.PIPE, env={"MARK": mark, "PATH": os.environ["PATH"]}
    ) as other:
        program = (
            "import os, signal, sys\n"
            "for process in filter(str.isdigit, os.listdir('/proc')):\n"
            " for name in ('cmdline', 'environ'):\n"
            "  try: sys.argv[1][::-1] in open(f'/proc/{process}/{name}').read() and print(process, name)\n"
            "  except OSError: pass\n"
            "try: os.kill(int(sys.argv[2]), signal.SIGTERM); print('signalled')\n"
            "except ProcessLookupError: pass\n"
            "for call in (os.getsid, os.getpgid, os.pidfd_open, os.sched_getaffinity):\n"
            " try: print(call(int(sys.argv[2])))\n"
            " except ProcessLookupError: pass\n"
        )
        assert other.pid > 100, "a process of that number could be inside"
        assert told(folder, program, mark[::-1], str(other.pid)) == ""
        assert other.poll() is None
        other.communicate(b"end\n")


_MOUNTS = """
for line in open("/proc/self/mountinfo"):
    _, _, _, _, place, options, *_, kind, _, above = line.split()
    options = set(options.split(","))
    own = place in ("/workspace", "/home/agent", "/tmp", "/var/tmp", "/mnt/session/outputs", "/mnt/user", "/dev/shm")
    if "nosuid" not in options:
        print(place, "gives rights to set-user-id programs")
    if "nodev" not in options and kind != "devtmpfs" and not place.startswith("/dev/"):
        print(place, "has devices")
    if "rw" in options and not own and not place.startswith(("/dev/", "/proc")):
        print(place, "can be written")
"""


def test_mounts_give_no_rights_and_no_devices(folder: Path) -> None:
    """A set-user-id program or a device file, wherever it lies, is an ordinary file; only the agent's folders are
    writable."""
    assert told(folder, _MOUNTS) == ""


_FOREIGN = """
import ctypes, errno, mmap, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
def call(number, *args):
    ctypes.set_errno(0)
    value = libc.syscall(number, *args)
    return value, ctypes.get_errno()
if x86:
    room = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    room.write(b"\\x53\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\x5b\\xc3")  # getpid by int 0x80
    at = ctypes.addressof(ctypes.c_char.from_buffer(room))
    value = ctypes.CFUNCTYPE(ctypes.c_int)(at)()
    if value != -errno.ENOSYS:
        print("a 32-bit call", value)
    if call(0x40000000 + 39) != (-1, errno.ENOSYS):
        print("a call of x32")
for number in (470, 471, 480, 512, 600, 1000):
    if call(number, 0, 0, 0, 0, 0, 0) != (-1, errno.ENOSYS):
        print("a call that nobody has looked at", number)
quiet = {"statmount": (457,), "listmount": (458,), "name_to_handle_at": ((303 if x86 else 264), -100, b"/", 0, 0, 0),
         "mbind": ((237 if x86 else 235), 0, 0, 0, 0, 0, 0), "adjtimex": ((159 if x86 else 171), 0),
         "large semaphore set": ((64 if x86 else 190), 0, 257, 0o1600), "lease": ((72 if x86 else 25), 0, 1024, 1)}
for name, (number, *args) in quiet.items():
    value, error = call(number, *args)
    if value >= 0 or error not in (errno.EPERM, errno.EINVAL):
        print(name, value, error)
"""


def test_calls_of_other_machines_and_of_later_kernels(folder: Path) -> None:
    """The filter knows the numbers of this machine; calls by another door, and those it does not know, are none."""
    assert told(folder, _FOREIGN) == ""


def test_the_users_keys_are_not_even_named(folder: Path) -> None:
    """A server of an ordinary user has that user's keyrings; the agent is the same user to the kernel."""
    libc, x86 = ctypes.CDLL(None), platform.machine() == "x86_64"
    key = libc.syscall(248 if x86 else 217, b"user", b"ticket-of-the-server", b"secret", 6, -4)
    program = (
        "for name in ('keys', 'key-users'):\n try: print(open(f'/proc/{name}').read(), end='')\n except OSError: pass\n"
    )
    try:
        assert told(folder, program) == ""
    finally:
        libc.syscall(250 if x86 else 219, 9, key, -4)  # take it out of the user's ring


def test_a_terminal_takes_no_input_from_inside(folder: Path) -> None:
    """Typing for whoever owns the terminal, and other kinds of lines, which load modules of the kernel."""
    program = (
        "import fcntl, os, pty, struct\n"
        "master, slave = pty.openpty()\n"
        "for name, number, value in (('TIOCSTI', 0x5412, b'x'), ('TIOCLINUX', 0x541C, b'\\x03'), "
        "('TIOCSETD', 0x5423, struct.pack('i', 2)), ('high bits', 0x5412 | 1 << 32, b'x')):\n"
        " try: fcntl.ioctl(slave, number & 0xFFFFFFFF, value); print(name)\n"
        " except OSError as e: e.errno == 1 or print(name, e)\n"
        "try: os.close(os.open('/dev/tty', os.O_RDWR)); print('it has a terminal')\n"
        "except OSError: pass\n"
    )
    assert told(folder, program) == ""


def _addresses() -> list[str]:
    """Every address of this host, of each interface."""
    found = {"127.0.0.1", "::1"}
    with contextlib.suppress(OSError):
        found |= {line.split()[1] for line in Path("/proc/net/fib_trie").read_text().splitlines() if "|--" in line}
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            found.add(socket.inet_ntop(socket.AF_INET6, bytes.fromhex(line.split()[0])))
    return sorted(a for a in found if not a.endswith(".0") and not a.endswith(".255"))


@contextlib.contextmanager
def _listening(place: Path) -> Iterator[tuple[int, list[socket.socket], str, str]]:
    """This host on all its addresses with TCP and UDP, on an abstract name and on a path that the agent may know."""
    name, path = f"\0probe-{secrets.token_hex(8)}", f"/tmp/p-{secrets.token_hex(6)}"
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True))
        port = tcp.getsockname()[1]
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("0.0.0.0", port))
        abstract, named = (stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(2))
        abstract.bind(name)
        named.bind(path)
        stack.callback(os.unlink, path)
        os.chmod(path, 0o777)
        for listener in (abstract, named):
            listener.listen()
        for each in (tcp, udp, abstract, named):
            each.setblocking(False)
        yield port, [tcp, udp, abstract, named], name, path


_CONNECT = """
import json, socket
port, addresses, names = json.loads(ARGUMENT)
def attempt(family, kind, to):
    try:
        with socket.socket(family, kind) as s:
            s.settimeout(0.5)
            s.connect(to)
            s.send(b"x")
            if kind == socket.SOCK_STREAM:
                print("connected", to)
    except OSError:
        pass
for address in addresses:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        attempt(family, kind, (address, port))
for name in names:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET):
        attempt(socket.AF_UNIX, kind, name)
found = sorted(name for _, name in socket.if_nameindex())
if found != ["lo"]:
    print(found)
for line in open("/proc/net/route").read().splitlines()[1:]:
    print("a route", line)
"""


def test_no_port_and_no_socket_of_the_host(folder: Path) -> None:
    """On no address of any interface, by TCP or UDP, and by no name: what listens hears nothing at all."""
    with _listening(folder.parent) as (port, listeners, name, path):
        addresses = [*_addresses(), "0.0.0.0", "::", "169.254.169.254", "255.255.255.255", "224.0.0.1"]
        paths = [
            name,
            path,
            f"/proc/1/root{path}",
            str(folder / "hostile" / "init.sock"),
            "\0/org/freedesktop/systemd1",
        ]
        paths += ["/run/dbus/system_bus_socket", "/var/run/docker.sock", "/run/systemd/private", "/run/nscd/socket"]
        argument = json.dumps([port, addresses, paths])
        assert told(folder, _CONNECT.replace("ARGUMENT", repr(argument))) == ""
        for listener in listeners:
            with pytest.raises(BlockingIOError):
                listener.recv(1) if listener.type == socket.SOCK_DGRAM else listener.accept()


def test_a_sandbox_is_no_way_into_another(folder: Path) -> None:
    """Neither's ports, abstract names or files are the other's, though both have the same address and user."""

    async def main() -> None:
        async with sandbox(folder, key="one") as one, sandbox(folder, key="two") as two:
            serve = (
                "import socket, subprocess, sys\n"
                "a = socket.create_server(('127.0.0.1', 7777)); b = socket.socket(socket.AF_UNIX)\n"
                "b.bind('\\0meeting'); b.listen()\n"
                "subprocess.Popen(['sleep', '60'], pass_fds=[a.fileno(), b.fileno()], stdout=subprocess.DEVNULL)\n"
                "open('/tmp/left', 'w').write('x'); open('/workspace/left', 'w').write('x')\n"
            )
            await one.run("serve", Shell(script=f'python3 -c "{serve}"'))
            connect = (
                "import os, socket\n"
                "for family, to in ((socket.AF_INET, ('127.0.0.1', 7777)), (socket.AF_UNIX, '\\0meeting')):\n"
                " try: socket.socket(family).connect(to); print('connected')\n"
                " except OSError: pass\n"
                "print(*(p for p in ('/tmp/left', '/workspace/left') if os.path.exists(p)), end='')\n"
            )
            assert await said(two, connect) == ""
            assert "connected" in await said(one, connect)

    asyncio.run(main())


def test_the_host_knows_its_own(folder: Path) -> None:
    """The processes of a sandbox are no root's on the host, have no capability there, and none survives its end."""

    async def main() -> tuple[list[str], str]:
        async with sandbox(folder) as inside:
            mark = str(10**8 + secrets.randbelow(10**8))
            program = (
                "import subprocess\n"
                f"subprocess.Popen(['sleep', '{mark}'], start_new_session=True, stdout=subprocess.DEVNULL)"
            )
            await inside.run("leave", Shell(script=f'python3 -c "{program}"'))
            return _status_of(mark), mark

    status, mark = asyncio.run(main())
    assert status, "the process was not found: the probe proves nothing"
    text = "\n".join(status)
    assert re.search(r"^Uid:\t([1-9]\d*)\t\1\t\1\t\1$", text, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", text, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", text, re.MULTILINE)
    assert _status_of(mark) == []


def _status_of(mark: str) -> list[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (process / "cmdline").read_bytes() == b"sleep\0" + mark.encode() + b"\0":
                return (process / "status").read_text().splitlines()
    return []
