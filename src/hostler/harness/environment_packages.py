"""The packages that a session's environment asks for, in the order in which they install. It must not build them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from hostler.harness.wanted import Wanted
from hostler.sandbox.layers import packagelists
from hostler.sandbox.layers.packages import PackageSet

if TYPE_CHECKING:
    from hostler.harness.recalling import Row

SLOW = "The environment's {manager} packages are still being installed. The agent goes on without them for now."
FAILED = "The environment's {manager} packages are not available, so the agent goes on without them"


class _Config(msgspec.Struct):
    """What is looked at of an environment's config."""

    packages: dict[str, Any] = {}


_read = msgspec.json.Decoder(_Config).decode


def sets_of(config: bytes) -> list[PackageSet]:
    """Of an environment's config as it is stored."""
    return packagelists.sets_of(_read(config).packages)


def wanted(row: Row, wait_seconds: float) -> list[Wanted]:
    """One for each manager that has packages."""
    lists: dict[str, Sequence[str]] = row.environment.get("packages") or {}
    return [
        Wanted(
            id=f"environment {packages.manager}",
            packages=packages,
            wait_seconds=wait_seconds,
            slow=SLOW.format(manager=packages.manager),
            failed=FAILED.format(manager=packages.manager),
            detailed=True,
        )
        for packages in packagelists.sets_of(lists)
    ]
