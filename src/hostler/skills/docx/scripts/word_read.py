"""Reads a Word file: its text as Markdown, and what else is in it as JSON. It changes nothing."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import docx
from command import Problem, show, show_json, source
from docx.document import Document
from docx.oxml.ns import qn
from docx.table import Table
from docx.text.paragraph import Paragraph

ENDINGS = (".docx", ".dotx")
_IMAGES = 500


def opened(path: str) -> Document:
    found = source(path, *ENDINGS)
    try:
        return docx.Document(str(found))
    except (KeyError, ValueError) as error:
        raise Problem(f"{path}: cannot be read as a Word file: {error}") from None


# -- the text --


def read(arguments: argparse.Namespace) -> None:
    document = opened(arguments.file)
    lines = list(_blocks(document, arguments.changes))
    if arguments.headers:
        for number, section in enumerate(document.sections, start=1):
            for name, part in (("header", section.header), ("footer", section.footer)):
                text = " / ".join(p.text for p in part.paragraphs if p.text.strip())
                if text and not part.is_linked_to_previous:
                    lines.append(f"\n[{name} of section {number}: {text}]")
    show(re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), arguments.max_chars)


def _blocks(document: Document, changes: str) -> Iterator[str]:
    for block in document.iter_inner_content():
        if isinstance(block, Table):
            yield "\n" + table_text(block, changes) + "\n"
            continue
        text = paragraph_text(block, changes)
        if text.strip():
            yield _styled(block, text)


def _styled(paragraph: Paragraph, text: str) -> str:
    """A paragraph as Markdown, by the name of its style."""
    style = (paragraph.style.name if paragraph.style is not None else "") or ""
    if style == "Title":
        return f"\n# {text}\n"
    if heading := re.fullmatch(r"[Hh]eading (\d)", style):
        return f"\n{'#' * int(heading[1])} {text}\n"
    if style.startswith("List") or _numbered(paragraph):
        depth = re.search(r"(\d)$", style)
        mark = "1." if "Number" in style else "-"
        return "  " * (int(depth[1]) - 1 if depth else 0) + f"{mark} {text}"
    if "Quote" in style:
        return f"\n> {text}\n"
    return f"\n{text}\n"


def _numbered(paragraph: Paragraph) -> bool:
    properties = paragraph._p.pPr
    return properties is not None and properties.numPr is not None


def paragraph_text(paragraph: Paragraph, changes: str = "accepted") -> str:
    """The text with bold and italic marked, pictures named, and tracked changes as asked for."""
    parts: list[tuple[str, str]] = []
    for run, state in _runs(paragraph._p):
        if (state == "deleted" and changes == "accepted") or (state == "inserted" and changes == "original"):
            continue
        text = _run_text(run)
        if not text:
            continue
        if state and changes == "marked":
            text = f"{{+{text}+}}" if state == "inserted" else f"{{-{text}-}}"
        parts.append((text, _marks(run)))
    joined = []
    for text, marks in _merged(parts):
        body = text.strip()
        if not marks or not body:
            joined.append(text)
            continue
        lead, tail = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
        joined.append(f"{lead}{marks}{body}{marks[::-1]}{tail}")
    return "".join(joined).rstrip()


def _runs(element: object) -> Iterator[tuple[object, str]]:
    """All runs below a paragraph, also those in links and tracked changes, each with its state."""
    for run in element.iter(qn("w:r")):  # type: ignore[attr-defined]
        parents = {parent.tag for parent in run.iterancestors()}
        state = "deleted" if qn("w:del") in parents else "inserted" if qn("w:ins") in parents else ""
        yield run, state


def _run_text(run: object) -> str:
    out = []
    for child in run:  # type: ignore[attr-defined]
        if child.tag in (qn("w:t"), qn("w:delText")):
            out.append(child.text or "")
        elif child.tag == qn("w:tab"):
            out.append("\t")
        elif child.tag in (qn("w:br"), qn("w:cr")):
            out.append("\n")
        elif child.tag in (qn("w:drawing"), qn("w:pict")):
            names = [e.get("descr") or e.get("name") or "" for e in child.iter(qn("wp:docPr"))]
            out.append(f"![{names[0] if names else ''}](picture)")
        elif child.tag in (qn("w:footnoteReference"), qn("w:endnoteReference")):
            out.append(f"[^{child.get(qn('w:id'))}]")
    return "".join(out)


def _marks(run: object) -> str:
    properties = run.find(qn("w:rPr"))  # type: ignore[attr-defined]
    if properties is None:
        return ""
    on = [name for name in ("b", "i") if _is_on(properties.find(qn(f"w:{name}")))]
    return {"b": "**", "i": "*", "bi": "***"}.get("".join(on), "")


def _is_on(element: object) -> bool:
    return element is not None and element.get(qn("w:val")) not in ("0", "false", "off")  # type: ignore[attr-defined]


def _merged(parts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbours of one look as one piece."""
    merged: list[tuple[str, str]] = []
    for text, marks in parts:
        if merged and merged[-1][1] == marks:
            merged[-1] = (merged[-1][0] + text, marks)
        else:
            merged.append((text, marks))
    return merged


