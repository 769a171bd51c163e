"""Every statement of `ntro` 0.1.2, run by its own functions, on both databases."""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
import uuid
from decimal import Decimal
from typing import Any

import pytest
from ntro.ingest import (
    fetch_latest_submitted_document,
    fetch_submitted_document_by_id,
    insert_extracted_document,
    insert_submitted_document,
    insert_submitted_record,
    list_submitted_documents,
)

from tenantdata import Adapter

TEMPORAL: Any = types.ModuleType("temporalio")
TEMPORAL.activity = types.SimpleNamespace(defn=lambda **_: lambda function: function)
TEMPORAL.workflow = types.SimpleNamespace()
FILE: dict[str, Any] = {"filename": "a.csv", "content_type": "text/csv"}


def document(db: Adapter, source: str, data: bytes = b"1,2\n", **more: Any) -> Any:
    given = {"entity_slug": "spv", "period": "2026-04", "task_id": "t1", **FILE, **more}
    return insert_submitted_document(db, source=source, data_bytes=data, **given)


def test_documents_are_stored_and_found(db: Adapter, loop: asyncio.Runner) -> None:
    async def work() -> None:
        made = await document(db, "bank", bytes(range(256)))
        assert uuid.UUID(made.id)
        assert made.data_bytes == bytes(range(256))
        assert made.uploaded_at is not None
        assert made.uploaded_at.endswith("+00:00")
        assert await fetch_submitted_document_by_id(db, document_ref=made.id) == made
        assert await fetch_submitted_document_by_id(db, document_ref=str(uuid.uuid4())) is None
        later = await document(db, "bank", b"new", task_id="t2")
        latest = await fetch_latest_submitted_document(db, entity_slug="spv", source="bank")
        assert latest == later
        latest = await fetch_latest_submitted_document(
            db, entity_slug="spv", source="bank", period="2026-04", task_id="t1"
        )
        assert latest == made
        assert await fetch_latest_submitted_document(db, entity_slug="spv", source="bank", period="2026-05") is None

    loop.run(work())


def test_documents_are_listed_by_the_beginning_of_their_source(db: Adapter, loop: asyncio.Runner) -> None:
    async def work() -> None:
        for source in ("agent_output:1", "agent_output:2", "agentXoutput:3", "Agent_output:4", "bank"):
            await document(db, source)
        found = await list_submitted_documents(db, entity_slug="spv", source_prefix="agent_output:")
        # `_` is any character to LIKE, and case counts.
        assert [each.source for each in found] == ["agentXoutput:3", "agent_output:2", "agent_output:1"]
        found = await list_submitted_documents(db, entity_slug="spv", period="2026-04", task_id="t1", limit=2)
        assert [each.source for each in found] == ["bank", "Agent_output:4"]
        assert await list_submitted_documents(db, entity_slug="other") == []

    loop.run(work())


