"""Judges a handover document against the period that it was made of: whatever made it, a program or a model.

Every rule is one of the agent's prompt. It must not know the program that the scripted model runs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from io import BytesIO
from typing import Any

from docx import Document
from docx.table import Table

Json = dict[str, Any]
Rows = list[list[str]]
MISSING, NOT_RUN = "Not available", "Not run"
HEADINGS = [
    "1. Executive summary",
    "2. Trial balance summary",
    "3. Journal posting log",
    "4. Variances against the prior period",
    "5. Status of reconciliations",
    "6. Exceptions and open items",
    "7. Supporting documents",
    "8. Sign-off",
]
CHECKS = {
    "journal_balanced": "Journal balanced",
    "closing_tb_balanced": "Closing trial balance balanced",
    "bank_reconciles": "Bank reconciles",
    "bank_vs_rentroll_reconciles": "Bank against rent roll",
}
TB_TOTALS = ("opening_total", "closing_total", "total_debits", "total_credits")
ACCOUNTS = ["Account", "Name", "Debit", "Credit"]
LOG = ["Account", "Description", "Debit", "Credit"]
NO_EXCEPTIONS = "There are no exceptions."
_EXACT = Context(prec=500, rounding=ROUND_HALF_UP)
_AMOUNT = re.compile(r"\d[\d,]*\.\d+")
_FIRST_PERSON = re.compile(r"\b(?:I|we|my|our|us|me|you|your)\b", re.IGNORECASE)
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def problems(period: str | bytes, filename: str, content: bytes, last_message: str) -> list[str]:
    """What is wrong with the document that was made of this first message; nothing when it is as it should be."""
    summary = json.loads(period, parse_float=Decimal, parse_int=Decimal)["period_summary"]
    judge = Judge(summary)
    try:
        page = Page(content)
    except Exception as error:
        return [f"the document does not open: {error}"]
    return [*judge.name(filename), *judge.message(last_message), *judge.page(page)]


class Page:
    """A document as its parts: what stands before the first section, and the sections."""

    def __init__(self, content: bytes) -> None:
        self.headings: list[str] = []
        self.texts: list[list[str]] = [[]]
        self.tables: list[list[Rows]] = [[]]
        for item in Document(BytesIO(content)).iter_inner_content():
            if isinstance(item, Table):
                self.tables[-1].append([[cell.text for cell in row.cells] for row in item.rows])
            elif item.style is not None and item.style.name == "Heading 1":
                self.headings.append(item.text)
                self.texts.append([])
                self.tables.append([])
            elif item.text.strip():
                self.texts[-1].append(item.text)

    def table(self, section: int, head: list[str]) -> Rows | None:
        """The rows of the one table with these columns; None where there is none."""
        found = [table[1:] for table in self.tables[section] if table[0] == head]
        return found[0] if len(found) == 1 else None


class Judge:
    def __init__(self, summary: Json) -> None:
        self.summary = summary
        self.entity: Json = summary.get("entity") or {}
        self.tb: Json | None = summary.get("tb")
        self.accounts: list[Json] = (self.tb or {}).get("lines") or []
        self.journal: Json = summary.get("journal_proposal") or {}
        self.lines: list[Json] = self.journal.get("lines") or []
        self.totals: Json = self.journal.get("totals") or {}
        self.checks: Json = summary.get("checks") or {}
        self.documents: list[Json] = summary.get("documents") or []
        self.before: list[Json] = (summary.get("prior_period") or {}).get("lines") or []

    # -- what is shown how --

    def money(self, value: Any) -> str:
        amount = value if isinstance(value, Decimal) and value.is_finite() else number(value)
        if amount is None:
            return MISSING
        rounded = amount.quantize(Decimal("0.01"), context=_EXACT)
        currency = shown(self.entity.get("currency"))
        before = {"GBP": "£", "EUR": "€", "USD": "$", MISSING: ""}.get(currency, f"{currency} ")
        return f"{'-' if rounded < 0 else ''}{before}{rounded.copy_abs():,f}"

    def status(self, check: str) -> str:
        status = shown((self.checks.get(check) or {}).get("status"))
        return NOT_RUN if status == MISSING else status

    def not_passed(self) -> list[str]:
        return [title for check, title in CHECKS.items() if self.status(check) != "pass"]

    # -- rules --

    def name(self, filename: str) -> Iterator[str]:
        if filename != f"audit-handover-{self.summary['period']}.docx":
            yield f"the file is called {filename}"

    def message(self, said: str) -> Iterator[str]:
        statuses = [self.status(check) for check in CHECKS]
        results = ", ".join(f"{statuses.count(status)} {status}" for status in ("pass", "warn", "fail"))
        counts = {
            "account": len(self.accounts),
            "journal line": len(self.lines),
            "check": sum(status != NOT_RUN for status in statuses),
            "document": len(self.documents),
        }
        wanted = [f"{count} {thing}s?" for thing, count in counts.items()]
        wanted[2] += rf" \({results}\)"
        name = re.escape(f"audit-handover-{self.summary['period']}.docx")
        if not re.fullmatch(f"{name}: {', '.join(wanted)}\\.", said):
            yield f"the last message is {said!r}"

    def page(self, page: Page) -> Iterator[str]:
        if page.headings != HEADINGS:
            yield f"the headings are {page.headings}"
            return
        parts = (self._head, self._executive, self._trial_balance, self._log, self._variances, self._reconciliations,
                 self._exceptions, self._supporting, self._sign_off)  # fmt: skip
        for section, part in enumerate(parts):
            for problem in part(page, section):
                yield f"section {section}: {problem}"
            if section and not (page.texts[section] or page.tables[section]):
                yield f"section {section}: is empty"
        yield from self._words(page)

    def _head(self, page: Page, section: int) -> Iterator[str]:
        name, slug = shown(self.entity.get("name")), shown(self.entity.get("slug"))
        both = f"{name} ({slug})" if MISSING not in (name, slug) else slug if name == MISSING else name
        wanted = [
            ["Prepared by", "audit-handover"],
            ["Entity", both],
            ["Period", self.summary["period"]],
            ["Currency", shown(self.entity.get("currency"))],
            ["Prepared at", shown(self.summary.get("prepared_at_iso"))],
        ]
        if page.tables[section] != [wanted]:
            yield f"the table at the top is {page.tables[section]}"
        title = f"Audit handover: {slug if name == MISSING else name}, {self.summary['period']}"
        if page.texts[section][:1] != [title]:
            yield f"the title is {page.texts[section][:1]}"

    def _executive(self, page: Page, section: int) -> Iterator[str]:
        text = " ".join(page.texts[section])
        if not text:
            yield "says nothing"
        yield from (f"{title} is not named" for title in self.not_passed() if title not in text)
        for what, there in (("trial balance", self.tb is not None), ("journal", bool(self.journal))):
            if what not in text.lower():
                yield f"the {what} is not told of"
            elif not there and not re.search(rf"no {what}", text, re.IGNORECASE):
                yield f"the {what} is told of, and there is none"

    def _trial_balance(self, page: Page, section: int) -> Iterator[str]:
        if self.tb is None:
            yield from self._said(page, section, "No trial balance was supplied.")
            return
        totals = [self.money(self.tb.get(key)) for key in TB_TOTALS]
        head = ["Opening total", "Closing total", "Total debits", "Total credits"]
        yield from differ("totals", page.table(section, head), [totals])
        wanted = [
            [shown(line.get("account_code")), shown(line.get("account_name")), *self._sides(line)]
            for line in self.accounts
        ]
        if wanted or page.table(section, ACCOUNTS):
            yield from differ("accounts", page.table(section, ACCOUNTS), wanted)

    def _log(self, page: Page, section: int) -> Iterator[str]:
        if not self.lines:
            yield from self._said(page, section, "No journal lines were supplied.")
            return
        wanted = [
            [shown(line.get("account_code")), shown(line.get("description")), *self._sides(line)] for line in self.lines
        ]
        totals = [self.money(self.totals.get(side)) for side in ("debits", "credits")]
        yield from differ("lines", page.table(section, LOG), [*wanted, ["Total", "", *totals]])

    def _sides(self, line: Json) -> list[str]:
        return [self.money(line.get("debit")), self.money(line.get("credit"))]

    def _variances(self, page: Page, section: int) -> Iterator[str]:
        if not self.before:
            yield from self._said(page, section, "No figures of a prior period were supplied.")
            return
        wanted = [[code, *map(self.money, values)] for code, values in moved(self.before, self.accounts).items()]
        if not wanted:
            yield from self._said(page, section, "No balance has moved since the prior period.")
            return
        found = page.table(section, ["Account", "Prior balance", "Balance", "Difference"])
        yield from differ("rows", sorted(found) if found else found, sorted(wanted))

    def _reconciliations(self, page: Page, section: int) -> Iterator[str]:
        wanted = [
            [title, self.status(check), shown((self.checks.get(check) or {}).get("detail"))]
            for check, title in CHECKS.items()
        ]
        yield from differ("rows", page.table(section, ["Check", "Status", "Detail"]), wanted)

    def _exceptions(self, page: Page, section: int) -> Iterator[str]:
        text = "\n".join(page.texts[section])
        expected = [*self.not_passed(), *self._contradictions()]
        yield from (f"{each} is not told of" for each in expected if each not in text)
        amounts = [each for each in self._amounts() if each is not None]
        odd = [each for each in amounts if number(each) is None or rounds(number(each))]
        if not (expected or odd) and NO_EXCEPTIONS not in text:
            yield "does not say that there are none"
        if (expected or odd) and (NO_EXCEPTIONS in text or not text):
            yield "says that there are none"

    def _contradictions(self) -> Iterator[str]:
        """Numbers that have to be shown there, since others say something else."""
        for lines, given in (
            (self.accounts, [(self.tb or {}).get(key) for key in ("total_debits", "total_credits")]),
            (self.lines, [self.totals.get(key) for key in ("debits", "credits")]),
        ):
            debits, credits = map(number, given)
            if debits is not None and credits is not None and debits != credits:
                yield self.money(_EXACT.subtract(debits, credits))
            for side, stated in (("debit", debits), ("credit", credits)):
                summed = total([number(line.get(side)) for line in lines])
                if stated is not None and summed is not None and summed != stated:
                    yield from (self.money(stated), self.money(summed))

    def _amounts(self) -> Iterator[Any]:
        yield from ((self.tb or {}).get(key) for key in TB_TOTALS)
        yield from (self.totals.get(key) for key in ("debits", "credits"))
        for line in [*self.accounts, *self.lines]:
            yield from (line.get("debit"), line.get("credit"))

    def _supporting(self, page: Page, section: int) -> Iterator[str]:
        if not self.documents:
            yield from self._said(page, section, "No supporting documents were supplied.")
            return
        wanted = [[shown(each.get(key)) for key in ("source", "filename", "document_ref")] for each in self.documents]
        yield from differ("rows", page.table(section, ["Source", "File", "Reference"]), wanted)

    def _sign_off(self, page: Page, section: int) -> Iterator[str]:
        wanted = [["Preparer", "", "", ""], ["Reviewer", "", "", ""]]
        yield from differ("rows", page.table(section, ["", "Name", "Date", "Signature"]), wanted)

    def _said(self, page: Page, section: int, sentence: str) -> Iterator[str]:
        if not any(sentence in text for text in page.texts[section]):
            yield f"does not say: {sentence}"
        if page.tables[section]:
            yield "has a table, and nothing to show in it"

    def _words(self, page: Page) -> Iterator[str]:
        """No number that the input doesn't give, and the third person, in what is not the input's own words."""
        known = {amount for said in self._known_amounts() for amount in _AMOUNT.findall(said)}
        for section, texts in enumerate(page.texts):
            for text in texts:
                own = text
                for given in sorted(self._given_texts(), key=len, reverse=True):
                    own = own.replace(given, " ")
                for amount in _AMOUNT.findall(own):
                    if amount not in known:
                        yield f"section {section}: where does {amount} come from?"
                if found := _FIRST_PERSON.search(own):
                    yield f"section {section}: is not in the third person: {found[0]}"

    def _known_amounts(self) -> Iterator[str]:
        yield from (self.money(value) for value in self._amounts())
        yield from self._contradictions()

    def _given_texts(self) -> Iterator[str]:
        """Whatever the input says in words and may be quoted."""
        details = [(self.checks.get(check) or {}).get("detail") for check in CHECKS]
        for value in (*self.entity.values(), *details, self.summary["period"]):
            if isinstance(value, str) and shown(value) != MISSING:
                yield shown(value)
        yield f"{shown(self.entity.get('currency'))} "


def number(value: Any) -> Decimal | None:
    if not isinstance(value, Decimal | str):
        return None
    try:
        amount = Decimal(value)
    except InvalidOperation:
        return None
    return amount if amount.is_finite() else None


def rounds(amount: Decimal | None) -> bool:
    return amount is not None and amount.quantize(Decimal("0.01"), context=_EXACT) != amount


def shown(value: Any) -> str:
    """A text as a document can hold it."""
    if value is None or isinstance(value, dict | list):
        return MISSING
    text = _UNWRITABLE.sub("\ufffd", str(value).replace("\r\n", "\n").replace("\r", "\n"))
    return text if text.strip() else MISSING


def total(amounts: list[Decimal | None]) -> Decimal | None:
    if not amounts or any(amount is None for amount in amounts):
        return None
    result = Decimal()
    for amount in amounts:
        result = _EXACT.add(result, amount or Decimal())
    return result


def moved(before: list[Json], now: list[Json]) -> dict[str, tuple[Decimal | None, Decimal | None, Decimal | None]]:
    """The accounts whose balance is another one, or can't be compared: what it was, what it is, and the difference."""
    old, new = balances(before), balances(now)
    found = {}
    for code in {**old, **new}:
        left, right = old.get(code), new.get(code)
        difference = None if left is None or right is None else _EXACT.subtract(right, left)
        if difference != 0:
            found[code] = (left, right, difference)
    return found


def balances(lines: list[Json]) -> dict[str, Decimal | None]:
    sides: dict[str, list[Decimal | None]] = {}
    for line in lines:
        credit = number(line.get("credit"))
        both = [number(line.get("debit")), None if credit is None else credit.copy_negate()]
        sides.setdefault(shown(line.get("account_code")), []).extend(both)
    return {code: total(amounts) for code, amounts in sides.items()}


def differ(what: str, found: Rows | None, wanted: Rows) -> Iterator[str]:
    if found is None:
        yield f"there is not one table of {what}"
    elif len(found) != len(wanted):
        yield f"there are {len(found)} {what} instead of {len(wanted)}"
    else:
        yield from (
            f"{what}: {left} instead of {right}" for left, right in zip(found, wanted, strict=True) if left != right
        )
