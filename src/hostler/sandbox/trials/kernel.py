"""Trials of the kernel's border: what a hostile program may ask the kernel for, and what it learns from /proc and /dev.

Every attempt is harmless where it succeeds. Nothing here knows how a backend refuses, only that it must.
"""

from __future__ import annotations

from hostler.sandbox.contract import Exec
from hostler.sandbox.lab import Lab, Trials, expect, expect_equal, until

TRIALS = Trials()

# name: (x86_64, aarch64), arguments. A call that is heard and fails for another reason than a refusal is told too.
_REFUSED = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
SOCKET, CLONE, UNSHARE = (41, 198), (56, 220), (272, 97)
KINDS = dict(time=0x80, mount=0x20000, cgroup=0x2000000, uts=0x4000000, ipc=0x8000000, user=0x10000000,
             pid=0x20000000, net=0x40000000)
calls = {f"unshare {kind}": (UNSHARE, flag) for kind, flag in KINDS.items()}
calls |= {f"clone {kind}": (CLONE, flag | 17, 0, 0, 0, 0) for kind, flag in KINDS.items() if kind != "time"}
calls |= {
    "clone3": ((435, 435), 0, 0), "setns": ((308, 268), os.pidfd_open(os.getpid()), 0x10000000),
    "mount": ((165, 40), b"none", b"/tmp", b"tmpfs", 0, 0), "bind": ((165, 40), b"/proc", b"/tmp", 0, 0x1000, 0),
    "remount": ((165, 40), 0, b"/usr", 0, 0x1020, 0), "umount": ((166, 39), b"/proc", 2),
    "pivot_root": ((155, 41), b"/", b"/tmp"), "chroot": ((161, 51), b"/"), "fsopen": ((430, 430), b"tmpfs", 0),
    "open_tree": ((428, 428), -100, b"/", 1), "move_mount": ((429, 429), -100, b"/tmp", -100, b"/workspace", 0),
    "fspick": ((433, 433), -100, b"/", 0), "mount_setattr": ((442, 442), -100, b"/", 0, 0, 0),
    "bpf": ((321, 280), 0, 0, 0), "perf_event_open": ((298, 241), 0, 0, 0, 0, 0), "userfaultfd": ((323, 282), 0),
    "keyctl": ((250, 219), 0, 0, 0), "add_key": ((248, 217), b"user", b"k", b"v", 1, -3),
    "request_key": ((249, 218), b"user", b"k", 0, -3), "io_uring_setup": ((425, 425), 1, 0),
    "io_uring_enter": ((426, 426), 0, 0, 0, 0, 0), "io_uring_register": ((427, 427), 0, 0, 0, 0),
    "open_by_handle_at": ((304, 265), 0, 0, 0), "kexec_load": ((246, 104), 0, 0, 0, 0),
    "kexec_file_load": ((320, 294), 0, 0, 0, 0, 0), "init_module": ((175, 105), 0, 0, b""),
    "finit_module": ((313, 273), 0, b"", 0), "delete_module": ((176, 106), b"nothing", 0),
    "reboot": ((169, 142), 0, 0, 0, 0), "swapon": ((167, 224), b"/nothing", 0), "acct": ((163, 89), b"/nothing"),
    "syslog": ((103, 116), 3, 0, 0), "quotactl": ((179, 60), 0, 0, 0, 0), "sethostname": ((170, 161), b"x", 1),
    "settimeofday": ((164, 170), 0, 0), "clock_settime": ((227, 112), 0, 0), "fanotify_init": ((300, 262), 4, 0),
    "socket vsock": (SOCKET, 40, 1, 0), "socket packet": (SOCKET, 17, 3, 0), "socket netfilter": (SOCKET, 16, 3, 12),
    "socket sctp": (SOCKET, 2, 1, 132), "socket raw": (SOCKET, 10, 3, 255), "socket smc": (SOCKET, 2, 1, 256),
    "socket alg": (SOCKET, 38, 5, 0), "socket bluetooth": (SOCKET, 31, 3, 1), "socket can": (SOCKET, 29, 3, 1),
    "socket tipc": (SOCKET, 30, 1, 0), "socket rds": (SOCKET, 21, 5, 0), "socket xdp": (SOCKET, 44, 3, 0),
    "io_setup": ((206, 0), 8, ctypes.byref(ctypes.c_ulong(0))), "personality": ((135, 92), 0x0400000),
    "TIOCSTI": ((16, 29), 0, 0x5412, b"x"),
}
if x86:
    calls |= {"iopl": ((172,), 3), "ioperm": ((173,), 0, 1, 1)}
for name, (numbers, *args) in calls.items():
    pid = os.getpid()
    value = libc.syscall(numbers[0 if x86 else 1], *args)
    if os.getpid() != pid:
        os._exit(0)
    if value >= 0 or ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS, errno.EAFNOSUPPORT):
        print(name, value, errno.errorcode.get(ctypes.get_errno()))
