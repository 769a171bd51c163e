"""Makes and changes workbooks: values, formulas, formats, tables, charts."""

from __future__ import annotations

import argparse
import csv
import datetime
import re
from collections.abc import Callable
from pathlib import Path

from command import Problem, json_of, text_of, written
from openpyxl import Workbook
from openpyxl.formatting.rule import CellIsRule, ColorScaleRule, FormulaRule
from openpyxl.styles import Alignment, Border, Font, PatternFill, Side
from openpyxl.utils import get_column_letter
from openpyxl.worksheet.datavalidation import DataValidation
from openpyxl.worksheet.table import Table, TableStyleInfo
from openpyxl.worksheet.worksheet import Worksheet
from sheet_chart import add_chart
from sheet_read import formula_of, opened, sheet_of

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2})?)?")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?%?")
_CELL = re.compile(r"(?:(?:'([^']+)'|([^'!]+))!)?(\$?[A-Za-z]{1,3}\$?\d{1,7})")
_WIDEST = 60
_KEYS = frozenset(
    "name rows cells start header widths formats styles freeze filter table merge charts rules choices hidden".split()
)


def write(arguments: argparse.Namespace) -> None:
    spec = json_of(arguments.spec)
    sheets = spec.get("sheets") if isinstance(spec, dict) else None
    if not isinstance(sheets, list) or not sheets or not all(isinstance(sheet, dict) for sheet in sheets):
        raise Problem(f'{arguments.spec}: expected {{"sheets": [{{"name": ..., "rows": [[...]]}}, ...]}}')
    book = opened(arguments.update) if arguments.update else _empty()
    for number, part in enumerate(sheets, start=1):
        _write_sheet(book, part, str(part.get("name") or f"Sheet{number}"))
    _save(book, arguments.out)


def _empty() -> Workbook:
    book = Workbook()
    del book[book.sheetnames[0]]
    return book


def _save(book: Workbook, out: str) -> None:
    wanted = ".xlsm" if book.vba_archive else ".xlsx"
    if Path(out).suffix.lower() != wanted:
        raise Problem(f"{out}: the name must end in {wanted}")
    book.calculation.fullCalcOnLoad = True  # whoever opens it calculates: there are no values of formulas in it
    with written(out) as half:
        book.save(half)
    print(out)


def _write_sheet(book: Workbook, part: dict, name: str) -> None:
    if unknown := set(part) - _KEYS:
        raise Problem(f"sheet {name!r}: unknown key {min(unknown)!r}; known are {', '.join(sorted(_KEYS))}")
    if len(name) > 31 or re.search(r"[\[\]:*?/\\]", name):
        raise Problem(f"{name!r} cannot name a sheet: at most 31 characters, none of []:*?/\\")
    sheet = sheet_of(book, name) if name in book.sheetnames else book.create_sheet(name)
    rows = part.get("rows", [])
    if not all(isinstance(row, list) for row in rows):
        raise Problem(f"sheet {name!r}: `rows` must be a list of lists")
    first = sheet[part.get("start", "A1")]
    for down, row in enumerate(rows):
        for right, given in enumerate(row):
            if given is not None:
                put(sheet.cell(first.row + down, first.column + right), given)
    for place, given in part.get("cells", {}).items():
        put(sheet[place], given)
    steps: dict[str, Callable[[], None]] = {
        "header": lambda: _header(sheet, first, rows),
        "formats": lambda: _each(sheet, part["formats"], lambda cell, code: setattr(cell, "number_format", code)),
        "styles": lambda: _each(sheet, part["styles"], _style),
        "merge": lambda: [sheet.merge_cells(area) for area in part["merge"]] and None,
        "freeze": lambda: setattr(sheet, "freeze_panes", part["freeze"]),
        "filter": lambda: setattr(sheet.auto_filter, "ref", part["filter"]),
        "table": lambda: _table(sheet, part["table"]),
        "rules": lambda: [_rule(sheet, rule) for rule in part["rules"]] and None,
        "choices": lambda: _choices(sheet, part["choices"]),
        "charts": lambda: [add_chart(book, sheet, chart) for chart in part["charts"]] and None,
        "hidden": lambda: setattr(sheet, "sheet_state", "hidden" if part["hidden"] else "visible"),
    }
    for key, step in steps.items():
        if part.get(key):
            step()
    _widths(sheet, part.get("widths"))


