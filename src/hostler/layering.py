"""Builds an environment's packages ahead of time, and lists and removes package layers. It may run beside a server.

It must not know how a layer is built.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import msgspec
from sqlalchemy import select

from hostler.configuration import configuration
from hostler.errors import InvalidRequest, Unavailable
from hostler.sandbox.backends import open_layers
from hostler.sandbox.layers import packagelists
from hostler.sandbox.layers.packages import Kept, Layers, LayerUnavailable, PackageSet, Progress
from hostler.services.environments import Environments
from hostler.services.reading import rows
from hostler.settings import Settings
from hostler.skills import requirements
from hostler.store.folder import find_data_dir
from hostler.store.opening import open_store
from hostler.store.sql import Tx
from hostler.store.tables import environments, sessions

TICK_SECONDS = 0.2
Tell = Callable[[str, str], None]
_KEPT = select(environments.c.id, environments.c.body, environments.c.archived_at)
_NEEDED = select(sessions.c.environment_id).where(sessions.c.archived_at.is_(None)).distinct()


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one manager's packages; `bytes` is what they take on the disk, `detail` why they are not there."""

    manager: str
    ok: bool
    cached: bool = False
    seconds: float
    layer: str | None = None
    packages: list[str] = []
    bytes: int = 0
    detail: str = ""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """A layer, and who would use it: ids of environments, and skills."""

    layer: Kept
    used_by: list[str]
    mounted: bool


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    layers: list[Kept]
    dry_run: bool

    @property
    def bytes(self) -> int:
        return sum(layer.bytes for layer in self.layers)


async def build(settings: Settings, environment_id: str, tell: Tell) -> list[Built]:
    """Build what is missing, manager by manager. `tell` hears each line that a build says, also one of a server."""
    layers = await _open(settings)
    try:
        lists = await _lists(settings, environment_id)
        return [await _build_one(layers, packages, tell) for packages in packagelists.sets_of(lists)]
    finally:
        await layers.aclose()


async def shown(settings: Settings) -> list[Shown]:
    """All layers, the one used last first."""
    layers = await _open(settings)
    try:
        users = await _users(settings, layers)
        mounted = await _mounted(settings, layers)
        return [
            Shown(layer=kept, used_by=users.get(kept.key, []), mounted=kept.key in mounted)
            for kept in await layers.kept()
        ]
    finally:
        await layers.aclose()


async def prune(settings: Settings, *, older_than: float, dry_run: bool) -> Removed:
    """Remove the layers that nothing would use, and that were last used longer ago than so many seconds."""
    unused = [each.layer for each in await shown(settings) if not each.used_by and not each.mounted]
    old = [layer for layer in unused if layer.last_used_at < time.time() - older_than]
    if dry_run:
        return Removed(layers=old, dry_run=True)
    layers = await _open(settings)
    try:
        gone = [layer for layer in old if await layers.remove(layer.key, older_than)]
        return Removed(layers=gone, dry_run=False)
    finally:
        await layers.aclose()


async def _mounted(settings: Settings, layers: Layers) -> set[str]:
    try:
        return await layers.mounted(settings.data_dir / "sandboxes")
    except LayerUnavailable as problem:
        raise Unavailable(str(problem)) from problem


async def _open(settings: Settings) -> Layers:
    await asyncio.to_thread(find_data_dir, settings.data_dir)
    return open_layers(settings.data_dir / "layers", configuration(settings).sandbox, settings.environ)


async def _lists(settings: Settings, environment_id: str) -> dict[str, Any]:
    store = await open_store(settings, owner=False)
    try:
        environment = await Environments(store).retrieve(environment_id)
    finally:
        await store.close()
    packages = getattr(environment.config, "packages", None)
    if packages is None:
        raise InvalidRequest(f"{environment_id} is no environment of ours to install packages in: it is self_hosted")
    lists: dict[str, Any] = msgspec.to_builtins(packages)
    return lists


async def _build_one(layers: Layers, packages: PackageSet, tell: Tell) -> Built:
    started = time.monotonic()
    try:
        if (layer := await packagelists.find(layers, packages)) is not None:
            return await _built(layers, packages.manager, layer.key, time.monotonic() - started, cached=True)
        layer = await _watched(layers, packages, tell)
    except LayerUnavailable as problem:
        return Built(manager=packages.manager, ok=False, seconds=time.monotonic() - started, detail=str(problem))
    return await _built(layers, packages.manager, layer.key, time.monotonic() - started, cached=False)


async def _watched(layers: Layers, packages: PackageSet, tell: Tell) -> Any:
    position = 0
    work = asyncio.create_task(packagelists.ensure(layers, packages, again=True))
    try:
        while not work.done():
            await asyncio.wait({work}, timeout=TICK_SECONDS)
            said = await _said(layers, packages, position)
            for line in said.lines if said else ():
                tell(packages.manager, line)
            position = said.position if said else position
        return work.result()
    finally:
        work.cancel()


async def _said(layers: Layers, packages: PackageSet, position: int) -> Progress | None:
    with contextlib.suppress(LayerUnavailable):  # not yet: what it is built upon may bring what it needs
        return await packagelists.progress(layers, packages, position)
    return None


async def _built(layers: Layers, manager: str, key: str, seconds: float, *, cached: bool) -> Built:
    kept = next((each for each in await layers.kept() if each.key == key), None)
    packages, size = (kept.packages, kept.bytes) if kept else ([], 0)
    return Built(manager=manager, ok=True, cached=cached, seconds=seconds, layer=key, packages=packages, bytes=size)


async def _users(settings: Settings, layers: Layers) -> dict[str, list[str]]:
    """Layer -> who would use it now."""

    def tx() -> Tx[tuple[list[Any], set[str]]]:
        kept = yield from rows(_KEPT)
        needed = yield from rows(_NEEDED)
        return kept, {row[0] for row in needed}

    store = await open_store(settings, owner=False)
    try:
        found, needed = await store.read(tx)
    finally:
        await store.close()
    users: dict[str, list[str]] = {}
    for environment_id, body, archived_at in found:
        if archived_at is None or environment_id in needed:
            config = msgspec.json.decode(body)["config"]
            for packages in packagelists.sets_of(config.get("packages") or {}):
                await _count(layers, packages, environment_id, users)
    for skill_id in requirements.IDS:
        await _count(layers, PackageSet(lines=requirements.of(skill_id)), f"skill {skill_id}", users)
    return users


async def _count(layers: Layers, packages: PackageSet, user: str, users: dict[str, list[str]]) -> None:
    """Note the layer that a session would have: where that of apt is not there, the one without it."""
    without = not await packagelists.has_base(layers, packages)
    for each in [packages, *([packagelists.alone(packages)] if without else [])]:
        with contextlib.suppress(LayerUnavailable):  # it can have none here
            users.setdefault(await layers.key(each), []).append(user)
