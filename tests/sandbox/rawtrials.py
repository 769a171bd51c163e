"""What is tried with the raw network, each on a host of its own (rawlab.py).

Run as `python -m sandbox.rawtrials NAME FOLDER`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from hostler.sandbox import launcher
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, Exec, Limits, Network, Sandbox, SandboxSpec
from hostler.sandbox.rawnet import RawNetwork
from hostler.sandbox.selfcheck import selfcheck
from hostler.sandbox.trials import isolation, network
from sandbox.rawlab import HOST, RESOLVER

FAR = "93.184.216.34"
_ASK = """
import socket, sys
def tcp(host, port=7000, prepare=None):
    with socket.socket() as s:
        s.settimeout(4)
        if prepare: prepare(s)
        s.connect((host, port))
        return s.recv(100).decode().strip()
def udp(host, port=7000, data=b"x", prepare=None):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(4)
        if prepare: prepare(s)
        s.connect((host, port))
        s.send(data)
        return s.recv(100).decode().strip()
def attempt(what, *of, **more):
    try: return what(*of, **more)
    except OSError as e: return type(e).__name__ if isinstance(e, TimeoutError) else e.errno
"""
_REFUSED = "113"  # EHOSTUNREACH, at once


def _keys(folder: Path) -> list[str]:
    """Names of two sandboxes that no other test has: control groups are named by them."""
    return [f"{folder.parent.name}-{number}" for number in (1, 2)]


def _key(folder: Path) -> str:
    return _keys(folder)[0]


@contextlib.asynccontextmanager
async def _backend(folder: Path) -> AsyncIterator[BubblewrapBackend]:
    backend = BubblewrapBackend(folder / "sandboxes", raw=RawNetwork())
    try:
        yield backend
    finally:
        for key in _keys(folder):
            await backend.destroy(key)
        await backend.aclose(stop=True)


async def _say(sandbox: Sandbox, program: str) -> list[str]:
    result = await sandbox.run(secrets.token_hex(8), Exec(argv=["python3", "-c", _ASK + program], timeout_ms=60_000))
    assert result.exit_code == 0, f"{result} {result.errors.decode()}"
    return result.output.decode().splitlines()


def _companions(sandbox: Sandbox) -> list[int]:
    """The processes that carry a sandbox's packets: one, which names the sandbox's init among its arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            if words[1:2] == ["raw"] and words[-3] == sandbox.generation.split(":")[1]:
                found.append(int(pid))
    return found


def _status(pid: int, field: str) -> str:
    return Path(f"/proc/{pid}/status").read_text().partition(f"\n{field}:")[2].partition("\n")[0].strip()


def _groups(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


async def _gone(sandbox: Sandbox) -> None:
    async with asyncio.timeout(10):
        while _companions(sandbox):  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.01)


async def the_internet_is_reached(folder: Path) -> None:
    async with _backend(folder) as backend:
        sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
        lines = await _say(sandbox, f"print(tcp('{FAR}')); print(udp('{FAR}')); print(tcp('{FAR}', 22))")
        assert lines == [f"tcp {FAR}", f"udp {FAR} 1", f"tcp {FAR}"]
        lines = await _say(sandbox, f"print(udp('{FAR}', data=bytes(30000))); print(udp('{FAR}', data=b''))")
        assert lines == [f"udp {FAR} 30000", f"udp {FAR} 0"]
        lines = await _say(sandbox, "print(socket.gethostbyname('far.test')); print(tcp('far.test'))")
        assert lines == [FAR, f"tcp {FAR}"]
        program = (
            f"s = socket.create_connection(('{FAR}', 7000)); s.settimeout(20)\n"
            "import hashlib, os, threading\n"
            "data = os.urandom(1 << 16) * 256\n"
            "threading.Thread(target=lambda: (s.sendall(data), s.shutdown(1))).start()\n"
            "f = s.makefile('rb'); f.readline(); print(f.read() == data)\n"
        )
        assert await _say(sandbox, program) == ["True"]
        many = f"c = [socket.create_connection(('{FAR}', 7000)) for _ in range(200)]; print({{s.recv(99) for s in c}})"
        assert await _say(sandbox, many) == [str({f"tcp {FAR}\n".encode()})]
        assert await _say(sandbox, "print(sorted(n for _, n in socket.if_nameindex()))") == ["['lo', 'raw0']"]


