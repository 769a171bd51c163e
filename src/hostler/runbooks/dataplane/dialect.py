"""Writes PostgreSQL's SQL, as far as runbooks use it, as SQLite's: parameters, casts, arrays, functions and types.

What it doesn't know is left as it is, for SQLite to refuse. It must not run anything. The functions that begin with
`pg_` are `functions`'.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from hostler.runbooks.dataplane.lexing import Group, Item, Word, parse
from hostler.runbooks.dataplane.names import RENAMED
from hostler.runbooks.dataplane.problems import SqlFailed
from hostler.runbooks.dataplane.types import CASTS, array_of, read_type

VERBS = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "VALUES", "WITH", "CREATE", "ALTER", "DROP"})
READING = frozenset({"SELECT", "VALUES"})
KNOWN_SCHEMAS = frozenset({"ingest", "system", "ledgers", "public"})
_BARE = {"CURRENT_TIMESTAMP": "pg_now()", "LOCALTIMESTAMP": "pg_now()", "CURRENT_DATE": "pg_today()", "ILIKE": "MATCH"}
_NO_FUNCTIONS = frozenset({
    "ALL", "AND", "ANY", "AS", "BY", "CHECK", "CONFLICT", "DISTINCT", "ELSE", "EXISTS", "FILTER", "FROM", "IN", "IS",
    "JOIN", "KEY", "LIKE", "LIMIT", "MATERIALIZED", "NOT", "OFFSET", "ON", "OR", "OVER", "RETURNING", "SELECT", "SET",
    "SOME", "TABLE", "THEN", "UNION", "UNIQUE", "USING", "VALUES", "WHEN", "WHERE", "WITH",
})  # fmt: skip
_COMPARED = {"=": "IN", "<>": "NOT IN", "!=": "NOT IN"}


class Translated(NamedTuple):
    """`verb` is the statement's own one, behind its WITH; `tag` is how the status of a CREATE and the like reads."""

    sql: str
    verb: str
    tag: str
    params: int

    @property
    def writes(self) -> bool:
        return self.verb not in READING


@lru_cache(maxsize=512)
def translate(sql: str) -> Translated:
    """Raises SqlFailed."""
    items = parse(sql)
    first = items[0].upper
    verb, tag = verb_of(items), first
    params = max((int(word.text[1:]) for word in _all(items) if word.kind == "param"), default=0)
    if first in ("CREATE", "DROP", "ALTER"):
        kind = next((each.upper for each in items[1:] if each.upper not in ("UNIQUE", "OR", "REPLACE")), "")
        tag = f"{first} {kind}"
        if tag == "CREATE SCHEMA":
            return Translated(_schema(items), "SELECT", tag, params)
        if tag == "CREATE INDEX":
            items = _index(items)
    return Translated(_Writer(ddl=first in ("CREATE", "ALTER")).write(items), verb, tag, params)


def verb_of(items: list[Item]) -> str:
    """The statement's verb. Raises SqlFailed for those that aren't for runbooks."""
    first = items[0].upper
    if first not in VERBS:
        raise SqlFailed(
            f"A runbook can't run {first or 'such a statement'}; it can run {', '.join(sorted(VERBS))}.", "0A000"
        )
    if first == "WITH":
        return next((each.upper for each in items if each.upper in ("SELECT", "INSERT", "UPDATE", "DELETE")), "SELECT")
    return first


def _all(items: list[Item]) -> list[Word]:
    found: list[Word] = []
    for each in items:
        found += _all(each.items) if isinstance(each, Group) else [each]
    return found


def _schema(items: list[Item]) -> str:
    """The schemas are files, and they are there."""
    names = [each.text.strip('"') for each in items if isinstance(each, Word) and each.kind in ("name", "quoted")]
    if names[-1].lower() not in KNOWN_SCHEMAS:
        known = ", ".join(sorted(KNOWN_SCHEMAS))
        raise SqlFailed(f"On SQLite there are the schemas {known} and no others; not {names[-1]!r}.", "3F000")
    return "SELECT 1 WHERE 0"


def _index(items: list[Item]) -> list[Item]:
    """The schema stands before the index's name in SQLite, and before the table's in PostgreSQL."""
    on = next((at for at, each in enumerate(items) if each.upper == "ON"), 0)
    moved = [*items]
    if 0 < on < len(items) - 2 and items[on + 2] == Word("mark", "."):
        schema = moved[on + 1 : on + 3]
        del moved[on + 1 : on + 3]
        moved[on - 1 : on - 1] = schema
    return [each for each in moved if each.upper != "CONCURRENTLY"]


