"""Writes the handover document of a closed period: a program that the scripted model runs in the sandbox.

`handover.py PERIOD.json FOLDER` makes the document, with `--check` it reads the one that is there. Either way the last
line says what came of it. It must not invent a number: what the input lacks is said to be missing.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator
from decimal import Context, Decimal, InvalidOperation, setcontext
from pathlib import Path
from typing import Any

MISSING, NOT_RUN = "Not available", "Not run"
SIGNS = {"GBP": "£", "EUR": "€", "USD": "$"}
LARGEST_EXPONENT = 60  # amounts beyond 10^60 are mistakes, and would fill pages
SECTIONS = (
    "Executive summary",
    "Trial balance summary",
    "Journal posting log",
    "Variances against the prior period",
    "Status of reconciliations",
    "Exceptions and open items",
    "Supporting documents",
    "Sign-off",
)
CHECKS = {
    "journal_balanced": "Journal balanced",
    "closing_tb_balanced": "Closing trial balance balanced",
    "bank_reconciles": "Bank reconciles",
    "bank_vs_rentroll_reconciles": "Bank against rent roll",
}
TB_TOTALS = {
    "opening_total": "Opening total",
    "closing_total": "Closing total",
    "total_debits": "Total debits",
    "total_credits": "Total credits",
}
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_PERIOD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
Json = dict[str, Any]
Rows = list[list[str]]


class NoHandover(Exception):
    """There is nothing that a document could be made of, and why."""


# -- reading the input --


def mapping(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> list[Json]:
    return [mapping(each) for each in value] if isinstance(value, list) else []


def text(value: Any) -> str:
    """As it can stand in a document; what is missing is said to be."""
    if value is None or isinstance(value, dict | list):
        return MISSING
    shown = _NO_XML.sub("\ufffd", str(value).replace("\r\n", "\n").replace("\r", "\n"))
    return shown if shown.strip() else MISSING


def number(value: Any) -> Decimal | None:
    """An amount, also one that was written as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, Decimal | str):
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and amount.adjusted() <= LARGEST_EXPONENT else None


class Period:
    """The figures of one period, in the words of the document."""

    def __init__(self, said: Json) -> None:
        self.entity = mapping(said.get("entity"))
        self.name = said.get("period")
        self.has_tb = isinstance(said.get("tb"), dict)
        self.tb = mapping(said.get("tb"))
        self.accounts = listing(self.tb.get("lines"))
        self.has_journal = isinstance(said.get("journal_proposal"), dict)
        self.journal = mapping(said.get("journal_proposal"))
        self.lines = listing(self.journal.get("lines"))
        self.totals = mapping(self.journal.get("totals"))
        self.checks = mapping(said.get("checks"))
        self.documents = listing(said.get("documents"))
        self.prior = said.get("prior_period")
        self.prepared_at = said.get("prepared_at_iso")
        self.currency = text(self.entity.get("currency"))
        if not isinstance(self.name, str) or not _PERIOD.fullmatch(self.name):
            raise NoHandover("the input names no period such as 2026-03.")
        if not (self.has_tb or self.has_journal):
            raise NoHandover("the input has neither a trial balance nor a journal.")

    @property
    def file(self) -> str:
        return f"audit-handover-{self.name}.docx"

    @property
    def entity_name(self) -> str:
        name = text(self.entity.get("name"))
        return text(self.entity.get("slug")) if name == MISSING else name

    @property
    def shown_entity(self) -> str:
        name, slug = text(self.entity.get("name")), text(self.entity.get("slug"))
        return slug if name == MISSING else name if slug == MISSING else f"{name} ({slug})"

    def money(self, value: Any) -> str:
        amount = value if isinstance(value, Decimal) else number(value)
        if amount is None or number(amount) is None:
            return MISSING
        digits = format(abs(amount), ",.2f")
        sign = "-" if amount < 0 and digits.strip("0.,") else ""
        code = "" if self.currency == MISSING else SIGNS.get(self.currency, f"{self.currency} ")
        return f"{sign}{code}{digits}"

    def status(self, check: str) -> str:
        """What came of a check: `pass`, `warn`, `fail` or whatever the input says; NOT_RUN where it says nothing."""
        status = text(mapping(self.checks.get(check)).get("status"))
        return NOT_RUN if status == MISSING else status

    def detail(self, check: str) -> str:
        return text(mapping(self.checks.get(check)).get("detail"))


def read(file: Path) -> Period:
    """Raises NoHandover."""
    try:
        said = json.loads(file.read_bytes(), parse_float=Decimal, parse_int=Decimal)
    except (ValueError, RecursionError, InvalidOperation):
        raise NoHandover("the message is no JSON.") from None
    except OSError as error:
        raise NoHandover(f"the input can't be read: {error.strerror}.") from error
    summary = said.get("period_summary") if isinstance(said, dict) else None
    if not isinstance(summary, dict):
        raise NoHandover("the message has no period_summary.")
    return Period(summary)


# -- computing --


def total(lines: Iterable[Json], side: str) -> Decimal | None:
    """The sum of one side; None when there are no lines, or an amount is missing."""
    amounts = [number(line.get(side)) for line in lines]
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal()) if known and len(known) == len(amounts) else None


