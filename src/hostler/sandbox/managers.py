"""The table of package managers, in the order in which an environment's packages are installed. One is one row."""

from __future__ import annotations

from collections.abc import Mapping

from hostler.sandbox import aptsources, pipindex
from hostler.sandbox.apt import Apt
from hostler.sandbox.cargo import open_cargo
from hostler.sandbox.gem import open_gem
from hostler.sandbox.golang import open_go
from hostler.sandbox.npm import open_npm
from hostler.sandbox.packages import Manager
from hostler.sandbox.pip import Pip


def open_managers(environ: Mapping[str, str], proxy: str | None = None) -> dict[str, Manager]:
    """All of them, with the settings of this machine. `proxy` is the one of the config file. Raises ValueError."""
    return {
        "apt": Apt(aptsources.read(environ, proxy)),
        "cargo": open_cargo(environ, proxy),
        "gem": open_gem(environ, proxy),
        "go": open_go(environ, proxy),
        "npm": open_npm(environ, proxy),
        "pip": Pip(pipindex.read(environ, proxy)),
    }
