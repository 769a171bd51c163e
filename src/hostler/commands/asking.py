"""What the commands that ask a running server share: the server, lists as tables, and options that name things.

It must not hold a command.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from hostler.errors import InvalidRequest
from hostler.settings import load_client

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from hostler.client import Api

WORKSPACE = "/v1/workspace"


def asked(server: str | None, api_key: str | None) -> Api:
    """The server that the options name. Use it as a context manager."""
    from hostler.client import Api

    return Api(load_client(server, api_key))


def rows(answer: Any) -> list[dict[str, Any]]:
    """What a list of the Workspace API holds, in either of its shapes."""
    found = answer["items"] if isinstance(answer, dict) else answer
    return [dict(row) for row in found]


def show(answer: Any, as_json: bool, words: Iterable[str]) -> None:
    """One object or list: as it came, or in words."""
    click.echo(json.dumps(answer) if as_json else plain("\n".join(words)))


def table(heads: Sequence[str], found: Iterable[Sequence[Any]], nothing: str) -> list[str]:
    """Lines in columns under their heads."""
    lines = [[str("" if cell is None else cell) for cell in row] for row in found]
    if not lines:
        return [nothing]
    widths = [max(len(line[column]) for line in [list(heads), *lines]) for column in range(len(heads))]
    every = [list(heads), *lines]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in every]


def fields(pairs: dict[str, Any]) -> list[str]:
    """`name: value`, for those that have one."""
    known = {name: value for name, value in pairs.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in known), default=0) + 1
    return [f"{name + ':':{width}} {_text(value)}" for name, value in known.items()]


def plain(text: str) -> str:
    """Lines that can't do anything to a terminal."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)


def settings_of(given: tuple[str, ...], option: str) -> dict[str, Any]:
    """`period=2026-03` is text, `ai={"a": 1}` and `n=3` what JSON says; a whole JSON object says several at once."""
    found: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if each.lstrip().startswith("{"):
            try:
                found |= json.loads(each)
            except ValueError as error:
                raise InvalidRequest(f"{option} {each[:60]!r} is no JSON object: {error}.") from error
        elif not equals or not name.isidentifier():
            raise InvalidRequest(f"{option} {each[:60]!r}: give NAME=VALUE, or a JSON object.")
        else:
            found[name] = _value(value)
    return found


def confirmed(question: str, yes: bool) -> None:
    """Ask somebody at a terminal; without one it takes --yes. Raises InvalidRequest."""
    import sys

    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{question} Say --yes to do it.")
    click.confirm(question, abort=True)


def _value(text: str) -> Any:
    """JSON, but for what only looks like a number and is a period or a code."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, float) else value


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
