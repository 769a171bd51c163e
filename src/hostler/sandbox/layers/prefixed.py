"""What the package managers have in common whose program the sandbox brings along and that install below one folder.

It must not know any of them, nor run anything.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from hostler.sandbox.contract import Folder
from hostler.sandbox.layers import toolchains
from hostler.sandbox.layers.packages import Missing, Programs
from hostler.sandbox.layers.reach import Reach

# The proxy is for all hosts: a registry on the operator's own machine is not in the sandbox.
_ALL_PROXIED = {"NO_PROXY": "", "no_proxy": ""}


class Prefixed:
    """The part of `packages.Manager` that is alike. `needs` are the programs, `remedy` how to have them."""

    name: str
    tops: frozenset[str]
    needs: ClassVar[tuple[str, ...]]
    remedy: ClassVar[str]
    line: ClassVar[re.Pattern[str]]
    example: ClassVar[str]
    blames: ClassVar[re.Pattern[str]]
    system = False

    def __init__(
        self, reach: Reach, variables: dict[str, str], files: dict[str, bytes], folders: Sequence[Folder] = ()
    ) -> None:
        self.reach = reach
        self._folders = [folder for folder in folders if folder.source.is_dir()]
        self._variables = variables
        self._files = files

    def fingerprint(self, programs: Programs) -> str:
        """Raises Missing."""
        found = [programs.fingerprint(self.program(need, programs)) for need in self.needs]
        return "\n".join([platform.machine(), *found])

    def check(self, lines: tuple[str, ...]) -> None:
        for line in lines:
            if not self.line.fullmatch(line) or ".." in line:
                raise ValueError(f"{line!r} is not a package like {self.example}")

    def environment(self, programs: Programs) -> dict[str, str]:
        """Raises Missing."""
        path = toolchains.path_with(self.program(self.needs[0], programs))
        return {**self._variables, **_ALL_PROXIED, "PATH": path}

    def folders(self, programs: Programs) -> list[Folder]:
        return self._folders

    def files(self) -> dict[str, bytes]:
        return self._files

    def blame(self, said: str) -> str | None:
        found = self.blames.search(said)
        return next((word for word in found.groups() if word), None) if found else None

    def program(self, name: str, programs: Programs) -> str:
        """Raises Missing."""
        found = programs.find(name)
        if found is None:
            raise Missing(programs.lacking(name, self.remedy))
        return found

    def installed(self, folder: Path) -> list[str]:
        return []