"""


@TRIALS
async def dangerous_system_calls_are_refused(lab: Lab) -> None:
    """No new namespace, no mount of any kind, no kernel keyring, BPF, io_uring, user faults, modules or exotic
    sockets."""
    sandbox = await lab.sandbox()
    result = await lab.python(sandbox, _REFUSED)
    expect_equal((result.output, result.errors), (b"", b""), "calls that the kernel was asked to do")


_UPON_THE_INIT = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
x86 = platform.machine() == "x86_64"
handle, room = os.pidfd_open(1), ctypes.create_string_buffer(64)
vector = (ctypes.c_ulong * 2)(ctypes.addressof(room), 8)
far = (ctypes.c_ulong * 2)(0x400000, 8)
calls = {
    "attach": ((101, 117), 16, 1, 0, 0), "seize": ((101, 117), 0x4206, 1, 0, 0),
    "process_vm_readv": ((310, 270), 1, vector, 1, far, 1, 0),
    "process_vm_writev": ((311, 271), 1, vector, 1, far, 1, 0),
    "pidfd_getfd": ((438, 438), handle, 0, 0), "kcmp": ((312, 272), 1, os.getpid(), 0, 0, 0),
    "process_madvise": ((440, 440), handle, far, 1, 20, 0),
    "get_robust_list": ((274, 100), 1, ctypes.byref(ctypes.c_void_p()), ctypes.byref(ctypes.c_size_t())),
    "move_pages": ((279, 239), 1, 0, 0, 0, 0, 0), "migrate_pages": ((256, 238), 1, 64, vector, vector),
    "stop by handle": ((424, 424), handle, 19, 0, 0), "kill by handle": ((424, 424), handle, 9, 0, 0),
}
for name, (numbers, *args) in calls.items():
    value = libc.syscall(numbers[0 if x86 else 1], *args)
    if value >= 0 and "by handle" not in name:
        print(name, value)
for name in ("mem", "environ", "maps", "auxv", "stack", "syscall", "io", "pagemap", "fdinfo", "map_files"):
    try:
        path = f"/proc/1/{name}"
        print(path, os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(9))
    except OSError:
        pass
for folder, _, names in os.walk("/proc/1"):
    for path in (f"{folder}/{name}" for name in names):
        try:
            os.write(os.open(path, os.O_WRONLY), b"0")
            print("written", path)
        except OSError:
            pass
"""


@TRIALS
async def the_init_cannot_be_read(lab: Lab) -> None:
    """No call and no file of /proc shows the memory, the descriptors or the environment of the process that keeps the
    results, and none of its files can be written."""
    sandbox = await lab.sandbox()
    result = await lab.python(sandbox, _UPON_THE_INIT)
    expect_equal((result.output, result.errors), (b"", b""), "what could be had of it")
    expect_equal(await lab.text(sandbox, "echo here"), "here", "the sandbox afterwards")


_SECRETS_OF_THE_KERNEL = """
import os
for path in ("/proc/kcore", "/proc/kmsg", "/dev/kmsg", "/dev/mem", "/dev/port", "/proc/vmallocinfo", "/dev/kvm",
             "/proc/slabinfo", "/dev/fuse", "/dev/net/tun", "/dev/vsock", "/dev/userfaultfd", "/dev/loop-control",
             "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/firmware", "/proc/pagetypeinfo", "/dev/vhost-vsock"):
    try:
        os.close(os.open(path, os.O_RDONLY))
        if not os.path.isdir(path) or os.listdir(path):  # some engines hide a folder by an empty one
            print("open", path)
    except OSError:
        pass
try:
    shown = [line.split()[0] for line in open("/proc/kallsyms") if line.strip()]
    print("addresses of the kernel" if any(int(address, 16) for address in shown[:2000]) else "", end="")
except OSError:
    pass
try:
    print(*("key " + line for line in open("/proc/keys")), end="")
except OSError:
    pass
for folder, _, names in os.walk("/sys"):
    for path in (f"{folder}/{name}" for name in names):
        if os.access(path, os.W_OK):
            print("writable", path)
for path in ("self/uid_map", "self/gid_map", "self/setgroups", "self/projid_map"):
    try:
        os.write(os.open(f"/proc/{path}", os.O_WRONLY), b"0 0 1")
        print("written", path)
    except OSError:
        pass
kernels_own = "cgroup cgroup2 sysfs debugfs tracefs securityfs bpf fusectl configfs pstore binfmt_misc".split()
for _, place, kind, options, *_ in map(str.split, open("/proc/self/mounts")):
    if kind in kernels_own and "rw" in options.split(","):
        print("mounted", place, kind, options)
"""


