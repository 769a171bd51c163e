"""What a task shows of itself, read from its `view`: its steps, the gate that is open, and what was seen at past steps.

Runbooks write payloads of any shape: what is not as expected is shown as it is, and never an error. It must not read
the store, nor decide who may act.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from hostler.errors import Conflict, InvalidRequest
from hostler.runbooks import gates
from hostler.runbooks.gates import FILE, FILES, REVIEW
from hostler.runbooks.invoking.rows import Question
from hostler.runbooks.tasks import FAILED, TaskRow

MAX_ROWS = 500
MAX_COLUMNS = 40
NUMBERS = ("number", "currency", "integer", "decimal", "percent")
FIXED = ("id", "row_id")
_ROWS = ("rows", "lines", "items", "data", "records")


class Step(msgspec.Struct, kw_only=True):
    id: str
    title: str
    status: str
    progress: str = ""
    at: str = ""
    seen: bool = False


class Column(msgspec.Struct, kw_only=True):
    key: str
    label: str
    kind: str = "text"
    editable: bool = True

    @property
    def number(self) -> bool:
        return self.kind in NUMBERS


class TableRow(msgspec.Struct, kw_only=True):
    """`id` is what the runbook knows it by, `key` the same in a form; `seen` changes with its values."""

    id: Any
    key: str
    values: dict[str, Any]
    seen: str

    @property
    def rejected(self) -> bool:
        return str(self.values.get("status", "")).lower() == "rejected"


class Table(msgspec.Struct, kw_only=True):
    key: str
    label: str
    columns: list[Column]
    rows: list[TableRow]
    more: int = 0

    @property
    def editable(self) -> bool:
        return any(column.editable for column in self.columns)

    def row(self, key: str) -> TableRow | None:
        return next((row for row in self.rows if row.key == key), None)


class Slot(msgspec.Struct, kw_only=True):
    """A document that is to be handed in. `task_id` is the task that works on it, where that is another one."""

    source: str
    task_id: str
    title: str
    instructions: str
    accept: str
    status: str
    max_mb: str = ""


class Shown(msgspec.Struct, kw_only=True):
    """What a gate shows, or what was seen at a past step. `rest` is what no table holds."""

    component: str
    title: str = ""
    instructions: str = ""
    tables: list[Table] = []
    rest: Any = None
    decision: dict[str, Any] = {}
    at: str = ""


class Gate(msgspec.Struct, kw_only=True):
    """`token` names this gate alone: a form of an older page must not answer the next one. `given` is the decision
    that it has got and not yet taken."""

    kind: str
    reason: str
    shown: Shown
    token: str
    given: str = ""
    approve_label: str = "Approve"
    reject_label: str = "Reject"
    slots: list[Slot] = []
    children: list[dict[str, str]] = []
    checks: dict[str, Any] = {}
    feedback: dict[str, Any] = {}

    @property
    def reviews(self) -> bool:
        return self.kind == REVIEW


class Asked(msgspec.Struct, kw_only=True):
    """What an agent of the task asks: leave to use a tool (`confirmation`), or a result that is not its to make."""

    token: str
    agent_id: str
    asked: str
    tool: str
    given: dict[str, Any]


class View(msgspec.Struct, kw_only=True):
    steps: list[Step]
    gate: Gate | None
    asked: list[Asked]
    snapshots: dict[str, Shown]


def read(row: TaskRow, found: Iterable[gates.Gate]) -> View:
    """What a task shows. `found` are its own open gates."""
    view = _dict(_decoded(row.view))
    snapshots = {str(name): _snapshot(_dict(snap)) for name, snap in _dict(view.get("step_snapshots")).items()}
    action = _dict(view.get("current_pending_action"))
    own = next((each for each in found if each.asked is None), None)
    gate = _gate(row, action, own) if action and open_(row) else None
    asked = [_asked(each, *each.asked) for each in found if each.asked is not None and open_(row)]
    waits = bool(asked) or (gate is not None and gate.kind != "drill_down")
    steps = [_step(_dict(step), row, waits, snapshots) for step in _list(view.get("current_steps"))]
    return View(steps=steps, gate=gate, asked=asked, snapshots=snapshots)


def open_(row: TaskRow) -> bool:
    return row.closed_at is None and row.cancelled_at is None


def outcome(row: TaskRow) -> dict[str, Any]:
    """The body of a task's end: `result`, or `error` with its `type`, `message` and `trace`."""
    return _dict(_decoded(row.outcome))


