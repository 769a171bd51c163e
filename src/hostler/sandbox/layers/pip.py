"""The package manager pip, as a builder of layers: what it takes to install a list of requirements into a folder.

It only says what is to be run, where: in a build sandbox. It must not run anything itself.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from hostler.sandbox.contract import LAYERS, Exec, Folder
from hostler.sandbox.interpreter import Interpreter
from hostler.sandbox.layers import manifests
from hostler.sandbox.layers.packages import Missing, Programs
from hostler.sandbox.layers.pipindex import PipIndex

_PIP = "/mnt/pip"
_BLAMES = re.compile(
    r"(?:No matching distribution found for|that satisfies the requirement|Failed building wheel for|"
    r"Failed to build|Invalid requirement:|Could not find a version .* requirement) '?([A-Za-z0-9][\w.\[\]-]*)"
)
NO_PYTHON = "there is no python3 for the sandbox: install python3 and python3-pip, or give the server its own Python"
NO_PIP = "neither the sandbox's python3 nor the server's has pip: install python3-pip (or `python3 -m ensurepip`)"


class Pip:
    """See `packages.Manager`."""

    name = "pip"
    tops = frozenset({"python"})
    system = False

    def __init__(self, index: PipIndex) -> None:
        self._index = index
        self.reach = index.reach

    def fingerprint(self, programs: Programs) -> str:
        """What compiled packages depend on. Raises Missing."""
        return _python(programs).tag

    def check(self, lines: tuple[str, ...]) -> None:
        """Raise ValueError unless each line is a requirement: options and paths of the host are none."""
        for line in lines:
            if not line or line[0] in "-./~#" or "\n" in line or "\0" in line or "file:" in line:
                raise ValueError(f"{line!r} is not a requirement like name==1.0")

    def environment(self, programs: Programs) -> dict[str, str]:
        """Variables of a build. Index addresses with their passwords are among them."""
        # The proxy is for all hosts: an index on the operator's own machine is not in the sandbox.
        variables = {**self._index.variables, "NO_PROXY": "", "no_proxy": ""}
        home = _home(programs)
        return {**variables, "PYTHONPATH": home[1]} if home else variables

    def folders(self, programs: Programs) -> list[Folder]:
        """Raises Missing."""
        home = _home(programs)
        return [*self._index.folders, home[0]] if home else self._index.folders

    def steps(self, lines: tuple[str, ...], folder: str, key: str, *, compile: bool) -> list[Exec]:
        """Install into `folder/python`, and byte-compile it for the place that it will have."""
        options = ["--no-input", "--no-cache-dir", "--no-compile", "--progress-bar", "off"]
        options += [] if compile else ["--only-binary", ":all:"]
        install = ["python3", "-m", "pip", "install", *options, "--target", f"{folder}/python", "-r", "/dev/stdin"]
        place = ["-s", folder, "-p", f"{LAYERS}/{key}", f"{folder}/python"]
        compiling = ["python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", *place]
        return [
            Exec(argv=install, stdin="\n".join(lines).encode()),
            Exec(argv=["sh", "-c", '"$@" >/dev/null 2>&1; true', "sh", *compiling]),  # some packages hold Python 2
        ]

    def files(self) -> dict[str, bytes]:
        return {}

    def blame(self, said: str) -> str | None:
        found = _BLAMES.search(said)
        return found[1] if found else None

    def installed(self, folder: Path) -> list[str]:
        names = manifests.names_inside(folder, "python")
        return [name.removesuffix(".dist-info") for name in names if name.endswith(".dist-info")]


def _python(programs: Programs) -> Interpreter:
    """Raises Missing."""
    python = programs.python()
    if python is None:
        raise Missing(NO_PYTHON if programs.of_machine else programs.lacking("python3", ""))
    return python


def _home(programs: Programs) -> tuple[Folder, str] | None:
    """Where the sandbox's Python has no pip: a pip of the server's, and the PYTHONPATH that it needs."""
    if _python(programs).has_pip:
        return None
    if not programs.of_machine:
        raise Missing(programs.lacking("pip", ""))
    return lent_pip()


def lent_pip() -> tuple[Folder, str]:
    """The server's own pip, else the one that comes with its Python to be unpacked. Raises Missing."""
    spec = importlib.util.find_spec("pip")
    if spec is not None and spec.origin is not None:
        return Folder(source=Path(spec.origin).parent, target=f"{_PIP}/pip"), _PIP
    bundled = importlib.util.find_spec("ensurepip")
    wheels = sorted((Path(bundled.origin).parent / "_bundled").glob("pip-*.whl")) if bundled and bundled.origin else []
    if not wheels:
        raise Missing(NO_PIP)
    return Folder(source=wheels[-1].parent, target=_PIP), f"{_PIP}/{wheels[-1].name}"