def balances(lines: Iterable[Json]) -> dict[str, Decimal | None]:
    """Debit less credit of each account; None where an amount is missing."""
    found: dict[str, Decimal | None] = {}
    for line in lines:
        debit, credit = number(line.get("debit")), number(line.get("credit"))
        code = text(line.get("account_code"))
        before = found.get(code, Decimal())
        known = before is not None and debit is not None and credit is not None
        found[code] = before + debit - credit if known else None  # type: ignore[operator]
    return found


def variances(period: Period) -> Rows:
    """A row for each account whose balance is another than it was, or can't be compared."""
    now, before = balances(period.accounts), balances(listing(mapping(period.prior).get("lines")))
    rows = []
    for code in dict.fromkeys([*before, *now]):
        old, new = before.get(code), now.get(code)
        difference = None if old is None or new is None else new - old
        if difference != 0:
            rows.append([code, *map(period.money, (old, new, difference))])
    return rows


def balanced(period: Period, what: str, debits: Decimal | None, credits: Decimal | None) -> str:
    if debits is None or credits is None:
        return f"Whether the {what} balances cannot be told, since its figures are not complete."
    if debits == credits:
        return f"The {what} balances at {period.money(debits)}."
    return f"The {what} does not balance: the difference is {period.money(debits - credits)}."


def differences(period: Period) -> Iterator[str]:
    """What contradicts itself in the figures."""
    tb, journal = "trial balance", "journal"
    for what, lines, given in (
        (tb, period.accounts, (period.tb.get("total_debits"), period.tb.get("total_credits"))),
        (journal, period.lines, (period.totals.get("debits"), period.totals.get("credits"))),
    ):
        stated = [number(value) for value in given]
        for side, value in zip(("debit", "credit"), stated, strict=True):
            summed = total(lines, side)
            if None not in (value, summed) and value != summed:
                yield (
                    f"The {side}s of the {what} are stated as {period.money(value)}, "
                    f"and its lines add up to {period.money(summed)}."
                )
        debits, credits = stated
        if debits is not None and credits is not None and debits != credits:
            yield balanced(period, what, debits, credits)


def problems(period: Period) -> Iterator[str]:
    """What belongs in the section of exceptions."""
    for check, title in CHECKS.items():
        status = period.status(check)
        if status == NOT_RUN:
            yield f"{title}: not run."
        elif status != "pass":
            yield f"{title}: {status}. {period.detail(check)}"
    yield from differences(period)
    amounts = list(stated_amounts(period))
    if wrong := sum(value is not None and number(value) is None for value in amounts):
        yield f"Values that are no amounts, shown as {MISSING}: {wrong}."
    found = [amount for value in amounts if (amount := number(value)) is not None]
    if fine := sum(amount != round(amount, 2) for amount in found):
        yield f"Amounts with more than two decimals, shown rounded: {fine}."


def stated_amounts(period: Period) -> Iterator[Any]:
    yield from (period.tb.get(key) for key in TB_TOTALS)
    yield from (period.totals.get(side) for side in ("debits", "credits"))
    for line in [*period.accounts, *period.lines]:
        yield from (line.get("debit"), line.get("credit"))


# -- writing --


class Page:
    """A document being written."""

    def __init__(self, title: str) -> None:
        from docx import Document

        self.document = Document()
        self.document.core_properties.title = title[:255]
        self.document.core_properties.author = "audit-handover"
        self.document.add_heading(title, 0)
        self._sections = 0

    def section(self, title: str) -> None:
        self._sections += 1
        self.document.add_heading(f"{self._sections}. {title}", 1)

    def say(self, *sentences: str) -> None:
        self.document.add_paragraph(" ".join(sentences))

    def point(self, sentence: str) -> None:
        self.document.add_paragraph(sentence, style="List Bullet")

    def table(self, head: list[str], rows: Rows) -> None:
        table = self.document.add_table(rows=len(rows) + 1, cols=len(head), style="Table Grid")
        for row, cells in zip(table.rows, [head, *rows], strict=True):
            for cell, content in zip(row.cells, cells, strict=True):
                cell.text = content
        for cell in table.rows[0].cells:
            for run in cell.paragraphs[0].runs:
                run.bold = True


def written(period: Period) -> Page:
    page = Page(f"Audit handover: {period.entity_name}, {period.name}")
    _header(page, period)
    parts = (_summary, _trial_balance, _journal, _variances, _checks, _exceptions, _documents, _sign_off)
    for title, part in zip(SECTIONS, parts, strict=True):
        page.section(title)
        part(page, period)
    return page


def _header(page: Page, period: Period) -> None:
    said = {
        "Prepared by": "audit-handover",
        "Entity": period.shown_entity,
        "Period": str(period.name),
        "Currency": period.currency,
        "Prepared at": text(period.prepared_at),
    }
    head, *rows = [[name, value] for name, value in said.items()]
    page.table(head, rows)


