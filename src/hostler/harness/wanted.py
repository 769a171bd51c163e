"""What a session asks of package layers: a set of packages, and the words for when it cannot be had.

It must not know who asks: skills and environments do.
"""

from __future__ import annotations

import msgspec

from hostler.sandbox.layers.packages import LayerUnavailable, PackageSet


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """`id` tells what is wanted apart within a session. `detailed`: the client also sees the end of what the package
    manager said, since it is the client's own list that failed."""

    id: str
    packages: PackageSet
    wait_seconds: float
    slow: str
    failed: str
    detailed: bool = False

    def problem(self, reason: LayerUnavailable) -> str:
        text = f"{self.failed}: {reason.summary}"
        return f"{text}\n{reason.detail}" if self.detailed and reason.detail else text
