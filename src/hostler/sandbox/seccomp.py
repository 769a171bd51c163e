"""Builds the system call filter of a sandbox as BPF, because what the kernel does not have to hear cannot be exploited.

Holds numbers and rules only: it starts nothing and reads nothing but the machine's name.
"""

from __future__ import annotations

import errno
import platform
import struct

_LOAD, _JUMP_EQ, _JUMP_GE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_DONE = 0  # as an error's number: no error
_NUMBER, _ARCH, _ARG0, _ARG1, _ARG2 = 0, 4, 16, 24, 32

_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the machine does not have it.
_DENIED: dict[str, tuple[int | None, int | None]] = {
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "statmount": (457, 457),
    "listmount": (458, 458),
    "setns": (308, 268),
    "unshare": (272, 97),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "create_module": (174, None),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "syslog": (103, 116),
    "lookup_dcookie": (212, 18),
    "move_pages": (279, 239),
    "mbind": (237, 235),
    "migrate_pages": (256, 238),
    "set_mempolicy": (238, 237),
    "fanotify_init": (300, 262),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "settimeofday": (164, 170),
    "adjtimex": (159, 171),
    "vhangup": (153, 58),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "ustat": (136, None),
    "nfsservctl": (180, 42),
}

# In a build there is but one user, who is root: what would give files or itself to another one does nothing, and says
# that it did.
_PRETENDED: dict[str, tuple[int | None, int | None]] = {
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "setgroups": (116, 159),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
}
# What later kernels add is refused until somebody has looked at it.
_FIRST_UNKNOWN = 470

_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_IO_SETUP = {"x86_64": 206, "aarch64": 0}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_SOCKETPAIR = {"x86_64": 53, "aarch64": 199}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_PERSONALITY = {"x86_64": 135, "aarch64": 92}
_FCNTL = {"x86_64": 72, "aarch64": 25}
_SEMGET = {"x86_64": 64, "aarch64": 190}

# Calls that do something to the process of their first argument, of the same user: the init is one, and no dumpable
# flag protects it from these.
_UPON_A_PROCESS = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
# The same for the process, group or user of the second; with the number that says "user" in the first.
_UPON_WHOM = {"setpriority": (141, 140, 2), "ioprio_set": (251, 30, 3)}
_INIT = 1

# CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_CLONE_NEW = 0x80 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
_REFUSED_IOCTLS = (0x5412, 0x541C, 0x5423)  # TIOCSTI, TIOCLINUX, TIOCSETD (it loads line disciplines)
_F_SETLEASE = 1024
_SEMAPHORES = 256  # in one set
_IP_PROTOCOLS = (0, 1, 6, 17, 58)  # any, ICMP, TCP, UDP, ICMPv6
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_PERSONALITIES = (0x0, 0x0008, 0x20000, 0x20008, 0x40000, 0xFFFFFFFF)  # Linux, 32-bit name, 2.6 name, no ASLR, "ask"


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("<HBBI", code, yes, no, value & 0xFFFFFFFF)


def _return(value: int) -> bytes:
    return _op(_RETURN, value)


def _refuse(code: int) -> bytes:
    return _return(_ERRNO | code)


def _deny_number(number: int, code: int = errno.EPERM) -> bytes:
    return _op(_JUMP_EQ, number, 0, 1) + _refuse(code)


