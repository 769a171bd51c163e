"""The adapter against a simulated engine, for everybody: what it makes and removes, and what it does on a bad day."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from engines.simulated import Container, SimulatedEngine
from hostler.sandbox.container import egress as container_egress
from hostler.sandbox.container.channels import BrokenStream, Channels, Kind
from hostler.sandbox.contract import (
    NO_NETWORK,
    Layer,
    Limits,
    Network,
    SandboxSpec,
    SandboxUnavailable,
    Shell,
    UnknownCall,
)
from hostler.sandbox.engine.backend import EngineBackend
from hostler.sandbox.engine.ground import Settings
from hostler.sandbox.engine.http import Address

KEY = "sesn_1"
SPEC = SandboxSpec(key=KEY, network=NO_NETWORK)
_SYSTEM = SandboxSpec(key=KEY, system=True)
Work = Callable[[SimulatedEngine, Callable[..., EngineBackend]], Awaitable[None]]


def _simulated(tmp_path: Path, work: Work) -> None:
    async def main() -> None:
        made: list[EngineBackend] = []

        def make(where: str = "sandboxes", runtime: str = "") -> EngineBackend:
            settings = Settings(address=Address.parse(engine.address), image="hostler-sandbox", runtime=runtime)
            made.append(EngineBackend(tmp_path / where, settings, limits=Limits(memory_bytes=1 << 20, processes=7)))
            return made[-1]

        async with SimulatedEngine(tmp_path / "engine.sock") as engine:
            try:
                await work(engine, make)
            finally:
                for backend in made:
                    await backend.aclose(stop=False)

    asyncio.run(main())


def test_a_sandbox_lives_rests_and_goes(tmp_path: Path) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        backend = make()
        sandbox = await backend.provision(SPEC)
        assert (await sandbox.run("a", Shell(script="echo $((40 + 2))"))).output == b"42\n"
        (container,) = engine.containers.values()
        assert b"agent=1000\0" in container.config
        assert container.body["HostConfig"]["PidsLimit"] == 7 + 3
        volumes = set(engine.volumes)
        later = make()
        found = await later.find(KEY)
        assert found is not None
        assert found.generation == sandbox.generation
        assert (await found.attach("a")).output == b"42\n"
        with pytest.raises(UnknownCall):
            await found.attach("never")
        await later.hibernate(KEY)
        assert (engine.containers, set(engine.volumes)) == ({}, volumes)
        assert await later.find(KEY) is None
        again = await later.provision(SPEC)
        assert again.generation != sandbox.generation
        engine.volumes["somebody's"] = {}
        engine.volumes["labelled-alike"] = engine.volumes[min(volumes)]
        await later.destroy(KEY)
        await later.destroy(KEY)
        assert (engine.containers, set(engine.volumes)) == ({}, {"somebody's", "labelled-alike"})

    _simulated(tmp_path, work)


@pytest.mark.parametrize("status", [409, 500], ids=["as docker says it", "as podman says it"])
def test_a_left_over_of_the_same_name_makes_room(tmp_path: Path, status: int) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        engine.conflict = status
        first = await make().provision(SPEC)
        (tmp_path / "sandboxes" / KEY / "state.json").unlink()  # the server died before it wrote it
        second = await make().provision(SPEC)
        assert first.generation != second.generation
        assert len(engine.containers) == 1

    _simulated(tmp_path, work)


def test_reap_removes_its_own_alone(tmp_path: Path) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        for where in ("sandboxes", "elsewhere"):
            for key in ("kept", "idle"):
                await make(where).provision(SandboxSpec(key=key, network=NO_NETWORK))
        engine.containers["a-stranger"] = Container("a-stranger", {"Labels": {}}, 5000)
        labels = {"io.hostler.folder": (tmp_path / "sandboxes" / ".install").read_text()}
        young, old = (Container(f"helper-{age}", {"Labels": labels}, age) for age in (5, 5000))
        engine.containers |= {young.name: young, old.name: old}
        await make().reap({"kept"})
        kept = sorted((one.body["Labels"] or {}).get("io.hostler.session", "") for one in engine.containers.values())
        assert kept == ["", "", "idle", "kept", "kept"]
        assert old.name not in engine.containers

    _simulated(tmp_path, work)


def test_a_call_goes_on_when_its_stream_breaks(tmp_path: Path) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        backend = make()
        sandbox = await backend.provision(SPEC)
        waiting = asyncio.create_task(sandbox.run("a", Shell(script="sleep 0.3; echo late")))
        await backend.provision(SPEC)
        await next(iter(engine.containers.values())).called.wait()
        engine.drop_all()
        assert (await waiting).output == b"late\n"
        again = await backend.find(KEY)
        assert again is not None
        assert again.generation == sandbox.generation
        assert (await again.attach("a")).output == b"late\n"

    _simulated(tmp_path, work)


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x01\0\0\0\0\0\0\x04\xff\xff\xff\xff",  # a message of four gigabytes
        b"\x01\0\0\0\0\0\0\x08\x01\0\0\0abcd",  # one that is too short
        b"\x07\0\0\0\0\0\0\x01x",  # a frame of no known stream
        b"\x02\0\0\0\x7f\xff\xff\xff",  # stderr without an end
    ],
    ids=["endless", "short", "unknown", "noise"],
)
def test_nonsense_on_a_stream_ends_it(tmp_path: Path, garbage: bytes) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        engine.trouble.garbage = garbage
        with pytest.raises(SandboxUnavailable):
            await make().provision(SPEC)

    _simulated(tmp_path, work)


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        engine.trouble.start = 'unknown runtime "runsc"'
        with pytest.raises(SandboxUnavailable, match='unknown runtime "runsc"'):
            await make(runtime="runsc").provision(SPEC)
        assert engine.containers == {}
        remedies = {check.name: check for check in await asyncio.to_thread(make(runtime="runsc").probe)}
        assert not remedies["sandbox: runtime"].ok
        assert "daemon.json" in remedies["sandbox: runtime"].remedy
        engine.images.clear()
        with pytest.raises(SandboxUnavailable, match="no image 'hostler-sandbox'"):
            await make("other").provision(SPEC)
        found = {check.name: check for check in await asyncio.to_thread(make().probe)}
        assert not found["sandbox: image"].ok
        assert "Dockerfile" in found["sandbox: image"].remedy

    _simulated(tmp_path, work)


def test_an_engine_that_goes_away_keeps_no_server_from_stopping(tmp_path: Path) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        backend = make()
        await backend.provision(SPEC)
        engine.path.unlink()
        engine.drop_all()
        await backend.aclose(stop=True)

    _simulated(tmp_path, work)


def test_a_layer_over_the_system_is_refused_with_the_reason(tmp_path: Path) -> None:
    async def work(engine: SimulatedEngine, make: Callable[..., EngineBackend]) -> None:
        (tmp_path / "layer" / "system").mkdir(parents=True)
        for more in (SandboxSpec(key=KEY, layers=[Layer(key="a", source=tmp_path / "layer")]), _SYSTEM):
            with pytest.raises(SandboxUnavailable, match="over the system"):
                await make().provision(more)
        assert engine.containers == {}

    _simulated(tmp_path, work)


def test_a_remote_engine_shares_no_folder_of_this_machine(tmp_path: Path) -> None:
    settings = Settings(address=Address.parse("tcp://127.0.0.1:1"), image="hostler-sandbox")
    backend = EngineBackend(tmp_path / "sandboxes", settings, limits=Limits())
    layers = [Layer(key="one", source=tmp_path)]
    with pytest.raises(SandboxUnavailable, match="on another one"):
        asyncio.run(backend.provision(SandboxSpec(key=KEY, layers=layers)))


def test_an_engine_that_is_not_there_is_said(tmp_path: Path) -> None:
    settings = Settings(address=Address.parse(f"unix://{tmp_path}/none.sock"), image="hostler-sandbox")
    backend = EngineBackend(tmp_path / "sandboxes", settings, limits=Limits())

    async def main() -> None:
        with pytest.raises(SandboxUnavailable, match=r"none\.sock does not answer"):
            await backend.provision(SPEC)
        await backend.reap(set())  # a server starts all the same
        check = next(check for check in backend.probe() if check.name == "sandbox: engine")
        assert not check.ok
        assert "systemctl" in check.remedy
        await backend.aclose(stop=True)

    asyncio.run(main())


def test_a_wrong_address_is_refused() -> None:
    assert Address.parse("/run/x.sock").local
    assert Address.parse("tcp://engine:2375") == Address(host="engine", port=2375)
    for wrong in ("", "engine", "ftp://x:1", "tcp://engine", "unix://"):
        with pytest.raises(ValueError, match="an engine is named"):
            Address.parse(wrong)


class _Frames:
    """A stream that holds these bytes and then stays silent."""

    def __init__(self, data: bytes) -> None:
        self.parts = [data]
        self.closed = False

    async def read(self) -> bytes:
        return self.parts.pop() if self.parts else b""

    def write(self, data: bytes) -> None:
        pass

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


def _frame(kind: int, number: int, length: int, data: bytes = b"") -> bytes:
    return struct.pack("<BII", kind, number, length) + data


@pytest.mark.parametrize(
    "frames",
    [
        _frame(Kind.OPEN, 1, 0) * 2,
        _frame(Kind.DATA, 1, 1 << 30),
        _frame(Kind.OPEN, 1, 0) + _frame(Kind.DATA, 1, 100_000, bytes(100_000)) * 2,
        b"".join(_frame(Kind.OPEN, number, 0) for number in range(1000)),
    ],
    ids=["twice", "endless", "over the window", "too many"],
)
def test_a_container_that_breaks_the_rules_loses_its_connections_alone(frames: bytes) -> None:
    async def never() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        await asyncio.Event().wait()
        raise AssertionError

    stream = _Frames(frames)
    with pytest.raises(BrokenStream):
        asyncio.run(Channels(stream, never).run())
    assert stream.closed


def test_a_connection_that_fails_by_a_fault_ends_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def faulty() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if not tried:
            tried.append(1)
            raise RuntimeError("a fault")
        ours.sendall(b"hello")
        return await asyncio.open_unix_connection(sock=theirs)

    async def main() -> None:
        async with asyncio.timeout(10):
            await Channels(stream, faulty).run()

    tried: list[int] = []
    stream = _Open(_frame(Kind.OPEN, 1, 0) + _frame(Kind.OPEN, 2, 0))
    ours, theirs = socket.socketpair()
    with ours:
        asyncio.run(main())
    assert _frame(Kind.RESET, 1, 0) in stream.written
    assert "a connection of a container failed" in caplog.text


def test_a_fault_leaves_a_container_its_way_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened = asyncio.Event()

    async def open_stream(argv: Sequence[str]) -> _Open:
        if "the connections of a container were ended" in caplog.text:
            opened.set()
            await asyncio.Event().wait()
        raise RuntimeError("a fault")

    async def egress(listener: socket.socket, key: str, network: Network) -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        serving = asyncio.create_task(container_egress.serve(egress, open_stream, tmp_path / "s", "k", Network()))
        async with asyncio.timeout(10):
            await opened.wait()
        serving.cancel()
        await asyncio.wait({serving})
        assert serving.cancelled()

    asyncio.run(main())


class _Open(_Frames):
    """One that gives these bytes, and ends when it is told `hello`."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.end = asyncio.Event()
        self.written = b""

    async def read(self) -> bytes:
        if not self.parts:
            await self.end.wait()
        return await super().read()

    def write(self, data: bytes) -> None:
        self.written += data
        if b"hello" in data:
            self.end.set()
