"""The conformance suite of the sandbox contract: any backend that passes it is supported.

Runs in the tests, for each backend. It uses the contract only, leaves nothing behind, and does no
harm where a backend fails: what would hurt the host is tried with a harmless stand-in.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from hostler.sandbox.contract import Backend, Check, SandboxUnavailable
from hostler.sandbox.lab import Failed, Lab, Trial
from hostler.sandbox.trials import calls, files, folders, isolation, kernel, layers, limits, network, shell, snapshots

TRIALS: tuple[Trial, ...] = (
    *shell.TRIALS,
    *calls.TRIALS,
    *files.TRIALS,
    *folders.TRIALS,
    *layers.TRIALS,
    *isolation.TRIALS,
    *kernel.TRIALS,
    *limits.TRIALS,
    *snapshots.TRIALS,
    *network.TRIALS,
)


async def selfcheck(backend: Backend, trials: tuple[Trial, ...] = TRIALS) -> AsyncIterator[Check]:
    """Yield one check for each trial, each run in sandboxes of its own that are destroyed behind it."""
    for trial in trials:
        yield await attempt(backend, trial)


async def attempt(backend: Backend, trial: Trial) -> Check:
    """Run one trial."""
    name = f"sandbox selfcheck: {trial.name}"
    async with Lab(backend) as lab:
        try:
            await trial.run(lab)
        except Failed as failure:
            return Check(name=name, ok=False, detail=str(failure))
        except SandboxUnavailable as error:
            return Check(name=name, ok=False, detail=f"no sandbox: {error}")
    return Check(name=name, ok=True, detail=trial.law)