def put(cell: object, given: object) -> None:
    """Give a cell a value as JSON has it: a text like a date becomes one, one that begins with = a formula."""
    if isinstance(given, str) and _DATE.fullmatch(given):
        value: object = datetime.datetime.fromisoformat(given)
        cell.value, cell.number_format = value, "yyyy-mm-dd hh:mm" if len(given) > 10 else "yyyy-mm-dd"  # type: ignore[attr-defined]
    elif isinstance(given, str | int | float | bool) or given is None:
        cell.value = given  # type: ignore[attr-defined]
    else:
        raise Problem(f"a cell cannot hold {given!r}; use texts, numbers, true, false or null")


def _each(sheet: Worksheet, areas: dict, act: Callable) -> None:
    """Do something to each cell of the areas: `B2`, `B2:B9`, or a whole column `B:B` as far as it is used."""
    for area, what in areas.items():
        found = sheet[area]
        rows = found if isinstance(found, tuple) else ((found,),)
        for row in rows:
            for cell in row if isinstance(row, tuple) else (row,):
                act(cell, what)


def _style(cell: object, look: dict) -> None:
    known = {"bold", "italic", "color", "size", "fill", "align", "wrap", "border"}
    if unknown := set(look) - known:
        raise Problem(f"unknown style {min(unknown)!r}; known are {', '.join(sorted(known))}")
    font = cell.font  # type: ignore[attr-defined]
    cell.font = Font(  # type: ignore[attr-defined]
        name=font.name,
        size=look.get("size", font.size),
        bold=look.get("bold", font.bold),
        italic=look.get("italic", font.italic),
        color=look.get("color", font.color),
    )
    if "fill" in look:
        cell.fill = PatternFill("solid", fgColor=look["fill"])  # type: ignore[attr-defined]
    if "align" in look or "wrap" in look:
        cell.alignment = Alignment(  # type: ignore[attr-defined]
            horizontal=look.get("align"), wrap_text=look.get("wrap"), vertical="top" if look.get("wrap") else None
        )
    if look.get("border"):
        side = Side(style=look["border"] if isinstance(look["border"], str) else "thin")
        cell.border = Border(left=side, right=side, top=side, bottom=side)  # type: ignore[attr-defined]


def _header(sheet: Worksheet, first: object, rows: list) -> None:
    row, column = first.row, first.column  # type: ignore[attr-defined]
    for right in range(len(rows[0]) if rows else 0):
        _style(sheet.cell(row, column + right), {"bold": True, "fill": "D9E2F3", "wrap": True})
    sheet.freeze_panes = sheet.cell(row + 1, 1)


def _table(sheet: Worksheet, given: dict) -> None:
    name = given.get("name", "Table1")
    table = Table(displayName=name, ref=given["range"])
    table.tableStyleInfo = TableStyleInfo(name=given.get("style", "TableStyleMedium2"), showRowStripes=True)
    if name in sheet.tables:
        del sheet.tables[name]
    sheet.add_table(table)


def _rule(sheet: Worksheet, given: dict) -> None:
    """A conditional format: {"range", "when": "<0" or "=formula" or "scale", "fill", "color"}."""
    when = str(given.get("when", ""))
    look = {
        "fill": PatternFill("solid", bgColor=given.get("fill", "FFC7CE")),
        "font": Font(color=given.get("color", "9C0006")),
    }
    compared = re.fullmatch(r"(<=|>=|<>|<|>|==)\s*(.+)", when)
    if when == "scale":
        kinds = {"start_type": "min", "start_color": "F8696B", "end_type": "max", "end_color": "63BE7B"}
        rule = ColorScaleRule(mid_type="percentile", mid_value=50, mid_color="FFEB84", **kinds)
    elif compared:
        operators = {"<": "lessThan", ">": "greaterThan", "<=": "lessThanOrEqual", ">=": "greaterThanOrEqual"}
        operator = operators.get(compared[1], "equal" if compared[1] == "==" else "notEqual")
        rule = CellIsRule(operator=operator, formula=[compared[2]], **look)
    elif when.startswith("="):
        rule = FormulaRule(formula=[when[1:]], **look)
    else:
        raise Problem(f'a rule needs "when": "<0", "=B2>C2" or "scale", not {when!r}')
    sheet.conditional_formatting.add(given["range"], rule)


