"""The contract of package layers: what may be asked for, what a package manager must say, how a failure looks.

It must not know how a layer is built: `layers` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from hostler.sandbox.contract import Exec, Folder, Layer
from hostler.sandbox.interpreter import Interpreter
from hostler.sandbox.layers.reach import Reach


class LayerUnavailable(Exception):
    """A layer is not there and could not be built. `summary` is one line without any detail of this machine's network;
    `detail` is the end of what the package manager said, without passwords; `package` what it seems to be about."""

    def __init__(self, summary: str, detail: str = "", package: str | None = None) -> None:
        super().__init__(f"{summary}\n{detail}" if detail else summary)
        self.summary = summary
        self.detail = detail
        self.package = package


class Missing(Exception):
    """What a package manager needs is not there, where builds and sessions run."""


class PackageSet(msgspec.Struct, frozen=True, kw_only=True):
    """Packages of one manager: its lines in its own syntax. `compile` lets it build what has no ready-made file.
    `base` is a set of apt that they are built upon and used with."""

    lines: tuple[str, ...]
    manager: str = "pip"
    compile: bool = False
    base: PackageSet | None = None


class Progress(msgspec.Struct, frozen=True):
    """What a build that runs has said: whole lines, and where the next ones begin."""

    lines: list[str]
    position: int


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """A layer that is there. Times are seconds since 1970, `packages` what is installed as far as it is known."""

    key: str
    manager: str
    lines: list[str]
    packages: list[str]
    bytes: int
    built_at: float
    last_used_at: float


class Programs(Protocol):
    """The programs of the place where builds and sessions run. `of_machine` says that they are those of the server's
    own machine, whose folders can be lent to a build; `identity` tells the place from another of its kind."""

    @property
    def of_machine(self) -> bool: ...

    @property
    def identity(self) -> str: ...

    def find(self, name: str) -> str | None:
        """Where a program is inside; None when it is not there."""
        ...

    def fingerprint(self, program: str) -> str:
        """Changes with the program that `find` has found, as far as `identity` does not."""
        ...

    def python(self) -> Interpreter | None:
        """What `python3` is inside; None where there is none."""
        ...

    def is_folder(self, path: str) -> bool: ...

    def lacking(self, name: str, remedy: str) -> str:
        """That there is no such program, and what to do: `remedy` where the programs are the machine's."""
        ...


class Manager(Protocol):
    """A package manager. All that it names is run in a build sandbox.

    `tops` are the folders that a layer of it has; `system` says that it changes the machine's own folders, as root."""

    name: str
    reach: Reach
    tops: frozenset[str]
    system: bool

    def fingerprint(self, programs: Programs) -> str:
        """What the packages depend on beside their lines: versions and machine. Raises `Missing`."""
        ...

    def check(self, lines: tuple[str, ...]) -> None:
        """Raise ValueError unless all lines name packages."""
        ...

    def environment(self, programs: Programs) -> dict[str, str]:
        """Variables of a build. Raises `Missing`."""
        ...

    def folders(self, programs: Programs) -> list[Folder]:
        """What a build is lent. Raises `Missing`."""
        ...

    def files(self) -> dict[str, bytes]:
        """Settings that a build needs: absolute paths inside, and contents, which may hold passwords."""
        ...

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        """The commands that put the packages into `folder`, which will appear as `LAYERS/key`."""
        ...

    def blame(self, said: str) -> str | None:
        """The package that a failed command's output names."""
        ...

    def installed(self, folder: Path) -> list[str]:
        """What is in a finished layer, "name-1.0", as far as the manager writes it down. Nothing runs in it any more,
        but everything in it was made by packages."""
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

    async def progress(self, packages: PackageSet, position: int = 0) -> Progress | None:
        """What a build of these, in whichever process, has said from `position` on; None when none runs. Raises
        `LayerUnavailable`."""
        ...

    async def obstacle(self, manager: str = "pip") -> str | None:
        """What stands in the way of building anything on this machine, as far as that can be told beforehand."""
        ...

    async def key(self, packages: PackageSet) -> str:
        """The name that the layer has, or would have. Raises `LayerUnavailable`."""
        ...

    async def kept(self) -> list[Kept]:
        """All layers that there are."""
        ...

    async def mounted(self, sandboxes: Path) -> set[str]:
        """The layers that running sandboxes of this folder may have mounted: removing one would empty it under their
        programs. Raises `LayerUnavailable` where nobody can tell."""
        ...

    async def remove(self, key: str, keep_seconds: float) -> bool:
        """Remove a layer unless it was used within that time, or somebody is at it. The caller knows that no sandbox
        has it."""
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

    async def progress(self, packages: PackageSet, position: int = 0) -> Progress | None:
        return None

    async def obstacle(self, manager: str = "pip") -> str | None:
        return self._reason

    async def key(self, packages: PackageSet) -> str:
        raise LayerUnavailable(self._reason)

    async def kept(self) -> list[Kept]:
        return []

    async def mounted(self, sandboxes: Path) -> set[str]:
        return set()

    async def remove(self, key: str, keep_seconds: float) -> bool:
        return False

    async def aclose(self) -> None:
        """Nothing was opened."""