def _summary(page: Page, period: Period) -> None:
    tb = [number(period.tb.get(key)) for key in ("total_debits", "total_credits")]
    journal = [number(period.totals.get(side)) for side in ("debits", "credits")]
    page.say(
        f"This document hands over the figures of {period.shown_entity} for the period {period.name}.",
        balanced(period, "trial balance", *tb) if period.has_tb else "No trial balance was supplied.",
        balanced(period, "journal", *journal) if period.has_journal else "No journal was supplied.",
        _told_of_checks(period),
    )


def _told_of_checks(period: Period) -> str:
    odd = [f"{title} ({status})" for check, title in CHECKS.items() if (status := period.status(check)) != "pass"]
    return f"These checks are not a pass: {', '.join(odd)}." if odd else "All four checks are a pass."


def _trial_balance(page: Page, period: Period) -> None:
    if not period.has_tb:
        page.say("No trial balance was supplied.")
        return
    page.table(list(TB_TOTALS.values()), [[period.money(period.tb.get(key)) for key in TB_TOTALS]])
    if not period.accounts:
        page.say("The trial balance has no accounts.")
        return
    page.say("The accounts:")
    page.table(
        ["Account", "Name", "Debit", "Credit"],
        [
            [text(line.get("account_code")), text(line.get("account_name")), *_sides(period, line)]
            for line in period.accounts
        ],
    )


def _sides(period: Period, line: Json) -> list[str]:
    return [period.money(line.get("debit")), period.money(line.get("credit"))]


def _journal(page: Page, period: Period) -> None:
    if not period.lines:
        page.say("No journal lines were supplied.")
        return
    rows = [
        [text(line.get("account_code")), text(line.get("description")), *_sides(period, line)] for line in period.lines
    ]
    totals = [period.money(period.totals.get(side)) for side in ("debits", "credits")]
    page.table(["Account", "Description", "Debit", "Credit"], [*rows, ["Total", "", *totals]])


def _variances(page: Page, period: Period) -> None:
    if not listing(mapping(period.prior).get("lines")):
        page.say("No figures of a prior period were supplied.")
    elif rows := variances(period):
        page.table(["Account", "Prior balance", "Balance", "Difference"], rows)
    else:
        page.say("No balance has moved since the prior period.")


def _checks(page: Page, period: Period) -> None:
    rows = [[title, period.status(check), period.detail(check)] for check, title in CHECKS.items()]
    page.table(["Check", "Status", "Detail"], rows)


def _exceptions(page: Page, period: Period) -> None:
    found = list(problems(period))
    for problem in found:
        page.point(problem)
    if not found:
        page.say("There are no exceptions.")


def _documents(page: Page, period: Period) -> None:
    if not period.documents:
        page.say("No supporting documents were supplied.")
        return
    keys = ("source", "filename", "document_ref")
    page.table(["Source", "File", "Reference"], [[text(each.get(key)) for key in keys] for each in period.documents])


def _sign_off(page: Page, period: Period) -> None:
    page.table(["", "Name", "Date", "Signature"], [["Preparer", "", "", ""], ["Reviewer", "", "", ""]])


# -- checking, and the last word --


def check(period: Period, folder: Path) -> None:
    """Read what was written. Raises NoHandover when it is not what it should be."""
    from docx import Document

    document = Document(str(folder / period.file))
    heads = [
        paragraph.text for paragraph in document.paragraphs if paragraph.style and paragraph.style.name == "Heading 1"
    ]
    if heads != [f"{place}. {title}" for place, title in enumerate(SECTIONS, 1)]:
        raise NoHandover("the sections of the written document are wrong.")
    tables = {tuple(cell.text for cell in table.rows[0].cells): len(table.rows) - 1 for table in document.tables}
    if tables.get(("Check", "Status", "Detail")) != len(CHECKS):
        raise NoHandover("the written document has not four reconciliations.")
    logged = tables.get(("Account", "Description", "Debit", "Credit"), 1) - 1
    if logged != len(period.lines):
        raise NoHandover(f"the written document has {logged} journal lines of {len(period.lines)}.")


def last_word(period: Period) -> str:
    said = [period.status(check) for check in CHECKS]
    run = [status for status in said if status != NOT_RUN]
    results = ", ".join(f"{run.count(status)} {status}" for status in ("pass", "warn", "fail"))
    return (
        f"{period.file}: {counted(len(period.accounts), 'account')}, {counted(len(period.lines), 'journal line')}, "
        f"{counted(len(run), 'check')} ({results}), {counted(len(period.documents), 'document')}."
    )


def counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def main(arguments: list[str]) -> None:
    reading = "--check" in arguments
    file, folder = (Path(word) for word in arguments if word != "--check")
    setcontext(Context(prec=200, rounding="ROUND_HALF_UP", Emax=999_999, Emin=-999_999))
    try:
        period = read(file)
        if not reading:
            folder.mkdir(parents=True, exist_ok=True)
            written(period).document.save(str(folder / period.file))
        check(period, folder)
        print(last_word(period))
    except NoHandover as problem:
        print(f"No handover was made: {problem}")
    except ModuleNotFoundError as problem:
        print(f"No handover was made: {problem.name} is not installed here.")


if __name__ == "__main__":
    main(sys.argv[1:])