@TRIALS
async def the_kernel_tells_no_secret(lab: Lab) -> None:
    """No memory, message, key or address of the kernel can be read, no file of /sys or of a control group written."""
    sandbox = await lab.sandbox()
    result = await lab.python(sandbox, _SECRETS_OF_THE_KERNEL)
    expect_equal((result.output, result.errors), (b"", b""), "what the kernel gave away")


_DESCRIPTORS = """
import os, re
harmless = re.compile(r"/dev/(null|pts/\\d+|console)|pipe:.*|/proc/\\d+/fd|anon_inode:\\[.*|/memfd:.*")
for process in filter(str.isdigit, os.listdir("/proc")):
    try:
        names = os.listdir(f"/proc/{process}/fd")
    except OSError:
        continue
    for name in names:
        try:
            to = os.readlink(f"/proc/{process}/fd/{name}")
        except OSError:
            continue
        if not harmless.fullmatch(to):
            print(process, name, to)
"""


@TRIALS
async def no_descriptor_leaks_in(lab: Lab) -> None:
    """What runs inside has its own input and output open and nothing else: no socket, no folder, no file of the
    host."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "sleep 60 & true")
    result = await lab.python(sandbox, _DESCRIPTORS)
    expect_equal((result.output, result.errors), (b"", b""), "descriptors")
    found = (await lab.text(sandbox, "exec 9< <(python3 -c 'import time; time.sleep(5)'); ls -l /proc/$!/fd")).split(
        "\n"
    )
    expect(not any("socket:" in line or "/workspace" in line for line in found), f"descriptors of a job: {found}")


_RIGHTS = """
import os, stat, struct
def attempt(what, *of):
    try:
        what(*of)
        print(what.__name__, of)
    except OSError:
        pass
for user in (0, 1, 65534):
    for call in (os.setuid, os.setgid, os.seteuid, os.setegid):
        attempt(call, user)
attempt(os.setgroups, [0])
open("mine", "w").close()
attempt(os.chown, "mine", 0, 0)
attempt(os.setxattr, "mine", "security.capability", struct.pack("<IIIII", 0x02000001, 0xFFFFFFFF, 0, 0, 0))
attempt(os.setxattr, "mine", "trusted.overlay.opaque", b"y")
devices = {"null": (stat.S_IFCHR, 1, 3), "ram": (stat.S_IFCHR, 1, 1), "sda": (stat.S_IFBLK, 8, 0)}
for name, (kind, *number) in devices.items():
    attempt(os.mknod, name, 0o600 | kind, os.makedev(*number))
try:
    os.mknod("whiteout", 0o600 | stat.S_IFCHR, os.makedev(0, 0))
    os.close(os.open("whiteout", os.O_RDONLY))
    print("a device was opened")
except OSError:
    pass
attempt(os.link, "/usr/bin/env", "env")
attempt(os.link, "/etc/passwd", "passwd")
"""


@TRIALS
async def no_right_can_be_won(lab: Lab) -> None:
    """Nobody inside becomes another user, gives a file away or a capability, makes a device, or links to the system's
    files."""
    sandbox = await lab.sandbox()
    result = await lab.python(sandbox, _RIGHTS)
    expect_equal((result.output, result.errors), (b"", b""), "what was won")
    await lab.shell(sandbox, "cp $(command -v id) theirs; chmod 6755 theirs")
    expect_equal(await lab.text(sandbox, "./theirs -u; ./theirs -g"), "1000\n1000", "who a set-user-id copy runs as")


@TRIALS
async def what_left_its_parents_ends_with_the_sandbox(lab: Lab) -> None:
    """A daemon that has forked twice, left its session and ignores every signal does not outlive its sandbox."""
    spec = lab.spec()
    sandbox = await lab.backend.provision(spec)
    daemon = (
        "import os, signal, time\n"
        "for number in range(1, 65):\n"
        " try: signal.signal(number, signal.SIG_IGN)\n"
        " except (OSError, ValueError): pass\n"
        "if os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n"
        "  while True:\n   open('alive', 'w').write(str(time.time())); time.sleep(0.05)\n"
    )
    await lab.run(sandbox, Exec(argv=["tee", "daemon.py"], stdin=daemon.encode()))
    await lab.shell(sandbox, "rm -f alive; python3 daemon.py > /dev/null 2>&1 & disown")

    async def begun() -> bool:
        return (await lab.run(sandbox, Exec(argv=["test", "-s", "alive"]))).exit_code == 0

    await until(begun, "the daemon did not begin")
    await lab.backend.hibernate(spec.key)
    sandbox = await lab.backend.provision(spec)
    running = await lab.text(sandbox, "rm -f alive; pgrep -f daemon.py; sleep 0.3; ls alive 2>/dev/null")
    expect_equal(running, "", "what is left of it")
