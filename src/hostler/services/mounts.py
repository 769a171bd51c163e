"""Where a file resource is mounted in the sandbox. It must not touch a file system: it computes with names only.

Four forms are in use: `calc.py`, `/data.csv`, `/mnt/session/uploads/x.csv` and `/workspace/x.csv`. What already lies
under `/mnt/` or `/workspace` is taken as it is; all else is put under the uploads folder. The sandbox links `/uploads`
there, so that a path under it means the same.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

from hostler.errors import InvalidRequest
from hostler.sandbox.contract import SKILLS
from hostler.sandbox.files import check_target

UPLOADS = "/mnt/session/uploads"
OUTPUTS = "/mnt/session/outputs"
WORKSPACE = "/workspace"
_MAX_SEGMENT = 255


def place(mount_path: str | None, default_name: str, at: str) -> str:
    """Return the absolute, normalised target. Raises InvalidRequest for one that leaves its folder or can't exist."""
    if mount_path is None:
        return _checked(f"{UPLOADS}/{default_name}", at)
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in mount_path):
        raise InvalidRequest(f"{at}: control characters are not allowed")
    if any(len(part.encode("utf-8")) > _MAX_SEGMENT for part in mount_path.split("/")):
        raise InvalidRequest(f"{at}: a path segment is longer than {_MAX_SEGMENT} bytes")
    if mount_path.endswith("/"):
        raise InvalidRequest(f"{at}: {mount_path!r} names a folder, not a file")
    root, relative = _split(mount_path)
    depth = 0
    for part in relative.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            raise InvalidRequest(f"{at}: mount path {mount_path!r} escapes {_shown(root)}")
    target = posixpath.normpath(f"{root}/{relative}")
    if any(_within(folder, target) for folder in (root, UPLOADS, OUTPUTS)):
        raise InvalidRequest(f"{at}: {mount_path!r} names a folder, not a file")
    if _within(target, OUTPUTS):
        raise InvalidRequest(f"{at}: {OUTPUTS} is for what the agent hands back")
    if _within(target, SKILLS):
        raise InvalidRequest(f"{at}: {SKILLS} is for the agent's skills")
    return _checked(target, at)


def check_overlap(target: str, others: Iterable[str], at: str) -> None:
    """Raise InvalidRequest when a target equals another one, or one would be a folder of the other."""
    for other in others:
        if _within(target, other) or _within(other, target):
            raise InvalidRequest(f"{at}: mount_path overlaps another resource ({other})")


def _checked(target: str, at: str) -> str:
    """The sandbox has the last word on what it can mount; it must not come when the session already runs."""
    try:
        check_target(target)
    except ValueError as error:
        raise InvalidRequest(f"{at}: {error}") from error
    return target


def _split(mount_path: str) -> tuple[str, str]:
    """The folder that a path must stay in, and the path relative to it."""
    for prefix, root in ((UPLOADS, UPLOADS), ("/uploads", UPLOADS), ("/mnt", "/mnt"), (WORKSPACE, WORKSPACE)):
        if mount_path.startswith(prefix + "/"):
            return root, mount_path[len(prefix) + 1 :]
    return UPLOADS, mount_path.lstrip("/")


def _shown(root: str) -> str:
    return "/uploads/" if root == UPLOADS else root + "/"


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + "/")
