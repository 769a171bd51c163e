"""Trials of limits: each is tried only where the backend's probe says that it holds, and then it must."""

from __future__ import annotations

import asyncio

from hostler.sandbox.contract import Exec, Limits
from hostler.sandbox.lab import Lab, Trials, expect, until

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
