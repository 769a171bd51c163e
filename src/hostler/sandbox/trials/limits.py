"""Trials of limits: each is tried only where the backend's probe says that it holds, and then it must."""

from __future__ import annotations

import asyncio

from hostler.sandbox.contract import Exec, Limits
from hostler.sandbox.lab import Lab, Trials, expect, expect_equal, until

TRIALS = Trials()


def _holds(lab: Lab, limit: str) -> bool:
    return any(check.ok for check in lab.backend.probe() if check.name == f"sandbox limit: {limit}")


@TRIALS
async def a_fork_bomb_is_contained(lab: Lab) -> None:
    """Where processes are limited, a fork bomb meets the limit, and its timeout leaves nothing of it."""
    if not _holds(lab, "processes"):
        return
    sandbox = await lab.sandbox(limits=Limits(processes=64))
    bomb = "import os, time\nwhile True:\n try: os.fork(); os.setsid()\n except OSError: pass\n"
    result = await lab.python(sandbox, bomb, timeout_ms=1000)
    expect(result.timed_out, f"the bomb ended by itself: {result.errors!r}")
    found = await lab.run(sandbox, Exec(argv=["pgrep", "-c", "python3"]))
    expect(found.output == b"0\n", f"parts of the bomb live: {found.output!r}")
    expect((await lab.shell(sandbox, "echo alive")).output == b"alive\n", "the sandbox did not recover")


@TRIALS
async def processes_are_limited(lab: Lab) -> None:
    """Where processes are limited, no more than that many can be started."""
    if not _holds(lab, "processes"):
        return
    sandbox = await lab.sandbox(limits=Limits(processes=32))
    program = (
        "import os, time\nn = 0\ntry:\n"
        " while n < 200:\n"
        "  if os.fork() == 0: time.sleep(30); os._exit(0)\n"
        "  n += 1\nexcept OSError: pass\nprint(n)\n"
    )
    result = await lab.python(sandbox, program)
    expect(int(result.output) <= 32, f"{result.output!r} processes were started")


@TRIALS
async def files_are_limited(lab: Lab) -> None:
    """Where the size of a file is limited, none grows beyond it."""
    if not _holds(lab, "file size"):
        return
    sandbox = await lab.sandbox(limits=Limits(file_bytes=1_000_000))
    await lab.shell(sandbox, "head -c 3000000 /dev/zero > big")
    size = int(await lab.text(sandbox, "stat -c %s big"))
    expect(size <= 1_000_000, f"a file has {size} bytes")


@TRIALS
async def memory_is_limited(lab: Lab) -> None:
    """Where memory is limited, a program that takes more is ended and the sandbox goes on."""
    if not _holds(lab, "memory"):
        return
    sandbox = await lab.sandbox(limits=Limits(memory_bytes=100_000_000))
    program = "import time\nb = []\nfor _ in range(60): b.append(b'x' * 10_000_000); time.sleep(0.03)\nprint('all')"
    result = await lab.python(sandbox, program)
    expect(b"all" not in result.output and result.exit_code != 0, "a program took six times its memory")
    expect((await lab.shell(sandbox, "echo alive")).output == b"alive\n", "the sandbox did not go on")


@TRIALS
async def the_disk_is_limited(lab: Lab) -> None:
    """Where the disk is limited, what keeps writing beyond it is ended and can be cleared away."""
    if not _holds(lab, "disk"):
        return
    sandbox = await lab.sandbox(limits=Limits(disk_bytes=50_000_000))
    script = "for i in $(seq 600); do head -c 1000000 /dev/zero > f$i; sleep 0.05; done"
    result = await lab.shell(sandbox, script, timeout_ms=25_000)
    expect(result.exit_code != 0 and not result.timed_out, f"nobody stopped it: {result}")
    expect(b"50000000" in result.output, f"it was not told why: {result.output!r}")

    async def cleared() -> bool:
        return (await lab.shell(sandbox, "rm -f f*; ls | wc -l")).output.strip() == b"0"

    await until(cleared, "the files could not be removed")


