"""Saves what a server sends into a folder, whole or not at all. It must not trust the names that a server gives."""

from __future__ import annotations

import filecmp
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hostler.errors import InvalidRequest

if TYPE_CHECKING:
    from hostler.client import Api

_ODD = re.compile(r"[^\w .()+@=,-]")


def save(api: Api, path: str, folder: Path, filename: str) -> Path:
    """Download `path`; a file that is there already gets no other content, but a new one beside it."""
    name = _ODD.sub("_", Path(filename).name).lstrip(".")[:200] or "document"
    half: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".part-", delete=False) as file:
            half = Path(file.name)
            for chunk in api.stream(path):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return _placed(half, folder / name)
    except OSError as error:
        raise InvalidRequest(f"{folder / name} can't be written: {error.strerror}.") from error
    finally:
        if half is not None:
            half.unlink(missing_ok=True)


def _placed(half: Path, wanted: Path) -> Path:
    number = 1
    target = wanted
    while True:
        try:
            os.link(half, target)
            return target
        except FileExistsError:
            if filecmp.cmp(target, half, shallow=False):
                return target
            number += 1
            target = wanted.with_stem(f"{wanted.stem}-{number}")