class _Unit(NamedTuple):
    """A piece of the new statement. What is `whole` can be cast."""

    text: str
    whole: bool = False
    upper: str = ""


class _Writer:
    def __init__(self, ddl: bool) -> None:
        self._ddl = ddl

    def write(self, items: list[Item]) -> str:
        return " ".join(unit.text for unit in self._units(items))

    def _units(self, items: list[Item]) -> list[_Unit]:
        units: list[_Unit] = []
        at = 0
        while at < len(items):
            at = self._next(items, at, units)
        return units

    def _next(self, items: list[Item], at: int, units: list[_Unit]) -> int:
        """Write the item at `at` behind the units so far; where the next one is."""
        item = items[at]
        if isinstance(item, Group):
            units.append(self._brackets(item, units))
        elif item.kind == "name" or item.kind == "quoted":
            return self._name(items, at, units)
        elif item.text == "::":
            return self._cast(items, at + 1, units)
        elif item.kind == "param":
            units.append(_Unit(f"?{item.text[1:]}", whole=True))
        else:
            units.append(_Unit(item.text, whole=item.kind in ("string", "number")))
        return at + 1

    def _brackets(self, group: Group, units: list[_Unit]) -> _Unit:
        if group.open == "[":
            raise SqlFailed("The database of this tenant is SQLite, which knows no array elements: [...].", "0A000")
        text = f"({self.write(group.items)})"
        if len(units) > 1 and units[-1].upper in ("OVER", "FILTER") and units[-2].whole:
            word, call = units.pop(), units.pop()
            text = f"{call.text} {word.text} {text}"
        return _Unit(text, whole=True)

    # -- names, and what follows them --

    def _name(self, items: list[Item], at: int, units: list[_Unit]) -> int:
        chain, end = _chain(items, at)
        upper = items[at].upper if len(chain) == 1 else ""
        follower = items[end] if end < len(items) else None
        if upper == "FOR" and _locks(items[end:]):
            return len(items)
        if self._ddl and (after := self._defined(items, at, units)) is not None:
            return after
        if isinstance(follower, Group) and upper not in _NO_FUNCTIONS:
            return self._called(items, end, chain, units)
        if (
            upper in ("ANY", "SOME", "ALL")
            and isinstance(follower, Group)
            and units[-1:]
            and units[-1].text in _COMPARED
        ):
            units[-1] = _Unit(_COMPARED[units[-1].text])
            units.append(_Unit(self._members(follower)))
            return end + 1
        if isinstance(follower, Word) and follower.kind == "string" and upper.lower() in CASTS:
            units.append(_Unit(CASTS[upper.lower()].format(follower.text), whole=True))
            return end + 1
        text = _BARE.get(upper) or ".".join(chain)
        units.append(_Unit(text, whole=upper not in _NO_FUNCTIONS and upper != "END", upper=upper))
        return end

    def _called(self, items: list[Item], at: int, chain: list[str], units: list[_Unit]) -> int:
        """A function's call, or a table with its columns. `at` is that of its brackets."""
        group = items[at]
        assert isinstance(group, Group)
        name = chain[-1].lower() if len(chain) == 1 else ""
        if name == "cast":
            units.append(self._cast_call(group))
        elif name == "unnest":
            return self._unnest(items, at, units)
        elif name == "array" and group.open == "[":
            units.append(_Unit(f"json_array({self.write(group.items)})", whole=True))
        else:
            inside = self._columns(group) if self._ddl and _creates(units) else self.write(group.items)
            called = RENAMED.get(name, ".".join(chain))
            units.append(_Unit(f"{called}({inside})", whole=True))
        return at + 1

    def _members(self, group: Group) -> str:
        inside = self.write(group.items)
        return f"({inside})" if group.items[0].upper == "SELECT" else f"(SELECT value FROM json_each({inside}))"

    def _cast(self, items: list[Item], at: int, units: list[_Unit]) -> int:
        name, is_array, end = read_type(items, at)
        if not units or not units[-1].whole:
            raise SqlFailed(f"On SQLite, what is cast to {name} has to stand in parentheses.", "0A000")
        units[-1] = _Unit(_wrapped(name, is_array, units[-1].text), whole=True)
        return end

    def _cast_call(self, group: Group) -> _Unit:
        at = next((n for n, each in enumerate(group.items) if each.upper == "AS"), None)
        if at is None:
            raise SqlFailed("syntax error in CAST")
        name, is_array, _ = read_type(group.items, at + 1)
        return _Unit(_wrapped(name, is_array, self.write(group.items[:at])), whole=True)

    def _unnest(self, items: list[Item], at: int, units: list[_Unit]) -> int:
        """Arrays side by side as rows, under the names that follow: `AS x(id, ref)`."""
        group = items[at]
        assert isinstance(group, Group)
        arrays = [self.write(part) for part in _parts(group.items)]
        end = at + 1
        if end < len(items) and items[end].upper == "AS":
            end += 1
        alias, names = "unnest", ["unnest"] * len(arrays)
        if end < len(items) and isinstance(word := items[end], Word) and word.kind in ("name", "quoted"):
            alias = word.text
            names, end = [alias] * len(arrays), end + 1
            if end < len(items) and isinstance(named := items[end], Group):
                names, end = [self.write(part) for part in _parts(named.items)], end + 1
        columns = ", ".join(f"a{n}.value AS {name}" for n, name in enumerate(names))
        joined = " ".join(
            f"JOIN json_each({each}) AS a{n} ON a{n}.key = a0.key" for n, each in enumerate(arrays[1:], 1)
        )
        units.append(_Unit(f"(SELECT {columns} FROM json_each({arrays[0]}) AS a0 {joined}) AS {alias}"))
        return end

    # -- definitions of columns --

    def _defined(self, items: list[Item], at: int, units: list[_Unit]) -> int | None:
        """The column that an ALTER TABLE adds."""
        if units and units[0].upper == "ALTER" and items[at].upper == "ADD":
            rest = items[at + 1 :]
            if rest and rest[0].upper == "COLUMN":
                rest = rest[1:]
            units.append(_Unit(f"ADD COLUMN {self._column(rest)}"))
            return len(items)
        return None

    def _columns(self, group: Group) -> str:
        return ", ".join(self._column(part) for part in _parts(group.items))

    def _column(self, items: list[Item]) -> str:
        if not items or items[0].upper in ("CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"):
            return self.write(items)
        name, rest = self.write(items[:1]), items[1:]
        if not rest:
            return name
        kind, is_array, end = read_type(rest, 0)
        return f"{name} {array_of(kind, is_array)} {self._constraints(rest[end:])}".rstrip()

    def _constraints(self, items: list[Item]) -> str:
        """With a default's expression in parentheses, where SQLite wants it."""
        at = next((n for n, each in enumerate(items) if each.upper == "DEFAULT"), None)
        if at is None:
            return self.write(items)
        stop = ("NOT", "NULL", "PRIMARY", "UNIQUE", "CHECK", "REFERENCES", "CONSTRAINT")
        end = next((n for n, each in enumerate(items) if n > at + 1 and each.upper in stop), len(items))
        return f"{self.write(items[:at])} DEFAULT ({self.write(items[at + 1 : end])}) {self.write(items[end:])}".strip()


