"""Edits a Word file in place of its text: what is not touched stays as it is."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator

from command import Problem, json_of, show_json
from docx.document import Document
from docx.oxml.ns import qn
from docx.text.paragraph import Paragraph
from docx.text.run import Run
from word_build import save
from word_read import opened


def replace(arguments: argparse.Namespace) -> None:
    pairs = dict(arguments.pair)
    if arguments.json:
        given = json_of(arguments.json)
        if not isinstance(given, dict):
            raise Problem(f"{arguments.json}: expected an object of old and new texts")
        pairs |= {str(old): str(new) for old, new in given.items()}
    if not pairs or "" in pairs:
        raise Problem("give texts to replace: --pair OLD NEW, or --json FILE")
    document = opened(arguments.file)
    counts = dict.fromkeys(pairs, 0)
    for element in paragraphs(document):
        for old, count in _replace_in(element, pairs).items():
            counts[old] += count
    missing = [old for old, count in counts.items() if not count]
    if missing and not arguments.allow_missing:
        raise Problem(f"not found, so nothing was written: {', '.join(map(repr, missing))}")
    save(document, arguments.out)
    show_json({"replaced": counts})


def paragraphs(document: Document) -> Iterator[object]:
    """Every paragraph element: in the body, tables and text boxes, and in headers, footers and notes."""
    roots = [document.element.body]
    for section in document.sections:
        kinds = ("header", "footer", "first_page_header", "first_page_footer", "even_page_header", "even_page_footer")
        parts = [getattr(section, kind) for kind in kinds]
        roots += [part._element for part in parts if not part.is_linked_to_previous]
    seen: set[object] = set()
    for root in roots:
        for element in root.iter(qn("w:p")):
            if element not in seen:
                seen.add(element)
                yield element


def _replace_in(paragraph: object, pairs: dict[str, str]) -> dict[str, int]:
    """Replace from left to right; a text that has been put in is not looked at again."""
    texts = [t for t in paragraph.iter(qn("w:t")) if _owner(t) is paragraph]  # type: ignore[attr-defined]
    whole = "".join(t.text or "" for t in texts)
    counts: dict[str, int] = {}
    places: list[tuple[int, str]] = []
    position = 0
    while position < len(whole):
        old = max((old for old in pairs if whole.startswith(old, position)), key=len, default=None)
        if old is None:
            position += 1
            continue
        places.append((position, old))
        counts[old] = counts.get(old, 0) + 1
        position += len(old)
    for start, old in reversed(places):
        _put(texts, start, start + len(old), pairs[old])
    return counts


def _owner(text: object) -> object:
    return next(text.iterancestors(qn("w:p")), None)  # type: ignore[attr-defined]


def _put(texts: list, start: int, end: int, new: str) -> None:
    """Put `new` where start..end was: with the look of its first character."""
    position, placed = 0, False
    for text in texts:
        value = text.text or ""
        first, last = max(start - position, 0), min(end - position, len(value))
        if first < last:
            text.text = value[:first] + ("" if placed else new) + value[last:]
            text.set("{http://www.w3.org/XML/1998/namespace}space", "preserve")
            placed = True
        position += len(value)


def comment(arguments: argparse.Namespace) -> None:
    document = opened(arguments.file)
    for element in document.element.body.iter(qn("w:p")):
        paragraph = Paragraph(element, document._body)
        runs = [Run(run, paragraph) for run in element.iter(qn("w:r"))]
        start = "".join(run.text for run in runs).find(arguments.at)
        if start >= 0:
            marked = list(_covered(runs, start, start + len(arguments.at)))
            initials = "".join(word[0] for word in arguments.author.split())[:4]
            document.add_comment(marked, text=arguments.text, author=arguments.author, initials=initials)
            save(document, arguments.out)
            return
    raise Problem(f"the text {arguments.at!r} is not in the body, so there is no place for the comment")


def _covered(runs: list[Run], start: int, end: int) -> Iterator[Run]:
    """The runs that a range of characters touches."""
    position = 0
    for run in runs:
        if position < end and position + len(run.text) > start:
            yield run
        position += len(run.text)


def fill_table(arguments: argparse.Namespace) -> None:
    rows = json_of(arguments.json)
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise Problem(f"{arguments.json}: expected a list of rows, each a list of values")
    document = opened(arguments.file)
    tables = document.tables
    if not 1 <= arguments.table <= len(tables):
        raise Problem(f"there is no table {arguments.table}; the file has {len(tables)}")
    table = tables[arguments.table - 1]
    width = len(table.columns)
    if wrong := next((row for row in rows if len(row) != width), None):
        raise Problem(f"the table has {width} columns, which this row has not: {wrong}")
    last = table.rows[-1]._tr
    for row in rows:
        fresh = copy.deepcopy(last)
        table._tbl.append(fresh)
        for cell, value in zip(table.rows[-1].cells, row, strict=True):
            _set_text(cell.paragraphs[0], "" if value is None else str(value))
            for other in cell.paragraphs[1:]:
                other._p.getparent().remove(other._p)
    save(document, arguments.out)


def _set_text(paragraph: Paragraph, text: str) -> None:
    """Give a paragraph a text that looks as its first run did."""
    runs = paragraph.runs
    if not runs:
        paragraph.add_run(text)
        return
    runs[0].text = text
    for run in runs[1:]:
        run._r.getparent().remove(run._r)
