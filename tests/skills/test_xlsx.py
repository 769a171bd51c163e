"""The xlsx skill's program, judged by what openpyxl finds in its files afterwards."""

from __future__ import annotations

import datetime
import io
import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from openpyxl.worksheet.formula import ArrayFormula
from PIL import Image

from skills.program import Program

SPEC: dict[str, Any] = {
    "sheets": [
        {
            "name": "Sales",
            "header": True,
            "rows": [
                ["Month", "Date", "Units", "Price", "Total"],
                ["Jan", "2026-01-31", 10, 2.5, "=C2*D2"],
                ["Feb", "2026-02-28T10:30", 20, 2.5, "=C3*D3"],
            ],
            "cells": {"A4": "Sum", "E4": "=SUM(E2:E3)"},
            "formats": {"D2:E4": "#,##0.00"},
            "styles": {"A4:E4": {"bold": True, "border": True, "fill": "EEEEEE", "align": "right"}},
            "table": {"name": "T1", "range": "A1:E3"},
            "merge": ["A6:B6"],
            "widths": {"A": 20},
            "rules": [
                {"range": "C2:C3", "when": "<15"},
                {"range": "E2:E3", "when": "scale"},
                {"range": "A2:A3", "when": "=C2>1"},
            ],
            "choices": {"A2:A3": ["Jan", "Feb"]},
            "charts": [
                {
                    "type": "column",
                    "title": "Units",
                    "values": ["C1:C3"],
                    "categories": "A2:A3",
                    "at": "G2",
                    "stacked": True,
                },
                {"type": "scatter", "values": "E1:E3", "categories": "C2:C3", "at": "G20"},
            ],
        },
        {"name": "Sum up", "cells": {"A1": "Total", "B1": "=Sales!E4", "B2": "='Sum up'!B1*2"}, "hidden": True},
    ]
}


@pytest.fixture
def sheet(tmp_path: Path) -> Program:
    program = Program("xlsx", tmp_path)
    program.write("spec.json", SPEC)
    return program


def opened(sheet: Program, name: str) -> Any:
    return openpyxl.load_workbook(sheet.folder / name)


def test_a_workbook_from_a_description(sheet: Program) -> None:
    sheet("write", "a.xlsx", "spec.json")
    book = opened(sheet, "a.xlsx")
    sales = book["Sales"]
    assert sales["E2"].value == "=C2*D2"
    assert sales["B2"].value == datetime.datetime(2026, 1, 31)
    assert sales["B2"].number_format == "yyyy-mm-dd"
    assert sales["B3"].value == datetime.datetime(2026, 2, 28, 10, 30)
    assert sales["E4"].number_format == "#,##0.00"
    assert sales["A1"].font.bold
    assert sales["A4"].border.top.style == "thin"
    assert sales["A4"].fill.fgColor.rgb == "00EEEEEE"
    assert sales.freeze_panes == "A2"
    assert dict(sales.tables.items()) == {"T1": "A1:E3"}
    assert sales.column_dimensions["A"].width == 20
    assert len(sales._charts) == 2
    assert [str(area) for area in sales.merged_cells.ranges] == ["A6:B6"]
    assert len(sales.conditional_formatting) == 3
    assert sales.data_validations.dataValidation[0].formula1 == '"Jan,Feb"'
    assert book["Sum up"].sheet_state == "hidden"
    assert book.calculation.fullCalcOnLoad
    assert sheet.problems("a.xlsx") == []


def test_reading(sheet: Program) -> None:
    sheet("write", "a.xlsx", "spec.json")
    done = sheet.run("read", "a.xlsx", "--range", "A1:C3")
    assert done.stdout == "Month,Date,Units\nJan,2026-01-31,10\nFeb,2026-02-28T10:30:00,20\n"
    assert "3 formulas have no value yet" in done.stderr
    assert sheet.json("read", "a.xlsx", "--as", "records", "--formulas", "--range", "A1:E2") == [
        {"Month": "Jan", "Date": "2026-01-31", "Units": 10, "Price": 2.5, "Total": "=C2*D2"}
    ]
    assert sheet.json("read", "a.xlsx", "--sheet", "Sum up", "--as", "json", "--formulas") == [
        ["Total", "=Sales!E4"],
        [None, "='Sum up'!B1*2"],
    ]
    limited = sheet.run("read", "a.xlsx", "--max-rows", 2)
    assert len(limited.stdout.splitlines()) == 2
    assert "2 of 6 rows" in limited.stderr
    first, second = sheet.json("info", "a.xlsx")["sheets"]
    assert (first["used"], first["formulas"], first["charts"], first["tables"]) == ("A1:E6", 3, 2, {"T1": "A1:E3"})
    assert second["state"] == "hidden"
    assert "there are: Sales, Sum up" in sheet.refusal("read", "a.xlsx", "--sheet", "Nope")
    assert "not a range" in sheet.refusal("read", "a.xlsx", "--range", "foo")


