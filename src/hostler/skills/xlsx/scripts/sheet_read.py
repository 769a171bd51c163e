"""Reads a workbook. It changes nothing and calculates nothing: values of formulas are those that were saved."""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import re
import sys
import warnings

from command import Problem, show, show_json, source
from openpyxl import Workbook, load_workbook
from openpyxl.utils import range_boundaries
from openpyxl.utils.exceptions import InvalidFileException
from openpyxl.worksheet.formula import ArrayFormula
from openpyxl.worksheet.worksheet import Worksheet

ENDINGS = (".xlsx", ".xlsm", ".xltx")


def opened(path: str, *, values: bool = False) -> Workbook:
    found = source(path, *ENDINGS)
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            book = load_workbook(str(found), data_only=values, keep_vba=found.suffix == ".xlsm")
    except (InvalidFileException, KeyError, ValueError) as error:
        raise Problem(f"{path}: cannot be read as a workbook: {error}") from None
    for warning in said:
        print(f"note: {warning.message}", file=sys.stderr)
    return book


def sheet_of(book: Workbook, name: str | None) -> Worksheet:
    if name is None:
        return book.worksheets[0]
    if name not in book.sheetnames:
        raise Problem(f"there is no sheet {name!r}; there are: {', '.join(book.sheetnames)}")
    sheet = book[name]
    if not isinstance(sheet, Worksheet):
        raise Problem(f"the sheet {name!r} is a chart, it has no cells")
    return sheet


def formula_of(value: object) -> str | None:
    """The formula in a cell's value, if it is one."""
    if isinstance(value, ArrayFormula):
        return str(value.text)
    return value if isinstance(value, str) and value.startswith("=") else None


def info(arguments: argparse.Namespace) -> None:
    book = opened(arguments.file)
    show_json(
        {
            "sheets": [_sheet(sheet) for sheet in book.worksheets],
            "chart_sheets": [sheet.title for sheet in book.chartsheets],
            "defined_names": {name: defined.attr_text for name, defined in book.defined_names.items()},
            "author": book.properties.creator,
            "modified": book.properties.modified,
        }
    )


def _sheet(sheet: Worksheet) -> dict[str, object]:
    formulas = sum(formula_of(cell.value) is not None for row in sheet.iter_rows() for cell in row)
    return {
        "name": sheet.title,
        "used": sheet.calculate_dimension(),
        "state": sheet.sheet_state,
        "header": [cell.value for cell in next(sheet.iter_rows(max_row=1), ())][:50],
        "formulas": formulas,
        "tables": dict(sheet.tables.items()),
        "merged": [str(area) for area in sheet.merged_cells.ranges][:50],
        "charts": len(sheet._charts),
        "pictures": len(sheet._images),
        "freeze": sheet.freeze_panes,
        "filter": sheet.auto_filter.ref,
    }


def read(arguments: argparse.Namespace) -> None:
    book = opened(arguments.file, values=not arguments.formulas)
    sheet = sheet_of(book, arguments.sheet)
    rows = _rows(sheet, arguments.range)
    if len(rows) > arguments.max_rows:
        print(f"note: {arguments.max_rows} of {len(rows)} rows; use --range or --max-rows for more", file=sys.stderr)
        rows = rows[: arguments.max_rows]
    if not arguments.formulas:
        _say_uncalculated(arguments, sheet.title)
    if arguments.form == "json":
        show_json(rows)
    elif arguments.form == "records":
        keys = (
            [str(key) if key is not None else f"column {n}" for n, key in enumerate(rows[0], start=1)] if rows else []
        )
        show_json([dict(zip(keys, row, strict=False)) for row in rows[1:]])
    else:
        show(_csv(rows), 10_000_000)


def _rows(sheet: Worksheet, area: str | None) -> list[list[object]]:
    try:
        if area and not re.fullmatch(r"\$?[A-Za-z]{1,3}\$?\d+|[A-Za-z$\d]+:[A-Za-z$\d]+", area):
            raise ValueError
        left, top, right, bottom = range_boundaries(area or sheet.calculate_dimension())
    except (ValueError, TypeError):
        raise Problem(f"{area!r} is not a range like A1:D20") from None
    bottom = min(bottom or sheet.max_row, sheet.max_row)
    right = min(right or sheet.max_column, sheet.max_column)
    found = sheet.iter_rows(min_row=top or 1, min_col=left or 1, max_row=bottom, max_col=right)
    return [[_plain(cell.value) for cell in row] for row in found]


def _plain(value: object) -> object:
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return str(value)
    return formula_of(value) or value


def _say_uncalculated(arguments: argparse.Namespace, name: str) -> None:
    """A formula that no program has calculated has no value: say so, since it looks like an empty cell."""
    count = len(uncalculated(opened(arguments.file), opened(arguments.file, values=True), [name]))
    if count:
        print(f"note: {count} formulas have no value yet; see --formulas and the command calculate", file=sys.stderr)


def uncalculated(formulas: Workbook, values: Workbook, names: list[str]) -> list[str]:
    """The cells with formulas of which no value was saved."""
    return [
        f"{name}!{cell.coordinate}"
        for name in names
        for row in formulas[name].iter_rows()
        for cell in row
        if formula_of(cell.value) is not None and values[name][cell.coordinate].value is None
    ]


def _csv(rows: list[list[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([["" if value is None else value for value in row] for row in rows])
    return text.getvalue().rstrip("\n")
