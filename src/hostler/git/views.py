"""Small repositories over a mirror's objects, made of nothing but a list of refs. It must not run git.

A view is named by what it shows, never changes, and holds no object of its own, so it can be made again at any time.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from hostler.git.refs import Refs

MIRROR = "mirror.git"
WANTED = b"refs/hostler/"  # commits that were asked for by their names
_CONFIG = "[core]\n\trepositoryformatversion = {version}\n\tbare = true\n"
_SHA256 = "[extensions]\n\tobjectformat = sha256\n"


def make(folder: Path, refs: Refs) -> Path:
    """Return the view of these refs below `folder`, beside the mirror; make it, whole, unless it is there."""
    view = folder / refs.digest()
    if view.exists():
        os.utime(view)
        return view
    half = folder / f".{view.name}.new"
    shutil.rmtree(half, ignore_errors=True)
    (half / "objects/info").mkdir(parents=True)
    (half / "refs").mkdir()
    sha256 = refs.sha256
    (half / "config").write_text(_CONFIG.format(version=int(sha256)) + (_SHA256 if sha256 else ""))
    (half / "HEAD").write_bytes(_head(refs))
    (half / "objects/info/alternates").write_text(f"{(folder.parent / MIRROR / 'objects').absolute()}\n")
    rows = [b"%s %s\n" % (refs.named[name], name) for name in sorted(refs.named)]
    (half / "packed-refs").write_bytes(b"".join(rows))
    with contextlib.suppress(OSError):  # another has been faster
        half.replace(view)
    return view


def _head(refs: Refs) -> bytes:
    if refs.head is None and refs.detached is not None:
        return refs.detached + b"\n"
    return b"ref: " + (refs.head or b"refs/heads/main") + b"\n"


def prune(folder: Path, kept: int) -> None:
    """Remove all but the views that were used last."""
    found = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in found[: max(0, len(found) - kept)]:
        shutil.rmtree(path, ignore_errors=True)


def size(folder: Path) -> int:
    """The bytes of the files below a folder."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