_HIDDEN_MEMORY = {
    "memory files": "import os, time\nkept = []\nfor _ in range(20):\n kept.append(os.memfd_create('x'))\n "
    "os.write(kept[-1], b'x' * 20_000_000); time.sleep(0.05)\nprint('all')",
    "detached segments": "import ctypes, time\nlibc = ctypes.CDLL(None)\nlibc.shmat.restype = ctypes.c_void_p\n"
    "for _ in range(20):\n segment = libc.shmget(0, 20_000_000, 0o1600)\n at = libc.shmat(segment, None, 0)\n"
    " if at in (None, 2**64 - 1): raise SystemExit(1)\n"
    " ctypes.memset(at, 1, 20_000_000); libc.shmdt(ctypes.c_void_p(at)); time.sleep(0.1)\n"
    "print(open('/proc/sysvipc/shm').read().count('20000000') < 10 or 'all')",
    "page tables": "import ctypes, time\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
    "libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]\n"
    "at = libc.mmap(None, 1 << 38, 1, 0x4022, -1, 0)\n"  # private, anonymous, without reserve
    "for i in range(120_000):\n ctypes.c_char.from_address(at + (i << 21)).value\n"
    " if i % 10_000 == 0: time.sleep(0.1)\nprint('all')",
    "a pack of processes": "import os, time\nfor _ in range(30):\n if os.fork() == 0:\n  kept = b'x' * 20_000_000; "
    "time.sleep(30); os._exit(0)\ntime.sleep(2)\n"
    "left = sum(os.waitpid(-1, os.WNOHANG)[0] == 0 for _ in range(30))\nprint('all' if left > 20 else 'some')",
}


@TRIALS
async def memory_cannot_be_hidden(lab: Lab) -> None:
    """Where memory is limited, memory that belongs to no process, or to many, counts too."""
    if not _holds(lab, "memory"):
        return
    for name, program in _HIDDEN_MEMORY.items():
        sandbox = await lab.sandbox(limits=Limits(memory_bytes=100_000_000))
        result = await lab.python(sandbox, program)
        expect(b"all" not in result.output, f"{name} took six times the sandbox's memory")
        expect((await lab.shell(sandbox, "echo alive")).output == b"alive\n", "the sandbox did not go on")


_BORROWED = """
import glob, os, time
written = 0
for path in glob.glob("/proc/[0-9]*/fd/*"):
    try:
        if "memfd" not in os.readlink(path): continue
        fd = os.open(path, os.O_RDWR)
        for _ in range(20):
            written += os.pwrite(fd, b"x" * 20_000_000, os.fstat(fd).st_size); time.sleep(0.05)
    except OSError: continue
print("all" if written > 300_000_000 else "some")
"""


@TRIALS
async def no_memory_file_is_lent(lab: Lab) -> None:
    """Where memory is limited, what hands in the agent's scripts and inputs takes no more of it than they have."""
    if not _holds(lab, "memory"):
        return
    sandbox = await lab.sandbox(limits=Limits(memory_bytes=100_000_000))
    call_id = lab.call_id()
    reading = asyncio.create_task(sandbox.run(call_id, Exec(argv=["sleep", "60"], stdin=b"x")))
    await lab.shell(sandbox, "true")
    for again in (False, True):  # the second time, from the shell itself, which the driver's file ends with
        run = lab.shell(sandbox, f"exec python3 -c '{_BORROWED}'") if again else lab.python(sandbox, _BORROWED)
        expect(b"all" not in (await run).output, "memory files took three times the sandbox's memory")
    await sandbox.cancel(call_id)
    await reading
    expect((await lab.shell(sandbox, "echo alive")).output == b"alive\n", "the sandbox did not go on")


@TRIALS
async def threads_are_limited(lab: Lab) -> None:
    """Where processes are limited, threads count like them."""
    if not _holds(lab, "processes"):
        return
    sandbox = await lab.sandbox(limits=Limits(processes=40))
    program = (
        "import threading\nstop, n = threading.Event(), 0\ntry:\n"
        " while n < 200: threading.Thread(target=stop.wait, daemon=True).start(); n += 1\n"
        "except RuntimeError: pass\nprint(n, flush=True)\nstop.set()\n"
    )
    result = await lab.python(sandbox, program)
    expect(int(result.output) <= 40, f"{result.output!r} threads were started")