def _wrapped(name: str, is_array: bool, text: str) -> str:
    if is_array:
        return f"pg_array({text})"
    if name not in CASTS:
        raise SqlFailed(f"type {name!r} does not exist on SQLite", "42704")
    return CASTS[name].format(text)


def _chain(items: list[Item], at: int) -> tuple[list[str], int]:
    """A name with all its parts, `ingest.submitted_documents`, and where it ends."""
    words = [items[at]]
    end = at + 1
    while end + 1 < len(items) and items[end] == Word("mark", ".") and isinstance(items[end + 1], Word):
        words.append(items[end + 1])
        end += 2
    names = [word.text.lower() if word.kind == "name" else word.text for word in words if isinstance(word, Word)]
    if len(names) > 1 and names[0] == "public":
        names[0] = "main"
    # What follows a dot is a name, be it a keyword of SQLite's or not.
    return [names[0], *(f'"{each}"' if each.isidentifier() else each for each in names[1:])], end


def _parts(items: list[Item]) -> list[list[Item]]:
    parts: list[list[Item]] = [[]]
    for each in items:
        if each == Word("mark", ","):
            parts.append([])
        else:
            parts[-1].append(each)
    return parts


def _creates(units: list[_Unit]) -> bool:
    """Whether the statement so far is CREATE TABLE, and the brackets to come are its columns."""
    return [unit.upper for unit in units[:2]] == ["CREATE", "TABLE"] and all(unit.upper != "AS" for unit in units)


def _locks(items: list[Item]) -> bool:
    """FOR UPDATE and its kin: a statement is a transaction of its own, so there is nothing to lock for."""
    return bool(items) and items[0].upper in ("UPDATE", "SHARE", "NO", "KEY")
