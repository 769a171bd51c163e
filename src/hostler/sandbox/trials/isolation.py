"""Trials of isolation: what a hostile program inside can see, reach, and do to what is around it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import ssl
from pathlib import Path

from hostler.sandbox.contract import NO_NETWORK, Exec, Network, Shell
from hostler.sandbox.lab import Lab, Trials, expect, expect_equal, until

TRIALS = Trials()


@TRIALS
async def no_secret_of_the_server_is_inside(lab: Lab) -> None:
    """No process inside shows a variable of the server's environment; the agent's own is built from nothing."""
    sandbox = await lab.sandbox(env={"GIVEN": "yes"})
    found = await lab.text(sandbox, "cat /proc/1/environ /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | sort -u")
    expect("GIVEN=yes" in found, "the environment that was given is missing")
    ours = {f"{name}={value}" for name, value in os.environ.items() if len(value) > 3}
    common = {"LANG", "TERM", "SHELL", "PATH", "DEBIAN_FRONTEND"}
    leaked = {line.partition("=")[0] for line in found.splitlines() if line in ours} - common
    certificates = {
        name for name in leaked if name.endswith(("_CERT_FILE", "_CA_BUNDLE", "_CERT", "_CERTS", "_CAINFO"))
    }
    pip = {name for name in leaked if name.startswith("PIP_")}
    expect(leaked <= certificates | pip, f"variables of the server are inside: {sorted(leaked)}")


@TRIALS
async def no_file_of_the_host_is_inside(lab: Lab) -> None:
    """The host's homes, shadow file, data folder and temporary files do not exist inside."""
    secret = lab.folder / "secret"
    secret.write_text("secret")
    secret.chmod(0o644)
    sandbox = await lab.sandbox()
    files = f"{secret} /proc/1/root{secret} /etc/shadow /proc/1/cwd{secret}"
    script = f"exec 2>/dev/null; cat {files}; ls -A /root /home /run /srv /boot /mnt"
    found = await lab.text(sandbox, f"({script})")
    expect(
        "secret" not in found and "root:x" not in found and "$" not in found, f"a file of the host is inside: {found!r}"
    )
    expect_equal(await lab.text(sandbox, "ls -A /root /run /srv | grep -v : | xargs; ls /home"), "\nagent", "folders")
    expect(
        "hostler-init" not in await lab.text(sandbox, "find / -xdev -type s 2>/dev/null"),
        "a socket of the server is inside",
    )


@TRIALS
async def nobody_inside_is_root_outside(lab: Lab) -> None:
    """No user inside is user 0 of the host, and none has a capability or can get one."""
    sandbox = await lab.sandbox()
    mark = str(10**8 + secrets.randbelow(10**8))
    await lab.shell(sandbox, f"sleep {mark} & true")
    expect("0" not in _users_outside(mark), "the agent is user 0 of the host")
    status = await lab.text(
        sandbox, "grep -E '^(CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'"
    )
    wanted = "".join(f"Cap{n}:0000000000000000\n" for n in ("Prm", "Eff", "Bnd", "Amb")) + "NoNewPrivs:1\nSeccomp:2"
    expect_equal(status, wanted, "what the kernel says of a process")


def _users_outside(mark: str) -> list[str]:
    """As whom the host sees a process with this argument; nothing where the sandbox is not on this host."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark.encode() in (process / "cmdline").read_bytes():
                status = (process / "status").read_text()
                return next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid:"))
    return []


@TRIALS
async def the_hosts_settings_cannot_be_written(lab: Lab) -> None:
    """No file below /proc/sys or /sys can be written, nor anything of /proc that reaches the host."""
    sandbox = await lab.sandbox()
    script = "find /proc/sys /sys /proc/sysrq-trigger /proc/irq /proc/acpi -type f -writable 2>/dev/null | head -3"
    expect_equal(
        await lab.text(sandbox, f"test -w /proc/sys/kernel/hostname && echo writable; {script}"), "", "writable"
    )
    result = await lab.shell(sandbox, "echo x > /proc/sys/kernel/core_pattern || echo 1 > /proc/sys/vm/drop_caches")
    expect(result.exit_code != 0, "a setting of the host was written")


@TRIALS
async def ordinary_programs_still_work(lab: Lab) -> None:
    """Threads, processes, pipes, sockets of its own, temporary files and Python's multiprocessing work."""
    sandbox = await lab.sandbox()
    program = (
        "import multiprocessing as m, socket, threading, tempfile\n"
        "if __name__ == '__main__':\n"
        " with m.Pool(2) as pool: print(sum(pool.map(abs, range(10))))\n"
        " t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        " a, b = socket.socketpair(); a.send(b'x'); print(b.recv(1))\n"
        " s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())\n"
        " print(tempfile.TemporaryFile().fileno() > 0)\n"
    )
    result = await lab.python(sandbox, program)
    expect_equal(
        result.output.split(b"\n")[:4], [b"45", b"thread", b"b'x'", b"True"], f"the output ({result.errors!r})"
    )