def table_text(table: Table, changes: str = "accepted") -> str:
    """A table as Markdown; a merged cell stands once, the places that it covers are empty."""
    rows = []
    seen: set[object] = set()
    for row in table.rows:
        cells = []
        for cell in row.cells:
            text = ""
            if cell._tc not in seen:
                seen.add(cell._tc)
                inner = [paragraph_text(p, changes) for p in cell.paragraphs] + [table_text(t) for t in cell.tables]
                text = "<br>".join(part for part in inner if part).replace("|", "\\|").replace("\n", "<br>")
            cells.append(text)
        rows.append("| " + " | ".join(cells) + " |")
    width = len(table.columns)
    return "\n".join([*rows[:1], "|" + " --- |" * width, *rows[1:]])


# -- what else there is --


def info(arguments: argparse.Namespace) -> None:
    document = opened(arguments.file)
    properties, body = document.core_properties, document.element.body
    styles = {p.style.name for p in document.paragraphs if p.style is not None}
    show_json(
        {
            "title": properties.title,
            "author": properties.author,
            "created": properties.created,
            "modified": properties.modified,
            "paragraphs": len(document.paragraphs),
            "words": sum(len(p.text.split()) for p in document.paragraphs),
            "headings": [[p.style.name, p.text] for p in document.paragraphs if is_heading(p)][:200],
            "tables": [[len(t.rows), len(t.columns)] for t in document.tables],
            "pictures": len(list(body.iter(qn("wp:docPr")))),
            "comments": len(list(document.comments)),
            "tracked_changes": sum(1 for _ in body.iter(qn("w:ins"), qn("w:del"))),
            "styles_used": sorted(styles),
            "table_styles": sorted(s.name for s in document.styles if s.type == docx.enum.style.WD_STYLE_TYPE.TABLE),
            "sections": [_section(section) for section in document.sections],
        }
    )


def is_heading(paragraph: Paragraph) -> bool:
    style = paragraph.style.name if paragraph.style is not None else ""
    return bool(re.fullmatch(r"Title|[Hh]eading \d", style or ""))


def _section(section: docx.section.Section) -> dict[str, object]:
    def cm(length: object) -> object:
        return round(length.cm, 2) if length is not None else None  # type: ignore[attr-defined]

    return {
        "page_cm": [cm(section.page_width), cm(section.page_height)],
        "margins_cm": [
            cm(v) for v in (section.top_margin, section.right_margin, section.bottom_margin, section.left_margin)
        ],
        "header": "\n".join(p.text for p in section.header.paragraphs),
        "footer": "\n".join(p.text for p in section.footer.paragraphs),
    }


def comments(arguments: argparse.Namespace) -> None:
    document = opened(arguments.file)
    places = _commented(document)
    show_json(
        [
            {
                "id": comment.comment_id,
                "author": comment.author,
                "date": comment.timestamp,
                "text": "\n".join(p.text for p in comment.paragraphs),
                "at": places.get(str(comment.comment_id), ""),
            }
            for comment in document.comments
        ]
    )


def _commented(document: Document) -> dict[str, str]:
    """The text between the marks of each comment."""
    texts: dict[str, str] = {}
    open_ids: set[str] = set()
    for element in document.element.body.iter():
        if element.tag == qn("w:commentRangeStart"):
            open_ids.add(element.get(qn("w:id")))
        elif element.tag == qn("w:commentRangeEnd"):
            open_ids.discard(element.get(qn("w:id")))
        elif element.tag == qn("w:t"):
            for number in open_ids:
                texts[number] = texts.get(number, "") + (element.text or "")
    return texts


def changes(arguments: argparse.Namespace) -> None:
    document = opened(arguments.file)
    found = []
    for element in document.element.body.iter(qn("w:ins"), qn("w:del"), qn("w:moveFrom"), qn("w:moveTo")):
        text = "".join(_run_text(run) for run in element.iter(qn("w:r")))
        paragraph = next((p for p in element.iterancestors(qn("w:p"))), None)
        found.append(
            {
                "kind": {"ins": "inserted", "del": "deleted"}.get(element.tag.rpartition("}")[2], "moved"),
                "author": element.get(qn("w:author")),
                "date": element.get(qn("w:date")),
                "text": text or "(a paragraph mark or a row)",
                "in": paragraph_text(Paragraph(paragraph, document), "marked")[:300] if paragraph is not None else "",
            }
        )
    show_json(found)


def images(arguments: argparse.Namespace) -> None:
    document = opened(arguments.file)
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {part.partname: part for part in document.part.package.iter_parts() if "/media/" in part.partname}
    for name, part in sorted(parts.items())[:_IMAGES]:
        target = folder / Path(name).name
        target.write_bytes(part.blob)
        print(target)
