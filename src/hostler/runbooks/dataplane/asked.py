"""Answers the statements of tasks: each reaches the data of its own tenant and no other's.

What goes wrong is an answer too: the runbook gets it as an exception. It must not know workers.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from hostler.errors import HostlerError
from hostler.runbooks import cells, tasks
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.problems import InDoubt
from hostler.runbooks.dataplane.records import Result
from hostler.runbooks.messages import Sql
from hostler.runbooks.registry import tenants
from hostler.store.sql import Tx
from hostler.store.store import Store

log = logging.getLogger(__name__)

DENIED, UNREACHABLE, IN_DOUBT, FAULT = "42501", "08006", "08007", "XX000"
_SMALL = 256 * 1024


class Asked:
    def __init__(self, store: Store, plane: DataPlane) -> None:
        self._store = store
        self._plane = plane

    async def tenant(self, tenant_id: str) -> str:
        """The slug. Raises NotFound."""
        return (await self._store.read(lambda: tenants.find_tx(tenant_id))).slug

    async def answer(self, task_id: str, asked: Sql) -> bytes:
        """The rows, or what went wrong, as `cells` has them."""
        try:
            slug = await self._whose(task_id, asked.tenant)
            args = await _aside(cells.decode, asked.args, len(asked.args))
            result = await self._plane.run(slug, asked.sql, args, limit=1 if asked.how == "fetchrow" else None)
            if asked.how == "execute":
                result = Result([], [], result.status)
            return bytes(await _aside(cells.encode, list(result), 1024 * len(result.rows)))
        except _Denied as problem:
            return _failed(DENIED, str(problem))
        except (msgspec.MsgspecError, ValueError, TypeError) as problem:
            return _failed("22000", str(problem))
        except HostlerError as problem:
            return _failed(_state(problem), problem.message)
        except Exception:
            log.exception("task %s: a statement could not be run", task_id)
            return _failed(FAULT, "The data plane has failed; the server's log says how.")

    async def _whose(self, task_id: str, wanted: str) -> str:
        """The slug of the task's tenant, where that is meant. Raises _Denied."""

        def tx() -> Tx[tuple[str, str]]:
            row = yield from tasks.find_tx(task_id)
            tenant = yield from tenants.find_tx(row.tenant_id)
            return tenant.id, tenant.slug

        tenant_id, slug = await self._store.read(tx)
        if wanted not in (slug, tenant_id):
            raise _Denied(f"This task belongs to the tenant {slug!r}; it can't reach the data of {wanted[:100]!r}.")
        return slug


class _Denied(Exception):
    pass


def _state(problem: HostlerError) -> str:
    if isinstance(problem, InDoubt):
        return IN_DOUBT
    return str(getattr(problem, "sqlstate", UNREACHABLE if problem.status >= 500 else DENIED))


def _failed(state: str, message: str) -> bytes:
    return cells.encode({"error": [state, message]})


async def _aside(work: Any, value: Any, size: int) -> Any:
    """In a thread where it takes long enough to be felt by others."""
    return work(value) if size < _SMALL else await asyncio.to_thread(work, value)
