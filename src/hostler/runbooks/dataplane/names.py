"""PostgreSQL's functions under the names that they have on SQLite, and what a column without a name is called.

It must not read a statement.
"""

from __future__ import annotations

import re

from hostler.runbooks.dataplane.types import CASTS

RENAMED = {
    "now": "pg_now",
    "transaction_timestamp": "pg_now",
    "statement_timestamp": "pg_now",
    "clock_timestamp": "pg_now",
    "gen_random_uuid": "pg_new_uuid",
    "uuid_generate_v4": "pg_new_uuid",
    "jsonb_build_object": "json_object",
    "json_build_object": "json_object",
    "jsonb_build_array": "json_array",
    "json_build_array": "json_array",
    "jsonb_agg": "json_group_array",
    "json_agg": "json_group_array",
    "jsonb_object_agg": "json_group_object",
    "jsonb_array_length": "json_array_length",
    "json_array_length": "json_array_length",
    "string_agg": "group_concat",
    "char_length": "length",
    "octet_length": "pg_octets",
    "greatest": "max",
    "least": "min",
    "bool_and": "min",
    "bool_or": "max",
    "md5": "pg_md5",
    "sha256": "pg_sha256",
    "encode": "pg_encode",
    "concat": "pg_concat",
}
_NAME = re.compile(r'[\w."]+')
_CAST_FUNCTIONS = frozenset(form.partition("(")[0] for form in CASTS.values())
_CALL = re.compile(r"(\w+)\((.*)\)$", re.DOTALL)
_CAST = re.compile(r"CAST\((.*) AS \w+\)$", re.DOTALL)
_ORIGINAL = {ours: theirs for theirs, ours in reversed(RENAMED.items()) if ours.startswith(("pg_", "json_"))}


def column_name(text: str) -> str:
    """How PostgreSQL calls a column that has no name: after the function, or what was cast. `text` is SQLite's name,
    which is the whole expression."""
    if text.isidentifier():
        return text
    if text.startswith("CASE "):
        return "case"
    if cast := _CAST.match(text):
        return column_name(cast[1])
    if call := _CALL.match(text):
        if call[1] in _CAST_FUNCTIONS:
            return column_name(call[2])
        return _ORIGINAL.get(call[1], call[1])
    return text.rpartition(".")[2].strip('"') if _NAME.fullmatch(text) else "?column?"