_INNER = (
    "10.1.2.3 172.16.5.5 172.31.255.1 192.168.7.7 169.254.169.254 100.64.1.1 168.63.129.16 192.0.0.8 192.0.2.1 "
    f"192.0.2.9 192.88.99.1 198.18.0.1 198.51.100.7 203.0.113.9 240.1.2.3 {RESOLVER} {HOST} 0.1.2.3"
).split()


async def nothing_of_the_hosts_is_reached(folder: Path) -> None:
    """Neither by its address, nor by private ones that do answer out there, nor with sockets that choose their way."""
    with socket.create_server(("0.0.0.0", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        name = f"\0raw-{secrets.token_hex(6)}"
        abstract.bind(name)
        abstract.listen()
        own = server.getsockname()[1]
        async with _backend(folder) as backend:
            sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
            ways = (
                "def device(s): s.setsockopt(socket.SOL_SOCKET, 25, b'raw0\\0')\n"
                "def no_route(s): s.setsockopt(socket.SOL_SOCKET, socket.SO_DONTROUTE, 1)\n"
                "def both(s): device(s); no_route(s)\n"
            )
            loop = (
                f"for host in {_INNER!r} + ['224.0.0.251', '255.255.255.255']:\n"
                " for prepare in (None, device, both):\n"
                f"  for what, port in ((tcp, 7000), (tcp, {own}), (udp, 7000), (udp, 53)):\n"
                "   found = attempt(what, host, port, prepare=prepare)\n"
                "   if not isinstance(found, int): print(host, prepare, what, port, found)\n"
            )
            assert await _say(sandbox, ways + loop) == []
            lines = await _say(sandbox, f"print(attempt(tcp, '10.1.2.3')); print(attempt(tcp, '{HOST}', {own}))")
            assert lines == [_REFUSED, _REFUSED]
            assert await _say(sandbox, "print(attempt(tcp, 'inner.test'))") == [_REFUSED]  # a name that leads inside
            assert await _say(sandbox, f"print(attempt(tcp, '127.0.0.1', {own}))") == ["111"]  # its own loopback
            sneak = (
                "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)\n"
                "import struct\n"
                "index = socket.if_nametoindex('raw0')\n"
                "for host in ('10.1.2.3', '169.254.169.254', '185.199.108.2'):\n"
                " info = struct.pack('=i4s4s', index, bytes(4), bytes(4))\n"
                " attempt(s.sendmsg, [b'x'], [(0, 8, info)], 0, (host, 7000))\n"
                "print(attempt(s.recv, 99))\n"
                f"u = socket.socket(socket.AF_UNIX); print(attempt(u.connect, {name!r}))\n"
                "six = socket.socket(socket.AF_INET6); six.settimeout(2)\n"
                "print(isinstance(attempt(six.connect, ('2606:2800:220:1::1', 7000)), int))\n"
            )
            lines = await _say(sandbox, sneak)
            assert lines[0] in (_REFUSED, "TimeoutError"), lines
            assert lines[1:] == ["111", "True"], lines
            server.settimeout(0)
            with contextlib.suppress(BlockingIOError):
                raise AssertionError(f"the host was reached from {server.accept()[1]}")


_NETLINK = """
import struct
def ask(kind, body, flags=0x405):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    s.send(struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body)
    return -struct.unpack_from("=i", s.recv(4096), 16)[0]
index = socket.if_nametoindex("raw0")
a = socket.inet_aton("10.7.7.7")
print(ask(20, struct.pack("=BBBBI", 2, 8, 0, 0, index) + struct.pack("=HH4s", 8, 2, a)))
print(ask(24, struct.pack("=8BI", 2, 8, 0, 0, 254, 4, 253, 1, 0) + struct.pack("=HH4s", 8, 1, a)))
print(ask(16, struct.pack("=BBHiII", 0, 0, 0, index, 0, 1)))
print(ask(17, struct.pack("=BBHiII", 0, 0, 0, index, 0, 0)))
import fcntl
for request in (0x8914, 0x8916, 0x8922, 0x890b):
    print(attempt(fcntl.ioctl, socket.socket(), request, b"raw0".ljust(40, b"\\0")))
for path in ("/dev/net/tun", "/proc/sys/net/ipv4/ip_forward"):
    print(attempt(open, path, "rb+"))
for kind in (2, 17):
    print(attempt(socket.socket, kind, socket.SOCK_RAW, 255))
print(open("/proc/self/status").read().split("CapBnd:")[1].split()[0])
"""


async def the_agent_cannot_change_its_network(folder: Path) -> None:
    async with _backend(folder) as backend:
        sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
        *answers, capabilities = await _say(sandbox, _NETLINK)
        assert answers[:4] == ["1"] * 4, answers  # EPERM
        assert all(answer.isdigit() and answer != "0" for answer in answers), answers
        assert int(capabilities, 16) == 0
        seen = await _say(sandbox, "import os; print([p for p in os.listdir('/proc') if p.isdigit()])")
        assert len(seen[0].split(",")) <= 2, seen  # the init and this: not ours
        assert _companions(sandbox)


async def datagrams_come_back_to_who_asked_only(folder: Path) -> None:
    """What others send to the port on the host does not get in; two sandboxes with one port do not mix."""
    async with _backend(folder) as backend:
        one, two = [await backend.provision(SandboxSpec(key=key)) for key in _keys(folder)]
        program = (
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', 5353)); s.settimeout(1)\n"
            f"for n in range(1, 40): s.sendto(bytes(n), ('{FAR}', 7000))\n"
            "print({(*s.recvfrom(99), ) for n in range(1, 40)} == "
            f"{{(f'udp {FAR} {{n}}\\n'.encode(), ('{FAR}', 7000)) for n in range(1, 40)}})\n"
            "print(attempt(s.recv, 99))\n"
        )
        both = await asyncio.gather(_say(one, program), _say(two, program))
        assert both == [["True", "TimeoutError"]] * 2, both
        flood = (
            "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            f"for n in range(3000): s.sendto(b'x', ('{FAR}', 10000 + n))\n"
            f"while isinstance(r := attempt(udp, '{FAR}'), int) or 'udp' not in r: pass\n"
            "print(r)"  # what overflowed the queue is lost, as datagrams are
        )
        assert await _say(one, flood) == [f"udp {FAR} 1"]


async def only_open_networks_have_an_interface(folder: Path) -> None:
    async with _backend(folder) as backend:
        for network in (NO_NETWORK, Network(hosts=("example.com",)), Network(hosts=(), package_managers=True)):
            sandbox = await backend.provision(SandboxSpec(key=_key(folder), network=network))
            assert await _say(sandbox, "print([n for _, n in socket.if_nameindex()])") == ["['lo']"], network
            assert await _say(sandbox, f"print(attempt(tcp, '{FAR}'))") == ["101"]
            assert await _say(sandbox, "print('nameserver' in open('/etc/resolv.conf').read())") == ["False"]
            assert _companions(sandbox) == []
            await backend.hibernate(_key(folder))
        sandbox = await backend.provision(SandboxSpec(key=_key(folder)))  # the same folder, opened up
        assert await _say(sandbox, "print(tcp('far.test'))") == [f"tcp {FAR}"]


async def its_processes_end_with_the_sandbox(folder: Path) -> None:
    async with _backend(folder) as backend:
        for end in (backend.hibernate, backend.destroy):
            sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
            assert await _say(sandbox, f"print(tcp('{FAR}'))") == [f"tcp {FAR}"]
            assert len(_companions(sandbox)) == 1
            await end(_key(folder))
            await _gone(sandbox)
        sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
        assert await _say(sandbox, f"print(tcp('{FAR}'))") == [f"tcp {FAR}"]
        users = {_status(pid, "Uid") for pid in _companions(sandbox)}
        wanted = launcher.sandbox_uid(_key(folder)) or os.getuid()
        assert users == {f"{wanted}\t{wanted}\t{wanted}\t{wanted}"}, users
        assert {int(_status(pid, "CapEff"), 16) for pid in _companions(sandbox)} == {0}
        os.kill(int(sandbox.generation.split(":")[1]), signal.SIGKILL)
        await _gone(sandbox)


async def a_server_that_is_killed(folder: Path) -> None:
    sandbox = await BubblewrapBackend(folder / "sandboxes", raw=RawNetwork()).provision(SandboxSpec(key=_key(folder)))
    assert await _say(sandbox, f"print(tcp('{FAR}'))") == [f"tcp {FAR}"]
    os.kill(os.getpid(), signal.SIGKILL)


async def it_outlives_the_server(folder: Path) -> None:
    argv = (sys.executable, "-m", "sandbox.rawtrials", a_server_that_is_killed.__name__, str(folder))
    server = await asyncio.create_subprocess_exec(*argv)
    assert await server.wait() == -signal.SIGKILL
    async with _backend(folder) as backend:
        sandbox = await backend.find(_key(folder))
        assert sandbox is not None
        before = _companions(sandbox)
        assert len(before) == 1
        assert await _say(sandbox, f"print(tcp('{FAR}')); print(udp('{FAR}'))") == [f"tcp {FAR}", f"udp {FAR} 1"]
        assert _companions(sandbox) == before
        await backend.hibernate(_key(folder))
        await _gone(sandbox)


async def without_its_process_there_is_no_interface(folder: Path) -> None:
    async with _backend(folder) as backend:
        sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
        (ours,) = _companions(sandbox)
        os.kill(ours, signal.SIGKILL)
        await _gone(sandbox)
        assert await _say(sandbox, "print([n for _, n in socket.if_nameindex()])") == ["['lo']"]
        assert await _say(sandbox, f"print(attempt(tcp, '{FAR}'))") == ["101"]
        await backend.hibernate(_key(folder))
        sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
        assert await _say(sandbox, f"print(tcp('{FAR}'))") == [f"tcp {FAR}"]


async def what_is_refused_outside_is_refused_inside(folder: Path) -> None:
    async with _backend(folder) as backend:
        sandbox = await backend.provision(SandboxSpec(key=_key(folder)))
        program = (
            f"print(attempt(tcp, '{FAR}', 7001))\n"  # nobody listens there
            "print(attempt(tcp, '192.0.2.2', 1) in ('', 104))\n"  # the agent, calling on our own socket
            f"for n in range(600): assert tcp('{FAR}').startswith('tcp'), n\n"  # more than there are flows
            f"s = socket.create_connection(('{FAR}', 7000)); s.recv(99); s.shutdown(1); print(s.recv(99))\n"
            f"c = [socket.create_connection(('{FAR}', 7000)) for _ in range(256)]; print(attempt(tcp, '{FAR}'))\n"
            f"[s.close() for s in c]\nimport time\n"
            f"while isinstance(r := attempt(tcp, '{FAR}'), int): time.sleep(0.05)\n"
            "print(r)"
        )
        assert await _say(sandbox, program) == ["111", "True", "b''", _REFUSED, f"tcp {FAR}"]


async def memory_and_processes_hold(folder: Path) -> None:
    """A sandbox at its limits keeps its network, and its network keeps to the limits."""
    async with _backend(folder) as backend:
        limits = Limits(memory_bytes=200 * 1024**2, processes=20)
        sandbox = await backend.provision(SandboxSpec(key=_key(folder), limits=limits))
        assert await _say(sandbox, f"print(tcp('{FAR}'))") == [f"tcp {FAR}"]
        for pid in _companions(sandbox):
            assert backend._groups is None or f"/hostler/{_key(folder)}" in _groups(pid)
        hold = f"c = [attempt(socket.create_connection, ('{FAR}', 7000), 2) for _ in range(1000)]; print(udp('{FAR}'))"
        assert await _say(sandbox, "import resource; resource.setrlimit(7, (4096, 4096))\n" + hold) == [f"udp {FAR} 1"]
        assert await _say(sandbox, f"print(tcp('{FAR}'))") == [f"tcp {FAR}"]


async def the_contract_is_kept(folder: Path) -> None:
    """The conformance suite's trials of isolation, over a backend that gives interfaces."""
    trials = (*isolation.TRIALS, *network.TRIALS)
    async with _backend(folder) as backend:
        failed = [check async for check in selfcheck(backend, trials) if not check.ok]
        assert not failed, failed


def main() -> None:
    scenario = globals()[sys.argv[1]]
    asyncio.run(scenario(Path(sys.argv[2])))


if __name__ == "__main__":
    main()
