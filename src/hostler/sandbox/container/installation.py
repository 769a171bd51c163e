"""What all containers of a server have in common: the programs that we bring, and the name that tells its from others'.

It starts nothing.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from hostler.sandbox import native, rootfs
from hostler.sandbox.container import setup
from hostler.sandbox.contract import SandboxUnavailable


def programs(ripgrep: Path | None, ca_bundle: Path | None) -> dict[str, Path]:
    """The files that belong into the folder of our programs, by their names in it. Raises `SandboxUnavailable`."""
    files = {"init": native.program("hostler-init"), "tools": native.program("hostler-tools")}
    if ripgrep is not None:
        files["rg"] = ripgrep
    if (bundle := rootfs.ca_bundle(ca_bundle)) is not None:
        files[setup.BUNDLE] = bundle
    return files


def name(folder: Path) -> str:
    """A name that this data folder has among all that may use an engine. Raises `SandboxUnavailable`."""
    path = folder / ".install"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            with path.open("x") as file:
                file.write(secrets.token_hex(6))
        except FileExistsError:
            pass
        return path.read_text().strip()
    except OSError as error:
        raise SandboxUnavailable(f"cannot use the sandboxes' directory {folder}: {error}") from error
