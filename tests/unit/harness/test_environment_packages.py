"""The packages of a session's environment: asked for in their order, waited for with notes in the log, done without."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from stage import SESSION, Stage
from test_skill_layers import SCRIPT, Memory, Specs, errors

from hostler.harness import session_layers
from hostler.harness.loop import advance
from hostler.harness.session_layers import SessionLayers
from hostler.harness.state import PACKAGES
from hostler.sandbox.contract import Layer
from hostler.sandbox.layers import packagelists
from hostler.sandbox.layers.packages import LayerUnavailable, PackageSet, Progress

LISTS = {"pip": ["six"], "apt": ["jq"], "npm": ["left-pad"], "type": "packages", "gem": []}
CONFIG = msgspec.json.encode({"type": "cloud", "packages": LISTS})


class Saying(Memory):
    """Builds say a line each time that they are asked."""

    async def ensure(self, packages: PackageSet, *, again: bool = False) -> Layer:
        if packages.base is not None and packages.base.lines[0] in self.failing:
            raise LayerUnavailable("The base is not there.")
        return await super().ensure(packages, again=again)

    async def find(self, packages: PackageSet) -> Layer | None:
        return self.built.get(packages)

    async def progress(self, packages: PackageSet, position: int = 0) -> Progress | None:
        if packages.manager == "npm":
            raise LayerUnavailable("no npm yet")
        return Progress([f"{packages.manager} line {position}"], position + 1)


def play(folder: Path, work: Callable[[Stage, Saying, Specs], Awaitable[None]], seconds: float = 5.0) -> None:
    async def main() -> None:
        stage = await Stage.open(folder, SCRIPT)
        await stage.set(environment=CONFIG)
        memory, backend = Saying(), Specs()
        layers = SessionLayers(memory, backend, environment_seconds=seconds)
        stage.backend = backend
        stage.deps = msgspec.structs.replace(stage.deps, sandboxes=backend, layers=layers)
        async with asyncio.timeout(20):
            await work(stage, memory, backend)
        await stage.store.close()

    asyncio.run(main())


def test_lists_in_their_order_upon_apt() -> None:
    apt, npm, pip = packagelists.sets_of(LISTS)
    assert [each.manager for each in (apt, npm, pip)] == ["apt", "npm", "pip"]
    assert (apt.base, npm.base, pip.base) == (None, apt, apt)
    assert packagelists.sets_of({"pip": ["six"]})[0].base is None
    assert packagelists.sets_of({}) == []


def test_a_session_that_waits_keeps_what_the_build_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_layers, "NOTE_SECONDS", 0.01)

    async def work(stage: Stage, memory: Saying, backend: Specs) -> None:
        memory.hold = asyncio.Event()
        await stage.say("go")
        task = asyncio.create_task(advance(await stage.wake(), stage.deps))
        await memory.waited_for.wait()
        notes: list[str] = []
        while not any("pip line 1" in note for note in notes):
            await asyncio.sleep(0.01)
            entries = await stage.log.read(SESSION)
            notes = [str(entry.fields()) for entry in entries if entry.type == PACKAGES]
        memory.hold.set()
        await task
        assert any("'for': 'environment apt'" in note for note in notes)
        assert PACKAGES not in await stage.types()  # it is private
        assert [layer.key for layer in backend.specs[0].layers] == ["jq", "left-pad", "six"]
        assert await errors(stage) == []

    play(tmp_path, work)


def test_one_that_fails_costs_no_other(tmp_path: Path) -> None:
    async def work(stage: Stage, memory: Saying, backend: Specs) -> None:
        memory.failing = {"jq"}
        await stage.say("go")
        await advance(await stage.wake(), stage.deps)
        assert [layer.key for layer in backend.specs[0].layers] == ["left-pad", "six"]
        (said,) = await errors(stage)
        assert said.startswith("The environment's apt packages are not available, so the agent goes on without them: ")
        assert said.endswith("\nthe tail with s3cret")  # the end of the output, which layers have cleaned

    play(tmp_path, work)


def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    async def work(stage: Stage, memory: Saying, backend: Specs) -> None:
        memory.hold = asyncio.Event()
        await stage.say("go")
        await advance(await stage.wake(), stage.deps)
        assert ["still being installed" in message for message in await errors(stage)] == [True] * 3
        assert backend.specs[0].layers == []

    play(tmp_path, work, seconds=0.05)


def test_a_new_session_begins_to_build(tmp_path: Path) -> None:
    async def work(stage: Stage, memory: Saying, backend: Specs) -> None:
        stage.deps.layers.created(CONFIG)
        stage.deps.layers.created(b'{"type": "self_hosted"}')
        assert [packages.manager for packages in memory.begun] == ["apt", "npm", "pip"]

    play(tmp_path, work)