def _choices(sheet: Worksheet, given: dict) -> None:
    """Drop-down lists: range -> a list of values, or a formula like =Lists!$A$1:$A$9."""
    for area, values in given.items():
        formula = values if isinstance(values, str) else '"' + ",".join(map(str, values)) + '"'
        if len(formula) > 255 and not isinstance(values, str):
            raise Problem(f"the choices of {area} are too long for a list; put them into cells and name their range")
        validation = DataValidation(type="list", formula1=formula.removeprefix("="), allow_blank=True)
        validation.add(area)
        sheet.add_data_validation(validation)


def _widths(sheet: Worksheet, given: dict | None) -> None:
    """As given, else wide enough for what is in the columns that have no width yet."""
    given = given or {}
    for column in sheet.iter_cols(max_row=min(sheet.max_row, 200)):
        letter = get_column_letter(column[0].column)
        if letter in given or letter in sheet.column_dimensions:
            continue
        longest = max(
            (len(str(cell.value)) for cell in column if cell.value is not None and not formula_of(cell.value)),
            default=8,
        )
        sheet.column_dimensions[letter].width = min(max(longest + 2, 10), _WIDEST)
    for letter, width in given.items():
        sheet.column_dimensions[letter].width = width


def value_of(text: str) -> object:
    """What a text stands for, as a person would type it into a cell. Numbers with leading zeros stay texts."""
    if text.startswith("'"):
        return text[1:]
    plain = text.strip()
    if plain.lower() in ("true", "false"):
        return plain.lower() == "true"
    if _NUMBER.fullmatch(plain) and not re.match(r"[-+]?0\d", plain) and len(plain) < 16:
        if plain.endswith("%"):
            return float(plain[:-1]) / 100
        return float(plain) if re.search(r"[.eE]", plain) else int(plain)
    return text


def set_cells(arguments: argparse.Namespace) -> None:
    book = opened(arguments.file)
    for place, text in arguments.cell:
        match = _CELL.fullmatch(place)
        if match is None:
            raise Problem(f"{place!r} is not a cell like B2 or 'Sheet 2'!B2")
        cell = sheet_of(book, match[1] or match[2])[match[3].replace("$", "")]
        if arguments.text:
            cell.value, cell.data_type = text, "s"
        else:
            put(cell, value_of(text))
    _save(book, arguments.out)


def from_csv(arguments: argparse.Namespace) -> None:
    text = text_of(arguments.csv)
    try:
        dialect = csv.Sniffer().sniff(text[:10_000], ",;\t|")
        delimiter = arguments.delimiter or dialect.delimiter
    except csv.Error:
        delimiter = arguments.delimiter or ","
    rows = list(csv.reader(text.splitlines(), delimiter=delimiter))
    book = opened(arguments.update) if arguments.update else _empty()
    if arguments.sheet in book.sheetnames:
        raise Problem(f"there is a sheet {arguments.sheet!r} already; choose another name with --sheet")
    sheet = book.create_sheet(arguments.sheet)
    for down, row in enumerate(rows, start=1):
        for right, given in enumerate(row, start=1):
            cell = sheet.cell(down, right)
            if arguments.text or given.startswith("="):  # data from elsewhere is never a formula
                cell.value, cell.data_type = given, "s"
            elif given:
                put(cell, value_of(given))
    if rows:
        _header(sheet, sheet["A1"], rows)
    _widths(sheet, None)
    _save(book, arguments.out)
