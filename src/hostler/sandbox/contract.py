"""The sandbox contract: what the harness may ask of the place where an agent's commands and files live.

A failed *command* is a `CommandResult`. A failed *provider* raises `SandboxUnavailable` and must never be shown to the
model as command output. `selfcheck.py` is the conformance suite of this page: a backend that passes it is supported.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

WORKSPACE = "/workspace"
UPLOADS = "/mnt/session/uploads"
OUTPUTS = "/mnt/session/outputs"
SKILLS = "/mnt/skills"  # a folder each, of input files

# Programs of ours that a backend puts into every sandbox, read-only.
TOOLS = "/opt/hostler/tools"  # the file tools (read, write, edit, glob, ...), one static binary
RIPGREP = "/opt/hostler/rg"
LAYERS = "/opt/hostler/layers"


class SandboxUnavailable(Exception):
    """No usable sandbox. The message says what is missing and how to mend it."""


class UnknownCall(Exception):
    """The sandbox has no call of that id: it never arrived, or the sandbox died with it. Its outcome is unknown."""


class SnapshotDamaged(Exception):
    """A snapshot is not what was written, or no snapshot at all. Nothing was changed; trying again will not help."""


class SnapshotTooLarge(SandboxUnavailable):
    """A sandbox has more than its snapshot may hold. It stays as it is."""


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """A read-only input file. `source` is a regular file of the host; `target` an absolute, normalised path inside.

    An `executable` one may be run by the agent; whether `source` is executable does not matter.
    """

    source: Path
    target: str
    executable: bool = False


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """A read-only folder of the host. `target` is an absolute, normalised path that lies in none of the agent's own."""

    source: Path
    target: str


class Layer(msgspec.Struct, frozen=True, kw_only=True):
    """Packages that sandboxes share. `source`, a folder of the host that never changes, appears read-only as
    `LAYERS/key`, and its folders say what it holds:

    `python`: the sandbox's `python3` imports what is in it, wherever and however it is started. `bin` and `python/bin`:
    programs on PATH. `lib/node_modules`: what node finds from every folder. `gems`: a folder of RubyGems. `system`: the
    folders `usr`, `etc`, `var` and `opt` in it, in the form of the upper folders of an overlay, lie over the machine's.
    What the agent installs itself goes before all of these, and what the system has goes after it.
    """

    key: str
    source: Path


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Ceilings of one sandbox; None means the backend's default. A backend's `probe` says which of them hold here."""

    memory_bytes: int | None = None
    cpus: float | None = None
    processes: int | None = None
    file_bytes: int | None = None
    disk_bytes: int | None = None


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """What a sandbox may reach through the server's proxy. It has no interface; but where every public host is
    permitted, a backend may give it one that leads to public addresses and nowhere else.

    `hosts`: None permits every public host; else exact names, and `*.example.com` for the names below it (not itself).
    `package_managers` adds the public registries, and those that this machine is set to use.
    """

    hosts: tuple[str, ...] | None = None
    package_managers: bool = False

    @property
    def closed(self) -> bool:
        """Whether nothing is in reach."""
        return self.hosts == () and not self.package_managers


NO_NETWORK = Network(hosts=())


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that stays outside: the sandbox has its `placeholder`, and the proxy puts `value` in its place, in what
    goes to `hosts` (as in `Network`), in headers, bodies, or both. It does not show the value when it is printed."""

    placeholder: str
    value: str
    hosts: tuple[str, ...] | None
    header: bool
    body: bool
    credential_id: str = ""  # names it in the egress log

    def __repr__(self) -> str:
        return f"Secret(placeholder={self.placeholder!r})"


# The secrets of the sandbox of that key, as they are now. It is asked for each connection, so that what is rotated or
# archived takes hold in running sandboxes; it raises nothing, and what it can't open is not among them.
Secrets = Callable[[str], Awaitable[Sequence[Secret]]]


class SandboxSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a sandbox is made from. Equal specs give equal sandboxes; `key` (the session id) names its directory.

    A live sandbox keeps what it was started with, but for its `mounts`; the rest of another spec holds from the next
    start on.
    """

    key: str
    network: Network = Network()
    env: dict[str, str] = {}
    mounts: list[Mount] = []
    shared: list[Folder] = []
    layers: list[Layer] = []
    limits: Limits = Limits()
    folders: list[str] = []  # writable folders beyond the usual ones: absolute, normalised, none below another
    etc: dict[str, str] = {}  # files of /etc, by name; public, and read-only inside
    gateway: bool = False  # the server's own gateway is in reach, also with no network (gateway.py)
    system: bool = False  # a build: root inside, and for itself it may change the system's own folders


class Exec(msgspec.Struct, frozen=True, kw_only=True):
    """Run a program: `argv[0]` is an absolute path inside or a name on PATH. `stdin` is given whole."""

    argv: list[str]
    stdin: bytes = b""
    cwd: str = WORKSPACE
    timeout_ms: int = 120_000


class Shell(msgspec.Struct, frozen=True, kw_only=True):
    """Run a script in the sandbox's one persistent bash: cwd, variables and functions stay for the next call."""

    script: str
    timeout_ms: int = 120_000


class RestartShell(msgspec.Struct, frozen=True, kw_only=True):
    """End the persistent bash with everything it started, and begin a fresh one."""


