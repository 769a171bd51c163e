"""Runs as a program of its own: a pod's first process in namespaces of its own, as a node's runtime would make it.

argv: the folder of the pod, then the script that lays out its root and becomes its program. On stdout it says that it
waits to be given users, and then the first process's id; on stdin it hears that it has them.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_NAMESPACES = 0x10000000 | 0x00020000 | 0x20000000 | 0x08000000 | 0x04000000 | 0x40000000
_PR_SET_PDEATHSIG = 1


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NAMESPACES) != 0:
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    os.write(1, b"users?\n")
    os.read(0, 1)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    child = os.fork()
    if child == 0:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        os.execv("/bin/bash", ["bash", "-c", sys.argv[1]])
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.write(1, f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


main()
