"""A sandbox outlives its server: after kill -9 a new process finds it, its calls and their results."""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from hostler.sandbox import launcher
from hostler.sandbox.bubblewrap import BubblewrapBackend
from hostler.sandbox.contract import NO_NETWORK, Exec, SandboxSpec, Shell, UnknownCall

KEY = "sesn_1"
SPEC = SandboxSpec(key=KEY, network=NO_NETWORK)


def _killed_server(
    folder: Path, environment: dict[str, str], commands: list[list[str]], point: str = "arrived"
) -> None:
    """Run a stand-in until its calls have arrived, or are `sent`, and kill it with -9."""
    standin = Path(__file__).with_name("standin.py")
    argv = [sys.executable, str(standin), str(folder), KEY, point, json.dumps(commands)]
    with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "started\n"
        server.kill()


def _in_new_server(folder: Path, work: Callable[[BubblewrapBackend], Awaitable[None]]) -> None:
    async def main() -> None:
        backend = BubblewrapBackend(folder)
        try:
            await work(backend)
        finally:
            await backend.destroy(KEY)
            await backend.aclose(stop=True)

    asyncio.run(main())


def _init_of(folder: Path) -> launcher.Running:
    state = msgspec.json.decode((folder / KEY / "state.json").read_bytes())
    return msgspec.convert(state["init"], launcher.Running)


def _uids(pid: int) -> list[str]:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]


def test_running_and_ended_calls_are_collected_after_kill_9(folder: Path, child_environment: dict[str, str]) -> None:
    ended, running = "echo x >> ended; echo early; exit 3", "sleep 0.7; echo x >> late; echo late"
    commands = [["a", "exec", ended], ["b", "shell", running], ["c", "exec", running], ["d", "shell", "pwd; cat late"]]
    _killed_server(folder, child_environment, commands)

    async def work(backend: BubblewrapBackend) -> None:
        sandbox = await backend.find(KEY)
        assert sandbox is not None
        results = await asyncio.gather(*(sandbox.attach(call_id) for call_id in "abcd"))
        assert [(r.exit_code, r.output) for r in results[:3]] == [(3, b"early\n"), (0, b"late\n"), (0, b"late\n")]
        assert results[3].output.startswith(b"/workspace\nx\n")
        with pytest.raises(ValueError, match="started before"):
            await sandbox.run("a", Shell(script=ended))
        with pytest.raises(UnknownCall):
            await sandbox.attach("never")
        counted = await sandbox.run("count", Shell(script="cat ended late | wc -l"))
        assert counted.output.strip() == b"3"

    _in_new_server(folder, work)


def test_a_call_that_is_unknown_after_kill_9_never_begins(folder: Path, child_environment: dict[str, str]) -> None:
    """Also when the server died while its requests were still on their way."""
    names = [f"call_{n}" for n in range(40)]
    commands = [[name, "exec" if n % 2 else "shell", f"echo {name} >> ran"] for n, name in enumerate(names)]
    _killed_server(folder, child_environment, commands, "sent")

    async def work(backend: BubblewrapBackend) -> None:
        sandbox = await backend.find(KEY)
        assert sandbox is not None
        ends = await asyncio.gather(*(sandbox.attach(name) for name in names), return_exceptions=True)
        known = {name for name, end in zip(names, ends, strict=True) if not isinstance(end, UnknownCall)}
        ran = (await sandbox.run("last", Shell(script="cat ran"))).output.decode().split()
        assert sorted(ran) == sorted(known)
        assert known

    _in_new_server(folder, work)


def test_a_call_of_the_killed_server_can_be_cancelled(folder: Path, child_environment: dict[str, str]) -> None:
    _killed_server(folder, child_environment, [["a", "shell", "setsid -f sleep 987; sleep 988"]])

    async def work(backend: BubblewrapBackend) -> None:
        sandbox = await backend.provision(SPEC)
        await sandbox.cancel("a")
        assert (await sandbox.attach("a")).cancelled
        assert (await sandbox.run("b", Shell(script="pgrep -c sleep"))).output == b"0\n"

    _in_new_server(folder, work)


