"""The sandbox's `python3` as the host sees it, and how it comes to import the packages of layers.

A file `*.pth` in the agent's own site folder names each layer: so a layer stands behind what the agent installs and
before what the system has, in every way of starting Python but a virtual environment or `-s`, whatever the environment
variables say. It must run nothing but the host's own Python.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

import msgspec

from hostler.sandbox import files, rootfs
from hostler.sandbox.contract import LAYERS, Layer, Mount, SandboxUnavailable
from hostler.sandbox.rootfs import HOME, Layout

_log = logging.getLogger(__name__)
_SECONDS = 20
FACTS = """
import importlib.util, json, site, sys, sysconfig
tag = [sys.implementation.cache_tag, sysconfig.get_config_var("SOABI"), sysconfig.get_platform()]
pip = importlib.util.find_spec("pip") is not None
print(json.dumps({"tag": " ".join(map(str, tag)), "user_site": site.getusersitepackages(), "has_pip": pip}))
"""


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """`tag` tells apart what compiled packages must fit; `user_site` is where the agent's own packages go, inside."""

    tag: str
    user_site: str
    has_pip: bool


def find() -> Interpreter | None:
    """The Python that `python3` is inside; None where there is none. Asks each Python once."""
    bind = rootfs.python_bind()
    path = bind.source / "bin" / "python3" if bind else shutil.which("python3", path=rootfs.SYSTEM_PATH)
    if path is None:
        return None
    path = Path(path).resolve()
    return _ask(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _ask(path: Path, mtime_ns: int) -> Interpreter | None:
    command, environment = [str(path), "-c", FACTS], {"HOME": HOME, "LANG": "C.UTF-8"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("%s does not say what it is: %s", path, error)
        return None
    return understood(done.stdout)


def understood(said: bytes | str) -> Interpreter | None:
    """What a Python is that was asked for FACTS; None when it does not say so."""
    try:
        return msgspec.json.decode(said, type=Interpreter)
    except msgspec.MsgspecError as error:
        _log.warning("a Python does not say what it is: %s", error)
        return None


def link_layers(layout: Layout, layers: list[Layer], uid: int | None) -> None:
    """Let the sandbox's Python find these layers. A name that leads to no layer is ignored by it, so old ones stay.

    What the agent has put in the way stays, too: it then has the layer's files, but must set PYTHONPATH itself.
    """
    python = find() if layers else None
    if python is None:
        return
    for layer in layers:
        source = layout.folder / f"{layer.key}.pth"
        try:
            source.write_text(f"{LAYERS}/{layer.key}/python\n")
            files.place(layout, Mount(source=source, target=f"{python.user_site}/hostler-{layer.key}.pth"), uid)
        except files.Blocked as blocked:
            _log.warning("%s: %s", layout.folder.name, blocked)
        except OSError as error:
            raise SandboxUnavailable(f"cannot link the layer {layer.key}: {error.strerror}") from error
