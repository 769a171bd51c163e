"""An environment's lists of packages as layers: one for each manager, those after apt built upon what it brings.

It must not know sessions, nor how a layer is built.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from hostler.sandbox.contract import Layer
from hostler.sandbox.layers.packages import Layers, LayerUnavailable, PackageSet

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
    if packages.base is not None and await layers.find(packages.base) is None:
        packages = alone(packages)
    return await layers.find(packages)


def alone(packages: PackageSet) -> PackageSet:
    return msgspec.structs.replace(packages, base=None)
