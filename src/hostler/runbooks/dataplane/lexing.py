"""Cuts SQL as PostgreSQL writes it into words, and these into groups by their brackets. It must not know a database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hostler.runbooks.dataplane.problems import SqlFailed

MAX_SQL = 256 * 1024
MAX_DEPTH = 100
_CLOSING = {"(": ")", "[": "]"}

_TOKEN = re.compile(
    r"""
    (?P<space>\s+|--[^\n\r]*)
  | (?P<comment>/\*)
  | (?P<escaped>[eE]'(?:[^'\\]|''|\\.)*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<dollar>\$(?P<tag>[A-Za-z_]\w*)?\$)
  | (?P<param>\$\d+)
  | (?P<quoted>"(?:[^"]|"")+")
  | (?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<name>[^\W\d]\w*)
  | (?P<op>::|->>|->|\#>>|\#>|@>|<@|\|\||<>|!=|<=|>=|[-+*/%<>=~^&|\#!?@])
  | (?P<mark>[(),.;\[\]:])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


class Word(NamedTuple):
    """`kind` is string, param, quoted, number, name, op or mark; `text` is as SQLite reads it too."""

    kind: str
    text: str

    @property
    def upper(self) -> str:
        """A keyword or an unquoted name; empty for all else."""
        return self.text.upper() if self.kind == "name" else ""


class Group(NamedTuple):
    """What stands in brackets; `open` is ( or [."""

    open: str
    items: list[Item]

    @property
    def upper(self) -> str:
        return ""


Item = Word | Group


def parse(sql: str) -> list[Item]:
    """One statement, without comments and without the semicolon at its end. Raises SqlFailed."""
    if len(sql) > MAX_SQL:
        raise SqlFailed(f"The statement has more than {MAX_SQL} characters.", "54000")
    if "\0" in sql:
        raise SqlFailed("The statement has a null character.", "22021")
    words = list(_words(sql))
    while words and words[-1].text == ";" and words[-1].kind == "mark":
        words.pop()
    if not words:
        raise SqlFailed("The statement is empty.")
    if Word("mark", ";") in words:
        raise SqlFailed("Only one statement can be run at a time.")
    return _grouped(iter(words), "", 0)


def _grouped(words: Iterator[Word], closing: str, depth: int) -> list[Item]:
    if depth > MAX_DEPTH:
        raise SqlFailed("The statement's brackets are nested too deeply.", "54001")
    items: list[Item] = []
    for word in words:
        if word.kind == "mark" and word.text in _CLOSING:
            items.append(Group(word.text, _grouped(words, _CLOSING[word.text], depth + 1)))
        elif word.kind == "mark" and word.text in ")]":
            if word.text != closing:
                raise SqlFailed(f"syntax error at or near {word.text!r}")
            return items
        else:
            items.append(word)
    if closing:
        raise SqlFailed(f"syntax error: a {closing!r} is missing")
    return items


def _words(sql: str) -> Iterator[Word]:
    at = 0
    while at < len(sql):
        found = _TOKEN.match(sql, at)
        if found is None:
            raise SqlFailed(f"syntax error at or near {sql[at : at + 10]!r}")
        kind, text, at = str(found.lastgroup), found.group(), found.end()
        if kind == "tag" or found["dollar"]:
            end = sql.find(found["dollar"], at)
            if end < 0:
                raise SqlFailed("unterminated dollar-quoted string")
            yield Word("string", _literal(sql[at:end]))
            at = end + len(found["dollar"])
        elif kind == "comment":
            at = _after_comment(sql, at)
        elif kind == "escaped":
            yield Word("string", _literal(_unescaped(text[2:-1])))
        elif kind != "space":
            yield Word(kind, text)


def _after_comment(sql: str, at: int) -> int:
    """PostgreSQL's comments nest."""
    depth = 1
    for mark in re.compile(r"/\*|\*/").finditer(sql, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    raise SqlFailed("unterminated comment")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), text.replace("''", "'"), flags=re.DOTALL)
