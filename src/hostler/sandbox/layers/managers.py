"""The table of package managers, in the order in which an environment's packages are installed. One is one row."""

from __future__ import annotations

from collections.abc import Mapping

from hostler.sandbox.layers import aptsources, pipindex
from hostler.sandbox.layers.apt import Apt
from hostler.sandbox.layers.cargo import open_cargo
from hostler.sandbox.layers.gem import open_gem
from hostler.sandbox.layers.golang import open_go
from hostler.sandbox.layers.npm import open_npm
from hostler.sandbox.layers.packages import Manager
from hostler.sandbox.layers.pip import Pip


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
