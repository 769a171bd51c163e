"""The backend of a machine where nothing can be confined: every tool refuses, with the reason."""

from __future__ import annotations

from pathlib import Path

from hostler.sandbox.contract import Check, Sandbox, SandboxSpec, SandboxUnavailable, Snapshot


class UnusableBackend:
    """See `contract.Backend`. `reason` says what is missing, `remedy` how to mend it; `wanted`: nothing is amiss."""

    def __init__(self, reason: str, remedy: str, *, wanted: bool = False) -> None:
        self._reason = reason
        self._remedy = remedy
        self._wanted = wanted

    async def provision(self, spec: SandboxSpec) -> Sandbox:
        raise SandboxUnavailable(self._reason)

    async def find(self, key: str) -> Sandbox | None:
        return None

    async def hibernate(self, key: str) -> None:
        pass

    async def snapshot(self, key: str, target: Path, *, limit_bytes: int | None = None) -> Snapshot | None:
        return None

    async def restore(self, key: str, source: Path, snapshot: Snapshot) -> None:
        raise SandboxUnavailable(self._reason)

    async def destroy(self, key: str) -> None:
        pass

    async def reap(self, keep: set[str]) -> None:
        pass

    def probe(self) -> list[Check]:
        required = not self._wanted
        return [Check(name="sandbox", ok=False, detail=self._reason, remedy=self._remedy, required=required)]

    async def aclose(self, *, stop: bool) -> None:
        pass
