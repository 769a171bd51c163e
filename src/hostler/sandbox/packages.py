"""The contract of package layers: what may be asked for, what a package manager must say, how a failure looks.

It must not know how a layer is built: `layers` does.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from hostler.sandbox.contract import Exec, Folder, Layer


class LayerUnavailable(Exception):
    """A layer is not there and could not be built. `summary` is one line without any detail of this machine's network;
    `detail`, for the operator, is the end of what the package manager said."""

    def __init__(self, summary: str, detail: str = "") -> None:
        super().__init__(f"{summary}\n{detail}" if detail else summary)
        self.summary = summary
        self.detail = detail


class Missing(Exception):
    """What a package manager needs is not on this machine."""


class PackageSet(msgspec.Struct, frozen=True, kw_only=True):
    """Packages of one manager: its lines in its own syntax. `compile` lets it build what has no ready-made file."""

    lines: tuple[str, ...]
    manager: str = "pip"
    compile: bool = False


class Manager(Protocol):
    """A package manager. All that it names is run in a build sandbox."""

    def fingerprint(self) -> str:
        """What the packages depend on beside their lines: versions and machine. Raises `Missing`."""
        ...

    def check(self, lines: tuple[str, ...]) -> None:
        """Raise ValueError unless all lines name packages."""
        ...

    def environment(self) -> dict[str, str]: ...

    def folders(self) -> list[Folder]: ...

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        """The commands that put the packages into `folder`, which will appear as `LAYERS/key`."""
        ...

    def redact(self, text: str) -> str:
        """Take out of a command's output what only the operator may see."""
        ...


class Layers(Protocol):
    """What others may ask of layers."""

    def begin(self, packages: PackageSet) -> None:
        """Build in the background what is not there; how it ends, `ensure` tells."""
        ...

    async def ensure(self, packages: PackageSet, *, again: bool = False) -> Layer:
        """The layer, built now if need be. Cancelling the wait leaves the build running. A build that has failed is
        not tried again for a minute, unless `again`. Raises `LayerUnavailable`."""
        ...

    async def find(self, packages: PackageSet) -> Layer | None:
        """The layer, if it is there; builds nothing. Raises `LayerUnavailable` where there can be none."""
        ...

    async def obstacle(self) -> str | None:
        """What stands in the way of building anything on this machine, as far as that can be told beforehand."""
        ...

    async def aclose(self) -> None:
        """End the builds that run."""
        ...


class NoLayers:
    """For backends without layers: every one is unavailable, for this reason."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def begin(self, packages: PackageSet) -> None:
        """Nothing can be built."""

    async def ensure(self, packages: PackageSet, *, again: bool = False) -> Layer:
        raise LayerUnavailable(self._reason)

    async def find(self, packages: PackageSet) -> Layer | None:
        raise LayerUnavailable(self._reason)

    async def obstacle(self) -> str | None:
        return self._reason

    async def aclose(self) -> None:
        """Nothing was opened."""
