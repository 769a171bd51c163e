"""PostgreSQL's types on SQLite: how columns of them are declared, and how a value is cast to one.

A column's declared type says what its values come back as (`functions`), and its affinity how they are compared: names
that end in TEXT keep text as it is. It must not run anything.
"""

from __future__ import annotations

from hostler.runbooks.dataplane.lexing import Group, Item, Word
from hostler.runbooks.dataplane.problems import SqlFailed

_INTEGERS = ("int", "integer", "bigint", "smallint", "int2", "int4", "int8")
_FLOATS = ("float", "float4", "float8", "real", "double precision")
_TEXTS = ("text", "varchar", "char", "character", "character varying", "citext", "name", "bpchar")
_DECIMALS = ("numeric", "decimal", "money")
_STAMPS = ("timestamptz", "timestamp with time zone")
_NAIVE = ("timestamp", "timestamp without time zone")

DECLARED = {
    **dict.fromkeys(_INTEGERS, "INTEGER"),
    **dict.fromkeys(("serial", "bigserial", "smallserial"), "INTEGER"),
    **dict.fromkeys(_FLOATS, "REAL"),
    **dict.fromkeys(_TEXTS, "TEXT"),
    **dict.fromkeys(_DECIMALS, "PG_DECIMAL"),
    **dict.fromkeys(_STAMPS, "PG_STAMP_TEXT"),
    **dict.fromkeys(_NAIVE, "PG_NAIVE_TEXT"),
    **dict.fromkeys(("json", "jsonb"), "PG_JSON_TEXT"),
    **dict.fromkeys(("boolean", "bool"), "PG_BOOLEAN"),
    "uuid": "PG_UUID_TEXT",
    "date": "PG_DATE_TEXT",
    "bytea": "BLOB",
}
CASTS = {
    **dict.fromkeys(_INTEGERS, "pg_int({})"),
    **dict.fromkeys(_FLOATS, "pg_float({})"),
    **dict.fromkeys(_TEXTS, "CAST({} AS TEXT)"),
    **dict.fromkeys(_DECIMALS, "CAST(pg_decimal({}) AS NUMERIC)"),
    **dict.fromkeys(_STAMPS, "pg_stamp({})"),
    **dict.fromkeys(_NAIVE, "pg_naive({})"),
    **dict.fromkeys(("json", "jsonb"), "pg_json({})"),
    **dict.fromkeys(("boolean", "bool"), "pg_bool({})"),
    "uuid": "pg_uuid({})",
    "date": "pg_date({})",
    "bytea": "pg_bytes({})",
}
ARRAY = "PG_ARRAY_TEXT"
_MORE = {"double": ("precision",), "character": ("varying",)}


def array_of(name: str, is_array: bool) -> str:
    """How a column of this type is declared. Raises SqlFailed."""
    if is_array:
        return ARRAY
    if name not in DECLARED:
        raise SqlFailed(f"type {name!r} does not exist on SQLite", "42704")
    return DECLARED[name]


def read_type(items: list[Item], at: int) -> tuple[str, bool, int]:
    """The type that begins at `at`: its name, whether it is an array, and where it ends. Raises SqlFailed."""
    if at >= len(items) or not isinstance(first := items[at], Word) or first.kind not in ("name", "quoted"):
        raise SqlFailed("syntax error: a type is missing")
    name, end = first.text.strip('"').lower(), at + 1
    if name == "timestamp" and end < len(items) and isinstance(items[end], Group):
        end += 1
    wanted = ["WITH", "WITHOUT"] if name in ("timestamp", "time") else []
    if end + 2 < len(items) and items[end].upper in wanted and items[end + 1].upper == "TIME":
        name, end = f"{name} {items[end].upper.lower()} time zone", end + 3
    for word in _MORE.get(name, ()):
        if end < len(items) and items[end].upper == word.upper():
            name, end = f"{name} {word}", end + 1
    if end < len(items) and isinstance(group := items[end], Group) and group.open == "(":
        end += 1
    is_array = False
    while end < len(items) and isinstance(group := items[end], Group) and group.open == "[":
        is_array, end = True, end + 1
    return name, is_array, end
