"""The backend of a machine where nothing can be confined: every tool refuses, with the reason."""

from __future__ import annotations

from hostler.sandbox.contract import Check, Sandbox, SandboxSpec, SandboxUnavailable


class UnusableBackend:
    """See `contract.Backend`. `reason` says what is missing and how to mend it."""

    def __init__(self, reason: str, *, wanted: bool = False) -> None:
        """`wanted`: it is the operator's choice, and nothing to mend."""
        self._reason = reason
        self._wanted = wanted

    async def provision(self, spec: SandboxSpec) -> Sandbox:
        raise SandboxUnavailable(self._reason)

    async def find(self, key: str) -> Sandbox | None:
        return None

    async def hibernate(self, key: str) -> None:
        pass

    async def destroy(self, key: str) -> None:
        pass

    async def reap(self, keep: set[str]) -> None:
        pass

    def probe(self) -> list[Check]:
        return [Check(name="sandbox", ok=False, detail=self._reason, required=not self._wanted)]

    async def aclose(self, *, stop: bool) -> None:
        pass
