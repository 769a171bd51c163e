"""A session with a pre-built skill waits for its packages before the sandbox starts, and goes on without them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from stage import AGENT, SESSION, FakeBackend, Stage

from hostler.harness.loop import advance
from hostler.harness.session_layers import SessionLayers
from hostler.sandbox.contract import Layer, Sandbox, SandboxSpec
from hostler.sandbox.layers.packages import Kept, LayerUnavailable, PackageSet, Progress

SKILLS = [
    {"type": "anthropic", "skill_id": "docx", "version": "20261121"},
    {"type": "anthropic", "skill_id": "xlsx", "version": "20261121"},
    {"type": "custom", "skill_id": "skill_01", "version": "1"},
]
END = {"type": "end_turn"}
CALL = {"tools": [{"name": "bash", "input": {"command": "x"}}]}
SCRIPT: dict[str, Any] = {
    "rules": [{"when": {"user_text_equals": "go"}, "turns": [CALL, {"text": "Done."}]}],
    "otherwise": {"text": "Else."},
}


class Memory:
    """Layers in memory: `failing` cannot be built, and while `hold` is unset nothing is."""

    def __init__(self) -> None:
        self.begun: list[PackageSet] = []
        self.built: dict[PackageSet, Layer] = {}
        self.failing: set[str] = set()
        self.hold: asyncio.Event | None = None
        self.waited_for = asyncio.Event()

    def begin(self, packages: PackageSet) -> None:
        self.begun.append(packages)

    async def ensure(self, packages: PackageSet, *, again: bool = False) -> Layer:
        self.waited_for.set()
        if self.hold is not None:
            await self.hold.wait()
        if any(name in line for name in self.failing for line in packages.lines):
            raise LayerUnavailable("No index.", "the tail with s3cret")
        return self.built.setdefault(packages, Layer(key=packages.lines[-1], source=Path("/x")))

    async def find(self, packages: PackageSet) -> Layer | None:
        if self.failing:
            raise LayerUnavailable("Never.")
        return self.built.get(packages)

    async def progress(self, packages: PackageSet, position: int = 0) -> Progress | None:
        return None

    async def obstacle(self, manager: str = "pip") -> str | None:
        return None

    async def key(self, packages: PackageSet) -> str:
        return ""

    async def kept(self) -> list[Kept]:
        return []

    async def remove(self, key: str, keep_seconds: float) -> bool:
        return False

    async def aclose(self) -> None: ...


class Specs(FakeBackend):
    """Keeps what sandboxes were asked for with."""

    def __init__(self) -> None:
        super().__init__()
        self.specs: list[SandboxSpec] = []

    async def provision(self, spec: SandboxSpec) -> Sandbox:
        self.specs.append(spec)
        return await super().provision(spec)


def play(folder: Path, work: Callable[[Stage, Memory, Specs], Awaitable[None]], seconds: float = 5.0) -> None:
    async def main() -> None:
        stage = await Stage.open(folder, SCRIPT)
        await stage.set(agent=msgspec.json.encode({**AGENT, "skills": SKILLS}))
        memory, backend = Memory(), Specs()
        layers = SessionLayers(memory, backend, skill_seconds=seconds)
        stage.backend = backend
        stage.deps = msgspec.structs.replace(stage.deps, sandboxes=backend, layers=layers)
        async with asyncio.timeout(20):
            await work(stage, memory, backend)
        await stage.store.close()

    asyncio.run(main())


async def errors(stage: Stage) -> list[str]:
    found = [event["error"] for event in await stage.events() if event["type"] == "session.error"]
    assert all(error["type"] == "unknown_error" for error in found)
    assert all(error["retry_status"] == {"type": "retrying"} for error in found)
    return [error["message"] for error in found]


def test_the_sandbox_starts_with_the_packages_of_the_skills(tmp_path: Path) -> None:
    async def work(stage: Stage, memory: Memory, backend: Specs) -> None:
        memory.hold = asyncio.Event()
        await stage.say("go")
        task = asyncio.create_task(advance(await stage.wake(), stage.deps))
        await memory.waited_for.wait()
        assert "agent.tool_use" in await stage.types()  # the first request did not wait for any packages
        assert backend.specs == []
        memory.hold.set()
        await task
        assert len(memory.begun) == 2
        (spec,) = backend.specs
        assert [layer.key for layer in spec.layers] == ["typing-extensions==4.16.0", "pillow==13.0.0"]
        assert await errors(stage) == []
        await stage.say("go")  # the sandbox lives: nothing is waited for
        memory.hold = asyncio.Event()
        await advance(await stage.wake(), stage.deps)

    play(tmp_path, work)


def test_packages_that_fail_are_told_once_and_the_turn_goes_on(tmp_path: Path) -> None:
    async def work(stage: Stage, memory: Memory, backend: Specs) -> None:
        memory.failing = {"docx"}
        for _ in range(2):
            await stage.say("go")
            await advance(await stage.wake(), stage.deps)
            backend.made[-1].dead = True
        (said,) = await errors(stage)
        assert said == ("The packages of the skill docx are not available, so its scripts may not run: No index.")
        assert backend.specs[0].key == SESSION
        assert backend.specs[0].layers == []
        assert (await stage.types()).count("agent.tool_result") == 2
        assert [e["stop_reason"] for e in await stage.events() if e["type"] == "session.status_idle"] == [END, END]

    play(tmp_path, work)


def test_slow_packages_are_not_waited_for_for_ever(tmp_path: Path) -> None:
    async def work(stage: Stage, memory: Memory, backend: Specs) -> None:
        memory.hold = asyncio.Event()
        await stage.say("go")
        await advance(await stage.wake(), stage.deps)
        assert [message.split(" are ")[1][:5] for message in await errors(stage)] == ["still", "still"]
        assert backend.specs[0].layers == []

    play(tmp_path, work, seconds=0.05)


def test_an_interrupt_ends_the_wait(tmp_path: Path) -> None:
    async def work(stage: Stage, memory: Memory, backend: Specs) -> None:
        memory.hold = asyncio.Event()
        await stage.say("go")
        wake = await stage.wake()
        task = asyncio.create_task(advance(wake, stage.deps))
        await memory.waited_for.wait()
        await stage.interrupt()
        wake.poke()
        await task
        assert backend.specs == []
        assert (await stage.types())[-1] == "session.status_idle"
        assert await errors(stage) == []

    play(tmp_path, work, seconds=60)