@TRIALS
async def the_host_cannot_be_reached(lab: Lab) -> None:
    """The host's loopback and abstract sockets do not answer; there is no interface but the sandbox's own lo, and
    perhaps one more where every public host is permitted."""
    name = f"\0selfcheck-{secrets.token_hex(6)}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(name)
        abstract.listen()
        port = server.getsockname()[1]
        for network in (NO_NETWORK, Network()):
            sandbox = await lab.sandbox(network=network)
            program = (
                "import socket, os\n"
                f"for family, to in ((socket.AF_INET, ('127.0.0.1', {port})), (socket.AF_UNIX, {name!r}), "
                "(socket.AF_INET, ('192.0.2.1', 80))):\n"
                " s = socket.socket(family); s.settimeout(2)\n"
                " try: s.connect(to); print('reached', to)\n"
                " except OSError: pass\n"
                "names = [n for _, n in socket.if_nameindex() if n != 'lo']\n"
                f"print(len(names) <= {int(network.hosts is None)})\n"
            )
            result = await lab.python(sandbox, program)
            expect_equal(result.output, b"True\n", f"network {network} ({result.errors!r})")


@TRIALS
async def the_init_cannot_be_touched(lab: Lab) -> None:
    """Nothing inside can kill, stop, trace, read, limit or slow down the process that keeps the results."""
    sandbox = await lab.sandbox()
    program = (
        "import ctypes, os, resource, signal\n"
        "def attempt(what, *of):\n"
        " try: what(*of); print(what)\n"
        " except OSError: pass\n"
        "for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_CPU, resource.RLIMIT_AS):\n"
        " attempt(resource.prlimit, 1, limit, (1, 1))\n"
        "attempt(os.sched_setaffinity, 1, {0})\n"
        "attempt(os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0))\n"
        "for which, who in ((os.PRIO_PROCESS, 1), (os.PRIO_PGRP, 1), (os.PRIO_USER, 0), (os.PRIO_USER, os.getuid())):\n"
        " attempt(os.setpriority, which, who, 19)\n"
        "os.nice(1)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "for s in range(1, 65):\n"
        " try: os.kill(1, s)\n"
        " except OSError: pass\n"
        "libc = ctypes.CDLL(None)\n"
        "print(libc.ptrace(16, 1, 0, 0), libc.ptrace(0x4206, 1, 0, 0))\n"
        "for f in ('mem', 'environ', 'maps', 'fd', 'root', 'cwd', 'exe'):\n"
        " try: print(f, open('/proc/1/' + f, 'rb').read(1))\n"
        " except IsADirectoryError: print(f, os.listdir('/proc/1/' + f))\n"
        " except OSError: pass\n"
    )
    result = await lab.python(sandbox, program)
    expect_equal(result.output, b"-1 -1\n", "what could be had of it")
    result = await lab.shell(sandbox, "kill -9 -1; kill -STOP -1; echo still")
    expect_equal(await lab.text(sandbox, "echo here"), "here", "the sandbox afterwards")


_FILL = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    for fd in range(3, 200):
        path = f"/proc/{pid}/fd/{fd}"
        try:
            if not os.readlink(path).startswith("pipe:"):
                continue
            pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)
            while True:
                os.write(pipe, b"r" * 4096)
        except OSError:
            pass
