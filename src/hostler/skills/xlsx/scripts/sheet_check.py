"""Looks for what is wrong with the formulas and the data of a workbook before it is handed over."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
from collections.abc import Iterator

from command import show_json, source, to_format, written
from openpyxl import Workbook
from openpyxl.formula import Tokenizer
from openpyxl.formula.tokenizer import Token
from openpyxl.utils import FORMULAE
from sheet_read import ENDINGS, formula_of, opened, uncalculated

_ERRORS = ("#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#N/A", "#NUM!", "#NULL!", "#SPILL!", "#CALC!")
_SHEET = re.compile(r"(?:'((?:[^']|'')+)'|([A-Za-z0-9_.]+))!")
_CELL = re.compile(r"\$?([A-Z]{1,3})\$?(\d{1,7})")
# Known to Excel since 2010 and later; in a file they need this prefix, else Excel shows #NAME?.
_PREFIXED = frozenset(
    "XLOOKUP XMATCH FILTER SORT SORTBY UNIQUE SEQUENCE LET LAMBDA IFS SWITCH MAXIFS MINIFS TEXTJOIN CONCAT IFNA DAYS "
    "STDEV.S STDEV.P VAR.S VAR.P PERCENTILE.INC PERCENTILE.EXC QUARTILE.INC RANK.EQ RANK.AVG MODE.SNGL NUMBERVALUE "
    "TEXTBEFORE TEXTAFTER TEXTSPLIT VSTACK HSTACK TAKE DROP CHOOSECOLS CHOOSEROWS TOCOL TOROW XOR".split()
)


def calculate(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder, written(arguments.out) as half:
        shutil.copyfile(to_format(source(arguments.file, *ENDINGS), "xlsx", folder), half)
    print(arguments.out)


def check(arguments: argparse.Namespace) -> int:
    path = arguments.file
    with tempfile.TemporaryDirectory() as folder:
        if arguments.calculate:
            path = str(to_format(source(path, *ENDINGS), "xlsx", folder))
        formulas, values = opened(path), opened(path, values=True)
    names = [sheet.title for sheet in formulas.worksheets]
    problems = [*_formula_problems(formulas), *_value_problems(values), *_text_numbers(formulas)]
    missing = uncalculated(formulas, values, names)
    counted = sum(formula_of(c.value) is not None for s in formulas.worksheets for row in s.iter_rows() for c in row)
    answer: dict[str, object] = {"ok": not problems, "formulas": counted, "without_value": len(missing)}
    if missing:
        answer["note"] = (
            "Formulas without a value are calculated by the program that opens the file; here they were only read."
        )
    show_json(answer | {"problems": problems[:100]})
    return 1 if problems else 0


def _cells(book: Workbook) -> Iterator[tuple[str, object, str]]:
    for sheet in book.worksheets:
        for row in sheet.iter_rows():
            for cell in row:
                if (formula := formula_of(cell.value)) is not None:
                    yield f"{sheet.title}!{cell.coordinate}", cell, formula


def _formula_problems(book: Workbook) -> Iterator[str]:
    names = {name.upper() for name in book.sheetnames}
    for place, cell, formula in _cells(book):
        if any(error in formula for error in _ERRORS[:1]):
            yield f"{place}: refers to cells that are gone: {formula}"
        try:
            tokens = Tokenizer(formula).items
        except Exception:
            yield f"{place}: cannot be read as a formula: {formula}"
            continue
        if formula.count("(") != formula.count(")") and '"' not in formula:
            yield f"{place}: its parentheses do not match: {formula}"
        for token in tokens:
            yield from (f"{place}: {problem}" for problem in _token_problems(token, cell, names))


def _token_problems(token: Token, cell: object, names: set[str]) -> Iterator[str]:
    if token.type == Token.FUNC and token.subtype == Token.OPEN:
        name = token.value[:-1].upper()
        if name in _PREFIXED:
            yield f"{name} must be written as _xlfn.{name} in a file, else it shows #NAME?"
        elif not name.startswith("_XLFN.") and name not in FORMULAE and "!" not in name:
            yield f"{name} is no function that Excel knows"
    if token.type == Token.OPERAND and token.subtype == Token.RANGE:
        found = _SHEET.match(token.value)
        sheet = (found[1] or found[2]).replace("''", "'") if found else ""
        if sheet and sheet.upper() not in names and "[" not in token.value:
            yield f"refers to the sheet {sheet!r}, which does not exist"
        own = cell.parent.title  # type: ignore[attr-defined]
        if (not sheet or sheet == own) and _covers(token.value.rpartition("!")[2], cell):
            yield f"refers to itself through {token.value}"


def _covers(area: str, cell: object) -> bool:
    from openpyxl.utils import range_boundaries

    if not _CELL.search(area):
        return False
    try:
        left, top, right, bottom = range_boundaries(area)
    except (ValueError, TypeError):
        return False
    row, column = cell.row, cell.column  # type: ignore[attr-defined]
    return bool(left and top and right and bottom) and left <= column <= right and top <= row <= bottom


def _value_problems(book: Workbook) -> Iterator[str]:
    for sheet in book.worksheets:
        for row in sheet.iter_rows():
            for cell in row:
                if isinstance(cell.value, str) and cell.value in _ERRORS:
                    yield f"{sheet.title}!{cell.coordinate}: the saved value is {cell.value}"


def _text_numbers(book: Workbook) -> Iterator[str]:
    """Columns of numbers in which some are texts: sums leave those out."""
    for sheet in book.worksheets:
        for column in sheet.iter_cols(min_row=2):
            values = [cell for cell in column if cell.value is not None]
            numbers = [cell for cell in values if isinstance(cell.value, int | float)]
            texts = [c for c in values if isinstance(c.value, str) and re.fullmatch(r"\s*-?[\d.,]*\d\s*%?", c.value)]
            if texts and len(numbers) >= len(texts):
                yield f"{sheet.title}!{texts[0].coordinate}: the text {texts[0].value!r} among numbers counts in no sum"