def failure(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return _dict(outcome.get("error"))


def edits(table: Table, row: TableRow, given: Mapping[str, str]) -> list[dict[str, Any]]:
    """An action for each cell that a form has changed. Raises InvalidRequest."""
    actions = []
    for column in table.columns:
        text, old = given.get(f"field.{column.key}"), row.values.get(column.key)
        if text is None or not column.editable or text.replace("\r\n", "\n") == cell_text(old):
            continue
        actions.append({"action": "edit_cell", "row_id": row.id, "field": column.key, "value": cell(column, old, text)})
    return actions


def cell(column: Column, old: Any, text: str) -> Any:
    """What somebody has typed into a cell, as the kind of value that is there. Raises InvalidRequest."""
    if isinstance(old, bool):
        if text.strip().lower() not in ("true", "false"):
            raise InvalidRequest(f"{column.label}: Input should be true or false")
        return text.strip().lower() == "true"
    if isinstance(old, int | float) or (old is None and column.number and text.strip()):
        return _number(column, text)
    return None if old is None and text == "" else text


def cell_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


def find_row(gate: Gate, table_key: str, row_key: str, seen: str) -> tuple[Table, TableRow]:
    """The row that a form is about, as it now is. Raises Conflict when it is gone or another than the form showed."""
    table = next((table for table in gate.shown.tables if table.key == table_key), None)
    row = table.row(row_key) if table else None
    if table is None or row is None or row.seen != seen:
        raise Conflict("This row has changed meanwhile: look at it again.")
    return table, row


# -- inside --


def _number(column: Column, text: str) -> int | float:
    plain = text.strip().replace(",", "").replace("\N{NO-BREAK SPACE}", "").replace(" ", "")
    try:
        number = int(plain) if plain.lstrip("-").isdigit() else float(plain)
    except ValueError:
        raise InvalidRequest(f"{column.label}: Input should be a number") from None
    if not abs(number) < 2**63:  # JSON has no NaN, and larger ones are not the same everywhere
        raise InvalidRequest(f"{column.label}: Input should be a number below 2^63")
    return number


def _step(step: Mapping[str, Any], row: TaskRow, waits: bool, snapshots: Mapping[str, Shown]) -> Step:
    step_id = str(step.get("id") or "")
    status = str(step.get("status") or "pending")
    if status in ("active", "waiting_for_input"):
        failed = row.status == FAILED
        status = "failed" if failed else "waiting" if waits else "active"
        if row.closed_at is not None and not failed:
            status = "completed"
    snap = snapshots.get(step_id)
    return Step(
        id=step_id, title=str(step.get("title") or step_id), status=status, progress=_text(step.get("progress")),
        at=snap.at if snap else "", seen=snap is not None,
    )  # fmt: skip


def _snapshot(snap: Mapping[str, Any]) -> Shown:
    hint = _dict(snap.get("display_hint"))
    shown = _shown(hint, snap.get("payload"))
    decision = snap.get("decision")
    shown.decision = decision if isinstance(decision, dict) else {"type": _text(decision)} if decision else {}
    shown.at = _text(snap.get("completed_at"))
    return shown


def _asked(gate: gates.Gate, key: str, question: Question) -> Asked:
    payload = _dict(gate.action.get("payload"))
    tool = f"{question.server} · {question.name}" if question.server else question.name
    return Asked(
        token=gate.token, agent_id=_text(payload.get("agent_id")), asked=question.asked, tool=tool,
        given=question.input,
    )  # fmt: skip


def _gate(row: TaskRow, action: Mapping[str, Any], own: gates.Gate | None) -> Gate:
    hint = _dict(action.get("display_hint"))
    config = _dict(hint.get("config"))
    kind, reason = _text(action.get("kind")) or "interactive_review", _text(action.get("reason"))
    gate = Gate(
        kind=kind, reason=reason, shown=_shown(hint, action.get("payload")),
        token=own.token if own else "", given=_given(own),
        checks=_checks(_dict(action.get("checks"))),
        feedback=_dict(action.get("feedback") or config.get("feedback")),
        approve_label=_text(config.get("approve_label")) or "Approve",
        reject_label=_text(config.get("reject_label")) or "Reject",
    )  # fmt: skip
    if kind == FILE:
        gate.slots = [_slot(config, _dict(action.get("args")))]
    elif kind == FILES:
        gate.slots = [_slot(slot, _dict(slot.get("args"))) for slot in _dicts(config.get("expected"))]
    elif kind == "drill_down":
        gate.children = [
            {name: _text(child.get(name)) for name in ("task_id", "step_id", "slug")}
            for child in _dicts(action.get("children"))
        ]
    return gate


def _checks(given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "items": _dicts(given.get("items"))} if given else {}


def _given(gate: gates.Gate | None) -> str:
    if gate is None or gate.given is None:
        return ""
    return gate.given.decision or "handed in"


def _slot(config: Mapping[str, Any], args: Mapping[str, Any]) -> Slot:
    accept = config.get("accept")
    return Slot(
        source=_text(args.get("source")) or _text(config.get("source")),
        task_id=_text(args.get("signal_task_id")),
        title=_text(config.get("title")) or _text(args.get("source")) or _text(config.get("source")),
        instructions=_text(config.get("instructions")),
        accept=",".join(_text(each) for each in accept) if isinstance(accept, list) else _text(accept),
        status=_text(config.get("status")) or "pending",
        max_mb=_text(config.get("max_size_mb")),
    )


def _shown(hint: Mapping[str, Any], payload: Any) -> Shown:
    component, config = _text(hint.get("component")) or "APPROVAL_FORM", _dict(hint.get("config"))
    shown = Shown(
        component=component, title=_text(config.get("title")), instructions=_text(config.get("instructions")),
        rest=payload,
    )  # fmt: skip
    if component == "DATA_TABLE":
        shown.tables, shown.rest = _tables(config, payload)
    return shown


def _tables(config: Mapping[str, Any], payload: Any) -> tuple[list[Table], Any]:
    """The tables of a payload, as its display hint describes them, and what is left."""
    if isinstance(payload, list):
        return [_table("rows", "", config.get("columns"), payload)], None
    given = _dict(payload)
    found: list[Table] = []
    used = set()
    for dataset in _dicts(config.get("datasets")):
        data_key = _text(dataset.get("data_key")) or "rows"
        if isinstance(given.get(data_key), list):
            key = f"{_text(dataset.get('key'))}.{data_key}"
            found.append(_table(key, _text(dataset.get("label")), dataset.get("columns"), given[data_key]))
            used.add(data_key)
    if not found:
        wanted = _text(config.get("data_key") or config.get("rows_key"))
        for name in (wanted, *_ROWS, *given):
            if name in given and _is_rows(given[name]):
                found.append(_table(str(name), "", config.get("columns"), given[name]))
                used.add(name)
                break
    rest = {name: value for name, value in given.items() if name not in used and name != "feedback"}
    return found, rest or (None if given else payload)


def _table(key: str, label: str, columns: Any, rows: list[Any]) -> Table:
    values = [row if isinstance(row, dict) else {"value": row} for row in rows]
    return Table(
        key=key, label=label, columns=_columns(columns, values),
        rows=[_row(row, index) for index, row in enumerate(values[:MAX_ROWS])], more=max(len(rows) - MAX_ROWS, 0),
    )  # fmt: skip


def _row(values: dict[str, Any], index: int) -> TableRow:
    found = next((values[name] for name in ("row_id", "id") if values.get(name) is not None), index)
    seen = hashlib.sha256(msgspec.json.encode(values)).hexdigest()[:16]
    return TableRow(id=found, key=str(found), values=values, seen=seen)


def _columns(given: Any, rows: Iterable[Mapping[str, Any]]) -> list[Column]:
    columns = [_column(each) for each in _list(given)[:MAX_COLUMNS]]
    if columns := [column for column in columns if column.key]:
        return columns
    names = list(dict.fromkeys(str(name) for row in rows for name in row))[:MAX_COLUMNS]
    return [Column(key=name, label=_label(name), editable=name not in FIXED) for name in names]


def _column(given: Any) -> Column:
    if isinstance(given, str):
        return Column(key=given, label=_label(given), editable=given not in FIXED)
    spec = _dict(given)
    key = _text(spec.get("key") or spec.get("field") or spec.get("name") or spec.get("id"))
    label = _text(spec.get("label") or spec.get("title")) or _label(key)
    editable = spec.get("editable")
    return Column(
        key=key, label=label, kind=_text(spec.get("type")) or "text",
        editable=editable if isinstance(editable, bool) else key not in FIXED,
    )  # fmt: skip


def _label(name: str) -> str:
    text = name.replace("_", " ").strip()
    return text[:1].upper() + text[1:]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)


def _decoded(body: bytes | None) -> Any:
    return msgspec.json.decode(body) if body else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()
