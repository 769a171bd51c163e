"""Sandboxes in containers of a real engine: the whole contract, kill -9 of the server, the way out, and a real server.

Where this user can have no engine, `test_adapter.py` still holds the adapter against a simulated one.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from engines import daemons
from engines.conftest import MakeBackend
from hostler.sandbox.contract import NO_NETWORK, Exec, Network, SandboxSpec, Shell, UnknownCall
from hostler.sandbox.edge.egress import EgressPolicy, EgressProxy
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.selfcheck import TRIALS, attempt

KEY = "sesn_1"
SPEC = SandboxSpec(key=KEY, network=NO_NETWORK)
SOURCES = Path(__file__).parents[2] / "src"
_AT_ONCE = 4


def _with(make: MakeBackend, work: Callable[[EngineBackend], Awaitable[None]], **more: Any) -> None:
    async def main() -> None:
        backend = make(**more)
        try:
            await work(backend)
        finally:
            await backend.destroy(KEY)
            await backend.aclose(stop=True)

    asyncio.run(main())


# Containers have no layers over the system (docs/sandbox-docker.md); that they say so is tested with the adapter.
_NOT_HERE = {"layer lies over the system"}
HELD = [trial for trial in TRIALS if trial.name not in _NOT_HERE]


def test_the_contract_holds_but_for_what_containers_lack(make_backend: MakeBackend) -> None:
    """One test, so that one process pays for it; several trials at once, since they mostly wait for the engine."""
    failed: list[str] = []

    async def work(backend: EngineBackend) -> None:
        seats = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with seats:
                check = await attempt(backend, HELD[number])
                if not check.ok:
                    failed.append(f"{check.name}: {check.detail}")

        await asyncio.gather(*(one(number) for number in range(len(HELD))))

    _with(make_backend, work)
    assert not failed, "\n".join(failed)


def _killed_server(folder: Path, engine: str, commands: list[list[str]]) -> None:
    """Run a stand-in until its calls have arrived, and kill it with -9."""
    standin = Path(__file__).with_name("standin.py")
    argv = [sys.executable, str(standin), str(folder), engine, daemons.IMAGE, KEY, json.dumps(commands)]
    keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = keep | {"PYTHONPATH": os.pathsep.join([str(SOURCES), *sys.path]), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "started\n"
        server.kill()


def test_calls_are_collected_after_kill_9(engine: str, folder: Path, make_backend: MakeBackend) -> None:
    ended, running = "echo x >> ended; echo early; exit 3", "sleep 1; echo x >> late; echo late"
    commands = [["a", "exec", ended], ["b", "shell", running], ["c", "exec", running], ["d", "shell", "sleep 600"]]
    _killed_server(folder, engine, commands)

    async def work(backend: EngineBackend) -> None:
        sandbox = await backend.find(KEY)
        assert sandbox is not None
        results = await asyncio.gather(*(sandbox.attach(call_id) for call_id in "abc"))
        assert [(r.exit_code, r.output) for r in results] == [(3, b"early\n"), (0, b"late\n"), (0, b"late\n")]
        with pytest.raises(ValueError, match="started before"):
            await sandbox.run("a", Shell(script=ended))
        with pytest.raises(UnknownCall):
            await sandbox.attach("never")
        await sandbox.cancel("d")
        assert (await sandbox.attach("d")).cancelled
        assert (await sandbox.run("e", Shell(script="cat ended late | wc -l"))).output.strip() == b"3"

    _with(make_backend, work)


def test_the_relay_of_a_killed_server_ends(engine: str, folder: Path, make_backend: MakeBackend) -> None:
    """The engine tells it the end of its input, so that servers that come and go leave nothing in the container."""
    _killed_server(folder, engine, [["a", "shell", "true"]])

    async def work(backend: EngineBackend) -> None:
        sandbox = await backend.provision(SPEC)
        count = "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -o 'init rela[y]' | wc -l"
        async with asyncio.timeout(20):
            for number in itertools.count():
                if (await sandbox.run(f"b{number}", Exec(argv=["bash", "-c", count]))).output.strip() == b"1":
                    break
                await sandbox.acknowledge(f"b{number}")
                await asyncio.sleep(0.05)

    _with(make_backend, work)


def test_many_servers_in_turn_find_the_same_sandbox(make_backend: MakeBackend) -> None:
    async def work(backend: EngineBackend) -> None:
        sandbox = await backend.provision(SPEC)
        await sandbox.run("a", Shell(script="x=1; cd /tmp"))
        for number in range(6):  # more than the init has room for connections
            other = make_backend()
            found = await other.find(KEY)
            assert found is not None
            assert found.generation == sandbox.generation
            assert (await found.run(f"b{number}", Shell(script="echo $x; pwd"))).output == b"1\n/tmp\n"
            await other.aclose(stop=False)

    _with(make_backend, work)


def test_reap_ends_its_own_and_spares_others(folder: Path, make_backend: MakeBackend) -> None:
    elsewhere = folder.with_name("elsewhere")

    async def work(backend: EngineBackend) -> None:
        mine = await backend.provision(SPEC)
        await mine.run("a", Shell(script="echo kept > file; x=7"))
        stranger = make_backend(where=elsewhere)
        theirs = await stranger.provision(SPEC)
        await stranger.reap({KEY})
        await backend.aclose(stop=False)
        later = make_backend()
        await later.reap(set())
        assert await later.find(KEY) is None
        assert (await theirs.run("a", Shell(script="ls"))).output == b""
        again = await later.provision(SPEC)
        assert again.generation != mine.generation
        assert (await again.run("b", Shell(script="cat file; echo $x"))).output == b"kept\n7\n"
        await stranger.destroy(KEY)
        assert (await again.run("c", Shell(script="cat file"))).output == b"kept\n"
        await later.destroy(KEY)
        await later.aclose(stop=True)
        await stranger.aclose(stop=True)

    _with(make_backend, work)


def test_a_container_that_was_removed_is_an_unavailable_sandbox(make_backend: MakeBackend) -> None:
    async def work(backend: EngineBackend) -> None:
        sandbox = await backend.provision(SPEC)
        await sandbox.run("a", Shell(script="echo kept > file"))
        waiting = asyncio.create_task(sandbox.run("b", Shell(script="sleep 60")))
        await sandbox.link.hello()
        await make_backend().hibernate(KEY)
        (failure,) = await asyncio.gather(waiting, return_exceptions=True)
        assert type(failure).__name__ == "SandboxUnavailable"
        assert await backend.find(KEY) is None
        again = await backend.provision(SPEC)
        assert (await again.run("c", Shell(script="cat file"))).output == b"kept\n"

    _with(make_backend, work)


class _Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(_PAGE)))
        self.end_headers()
        self.wfile.write(_PAGE)

    def do_POST(self) -> None:
        left = int(self.headers["content-length"])
        taken = 0
        while taken < left:
            taken += len(self.rfile.read(min(65536, left - taken)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(taken).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


_PAGE = bytes(range(256)) * 20_000


@pytest.fixture
def pages() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def _proxy(port: int) -> EgressProxy:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34"]

    async def connect(address: str, _: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", port, limit=65536)

    return EgressProxy(EgressPolicy(), resolve=resolve, connect=connect)


_TRANSFERS = """
import hashlib, threading, urllib.request
found = []
def one(slow):
    answer = urllib.request.urlopen("http://files.test/")
    if slow: kept.append(answer); return  # nobody reads it: it may hold up no other
    found.append(hashlib.sha256(answer.read()).hexdigest())