Command = Exec | Shell | RestartShell


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a command.

    `output` is what was kept of stdout and stderr together (Shell), or of stdout alone (Exec, whose stderr is in
    `errors`): at most `OUTPUT_LIMIT` bytes, the head and the tail when there was more; `output_bytes` counts all of it.
    `exit_code` is None when a signal, the timeout or a cancel ended it. `shell_ended` says that the persistent bash
    itself is gone (`exit`, `exec`, a crash) and that the next Shell starts a fresh one.
    """

    exit_code: int | None
    output: bytes = b""
    errors: bytes = b""
    output_bytes: int = 0
    signal: int | None = None
    timed_out: bool = False
    cancelled: bool = False
    shell_ended: bool = False


OUTPUT_LIMIT = 16 * 1024 * 1024


class OutputFile(msgspec.Struct, frozen=True, kw_only=True):
    """A regular file found below `OUTPUTS`: `path` relative to it, and what tells one version of it from another."""

    path: str
    size_bytes: int
    mtime_ns: int


class Sandbox(Protocol):
    """One session's sandbox. All methods may raise `SandboxUnavailable`; none follows a symlink out of the sandbox."""

    @property
    def generation(self) -> str:
        """Names this life of the sandbox: it stays while its processes live, whichever server process looks at it,
        and differs after every start or resume. A call that a living generation does not know never began in it."""
        ...

    async def run(self, call_id: str, command: Command) -> CommandResult:
        """Run a command to its end. Calls run in parallel, but those of the persistent shell queue up in order.

        `call_id` names it for `attach` and `cancel`; a second `run` with an id that is still known must not start it
        again (it raises ValueError). Cancelling the awaiting task leaves the command running inside: it is `cancel`
        that ends it. At the timeout everything that the command started is ended, `setsid` or not.
        """
        ...

    async def attach(self, call_id: str) -> CommandResult:
        """Wait for the end of a call that an earlier process of the server started. Raises `UnknownCall`."""
        ...

    async def cancel(self, call_id: str) -> None:
        """End a running call with all it started; its `run` returns `cancelled=True`. Unknown ids are ignored."""
        ...

    async def acknowledge(self, call_id: str) -> None:
        """The result is recorded: the sandbox may forget the call. Unknown ids are ignored."""
        ...

    async def set_mounts(self, mounts: list[Mount]) -> None:
        """Make `mounts` the inputs of a provisioned sandbox. Those that are no longer among them go, unless they lie in
        the agent's own folders; what is there already, or the agent has put in the way, is left as it is. Raises
        ValueError for a target that is none, before anything is placed."""
        ...

    async def outputs(self) -> list[OutputFile]:
        """Regular files below `OUTPUTS`, planted symlinks and special files left out. In a name, bytes that are not
        UTF-8 are surrogate escapes."""
        ...

    def read_output(self, path: str) -> AsyncIterator[bytes]:
        """The bytes of one output in chunks. Raises FileNotFoundError when it is gone, no regular file inside, or kept
        from being read, and SandboxUnavailable when the disk fails."""
        ...


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What was written of a sandbox: the size of the file, and the SHA-256 of its bytes, in hexadecimal."""

    bytes: int
    sha256: str


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `hostler doctor`: what was looked at, whether it is usable, and how to mend it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


class Backend(Protocol):
    """Makes, finds and ends sandboxes. One instance a process."""

    async def provision(self, spec: SandboxSpec) -> Sandbox:
        """Return the session's sandbox: the live one (also one that outlived an earlier server process), the
        hibernated one resumed with its files and shell state, or a new one. Raises `SandboxUnavailable`."""
        ...

    async def find(self, key: str) -> Sandbox | None:
        """Return the live sandbox of a session, attaching to one that outlived an earlier server process; never
        starts or resumes anything. None when there is none: a call that was running in it has an unknown outcome."""
        ...

    async def hibernate(self, key: str) -> None:
        """Stop the processes of an idle sandbox and keep its files and shell state. No-op when it is not live."""
        ...

    async def snapshot(self, key: str, target: Path, *, limit_bytes: int | None = None) -> Snapshot | None:
        """Write all that the agent has, files and shell state, to a new file `target`: a zstd-compressed tar, as
        `snapshots` describes it. None, and no file, when there is no sandbox, live or stopped.

        The file appears whole and synced, or not at all. The sandbox stays as it is; what still runs in it may write
        meanwhile, so hibernate it first for a picture of one moment. `limit_bytes` bounds what is read, beside the
        sandbox's own disk limit. Cancelling it leaves no file. Raises SnapshotTooLarge and SandboxUnavailable.
        """
        ...

    async def restore(self, key: str, source: Path, snapshot: Snapshot) -> None:
        """Make the session's sandbox what the file `source` holds, stopped, in place of any that there is; `provision`
        then resumes it. The file may come from any backend and from another session, and is trusted in nothing: all
        of it is taken, or nothing is changed. Raises SnapshotDamaged, SnapshotTooLarge and SandboxUnavailable."""
        ...

    async def destroy(self, key: str) -> None:
        """End the sandbox and delete everything it had. Idempotent."""
        ...

    async def reap(self, keep: set[str]) -> None:
        """At start: hibernate the sandboxes that outlived an earlier server process and whose key is not in `keep`."""
        ...

    def probe(self) -> list[Check]:
        """Say what is usable on this machine, by trying it."""
        ...

    async def aclose(self, *, stop: bool) -> None:
        """Let go of the sandboxes; `stop` hibernates them all first (an orderly shutdown)."""
        ...
