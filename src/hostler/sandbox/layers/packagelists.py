"""An environment's lists of packages as layers: one for each manager, those after apt built upon what it brings.

It must not know sessions, nor how a layer is built.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import msgspec

from hostler.sandbox.contract import Layer
from hostler.sandbox.layers.packages import Layers, LayerUnavailable, PackageSet, Progress

ORDER = ("apt", "cargo", "gem", "go", "npm", "pip")


def sets_of(lists: Mapping[str, Sequence[str]]) -> list[PackageSet]:
    """In the order in which they install; managers without packages are left out. Packages may be compiled."""
    found = {name: tuple(lists[name]) for name in ORDER if lists.get(name)}
    base = PackageSet(manager="apt", lines=found["apt"], compile=True) if "apt" in found else None
    return [
        PackageSet(manager=name, lines=lines, compile=True, base=None if name == "apt" else base)
        for name, lines in found.items()
    ]


async def ensure(layers: Layers, packages: PackageSet, *, again: bool = False) -> Layer:
    """The layer, built if need be; where the packages of apt are not to be had, without them. Raises
    LayerUnavailable."""
    if packages.base is not None:
        try:
            await layers.ensure(packages.base)
        except LayerUnavailable:
            packages = alone(packages)
    return await layers.ensure(packages, again=again)


async def find(layers: Layers, packages: PackageSet) -> Layer | None:
    """The layer that there is now. Raises LayerUnavailable where there can be none."""
    return await layers.find(packages if await has_base(layers, packages) else alone(packages))


async def progress(layers: Layers, packages: PackageSet, position: int) -> Progress | None:
    """What a build of these says, upon the packages of apt or without them. Raises LayerUnavailable."""
    with contextlib.suppress(LayerUnavailable):  # there can be none upon them, or not yet
        if packages.base is not None and (said := await layers.progress(packages, position)) is not None:
            return said
    return await layers.progress(alone(packages), position)


async def has_base(layers: Layers, packages: PackageSet) -> bool:
    """Whether the packages of apt that these are used with are there, if there are any."""
    try:
        return packages.base is None or await layers.find(packages.base) is not None
    except LayerUnavailable:
        return False


def alone(packages: PackageSet) -> PackageSet:
    return msgspec.structs.replace(packages, base=None)
