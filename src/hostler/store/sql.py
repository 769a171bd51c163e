"""Turns statements built with SQLAlchemy Core into a driver's SQL and arguments. It must not run anything."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.sql.base import Executable

T = TypeVar("T")
Row = Sequence[Any]


class Many(NamedTuple):
    """Run one statement for each set of parameters; gives no rows."""

    statement: Executable
    params: list[dict[str, Any]]


Request = Executable | tuple[Executable, dict[str, Any]] | Many

# A transaction, free of I/O: it yields statements and is sent their rows. The same generator runs on both databases.
# It is made anew and run again when its group had to be rolled back, so it must have no effect but its statements.
Tx = Generator[Request, list[Row], T]


class Compiled(NamedTuple):
    sql: str
    names: list[str]
    defaults: dict[str, Any]
    writes: bool

    def args(self, params: dict[str, Any]) -> list[Any]:
        return [params[name] if name in params else self.defaults[name] for name in self.names]


@lru_cache(maxsize=1024)
def compiled(statement: Executable, dialect: Dialect) -> Compiled:
    """Compile once per statement object: keep hot statements in module variables, with `bindparam`."""
    result: Any = statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})  # type: ignore[attr-defined]
    writes = not getattr(statement, "is_select", False)
    return Compiled(str(result), list(result.positiontup or ()), dict(result.params), writes)


def split(request: Executable | tuple[Executable, dict[str, Any]]) -> tuple[Executable, dict[str, Any]]:
    return request if isinstance(request, tuple) else (request, {})