def _rule(number: int, *body: bytes) -> bytes:
    """Run `body` for one system call and reload the number behind it; a body that does not return falls through."""
    code = b"".join(body) + _op(_LOAD, _NUMBER)
    return _op(_JUMP_EQ, number, 0, len(code) // 8) + code


def _clone_rule(number: int) -> bytes:
    return _rule(number, _op(_LOAD, _ARG0), _op(_JUMP_SET, _CLONE_NEW, 0, 1), _refuse(errno.EPERM))


def _socket_rule(number: int) -> bytes:
    """UNIX sockets; TCP, UDP and ping of IP, since the others load kernel modules that hardly anybody tests; of netlink
    only the protocol that lists interfaces."""
    protocols = [_op(_JUMP_EQ, value, len(_IP_PROTOCOLS) - i, 0) for i, value in enumerate(_IP_PROTOCOLS)]
    return _rule(
        number,
        _op(_LOAD, _ARG0),
        _op(_JUMP_EQ, _AF_UNIX, len(protocols) + 7, 0),
        _op(_JUMP_EQ, _AF_INET, 4, 0),
        _op(_JUMP_EQ, _AF_INET6, 3, 0),
        _op(_JUMP_EQ, _AF_NETLINK, 0, len(protocols) + 3),
        _op(_LOAD, _ARG2),
        _op(_JUMP_EQ, 0, len(protocols) + 2, len(protocols) + 1),
        _op(_LOAD, _ARG2),
        *protocols,
        _refuse(errno.EAFNOSUPPORT),
    )


def _ioctl_rule(number: int) -> bytes:
    return _rule(
        number,
        _op(_LOAD, _ARG1),
        *(_op(_JUMP_EQ, value, len(later), int(not later)) for value, later in _with_later(_REFUSED_IOCTLS)),
        _refuse(errno.EPERM),
    )


def _with_later(values: tuple[int, ...]) -> list[tuple[int, tuple[int, ...]]]:
    return [(value, values[i + 1 :]) for i, value in enumerate(values)]


def _lease_rule(number: int) -> bytes:
    """A lease makes whoever opens the file wait: of an input that is shared, the server and all other sessions."""
    return _rule(number, _op(_LOAD, _ARG1), _op(_JUMP_EQ, _F_SETLEASE, 0, 1), _refuse(errno.EPERM))


def _semaphore_rule(number: int) -> bytes:
    """Semaphores of System V are memory of the kernel, which only control groups count: small sets only."""
    return _rule(number, _op(_LOAD, _ARG1), _op(_JUMP_GE, _SEMAPHORES + 1, 0, 1), _refuse(errno.EINVAL))


def _spare_init_rule(number: int) -> bytes:
    return _rule(number, _op(_LOAD, _ARG0), _op(_JUMP_EQ, _INIT, 0, 1), _refuse(errno.EPERM))


def _spare_init_among_rule(number: int, user: int) -> bytes:
    return _rule(
        number,
        _op(_LOAD, _ARG0),
        _op(_JUMP_EQ, user, 2, 0),
        _op(_LOAD, _ARG1),
        _op(_JUMP_EQ, _INIT, 0, 1),
        _refuse(errno.EPERM),
    )


def _personality_rule(number: int) -> bytes:
    jumps = [_op(_JUMP_EQ, value, len(_PERSONALITIES) - i, 0) for i, value in enumerate(_PERSONALITIES)]
    return _rule(number, _op(_LOAD, _ARG0), *jumps, _refuse(errno.EPERM))


def supported(machine: str | None = None) -> bool:
    """Say whether there is a filter for this machine."""
    return (machine or platform.machine()) in _ARCHES


def program(machine: str | None = None, *, system: bool = False) -> bytes:
    """Return the filter as an array of `struct sock_filter`; `system` is for builds as root of their own namespace.
    Raises ValueError for a machine it does not know."""
    machine = machine or platform.machine()
    if machine not in _ARCHES:
        raise ValueError(f"no system call filter for {machine}")
    column = list(_ARCHES).index(machine)
    code = [_op(_LOAD, _ARCH), _op(_JUMP_EQ, _ARCHES[machine], 1, 0), _refuse(errno.ENOSYS), _op(_LOAD, _NUMBER)]
    code += [_op(_JUMP_GE, _FIRST_UNKNOWN, 0, 1), _refuse(errno.ENOSYS)]  # those of x32 among them
    numbers = sorted(number for row in _DENIED.values() if (number := row[column]) is not None)
    code += [_deny_number(number) for number in numbers]
    if system:
        pretended = [number for row in _PRETENDED.values() if (number := row[column]) is not None]
        code += [_deny_number(number, _DONE) for number in pretended]
    # clone3 hides its flags behind a pointer: without it the C library falls back to clone.
    code.append(_deny_number(_CLONE3, errno.ENOSYS))
    # Its contexts are a number for the whole host, which one sandbox could use up: programs have other ways.
    code.append(_deny_number(_IO_SETUP[machine], errno.ENOSYS))
    code += [
        _clone_rule(_CLONE[machine]),
        _socket_rule(_SOCKET[machine]),
        _socket_rule(_SOCKETPAIR[machine]),
        _ioctl_rule(_IOCTL[machine]),
        _personality_rule(_PERSONALITY[machine]),
        _lease_rule(_FCNTL[machine]),
        _semaphore_rule(_SEMGET[machine]),
        *(_spare_init_rule(row[column]) for row in _UPON_A_PROCESS.values()),
        *(_spare_init_among_rule(row[column], row[2]) for row in _UPON_WHOM.values()),
        _return(_ALLOW),
    ]
    return b"".join(code)
