"""What its layers mean for a sandbox: programs, modules, and folders laid over the machine's own.

The contract's `Layer` says what its folders mean. Layers were made by packages: a link in one must lead nowhere but
inside of a sandbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from hostler.sandbox.contract import LAYERS, SandboxSpec
from hostler.sandbox.layers import systembase
from hostler.sandbox.rootfs import HOME, PROGRAMS, SYSTEM_PATH, Bind, Layout

_PROGRAMS = ("bin", "python/bin")
_MODULES = "lib/node_modules"
NODE_MODULES = "/node_modules"  # node looks there from every folder, however a module is asked for
_STACKED_ETC = ("alternatives", "ld.so.conf.d")
_CACHE = "ld.so.cache"


class Overlay(msgspec.Struct, frozen=True):
    """Folders laid over each other, the last one on top. `changes` holds `up` and `work` of one that may be written."""

    lowers: tuple[Path, ...]
    target: str
    changes: Path | None = None


class Stack(msgspec.Struct, frozen=True):
    """The mounts of a start: `binds` go on top of `overlays`."""

    binds: list[Bind]
    overlays: list[Overlay]


def environment(spec: SandboxSpec) -> dict[str, str]:
    """The variables that let programs find what is in the layers: the agent's own goes before, the system's after."""
    folders = [
        (layer, name) for layer in spec.layers for name in _PROGRAMS if is_folder(layer.source, *name.split("/"))
    ]
    found = {}
    games = any(is_folder(layer.source, "system", "usr", "games") for layer in spec.layers)
    if folders or games:
        programs = ":".join(f"{LAYERS}/{layer.key}/{name}" for layer, name in folders)
        found["PATH"] = f"{HOME}/.local/bin:{PROGRAMS}/bin:{programs + ':' if programs else ''}{SYSTEM_PATH}"
        found["PATH"] += ":/usr/games" if games else ""
    if any(is_folder(layer.source, *_MODULES.split("/")) for layer in spec.layers):
        found["NODE_PATH"] = f"{HOME}/.local/lib/node_modules:{NODE_MODULES}"
    gems = [f"{LAYERS}/{layer.key}/gems" for layer in spec.layers if is_folder(layer.source, "gems")]
    if gems:
        found |= {"GEM_HOME": f"{HOME}/.local/gems", "GEM_PATH": ":".join([f"{HOME}/.local/gems", *gems, ""])}
    return found


def stack(layout: Layout, spec: SandboxSpec, binds: Sequence[Bind], base: Path | None = None) -> Stack:
    """Add what the layers bring to the usual binds of the machine. `base` is what builds of the system begin with."""
    systems = [layer.source / "system" for layer in spec.layers if is_folder(layer.source, "system")]
    modules = [layer.source / _MODULES for layer in spec.layers if is_folder(layer.source, *_MODULES.split("/"))]
    more = [Bind(modules[-1], NODE_MODULES)] if modules else []
    if base is not None:
        return _building(layout, [*binds, *more], base)
    if systems:
        return _stacked(layout, systems[-1], [*binds, *more])
    return Stack([*binds, *more], [])


def _building(layout: Layout, binds: list[Bind], base: Path) -> Stack:
    """Everything of the machine may be changed, in folders of the build's own."""
    below = {"usr": Path("/usr")} | {part: layout.root / part for part in ("etc", "var", "opt")}
    overlays = [
        Overlay((below[part], base / part), f"/{part}", systembase.changes(layout, part)) for part in systembase.PARTS
    ]
    own = [f"/etc/{name}" for name in (*_STACKED_ETC, _CACHE, "ld.so.conf")]
    return Stack([bind for bind in binds if bind.target != "/usr" and bind.target not in own], overlays)


def _stacked(layout: Layout, system: Path, binds: list[Bind]) -> Stack:
    """The layer over the machine's /usr; but under what every sandbox brings itself."""
    overlays, kept = [], list(binds)
    if is_folder(system, "usr"):
        overlays.append(Overlay((Path("/usr"), system / "usr"), "/usr"))
        kept = [bind for bind in kept if bind.target != "/usr"]
    for part in ("etc", "var", "opt"):
        if is_folder(system, part):
            overlays.append(Overlay((system / part, layout.root / part), f"/{part}"))
    for bind in list(kept):
        name = bind.target.removeprefix("/etc/")
        if name in _STACKED_ETC and is_folder(system, "etc", name):
            overlays.append(Overlay((bind.source, system / "etc" / name), bind.target))
            kept.remove(bind)
        elif name == _CACHE and is_folder(system, "etc") and _is_file(system / "etc" / _CACHE):
            kept[kept.index(bind)] = Bind(system / "etc" / _CACHE, bind.target)
    return Stack(kept, overlays)


def is_folder(top: Path, *names: str) -> bool:
    """Whether a path below a layer is a folder, reached without a link."""
    for name in names:
        top = top / name
        if top.is_symlink() or not top.is_dir():
            return False
    return True


def _is_file(path: Path) -> bool:
    return not path.is_symlink() and path.is_file()
