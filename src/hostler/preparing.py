"""Installs the packages of the pre-built skills ahead of time, and says which are there. It may run beside a server.

It must not know how a layer is built.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import msgspec

from hostler.configuration import configuration
from hostler.sandbox.backends import SandboxConfig, open_layers
from hostler.sandbox.contract import Check, Layer
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.packages import Layers, LayerUnavailable, PackageSet
from hostler.settings import Settings
from hostler.skills import requirements
from hostler.store.folder import make_data_dir

TICK_SECONDS = 1.0


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one skill's packages; `bytes` is what they take on the disk, `detail` why they are not there."""

    id: str
    ok: bool
    seconds: float
    packages: list[str] = []
    bytes: int = 0
    detail: str = ""


async def prepare(settings: Settings, tell: Callable[[str, float], None]) -> list[Prepared]:
    """Build what is missing. `tell` hears, every second, which skill is worked on and for how long already."""
    config = configuration(settings).sandbox
    await asyncio.to_thread(make_data_dir, settings.data_dir)
    layers = open_layers(settings.data_dir / "layers", config, settings.environ)
    try:
        return [await _prepare_one(layers, skill_id, tell) for skill_id in requirements.IDS]
    finally:
        await layers.aclose()


async def _prepare_one(layers: Layers, skill_id: str, tell: Callable[[str, float], None]) -> Prepared:
    started = time.monotonic()
    work = asyncio.create_task(layers.ensure(_packages(skill_id), again=True))
    try:
        while not work.done():
            tell(skill_id, time.monotonic() - started)
            await asyncio.wait({work}, timeout=TICK_SECONDS)
        layer = work.result()
    except LayerUnavailable as problem:
        return Prepared(id=skill_id, ok=False, seconds=time.monotonic() - started, detail=str(problem))
    finally:
        work.cancel()
    packages, size = _content(layer)
    return Prepared(id=skill_id, ok=True, seconds=time.monotonic() - started, packages=packages, bytes=size)


async def checks(settings: Settings, config: SandboxConfig) -> list[Check]:
    """A line for each skill. What is missing is built when a session first needs it, so none is required."""
    if config.backend == "none":
        return []
    layers = open_layers(settings.data_dir / "layers", config, settings.environ)
    try:
        return [await _check(layers, skill_id) for skill_id in requirements.IDS]
    finally:
        await layers.aclose()


async def _check(layers: Layers, skill_id: str) -> Check:
    name = f"skill {skill_id}: packages"
    try:
        layer = await layers.find(_packages(skill_id))
    except LayerUnavailable as problem:
        remedy = "see docs/prebuilt-skills.md; agents can read the skill, but its scripts lack their packages"
        return Check(name=name, ok=False, detail=str(problem), remedy=remedy, required=False)
    if layer is None and (obstacle := await layers.obstacle()) is not None:
        return Check(name=name, ok=False, detail=obstacle, remedy="install what is missing", required=False)
    if layer is None:
        detail = "not installed yet; the first session that uses the skill waits for it, and needs the package index"
        return Check(name=name, ok=False, detail=detail, remedy="hostler skills prepare", required=False)
    packages, size = _content(layer)
    return Check(name=name, ok=True, detail=f"{len(packages)} installed, {size / 1024**2:.0f} MiB", required=False)


def _packages(skill_id: str) -> PackageSet:
    return PackageSet(lines=requirements.of(skill_id))


def _content(layer: Layer) -> tuple[list[str], int]:
    manifest = manifests.read(layer.source)
    return (manifest.packages, manifest.size.bytes) if manifest else ([], 0)