def test_extractions(db: Adapter, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    import ntro.data
    from ntro.capabilities import config

    monkeypatch.setitem(sys.modules, "temporalio", TEMPORAL)  # which that module wants for what is not asked here
    task = importlib.import_module("ntro.workflow.task")

    async def work() -> None:
        made = await insert_extracted_document(
            db,
            entity_slug="spv",
            period="2026-04",
            source="bank",
            document_ref=str(uuid.uuid4()),
            schema_slug="bank-statement",
            payload={"amount": 1.5, "name": "Fünf 'x' {y}", "deep": {"list": [1, None, True]}},
            corrections=[{"field": "amount"}],
            task_id="t1",
        )
        assert made.payload["deep"] == {"list": [1, None, True]}
        assert made.corrections == [{"field": "amount"}]
        assert await task._fetch_committed_payload("t1", "bank") == made.payload
        assert await task._fetch_committed_payload("t1", "other") is None

    monkeypatch.setitem(ntro.data._pool, "byng", db)
    monkeypatch.setattr(config, "_config", config.WorkerConfig(tenant_slug="byng"))
    loop.run(work())


def test_records(db: Adapter, loop: asyncio.Runner) -> None:
    async def work() -> None:
        number = str(uuid.uuid4())
        given: dict[str, Any] = {"entity_slug": "spv", "task_id": "t1", "kind": "expense", "data": {"a": [1]}}
        made = await insert_submitted_record(db, id=number, source_ref=None, **given)
        assert (made.id, made.data, made.source_ref) == (number, {"a": [1]}, None)
        made = await insert_submitted_record(db, id=str(uuid.uuid4()), source_ref={"b": "c"}, **given)
        assert made.source_ref == {"b": "c"}
        for wrong, state in ((number, "23505"), (None, "23502"), ("no uuid", "22P02")):
            with pytest.raises(Exception, match=r".") as caught:
                await insert_submitted_record(db, id=wrong, source_ref=None, **given)
            assert caught.value.sqlstate == state  # type: ignore[attr-defined]

    loop.run(work())


def test_caches(db: Adapter, loop: asyncio.Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    import ntro.data
    from ntro.capabilities import ai, checks, config

    async def work() -> None:
        assert await ai._try_cached_extract("k") is None
        extracted = ai.ExtractionResult(fields={"a": 1}, confidence_scores={"a": 0.5}, line_items=[], summary="é")
        for _ in range(2):
            await ai._store_cached_extract("k", "schema", extracted)
        assert await ai._try_cached_extract("k") == extracted
        assert await checks._try_cached("k") is None
        item = checks.QualityCheckItem(id="c", title="C", status="pass")
        for _ in range(2):
            await checks._store_cached("k", "spec", item)
        found = await checks._try_cached("k")
        assert found is not None
        assert found.id == "c"

    monkeypatch.setitem(ntro.data._pool, "byng", db)
    monkeypatch.setattr(
        config, "_config", config.WorkerConfig(tenant_slug="byng", tenant_postgres_url="postgres://elsewhere")
    )
    monkeypatch.setattr(ai, "_extract_cache_ready", False)
    monkeypatch.setattr(checks, "_cache_table_ready", False)
    loop.run(work())


def test_subledgers(db: Adapter, loop: asyncio.Runner) -> None:
    import ntro.subledger
    import ntro.subledger.types.expenses

    entity, task = uuid.uuid4(), uuid.uuid4()

    async def work() -> None:
        ledger = ntro.subledger.open(name="expenses", entity_id=entity, task_id=task, db=db)
        rows = [
            ledger.row(
                period="2026-04", event_id=uuid.uuid4(), vendor=f"v{n}", amount_gross=Decimal(amount), currency="GBP"
            )
            for n, amount in enumerate(("10.50", "0.10", "99999999.99"))
        ]
        for row in rows:
            await ledger.insert(row)
        found = await ledger.query(period="2026-04")
        assert [(each.vendor, each.amount_gross) for each in found] == [(row.vendor, row.amount_gross) for row in rows]
        assert [each.id for each in found] == [row.id for row in rows]
        assert found[0].posted_to_gl is False
        assert await ledger.mark_approved(ids=[rows[0].id, rows[1].id, uuid.uuid4()]) == 2
        assert await ledger.mark_rejected(ids=[rows[2].id]) == 1
        assert await ledger.mark_posted(gl_external_ids={rows[0].id: "J-1", rows[2].id: "J-2"}) == 1
        assert await ledger.mark_posted(gl_external_ids={rows[0].id: "J-1"}) == 0
        (posted,) = await ledger.query(status="POSTED")
        assert (posted.id, posted.posted_journal_ref, posted.posted_to_gl) == (rows[0].id, "J-1", True)

    loop.run(work())


BUNDLE = {
    "totals": """
        SELECT COALESCE(category, 'Uncategorised') AS category,
               SUM(amount_gross)::float AS total
        FROM ledgers.expenses
        WHERE entity_id = $1 AND id = ANY($2::uuid[]) AND status = 'PENDING'
        GROUP BY 1
        """,
    "counts": """
        SELECT status, COUNT(*)::int AS c
        FROM ledgers.expenses
        WHERE entity_id = $1 AND id = ANY($2::uuid[])
        GROUP BY status
        """,
    "correct": "UPDATE ledgers.expenses SET category = $1, category_source = CASE WHEN $2 = 'category' THEN 'manual' "
    "ELSE category_source END, updated_at = NOW() WHERE id = $3::uuid AND entity_id = $4",
}


def test_statements_of_a_public_bundle(db: Adapter, loop: asyncio.Runner) -> None:
    import ntro.subledger
    import ntro.subledger.types.expenses

    entity = uuid.uuid4()

    async def work() -> None:
        ledger = ntro.subledger.open(name="expenses", entity_id=entity, task_id=uuid.uuid4(), db=db)
        given = {"period": "2026-04", "event_id": uuid.uuid4(), "vendor": "v", "currency": "GBP"}
        rows = [ledger.row(amount_gross=Decimal("1.25"), **given) for _ in range(2)]
        for row in rows:
            await ledger.insert(row)
        ids = [row.id for row in rows]
        assert await db.execute(BUNDLE["correct"], "rent", "category", str(ids[0]), entity) == "UPDATE 1"
        totals = await db.fetch(BUNDLE["totals"], entity, ids)
        assert sorted(totals, key=str) == [
            {"category": "Uncategorised", "total": 1.25},
            {"category": "rent", "total": 1.25},
        ]
        assert await db.fetch(BUNDLE["counts"], entity, ids) == [{"status": "PENDING", "c": 2}]

    loop.run(work())
