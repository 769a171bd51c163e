"""The judge of handover documents: a right one passes, and each single fault of one is found."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from docx import Document

import hostler.models
from reference import periods
from reference.handover import problems

PROGRAM = Path(hostler.models.__file__).parent / "scripts" / "handover.py"
Json = dict[str, Any]


def made(message: str, folder: Path) -> tuple[str, bytes, str]:
    """What the scripted model's program makes of a first message: the file's name and content, and the last word."""
    (folder / "period.json").write_text(message)
    command = [sys.executable, "-B", str(PROGRAM), str(folder / "period.json"), str(folder / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    (file,) = (folder / "out").iterdir()
    return file.name, file.read_bytes(), done.stdout.strip()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, str]:
    return made(periods.sample(), tmp_path_factory.mktemp("whole"))


def lacking(summary: Json) -> None:
    """A period of which much is missing, and what there is contradicts itself."""
    for key in ("documents", "prior_period", "prepared_at_iso"):
        del summary[key]
    del summary["entity"]["name"]
    del summary["checks"]["bank_reconciles"]
    del summary["tb"]["opening_total"]
    summary["tb"]["total_debits"] = periods.Number("4900985.51")
    summary["journal_proposal"]["lines"] = []


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes, str]:
    return made(periods.sample(lacking), tmp_path_factory.mktemp("partial"))


def test_right_documents_pass(whole: tuple[str, bytes, str], partial: tuple[str, bytes, str]) -> None:
    assert problems(periods.sample(), *whole) == []
    assert problems(periods.sample(lacking), *partial) == []


def heading(document: Any, number: int) -> Any:
    return [each for each in document.paragraphs if each.style.name == "Heading 1"][number - 1]


def below(document: Any, number: int) -> list[Any]:
    """The paragraphs of a section."""
    heads = [*(heading(document, each)._p for each in range(1, 9)), None]
    found = list(document.paragraphs)
    places = [[each._p for each in found].index(head) for head in heads[number - 1 : number + 1] if head is not None]
    return found[places[0] + 1 : places[1] if len(places) == 2 else None]


def cell(document: Any, table: int, row: int, column: int) -> Any:
    return document.tables[table].rows[row].cells[column]


def put(table: int, row: int, column: int, text: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        assert cell(document, table, row, column).text != text
        cell(document, table, row, column).text = text

    return change


def drop_row(table: int, row: int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        element = document.tables[table].rows[row]._tr
        element.getparent().remove(element)

    return change


def repeat_row(table: int, row: int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        element = document.tables[table].rows[row]._tr
        element.addnext(deepcopy(element))

    return change


def swap_rows(table: int, row: int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        rows = document.tables[table].rows
        rows[row + 1]._tr.addnext(rows[row]._tr)

    return change


def drop_table(table: int) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        element = document.tables[table]._tbl
        element.getparent().remove(element)

    return change


def say(section: int, text: str) -> Callable[[Any], None]:
    """Nothing else but this."""

    def change(document: Any) -> None:
        first, *others = below(document, section)
        assert others or first.text != text
        first.text = text
        for other in others:
            other._p.getparent().remove(other._p)

    return change


def add(section: int, text: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        below(document, section)[0].add_run(f" {text}")

    return change


def rename(number: int, text: str) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        heading(document, number).text = text

    return change


def restyle(document: Any) -> None:
    heading(document, 3).style = "Heading 2"


def drop_heading(document: Any) -> None:
    element = heading(document, 4)._p
    element.getparent().remove(element)


def swap_headings(document: Any) -> None:
    first, second = heading(document, 5), heading(document, 6)
    first.text, second.text = second.text, first.text


def one_heading_more(document: Any) -> None:
    document.add_heading("9. Appendix", 1)


# Tables of the sample: 0 head, 1 totals, 2 accounts, 3 log, 4 variances, 5 checks, 6 documents, 7 sign-off.
FAULTS: dict[str, Callable[[Any], None]] = {
    "the title names another": lambda document: setattr(
        document.paragraphs[0], "text", "Audit handover: Else, 2026-03"
    ),
    "the period is another": put(0, 2, 1, "2026-04"),
    "the currency is missing": put(0, 3, 1, ""),
    "a heading is missing": drop_heading,
    "headings are swapped": swap_headings,
    "a heading has no number": rename(2, "Trial balance summary"),
    "a heading has another title": rename(4, "4. Variances"),
    "a heading is no heading": restyle,
    "a section too many": one_heading_more,
    "the summary is empty": say(1, ""),
    "the summary leaves out a check": say(1, "The trial balance balances. The journal balances. All is well."),
    "the summary leaves out the journal": say(1, "The trial balance balances. Bank against rent roll is a warning."),
    "an invented number": add(1, "Costs fell by £1,234.56."),
    "an estimate": add(6, "About 12.5 per cent is open."),
    "the first person": add(1, "We recommend to look into it."),
    "a total is another": put(1, 1, 2, "£4,900,985.51"),
    "a total is rounded": put(1, 1, 0, "£4,862,150"),
    "an account's amount": put(2, 3, 2, "£196,285.05"),
    "one decimal": put(2, 3, 2, "£196,285.5"),
    "three decimals": put(2, 3, 2, "£196,285.500"),
    "no thousands separator": put(2, 3, 2, "£196285.50"),
    "no currency": put(2, 3, 2, "196,285.50"),
    "another currency": put(2, 3, 2, "€196,285.50"),
    "debit and credit swapped": lambda document: (put(2, 5, 2, "£9,150.00")(document), put(2, 5, 3, "£0.00")(document)),
    "an account's name": put(2, 2, 1, "Rent"),
    "an account's code": put(2, 2, 0, "1101"),
    "an account is missing": drop_row(2, 4),
    "accounts in another order": swap_rows(2, 4),
    "accounts are missing": drop_table(2),
    "a journal line is missing": drop_row(3, 2),
    "a journal line twice": repeat_row(3, 2),
    "journal lines in another order": swap_rows(3, 2),
    "a line's description": put(3, 1, 1, "Rent"),
    "no row of totals": drop_row(3, 7),
    "a total of the journal": put(3, 7, 2, "£43,800.01"),
    "a variance is missing": drop_row(4, 3),
    "a variance is wrong": put(4, 3, 3, "£800.00"),
    "a reconciliation is missing": drop_row(5, 2),
    "a reconciliation too many": repeat_row(5, 2),
    "a reconciliation's status": put(5, 4, 1, "pass"),
    "a reconciliation's detail": put(5, 1, 2, ""),
    "a reconciliation's name": put(5, 1, 0, "Journal"),
    "an open item is left out": say(6, "There are no exceptions."),
    "nothing is said of open items": say(6, ""),
    "a document is missing": drop_row(6, 1),
    "a document's reference": put(6, 1, 2, "Not available"),
    "documents are missing": drop_table(6),
    "somebody has signed": put(7, 1, 1, "A. Preparer"),
    "nobody is to sign": drop_table(7),
}


def saved(content: bytes, change: Callable[[Any], None]) -> bytes:
    document = Document(io.BytesIO(content))
    change(document)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(whole: tuple[str, bytes, str], fault: str) -> None:
    name, content, said = whole
    assert problems(periods.sample(), name, saved(content, FAULTS[fault]), said), fault


# Of the partial period: 0 head, 1 totals, 2 accounts, 3 checks, 4 sign-off.
GAPS: dict[str, Callable[[Any], None]] = {
    "a missing total is zero": put(1, 1, 0, "£0.00"),
    "a missing total is nothing": put(1, 1, 0, ""),
    "a missing time is invented": put(0, 4, 1, "2026-04-01T00:00:00Z"),
    "a missing check has passed": put(3, 3, 1, "pass"),
    "a missing check is left out": drop_row(3, 3),
    "a missing detail is invented": put(3, 3, 2, "Reconciled."),
    "an empty log says nothing": say(3, ""),
    "an empty log says something else": say(3, "Nothing to report."),
    "no prior period says nothing": say(4, ""),
    "no documents says nothing": say(7, ""),
    "the difference is left out": say(6, "Closing trial balance balanced: fail. Bank reconciles: not run."),
    "the input is corrected": put(1, 1, 2, "£4,900,985.50"),
}


@pytest.mark.parametrize("gap", GAPS)
def test_what_is_missing_is_said_to_be(partial: tuple[str, bytes, str], gap: str) -> None:
    name, content, said = partial
    assert problems(periods.sample(lacking), name, saved(content, GAPS[gap]), said), gap


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Done.",
        "audit-handover-2026-03.docx: 15 accounts, 6 journal lines, 4 checks (3 pass, 1 warn, 0 fail), 3 documents.",
        "audit-handover-2026-03.docx: 14 accounts, 6 journal lines, 4 checks (4 pass, 0 warn, 0 fail), 3 documents.",
        "audit-handover-2026-03.docx: 14 accounts, 6 journal lines, 4 checks (3 pass, 1 warn, 0 fail), 3 documents.\n.",
        "I made audit-handover-2026-03.docx.",
    ],
)
def test_the_last_message_is_one_line_with_the_counts(whole: tuple[str, bytes, str], said: str) -> None:
    assert problems(periods.sample(), *whole[:2], said)


def test_the_name_and_the_form_of_the_file(whole: tuple[str, bytes, str]) -> None:
    name, content, said = whole
    assert problems(periods.sample(), "handover.docx", content, said)
    assert problems(periods.sample(), name, content[:1000], said)
    assert problems(periods.sample(), name, b"# Audit handover", said)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ('{"period_summary": {"period": "2026-03"', "no JSON"),
        ('{"period_summary": []}', "no period_summary"),
        ('{"period_summary": {"period": "2026-03"}}', "neither a trial balance nor a journal"),
        ('{"period_summary": {"period": "2026-03", "tb": [], "journal_proposal": "x"}}', "neither a trial balance"),
        ('{"period_summary": {"period": "../../etc/x", "tb": {}}}', "names no period"),
        ('{"period_summary": {"period": 2026, "tb": {}}}', "names no period"),
        ('{"period_summary": ' * 100_000, "no JSON"),
    ],
)
def test_of_some_input_no_document_is_made(tmp_path: Path, message: str, why: str) -> None:
    (tmp_path / "period.json").write_text(message)
    command = [sys.executable, "-B", str(PROGRAM), str(tmp_path / "period.json"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.startswith("No handover was made: ")
    assert done.stdout.count("\n") == 1
    assert why in done.stdout
    assert not (tmp_path / "out").exists()


def test_absurd_numbers_cost_nothing(tmp_path: Path) -> None:
    tb = '{"opening_total": 1e999999999, "closing_total": "-1E+400000", "total_debits": 1e-999999999, "lines": 7}'
    name, content, said = made(f'{{"period_summary": {{"period": "2026-03", "tb": {tb}}}}}', tmp_path)
    cells = [each.text for each in Document(io.BytesIO(content)).tables[1].rows[1].cells]
    assert cells == ["Not available", "Not available", "0.00", "Not available"]
    assert said.startswith(f"{name}: 0 accounts")
