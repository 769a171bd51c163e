#!/usr/bin/env python3
"""Read, make, edit and check Excel workbooks (.xlsx). Each command has --help."""

from __future__ import annotations

import argparse

import command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sheet.py", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _readers(commands)
    _writers(commands)
    return parser


def _add(commands: argparse._SubParsersAction, name: str, run: str, text: str, *words: str) -> argparse.ArgumentParser:
    sub = commands.add_parser(name, help=text, description=text)
    sub.set_defaults(run=run)
    for word in words:
        sub.add_argument(word)
    return sub


def _readers(commands: argparse._SubParsersAction) -> None:
    _add(commands, "info", "sheet_read:info", "Sheets, sizes, formulas, tables, charts and names, as JSON.", "file")
    read = _add(commands, "read", "sheet_read:read", "Print cells.", "file")
    read.add_argument("--sheet", help="name of the sheet; the first without it")
    read.add_argument("--range", help="such as A1:D20; all that is used without it")
    read.add_argument(
        "--as",
        dest="form",
        choices=("csv", "json", "records"),
        default="csv",
        help="records: the first row names the keys",
    )
    read.add_argument(
        "--formulas", action="store_true", help="formulas instead of the values that were saved with them"
    )
    read.add_argument("--max-rows", type=int, default=1000)
    check = _add(
        commands, "check", "sheet_check:check", "Look for errors in formulas and data. Ends with 1 if any.", "file"
    )
    check.add_argument("--calculate", action="store_true", help="calculate with LibreOffice first, where there is one")


def _writers(commands: argparse._SubParsersAction) -> None:
    text = "Make a workbook, or with --update change one, from a JSON description (- is stdin)."
    write = _add(commands, "write", "sheet_write:write", text, "out", "spec")
    write.add_argument("--update", metavar="FILE", help="start from this workbook and keep the rest of it")
    setter = _add(commands, "set", "sheet_write:set_cells", "Set single cells and keep the rest.", "file", "out")
    text = "like B2 or 'Sheet 2'!B2; numbers, 2026-05-03, true and =formulas are understood; a leading ' makes a text"
    setter.add_argument("--cell", nargs=2, action="append", required=True, metavar=("CELL", "VALUE"), help=text)
    setter.add_argument("--text", action="store_true", help="take all values as texts")
    table = _add(commands, "from-csv", "sheet_write:from_csv", "Make a sheet of a CSV file.", "csv", "out")
    table.add_argument("--sheet", default="Sheet1")
    table.add_argument("--delimiter", help="found out without it")
    table.add_argument(
        "--text", action="store_true", help="keep all values as texts: ids with leading zeros, for example"
    )
    table.add_argument("--update", metavar="FILE", help="add the sheet to this workbook")
    text = "Calculate all formulas with LibreOffice, where there is one, and save the values."
    _add(commands, "calculate", "sheet_check:calculate", text, "file", "out")


if __name__ == "__main__":
    command.run(_parser())