kept = []
one(True)
threads = [threading.Thread(target=one, args=(False,)) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(found), *set(found), urllib.request.urlopen("http://files.test/", data=b"y" * 5_000_000).read().decode())
"""
_STATUS = """
import urllib.error, urllib.request
for name in ("one.test", "two.test"):
    try: print(urllib.request.urlopen(f"http://{name}/").status)
    except urllib.error.HTTPError as error: print(error.code)
    except OSError as error: print("no way")
"""


def test_the_way_out_carries_whole_and_holds_up_nobody(make_backend: MakeBackend, pages: int) -> None:
    async def work(backend: EngineBackend) -> None:
        sandbox = await backend.provision(SandboxSpec(key=KEY))
        result = await sandbox.run("a", Exec(argv=["python3", "-c", _TRANSFERS], timeout_ms=60_000))
        wanted = f"8 {hashlib.sha256(_PAGE).hexdigest()} 5000000\n".encode()
        assert result.output == wanted, result.errors
        await backend.aclose(stop=False)
        later = make_backend(proxy=_proxy(pages))
        found = await later.find(KEY)  # the listener inside outlives the server that had served it
        assert found is not None
        assert (await found.run("b", Exec(argv=["python3", "-c", _STATUS]))).output == b"200\n200\n"
        await later.aclose(stop=False)

    _with(make_backend, work, proxy=_proxy(pages))


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        (Network(), b"200\n200\n"),
        (Network(hosts=("one.test",)), b"200\n403\n"),
        (NO_NETWORK, b"no way\nno way\n"),
    ],
    ids=["unrestricted", "limited", "none"],
)
def test_the_network_is_what_the_spec_says(
    make_backend: MakeBackend, pages: int, network: Network, wanted: bytes
) -> None:
    async def work(backend: EngineBackend) -> None:
        sandbox = await backend.provision(SandboxSpec(key=KEY, network=network))
        result = await sandbox.run("a", Exec(argv=["python3", "-c", _STATUS]))
        assert result.output == wanted, result.errors

    _with(make_backend, work, proxy=_proxy(pages))


_RIGHTS = (0, 5, 6, 7, 8)  # CHOWN, KILL, SETGID, SETUID, SETPCAP: of the init alone, the agent has none


def test_the_container_has_no_more_than_it_needs(make_backend: MakeBackend) -> None:
    async def work(backend: EngineBackend) -> None:
        sandbox = await backend.provision(SPEC)
        status = (await sandbox.run("a", Shell(script="grep -E '^Cap(Prm|Bnd)|^NoNew' /proc/1/status"))).output
        held = f"{sum(1 << number for number in _RIGHTS):016x}"
        assert status.decode().split() == ["CapPrm:", held, "CapBnd:", held, "NoNewPrivs:", "1"]
        reach = (
            "import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect('/opt/hostler/run/init.sock')"
        )
        refused = await sandbox.run("b", Exec(argv=["python3", "-c", reach]))
        assert b"PermissionError" in refused.errors
        made = await backend.ground.known()
        found = await backend.engine.http.ask_json("GET", f"/v1.40/containers/{made.name(KEY)}/json")
        host = found["HostConfig"]
        assert host["NetworkMode"] == "none"
        assert not host["Privileged"]
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
        assert host["PidsLimit"] == 515
        assert host["Memory"] == 1 << 30
        assert not [mount for mount in found["Mounts"] if mount["Type"] == "bind"]

    _with(make_backend, work)
