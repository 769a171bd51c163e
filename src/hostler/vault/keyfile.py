"""Where the key of all sealed secrets comes from: `HOSTLER_SECRET_KEY`, or a file that the server makes in its data
folder. It must not make a key where sealed secrets exist that it would not open.

The file holds one key a line, in base64. The first one seals; another one stands there only while a rotation is under
way. It is written whole or not at all, and for its owner's eyes only from its first moment.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from hostler.settings import BadSettings
from hostler.vault.sealing import PREFIX_BYTES, Key, Sealer

log = logging.getLogger(__name__)

NAME = "secret.key"
VARIABLE = "HOSTLER_SECRET_KEY"
_EXPLAINED = (
    "# Seals the secrets that the server stores. Without it they are lost: keep a copy apart from the database.\n"
)


class Keys(NamedTuple):
    """All known keys, the one that seals first. `configured` says that it comes from the environment."""

    keys: list[Key]
    configured: bool


def find_keys(data_dir: Path, configured: str | None) -> Keys:
    """The keys that there are; none of them is made. Raises BadSettings for one that can't be read."""
    named = _read_variable(configured)
    return Keys([*named, *read_file(data_dir / NAME)], configured=bool(named))


def open_sealer(data_dir: Path, configured: str | None, in_use: Collection[bytes]) -> Sealer:
    """The sealer of a server. `in_use` is what stored values begin with (`Sealer.prefix`); with none, a first key is
    made where there is none. Raises BadSettings when a stored value's key is not known."""
    keys = find_keys(data_dir, configured).keys
    if not keys and not in_use:
        keys = [Key.new()]
        write_file(data_dir / NAME, keys)
    check_known(data_dir, keys, in_use)
    file = data_dir / NAME
    if file.exists() and readable_by_others(file):
        log.warning("the key file %s can be read by others: chmod 600 it", file)
    return Sealer(keys)


def check_known(data_dir: Path, keys: Collection[Key], in_use: Collection[bytes]) -> None:
    """Raises BadSettings, with what to do, when values are sealed with a key that is not known."""
    unknown = [prefix for prefix in in_use if not keys or not Sealer(keys).knows(prefix)]
    if unknown:
        wanted = ", ".join(sorted(prefix[1:PREFIX_BYTES].hex() for prefix in unknown))
        there = ", ".join(key.id.hex() for key in keys) or "none"
        raise BadSettings(
            f"Stored secrets are sealed with the key {wanted}, which is not here (known: {there}). Put it back into "
            f"{data_dir / NAME}, or name it in {VARIABLE}, which may hold several keys separated by commas. If it is "
            "lost, so are these secrets; see docs/vaults.md on how to go on without them."
        )


def _read_variable(text: str | None) -> list[Key]:
    try:
        return [Key.read(part) for part in (text or "").split(",") if part.strip()]
    except ValueError as error:
        raise BadSettings(f"{VARIABLE} can't be used: {error}. `openssl rand -base64 32` makes one.") from None


def read_file(file: Path) -> list[Key]:
    """The keys of a file, none where there is no file. Raises BadSettings."""
    try:
        lines = file.read_text().splitlines()
        keys = [Key.read(line) for line in lines if line.strip() and not line.startswith("#")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise BadSettings(f"The key file {file} can't be read: {error.strerror}.") from error
    except ValueError:  # of the text's encoding, too
        raise BadSettings(f"The key file {file} is damaged: put its copy back.") from None
    if not keys:
        raise BadSettings(f"The key file {file} is empty: put its copy back, or remove it if no secret was stored yet.")
    return keys


def write_file(file: Path, keys: Collection[Key]) -> None:
    """Put these keys into the file, durably and at once. Raises BadSettings."""
    passing = file.with_name(f".{file.name}.new")
    try:
        passing.unlink(missing_ok=True)
        descriptor = os.open(passing, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as made:
            made.write(_EXPLAINED + "".join(f"{key.text}\n" for key in keys))
            made.flush()
            os.fsync(made.fileno())
        passing.replace(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise BadSettings(f"The key file {file} can't be written: {error.strerror}.") from error


def readable_by_others(file: Path) -> bool:
    """Say whether anybody but the file's owner may read or change it."""
    return bool(stat.S_IMODE(file.stat().st_mode) & 0o077)
