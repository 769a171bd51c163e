"""The whole sandbox contract through `pods/exec`, on pods that are real processes of a simulated cluster."""

from __future__ import annotations

import asyncio

import pytest

from clusters.conftest import NODE, MakeBackend
from clusters.simulated import Cluster
from hostler.sandbox import selfcheck
from hostler.sandbox.selfcheck import attempt

# What does not hold in pods; docs/sandbox-kubernetes.md says so.
FALLS_SHORT = {
    "layer has programs",
    "layer lies over the system",
    "layer has modules of node",
    "the kernel tells no secret",  # `projid_map` of the simulated node's user namespace can be written
    "no memory file is lent",
}
HELD = [trial for trial in selfcheck.TRIALS if trial.name not in FALLS_SHORT]
_AT_ONCE = 8
pytestmark = pytest.mark.skipif(
    not NODE, reason="only root, with namespaces, can be a node: see test_life.py for the rest"
)


def _failures(make_backend: MakeBackend, mode: str, trials: range) -> list[str]:
    """Several trials at once, since they mostly wait."""
    failed: list[str] = []

    async def work(api: Cluster) -> None:
        backend = make_backend(api, mode=mode)
        seats = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> None:
            async with seats:
                check = await attempt(backend, HELD[number])
                if not check.ok:
                    failed.append(f"{check.name}: {check.detail}")

        try:
            await asyncio.gather(*(one(number) for number in trials))
        finally:
            await backend.aclose(stop=True)

    with Cluster() as api:
        asyncio.run(work(api))
        assert not any(api.objects[kind] for kind in ("pods", "persistentvolumeclaims", "sandboxes"))
    return failed


def test_the_contract_holds_on_plain_pods_but_for_what_is_named(make_backend: MakeBackend) -> None:
    failed = _failures(make_backend, "pods", range(len(HELD)))
    assert not failed, "\n".join(failed)