def test_reap_ends_what_is_not_kept(folder: Path, child_environment: dict[str, str]) -> None:
    _killed_server(folder, child_environment, [["a", "shell", "echo kept > file; sleep 986"]])
    init = _init_of(folder)

    async def work(backend: BubblewrapBackend) -> None:
        kept = await backend.find(KEY)
        assert kept is not None
        await kept.run("b", Exec(argv=["sh", "-c", "until [ -s file ]; do sleep 0.01; done"]))
        await kept.acknowledge("b")
        await backend.aclose(stop=False)
        await backend.reap({KEY})
        assert launcher.running(init.pid) == init
        await backend.reap(set())
        with pytest.raises(ProcessLookupError):
            launcher.running(init.pid)
        assert await backend.find(KEY) is None
        sandbox = await backend.provision(SPEC)
        assert (await sandbox.run("b", Shell(script="cat file"))).output == b"kept\n"

    _in_new_server(folder, work)


def test_reap_spares_a_process_that_only_has_the_same_id(folder: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        mine = launcher.running(bystander.pid)
        launcher.end(msgspec.structs.replace(mine, start_time=mine.start_time + 1))
        launcher.end(msgspec.structs.replace(mine, boot_id="another boot"))
        assert bystander.poll() is None
        launcher.end(mine)
        assert bystander.wait() == -9


def test_a_dead_init_is_an_unavailable_sandbox_and_a_new_one_keeps_the_files(folder: Path) -> None:
    async def work(backend: BubblewrapBackend) -> None:
        sandbox = await backend.provision(SPEC)
        await sandbox.run("a", Shell(script="echo kept > file"))
        waiting = asyncio.create_task(sandbox.run("b", Shell(script="sleep 60")))
        await sandbox.link.hello()
        launcher.end(_init_of(folder))
        (failure,) = await asyncio.gather(waiting, return_exceptions=True)
        assert type(failure).__name__ == "SandboxUnavailable"
        assert await backend.find(KEY) is None
        again = await backend.provision(SPEC)
        with pytest.raises(UnknownCall):
            await again.attach("b")
        assert (await again.run("c", Shell(script="cat file"))).output == b"kept\n"

    _in_new_server(folder, work)


def test_concurrent_provision_starts_one_sandbox(folder: Path) -> None:
    async def work(backend: BubblewrapBackend) -> None:
        found = await asyncio.gather(*(backend.provision(SPEC) for _ in range(5)))
        assert len({id(sandbox) for sandbox in found}) == 1

    _in_new_server(folder, work)


def test_letting_go_leaves_sandboxes_alive(folder: Path) -> None:
    async def first() -> None:
        backend = BubblewrapBackend(folder)
        sandbox = await backend.provision(SPEC)
        await sandbox.run("a", Shell(script="x=1; cd /tmp"))
        await backend.aclose(stop=False)

    async def second(backend: BubblewrapBackend) -> None:
        sandbox = await backend.find(KEY)
        assert sandbox is not None
        assert (await sandbox.run("b", Shell(script="echo $x; pwd"))).output == b"1\n/tmp\n"

    asyncio.run(first())
    _in_new_server(folder, second)


def test_sandbox_never_runs_as_the_hosts_root(folder: Path) -> None:
    async def work(backend: BubblewrapBackend) -> None:
        await backend.provision(SPEC)
        uids = _uids(_init_of(folder).pid)
        assert "0" not in uids
        assert os.geteuid() == 0 or set(uids) == {str(os.geteuid())}

    _in_new_server(folder, work)


def test_a_sandbox_that_no_server_comes_back_for_ends_by_itself(folder: Path) -> None:
    """Not while a call runs, and later when a result waits; its files stay."""

    async def leave(script: str) -> int:
        backend = BubblewrapBackend(folder, lonely_seconds=1)
        sandbox = await backend.provision(SPEC)
        call = asyncio.create_task(sandbox.run("a", Shell(script=script)))
        await asyncio.sleep(0)  # requests go out in order: the next one is heard after it
        with pytest.raises(ValueError, match="started before"):
            await sandbox.run("a", Shell(script="echo never"))
        if "sleep" not in script:
            await call
            await sandbox.acknowledge("a")
        else:
            call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await backend.aclose(stop=False)
        return os.pidfd_open(_init_of(folder).pid)

    def ended(handle: int, seconds: float) -> bool:
        return bool(select.select([handle], [], [], seconds)[0])

    idle = asyncio.run(leave("echo kept > file"))
    assert ended(idle, 10)
    os.close(idle)
    busy = asyncio.run(leave("sleep 2.5; echo late"))
    assert not ended(busy, 4)  # its result waits
    os.close(busy)

    async def collect(backend: BubblewrapBackend) -> None:
        sandbox = await backend.provision(SPEC)
        assert (await sandbox.attach("a")).output == b"late\n"
        assert (await sandbox.run("b", Shell(script="cat file"))).output == b"kept\n"

    _in_new_server(folder, collect)
