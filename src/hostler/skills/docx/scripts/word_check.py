"""Looks for what is usually wrong with a Word file before it is handed over."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from command import show_json
from docx.document import Document
from docx.oxml.ns import qn
from word_edit import paragraphs
from word_read import is_heading, opened

_PLACEHOLDER = re.compile(
    r"\{\{.*?\}\}|\[(?:TODO|TBD|INSERT)[^\]]*\]|<<.*?>>|\bTODO\b|\bTBD\b|lorem ipsum|\bXXX+\b", re.I
)
_MARKDOWN = re.compile(r"^(#{1,6} |[-*] |\|.*\|$|```)|\*\*[^*]+\*\*")


def check(arguments: argparse.Namespace) -> int:
    document = opened(arguments.file)
    texts = ["".join(t.text or "" for t in p.iter(qn("w:t"))) for p in paragraphs(document)]
    problems = [*_text_problems(texts), *_heading_problems(document), *_other_problems(document)]
    problems += [
        f"expected text is missing: {text!r}" for text in arguments.expect if not any(text in t for t in texts)
    ]
    words = sum(len(text.split()) for text in texts)
    show_json({"ok": not problems, "words": words, "tables": len(document.tables), "problems": problems[:100]})
    return 1 if problems else 0


def _text_problems(texts: list[str]) -> Iterator[str]:
    if not any(text.strip() for text in texts):
        yield "the document has no text"
    for text in texts:
        if found := _PLACEHOLDER.search(text):
            yield f"a placeholder was left: {found[0]!r} in {text[:80]!r}"
        if _MARKDOWN.search(text.strip()):
            yield f"Markdown shows in the text: {text[:80]!r}"


def _heading_problems(document: Document) -> Iterator[str]:
    before = 0
    for paragraph in document.paragraphs:
        if not is_heading(paragraph):
            continue
        name = paragraph.style.name
        level = 1 if name == "Title" else int(name[-1])
        if not paragraph.text.strip():
            yield f"an empty paragraph has the style {name}"
        if before and level > before + 1:
            yield f"the heading {paragraph.text[:60]!r} is of level {level} below one of level {before}"
        before = level


def _other_problems(document: Document) -> Iterator[str]:
    for number, table in enumerate(document.tables, start=1):
        if not any(cell.text.strip() for row in table.rows for cell in row.cells):
            yield f"table {number} is empty"
    if next(document.element.body.iter(qn("w:ins"), qn("w:del")), None) is not None:
        yield "there are tracked changes; see the command `changes`"
    known = set(document.part.rels)
    for picture in document.element.body.iter(qn("a:blip")):
        if (target := picture.get(qn("r:embed"))) is not None and target not in known:
            yield f"a picture refers to {target}, which is not in the file"
