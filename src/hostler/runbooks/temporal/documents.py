"""Keeps what agents wrote in the tenant's PostgreSQL, by way of `ntro.data`, each file once.

The table may be another's: only those columns are named that `ntro` names. It must not make tables.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

from hostler.errors import Unavailable
from hostler.runbooks.dataplane.postgres import told
from hostler.runbooks.dataplane.records import Document, changed
from hostler.runbooks.invoking.remote import Refused

# Without naming a constraint, since there may be none.
_INSERT = """
INSERT INTO ingest.submitted_documents
       (id, entity_slug, period, source, filename, content_type, data_bytes, task_id)
SELECT $1::uuid, $2, $3, $4, $5, $6, $7, $8
 WHERE NOT EXISTS (SELECT 1 FROM ingest.submitted_documents WHERE id = $1::uuid)
    ON CONFLICT DO NOTHING
"""


class TenantDocuments:
    async def insert_document(self, tenant: str, document: Document, content: Path) -> Any:
        """Raises Unavailable, Refused."""
        if not tenant:
            raise Refused(0, "nobody said whose it is: give invoke() a tenant_slug, or set NTRO_TENANT_SLUG")
        data = await asyncio.to_thread(content.read_bytes)
        if hashlib.sha256(data).hexdigest() != document.sha256:
            raise changed(document)
        row = (document.entity_slug, document.period, document.source, document.filename, document.content_type)
        try:
            plane = await _plane(tenant)
            await plane.execute(_INSERT, document.id, *row, data, document.task_id)
        except Exception as problem:
            raise _said(problem) from problem


async def _plane(tenant: str) -> Any:
    from ntro.data import get_data_plane

    return await get_data_plane(tenant)


def _said(problem: Exception) -> Exception:
    """Unavailable for what may pass, else Refused."""
    said = told(problem)
    return said if isinstance(said, Unavailable) else Refused(0, str(said))