@TRIALS
async def descriptors_are_limited(lab: Lab) -> None:
    """A program that opens all that it can meets a limit, and the next one is not concerned."""
    sandbox = await lab.sandbox()
    program = (
        "import os, resource\nsoft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\nn = 0\ntry:\n"
        " while n < 1_100_000: os.open('/dev/null', os.O_RDONLY); n += 1\nexcept OSError: pass\nprint(n)\n"
    )
    result = await lab.python(sandbox, program)
    expect(int(result.output) < 1_100_000, "there is no limit")
    expect_equal((await lab.shell(sandbox, "echo alive")).output, b"alive\n", "the next one")


_IN_FLIGHT = """
import os, resource, socket, time
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
null, kept = os.open("/dev/null", os.O_RDONLY), []
try:
    for _ in range(1000):
        kept.append(socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM))
        kept[-1][0].setblocking(False)
        try:
            while True: socket.send_fds(kept[-1][0], [b"x"], [null] * 250)
        except BlockingIOError: pass
except OSError: pass
open("sent", "w").close()
time.sleep(60)
"""


@TRIALS
async def no_sandbox_starves_another(lab: Lab) -> None:
    """What one sandbox uses up of what the kernel counts for a user leaves the others able to take input and answer."""
    hostile, other = await lab.sandbox(), await lab.sandbox()
    call_id = lab.call_id()
    flood = asyncio.create_task(hostile.run(call_id, Exec(argv=["python3", "-c", _IN_FLIGHT])))

    async def sent() -> bool:
        return (await lab.run(hostile, Exec(argv=["test", "-e", "sent"]))).exit_code == 0

    await until(sent, "the flood did not come to its end")
    whole = b"x" * 200_000
    result = await lab.run(other, Exec(argv=["cat"], stdin=whole))
    expect(result.output == whole, f"the other's output is not whole: {result.errors!r}")
    await hostile.cancel(call_id)
    await flood


_HIDDEN_FILES = {
    "files without a name": "import os, time\nwhile True:\n fd = os.open('x', os.O_RDWR | os.O_CREAT); os.unlink('x')\n"
    " os.posix_fallocate(fd, 0, 5_000_000); time.sleep(0.1)",
    "a locked folder": "import os, time\nos.mkdir('in')\nkept = os.open('in', os.O_RDONLY)\nn = 0\nwhile True:\n"
    " os.chmod('in', 0o700)\n try: fd = os.open(f'x{n}', os.O_RDWR | os.O_CREAT, dir_fd=kept)\n"
    " except PermissionError: continue\n"  # whoever counts has locked it again just now
    " os.chmod('in', 0); os.posix_fallocate(fd, 0, 5_000_000); os.close(fd); n += 1; time.sleep(0.1)",
    "empty files": "import os, time\nn = 0\nwhile True:\n os.close(os.open(f'x{n}', os.O_CREAT)); n += 1\n"
    " if n % 1000 == 0: time.sleep(0.05)",
    "a deep tree": "import os, time\nfor _ in range(1000): os.mkdir('d'); os.chdir('d')\ntime.sleep(60)",
}


@TRIALS
async def disk_space_cannot_be_hidden(lab: Lab) -> None:
    """Where the disk is limited, what has no name, cannot be looked into or is empty counts too."""
    if not _holds(lab, "disk"):
        return
    await asyncio.gather(*(_hide(lab, name, program) for name, program in _HIDDEN_FILES.items()))


async def _hide(lab: Lab, name: str, program: str) -> None:
    sandbox = await lab.sandbox(limits=Limits(disk_bytes=50_000_000))
    result = await lab.python(sandbox, program, timeout_ms=20_000)
    expect(not result.timed_out and b"50000000" in result.errors, f"nobody stopped {name}: {result.errors[-300:]!r}")