def test_updating_keeps_the_rest(sheet: Program) -> None:
    sheet("write", "a.xlsx", "spec.json")
    book = opened(sheet, "a.xlsx")
    picture = io.BytesIO()
    Image.new("RGB", (10, 10)).save(picture, "png")
    book["Sales"].add_image(openpyxl.drawing.image.Image(picture), "K1")
    book.save(sheet.folder / "a.xlsx")
    more = {"sheets": [{"name": "Sales", "cells": {"C2": 99}}, {"name": "New", "rows": [[1]], "start": "B2"}]}
    sheet("write", "b.xlsx", "-", "--update", "a.xlsx", stdin=json.dumps(more))
    sheet("set", "b.xlsx", "c.xlsx", "--cell", "'Sum up'!C1", "=B1+1", "--cell", "D2", "3.5%", "--cell", "A2", "'007",
          "--cell", "B2", "2026-05-03", "--cell", "A3", "true")  # fmt: skip
    made = opened(sheet, "c.xlsx")
    sales = made["Sales"]
    assert (sales["C2"].value, sales["E4"].value, sales["D2"].value) == (99, "=SUM(E2:E3)", 0.035)
    assert (sales["A2"].value, sales["A3"].value) == ("007", True)
    assert sales["B2"].value == datetime.datetime(2026, 5, 3)
    assert made["New"]["B2"].value == 1
    assert made["Sum up"]["C1"].value == "=B1+1"
    assert (len(sales._charts), len(sales._images)) == (2, 1)
    assert sheet.json("info", "c.xlsx")["sheets"][0]["pictures"] == 1


def test_csv_becomes_a_sheet_and_its_formulas_stay_texts(sheet: Program) -> None:
    text = "id;amount;note\n007;1.5;=2+2\n8;-3;2026-01-02\n"
    sheet("from-csv", "-", "a.xlsx", "--sheet", "Data", stdin=text)
    data = opened(sheet, "a.xlsx")["Data"]
    rows = [[cell.value for cell in row] for row in data.iter_rows()]
    assert rows == [["id", "amount", "note"], ["007", 1.5, "=2+2"], [8, -3, datetime.datetime(2026, 1, 2)]]
    assert data["C2"].data_type == "s"
    sheet("from-csv", "-", "b.xlsx", "--sheet", "Text", "--text", "--update", "a.xlsx", stdin=text)
    assert opened(sheet, "b.xlsx")["Text"]["A3"].value == "8"
    assert "already" in sheet.refusal("from-csv", "-", "c.xlsx", "--sheet", "Data", "--update", "a.xlsx", stdin=text)


def test_errors_are_found(sheet: Program) -> None:
    book = openpyxl.Workbook()
    page = book.active
    page.title = "S"
    page.append(["n", "f"])
    for value in (1, 2, "3", 4):
        page.append([value])
    page["B2"], page["B3"], page["B4"] = "=XLOOKUP(1,A1:A2,A1:A2)", "=Nope!A1+1", "=SUM(B2:B4)"
    page["B5"], page["B6"], page["B7"] = "=SUM(#REF!)", "=SUMM(A1)", "#DIV/0!"
    page["C1"] = ArrayFormula("C1:C2", "=_xlfn.UNIQUE(A1:A2)")
    book.save(sheet.folder / "a.xlsx")
    found = sheet.problems("a.xlsx")
    for part in ("B2: XLOOKUP must be written as _xlfn.XLOOKUP", "B3: refers to the sheet 'Nope'",
                 "B4: refers to itself", "B5: refers to cells that are gone", "B6: SUMM is no function",
                 "B7: the saved value is #DIV/0!",
                 "A4: the text '3' among numbers"):  # fmt: skip
        assert any(part in problem for problem in found), part
    assert not any("C1" in problem for problem in found)


def test_wrong_descriptions_are_refused(sheet: Program) -> None:
    wrong: dict[str, Any] = {
        "unknown key 'row'": {"row": []},
        "cannot name a sheet": {"name": "a/b"},
        "a list of lists": {"rows": [1]},
        "a cell cannot hold": {"rows": [[{}]]},
        "unknown style 'bald'": {"styles": {"A1": {"bald": True}}},
        'a chart needs "type"': {"charts": [{"type": "cake", "values": "A1:A2"}]},
        "sheet that does not exist": {"charts": [{"type": "pie", "values": "No!A1:A2"}]},
        'a rule needs "when"': {"rules": [{"range": "A1", "when": "often"}]},
        "SKILL.md": {"formats": "0.00"},
    }
    for said, part in wrong.items():
        sheet.write("bad.json", {"sheets": [part]})
        assert said in sheet.refusal("write", "a.xlsx", "bad.json")
    sheet.write("bad.json", "{")
    assert "not valid JSON" in sheet.refusal("write", "a.xlsx", "bad.json")
    assert "expected {" in sheet.refusal("write", "a.xlsx", "-", stdin="[]")
    assert "must end in .xlsx" in sheet.refusal("write", "a.xls", "spec.json")
    assert not (sheet.folder / "a.xlsx").exists()


def test_calculating_uses_libreoffice_where_there_is_one(sheet: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in takes its command line: it saves a workbook with values, as LibreOffice would."""
    sheet("write", "a.xlsx", "spec.json")
    tools = sheet.folder / "tools"
    tools.mkdir()
    (tools / "python3").symlink_to(shutil.which("python3") or "/usr/bin/python3")
    monkeypatch.setenv("PATH", str(tools))
    assert "not installed" in sheet.refusal("calculate", "a.xlsx", "b.xlsx")
    book = openpyxl.Workbook()
    book.active["A1"] = "#VALUE!"
    book.save(sheet.folder / "made.xlsx")
    program = tools / "soffice"
    script = f'#!/bin/sh\nwhile [ "$1" != --outdir ]; do shift; done\n/bin/cp {sheet.folder}/made.xlsx "$2/a.xlsx"\n'
    program.write_text(script)
    program.chmod(stat.S_IRWXU)
    sheet("calculate", "a.xlsx", "b.xlsx")
    assert (sheet.folder / "b.xlsx").read_bytes() == (sheet.folder / "made.xlsx").read_bytes()
    assert any("#VALUE!" in problem for problem in sheet.problems("a.xlsx", "--calculate"))
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    assert "could not convert" in sheet.refusal("calculate", "a.xlsx", "c.xlsx")
    assert not os.path.exists(sheet.folder / "c.xlsx")