open("/tmp/filled", "w").close()
"""


@TRIALS
async def the_init_waits_for_nobody(lab: Lab) -> None:
    """A shell that was stopped and whose descriptors were filled up holds up neither a call nor the next shell."""
    sandbox = await lab.sandbox()
    await lab.run(sandbox, Exec(argv=["tee", "/tmp/fill.py"], stdin=_FILL.encode()))
    attack = "(sleep 0.2; kill -STOP $$; python3 /tmp/fill.py) >/dev/null 2>&1 & disown; rm -f /tmp/filled; echo begun"
    expect_equal(await lab.text(sandbox, attack), "begun", "the attack")

    async def filled() -> bool:
        return (await lab.run(sandbox, Exec(argv=["test", "-e", "/tmp/filled"]))).exit_code == 0

    await until(filled, "the attack did not come to its end")
    await lab.shell(sandbox, "echo one", timeout_ms=3000)
    expect_equal((await lab.run(sandbox, Exec(argv=["echo", "alive"]))).output, b"alive\n", "another call")
    expect_equal(await lab.text(sandbox, "echo here"), "here", "the shell afterwards")


@TRIALS
async def a_result_cannot_be_forged_by_accident_or_guess(lab: Lab) -> None:
    """What a script writes where the shell's driver reports ends the shell: no later call gets an earlier one's end."""
    sandbox = await lab.sandbox()
    forge = "for i in {10..20}; do eval \"printf '0\\n' >&$i\"; done 2>/dev/null; sleep 0.3; echo tail"
    for script in (forge, "builtin() { echo 0; }"):
        await lab.shell(sandbox, script, timeout_ms=3000)
        await lab.shell(sandbox, "false", timeout_ms=3000)
        result = await lab.shell(sandbox, "echo mine; (exit 7)", timeout_ms=3000)
        expect_equal((result.exit_code, result.output), (7, b"mine\n"), f"the call after {script!r}")


@TRIALS
async def a_crash_starts_no_program_of_the_host(lab: Lab) -> None:
    """The kernel neither writes a core dump nor hands one to the host's collector, which runs as root there."""
    sandbox = await lab.sandbox()
    limit = await lab.text(sandbox, "awk '/core/ { print $5, $6 }' /proc/self/limits")
    expect_equal(limit, "1 1", "the limit of 1 byte that alone means none")


@TRIALS
async def sandboxes_do_not_see_each_other(lab: Lab) -> None:
    """Two sessions share no process, no file, no socket and no memory segment."""
    first, second = await lab.sandbox(), await lab.sandbox()
    mark = secrets.token_hex(8)
    script = f"echo {mark} | tee /tmp/m ~/m /dev/shm/m > m; ipcmk -M 4096; sleep 777{int(mark[:3], 16)} & true"
    await lab.shell(first, script)
    seen = await lab.text(
        second, f"grep -rls {mark} /tmp ~ /workspace /dev/shm /mnt; pgrep -a sleep; ipcs -m | grep -c 4096"
    )
    expect_equal(seen, "0", "what the other sees")


@TRIALS
async def the_system_is_read_only(lab: Lab) -> None:
    """The agent cannot change programs, the root folder or /dev, and finds only harmless devices there."""
    sandbox = await lab.sandbox()
    for path in ("/usr/x", "/etc/x", "/x", "/opt/x", "/opt/hostler/x", "/dev/x", "/mnt/x", "/proc/x"):
        expect((await lab.shell(sandbox, f"touch {path}")).exit_code != 0, f"{path} can be written")
    devices = await lab.text(sandbox, "find /dev -xdev \\( -type b -o -type c \\) | sort | xargs")
    harmless = {f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero", "console", "ptmx")}
    expect(set(devices.split()) <= harmless, f"devices: {devices}")


@TRIALS
async def a_hostile_command_cannot_stop_the_others(lab: Lab) -> None:
    """While one call does its worst, another is answered."""
    sandbox = await lab.sandbox()
    hostile = asyncio.create_task(sandbox.run(lab.call_id(), Shell(script="yes", timeout_ms=1500)))
    result = await lab.run(sandbox, Exec(argv=["echo", "alive"]))
    expect_equal(result.output, b"alive\n", "the other call")
    expect((await hostile).timed_out, "yes had an end")


@TRIALS
async def the_clock_and_certificates_are_there(lab: Lab) -> None:
    """Programs find the host's certificates where the environment says, when the host has any."""
    sandbox = await lab.sandbox()
    found = await lab.text(sandbox, 'test -s "$SSL_CERT_FILE" && grep -c BEGIN "$SSL_CERT_FILE"')
    if ssl.get_default_verify_paths().cafile or os.path.exists("/etc/ssl/certs/ca-certificates.crt"):  # noqa: ASYNC240
        expect(found.isdigit() and int(found) > 0, "the host's certificates are missing inside")
