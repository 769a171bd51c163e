"""The tables of a tenant, written for PostgreSQL; SQLite gets them through `dialect`. It must not hold a row.

The columns are those that the SQL of `ntro` names; `sha256` and `system.data_plane` are ours. A document's bytes are
the last column: only there SQLite makes room for them without having them in memory.
"""

from __future__ import annotations

SCHEMAS = ("ingest", "system", "ledgers")

_SUBLEDGER = """
    id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    entity_id uuid NOT NULL,
    period text NOT NULL,
    task_id uuid NOT NULL,
    status text NOT NULL,
    source_ref text,
    validation_errors jsonb,
    raw_payload jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    approved_at timestamptz,
    posted_to_gl boolean NOT NULL DEFAULT false,
    posted_journal_ref text,
"""

TABLES = {
    "ingest.submitted_documents": """CREATE TABLE IF NOT EXISTS ingest.submitted_documents (
        id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
        entity_slug text NOT NULL,
        period text,
        source text NOT NULL,
        filename text NOT NULL,
        content_type text NOT NULL,
        uploaded_at timestamptz NOT NULL DEFAULT now(),
        task_id text,
        sha256 text,
        data_bytes bytea NOT NULL
    )""",
    "ingest.extracted_payloads": """CREATE TABLE IF NOT EXISTS ingest.extracted_payloads (
        id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
        entity_slug text NOT NULL,
        period text,
        source text NOT NULL,
        document_ref text,
        schema_slug text,
        payload jsonb NOT NULL,
        corrections jsonb,
        task_id text,
        created_at timestamptz NOT NULL DEFAULT now()
    )""",
    "ingest.submitted_records": """CREATE TABLE IF NOT EXISTS ingest.submitted_records (
        id uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
        entity_slug text NOT NULL,
        task_id text,
        kind text,
        source_ref jsonb,
        data jsonb NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now()
    )""",
    "ledgers.expenses": f"""CREATE TABLE IF NOT EXISTS ledgers.expenses ({_SUBLEDGER}
        event_id uuid NOT NULL,
        vendor text,
        amount_gross numeric(18, 2),
        currency text,
        expense_date date,
        payment_method text,
        line_items jsonb,
        vat_amount numeric(18, 2),
        notes text,
        category text,
        category_source text,
        confidence numeric(6, 4)
    )""",
    "ledgers.journal_proposals": f"""CREATE TABLE IF NOT EXISTS ledgers.journal_proposals ({_SUBLEDGER}
        description text,
        posting_date date,
        currency text,
        lines jsonb NOT NULL
    )""",
    "system.data_plane": """CREATE TABLE IF NOT EXISTS system.data_plane (
        one integer NOT NULL PRIMARY KEY,
        tenant text NOT NULL
    )""",
}

INDEXES = {
    "ingest.submitted_documents_by_task": """CREATE INDEX IF NOT EXISTS submitted_documents_by_task
        ON ingest.submitted_documents (task_id, uploaded_at)""",
    "ingest.submitted_documents_by_source": """CREATE INDEX IF NOT EXISTS submitted_documents_by_source
        ON ingest.submitted_documents (entity_slug, source, uploaded_at)""",
    "ingest.extracted_payloads_by_task": """CREATE INDEX IF NOT EXISTS extracted_payloads_by_task
        ON ingest.extracted_payloads (task_id, source)""",
}
