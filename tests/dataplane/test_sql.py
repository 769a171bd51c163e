"""The same statements give the same on both databases, and what a runbook must not do is refused on both."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hostler.errors import InvalidRequest
from hostler.runbooks.dataplane.config import DataPlaneConfig
from hostler.runbooks.dataplane.lexing import parse
from hostler.runbooks.dataplane.plane import DataPlane
from hostler.runbooks.dataplane.problems import SqlFailed, TooMuch
from tenantdata import QUICK, Adapter, Planes

ALIKE: list[tuple[str, list[Any], Any]] = [
    ("SELECT $1::text AS a, $2::int AS b -- c $3", ["x", 2], [{"a": "x", "b": 2}]),
    ("SELECT '$1 -- /* ; ' AS a /* nested /* $1 */ */;", [], [{"a": "$1 -- /* ; "}]),
    ("SELECT $x$it's ; $1$x$ AS a, E'a\\'b\\n' AS b", [], [{"a": "it's ; $1", "b": "a'b\n"}]),
    ('SELECT 1 AS "Order", 2 AS Total', [], [{"Order": 1, "total": 2}]),
    ("SELECT count(*), max(source) FROM ingest.submitted_documents", [], [{"count": 0, "max": None}]),
    ("SELECT 'a_b' LIKE 'a\\_b' AS a, 'axb' LIKE 'a\\_b' AS b, 'AXB' LIKE 'a_b' AS c", [], [(1, 0, 0)]),
    ("SELECT 'AXxB' ILIKE 'a%b' AS a, 'é' ILIKE 'É' AS b, 'ab' NOT ILIKE 'A%' AS c", [], [(1, 1, 0)]),
    ("SELECT 'abcabd' LIKE '%b%bd' AS a, 'ab' LIKE 'ab%b' AS b, '' LIKE '%' AS c, '' LIKE '' AS d", [], [(1, 0, 1, 1)]),
    ("SELECT 1 WHERE 2 = ANY($1::int[]) AND 4 <> ALL($1::int[])", [[1, 2]], None),
    ("SELECT 1 WHERE 'b' = ANY($1)", [["a", "b"]], None),
    ("SELECT x.a, x.b FROM UNNEST($1::text[], $2::int[]) AS x(a, b) ORDER BY 1", [["p", "q"], [1, 2]],
     [{"a": "p", "b": 1}, {"a": "q", "b": 2}]),
    ("SELECT ($1::jsonb ->> 'a') AS a", ['{"a": "x"}'], [{"a": "x"}]),
    ("SELECT CAST($1 AS bigint) + 1 AS a", [2**40], [{"a": 2**40 + 1}]),
    ("SELECT CASE WHEN $1::boolean THEN 'y' ELSE 'n' END AS a", [True], [{"a": "y"}]),
    ("WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT sum(n)::int AS s FROM c", [],
     [{"s": 15}]),
    ("SELECT n, row_number() OVER (ORDER BY n DESC)::int AS r FROM (SELECT 1 AS n UNION ALL SELECT 2) x ORDER BY n", [],
     [{"n": 1, "r": 2}, {"n": 2, "r": 1}]),
    ("SELECT coalesce(NULL, 'a')", [], [{"coalesce": "a"}]),
    ("SELECT $1::uuid::text AS a", ["0C7F28D9-30A6-4D1A-9B8C-0E6C5D9F6A11"],
     [{"a": "0c7f28d9-30a6-4d1a-9b8c-0e6c5d9f6a11"}]),
    ("SELECT '2026-01-02'::date < '2026-01-03'::date AS a, date '2026-01-02' = date '2026-01-02' AS b", [], [(1, 1)]),
    ("SELECT $1::numeric * 2 > 2.4 AS a", ["1.25"], [(1,)]),
    ("SELECT length('é') AS a, octet_length('é') AS b, md5('a') AS c", [], [
        {"a": 1, "b": 2, "c": "0cc175b9c0f1b6a831c399e269772661"}]),
]  # fmt: skip


def test_the_same_on_both(db: Adapter, loop: asyncio.Runner) -> None:
    """A tuple is what is equal to it; what no row is asked of has one."""

    async def work() -> None:
        for sql, args, expected in ALIKE:
            rows = await db.fetch(sql, *args)
            if expected is None:
                assert len(rows) == 1, sql
            elif isinstance(expected[0], tuple):
                assert [tuple(row.values()) for row in rows] == expected, sql
            else:
                assert rows == expected, sql

    loop.run(work())


TABLE = """
CREATE TABLE IF NOT EXISTS ledgers.periods (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    entity_slug varchar(40) NOT NULL,
    period character varying NOT NULL,
    closed boolean NOT NULL DEFAULT false,
    total numeric(12, 2) NOT NULL DEFAULT 0,
    tags text[],
    made timestamp with time zone NOT NULL DEFAULT now(),
    note double precision,
    UNIQUE (entity_slug, period),
    CHECK (total >= 0)
)"""


UPSERT = """
INSERT INTO ledgers.periods AS p (entity_slug, period, total, tags) VALUES ($1, $2, $3, $4)
ON CONFLICT (entity_slug, period) DO UPDATE SET total = p.total + EXCLUDED.total
RETURNING id, total, closed, tags"""


def test_a_table_of_a_runbooks_own(db: Adapter, loop: asyncio.Runner) -> None:
    async def work() -> None:
        for _ in range(2):
            assert await db.execute("CREATE SCHEMA IF NOT EXISTS ledgers") == "CREATE SCHEMA"
            assert await db.execute(TABLE) == "CREATE TABLE"
            await db.execute("CREATE INDEX IF NOT EXISTS periods_by_total ON ledgers.periods (total)")
        await db.execute("ALTER TABLE ledgers.periods ADD COLUMN more jsonb")
        first = await db.fetchrow(UPSERT, "spv", "2026-04", Decimal("1.5"), ["a", "b"])
        again = await db.fetchrow(UPSERT, "spv", "2026-04", Decimal("0.25"), ["c"])
        assert first is not None
        assert again is not None
        assert isinstance(first["id"], uuid.UUID)
        assert (again["id"], again["total"], again["closed"]) == (first["id"], Decimal("1.75"), False)
        assert first["tags"] == ["a", "b"]
        for sql, state in (
            ("INSERT INTO ledgers.periods (entity_slug, period) VALUES ('spv', '2026-04')", "23505"),
            ("INSERT INTO ledgers.periods (entity_slug, period, total) VALUES ('x', 'y', -1)", "23514"),
        ):
            with pytest.raises(SqlFailed) as caught:
                await db.execute(sql)
            assert caught.value.sqlstate == state
        assert await db.execute("DELETE FROM ledgers.periods WHERE closed = $1", False) == "DELETE 1"
        assert await db.execute("DROP TABLE ledgers.periods") == "DROP TABLE"

    loop.run(work())


REFUSED = [
    "", " ; ", "BEGIN", "COMMIT", "ATTACH '/etc/passwd' AS x", "PRAGMA journal_mode = OFF", "VACUUM",
    "COPY t FROM '/etc/passwd'", "SET ROLE postgres", "SELECT 1; DROP TABLE ingest.submitted_documents",
    "SELECT load_extension('x')", "EXPLAIN SELECT 1", "SELECT (1", "SELECT 1)", "SELECT 'x", "SELECT $tag$ x",
    "SELECT /* x", "DO $$ BEGIN END $$", "LISTEN x", "SELECT `x`", "SELECT ?", "SELECT :x", "SELECT @x",
    "UPDATE system.nowhere SET a = 1", "--\rSET ROLE postgres /*\nSELECT 1 --*/", "SELECT " + "(" * 200 + ")" * 200,
]  # fmt: skip


def test_what_no_runbook_may_run(db: Adapter, loop: asyncio.Runner) -> None:
    async def work() -> None:
        for sql in REFUSED:
            with pytest.raises(SqlFailed):
                await db.fetch(sql)

    loop.run(work())


def test_no_value_takes_hours(db: Adapter, loop: asyncio.Runner) -> None:
    for value in ("1e1000000000", "9" * 1_000_000, "1e19", "-1e19"):
        with pytest.raises(SqlFailed):
            loop.run(db.fetch("SELECT CAST($1::text AS bigint) AS a", value))
    assert loop.run(db.fetch("SELECT CAST($1::text AS bigint) AS a", str(-(2**63)))) == [{"a": -(2**63)}]


def test_no_pattern_takes_hours(tmp_path: Path, loop: asyncio.Runner) -> None:
    """On SQLite, where LIKE is ours. PostgreSQL stops its own."""

    async def work() -> None:
        plane = await DataPlane.open(tmp_path, QUICK)
        with pytest.raises(SqlFailed, match="too long"):
            await plane.fetch("byng", "SELECT $1 LIKE $2 AS a", "a" * 4_000_000, "%" + "a" * 4000 + "_b%")
        assert await plane.fetch("byng", "SELECT $1 LIKE $2 AS a", "a" * 1_000_000 + "bcd", "%b_d%") == [{"a": 1}]
        await plane.aclose()

    loop.run(work())


def test_the_wrong_number_of_arguments_is_refused(db: Adapter, loop: asyncio.Runner) -> None:
    for sql, args in (("SELECT $1::int", []), ("SELECT $1::int", [1, 2]), ("SELECT 1", [1])):
        with pytest.raises(SqlFailed):
            loop.run(db.fetch(sql, *args))
    for value in (object(), {"a": object()}):
        with pytest.raises((SqlFailed, TypeError)):
            loop.run(db.fetch("SELECT $1::text AS a", value))


ENDLESS = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c"


def test_an_endless_statement_is_stopped(planes: Planes, loop: asyncio.Runner) -> None:
    async def work() -> None:
        plane = await planes.open(DataPlaneConfig(statement_seconds=1.0))
        with pytest.raises(SqlFailed) as caught:
            await plane.fetch("byng", ENDLESS)
        assert caught.value.sqlstate == "57014"
        assert await plane.fetch("byng", "SELECT 1 AS a") == [{"a": 1}]
        await plane.aclose()

    loop.run(work())


def test_a_statement_that_nobody_waits_for_is_stopped(db: Adapter, loop: asyncio.Runner) -> None:
    async def work() -> float:
        await db.fetch("SELECT 1")
        asking = asyncio.create_task(db.fetch(ENDLESS))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        return time.monotonic() - began

    assert loop.run(work()) < 30  # and not the minute that it may take


MANY = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 1000000) SELECT n FROM c"


def test_too_many_rows_and_too_long_values_are_refused(db: Adapter, loop: asyncio.Runner) -> None:
    with pytest.raises(TooMuch):
        loop.run(db.fetch(MANY))
    assert loop.run(db.fetchrow(MANY)) == {"n": 1}
    with pytest.raises(TooMuch):
        loop.run(db.fetch("SELECT $1::bytea AS a", b"x" * 5_000_000))
    insert = "INSERT INTO ingest.submitted_documents (entity_slug, source, filename, content_type, data_bytes) VALUES ("
    with pytest.raises(TooMuch):
        loop.run(db.fetch(insert + "'e', 's', 'f', 'c', $1) RETURNING data_bytes", b"x" * 5_000_000))
    assert loop.run(db.fetch("SELECT id FROM ingest.submitted_documents")) == []


def test_one_row_of_many_that_were_written(db: Adapter, loop: asyncio.Runner) -> None:
    insert = (
        "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 300) "
        "INSERT INTO ingest.submitted_records (entity_slug, data) SELECT 'e', '{}' FROM c"
    )
    row = loop.run(db.fetchrow(f"{insert} RETURNING entity_slug"))
    assert row == {"entity_slug": "e"}
    assert loop.run(db.execute(insert)) == "INSERT 0 300"
    assert loop.run(db.fetch("SELECT count(*) FROM ingest.submitted_records")) == [{"count": 600}]
    update = "WITH x AS (SELECT 'f' AS slug) UPDATE ingest.submitted_records SET entity_slug = (SELECT slug FROM x)"
    assert loop.run(db.execute(update)) == "UPDATE 600"
    assert loop.run(db.execute("DELETE FROM ingest.submitted_records")) == "DELETE 600"


NUL = chr(0)


def test_text_that_no_database_takes(db: Adapter, loop: asyncio.Runner) -> None:
    for sql, args in ((f"SELECT '{NUL}' AS a", []), ("SELECT $1::text AS a", ["\ud800"]), (f"SELECT {NUL}", [])):
        with pytest.raises(SqlFailed):
            loop.run(db.fetch(sql, *args))


def test_what_the_server_wrote_of_itself_is_not_a_runbooks(tmp_path: Path, loop: asyncio.Runner) -> None:
    """On SQLite. In PostgreSQL the role decides."""

    async def work() -> None:
        plane = await DataPlane.open(tmp_path, QUICK)
        for sql in (
            "DELETE FROM system.data_plane",
            "DROP TABLE system.data_plane",
            "CREATE TRIGGER t AFTER INSERT ON x",
        ):
            with pytest.raises(SqlFailed):
                await plane.execute("byng", sql)
        await plane.aclose()

    loop.run(work())


def test_statements_at_once(db: Adapter, loop: asyncio.Runner) -> None:
    async def work() -> list[dict[str, Any]]:
        insert = "INSERT INTO ingest.submitted_records (id, entity_slug, data) VALUES ($1::uuid, 'e', '{}')"
        await asyncio.gather(*(db.execute(insert, str(uuid.uuid4())) for _ in range(50)))
        return await db.fetch("SELECT count(*) FROM ingest.submitted_records")

    assert loop.run(work()) == [{"count": 50}]


def test_what_is_no_slug_is_refused(plane: DataPlane, loop: asyncio.Runner) -> None:
    for tenant in ("", ".", "..", "../x", "a/b", "a" * 101, "ü", "a\x00b"):
        with pytest.raises(InvalidRequest):
            loop.run(plane.fetch(tenant, "SELECT 1"))


def test_long_nonsense_is_read_in_time() -> None:
    began = time.monotonic()
    for text in ("'" * 200_001, "(" * 90 + "1" * 100_000, "/*" * 60_000, "$a" * 50_000, "a." * 100_000, "1e" * 100_000):
        with contextlib.suppress(SqlFailed):
            parse(text)
    assert time.monotonic() - began < 10
