"""Reads PDF files: text, tables, pictures, and what they are. It changes nothing."""

from __future__ import annotations

import argparse
import csv
import io
import logging
import re
import sys
from pathlib import Path

from command import Problem, show, show_json, source
from pypdf import PdfReader
from pypdf.errors import PyPdfError

_PLACEHOLDER = re.compile(r"\{\{.*?\}\}|\[(?:TODO|TBD|INSERT)[^\]]*\]|\bTODO\b|\bTBD\b|lorem ipsum|\bXXX+\b", re.I)
_MOST_PIXELS = 40_000_000
_MOST_FILES = 500
logging.getLogger("pypdf").setLevel(logging.ERROR)
logging.getLogger("pdfminer").setLevel(logging.ERROR)


def opened(path: str, password: str | None = None) -> PdfReader:
    """A reader of a file that could be opened. Raises Problem."""
    found = source(path, ".pdf")
    try:
        reader = PdfReader(str(found))
        if reader.is_encrypted and not reader.decrypt(password or ""):
            raise Problem(
                f"{path}: it is encrypted; give its --password" if password is None else f"{path}: wrong password"
            )
        len(reader.pages)
    except PyPdfError as error:
        raise Problem(f"{path}: cannot be read as a PDF file: {error}") from None
    return reader


def chosen(text: str | None, most: int) -> list[int]:
    """The pages of a choice like `1,3-5`, counted from 0."""
    if text is None:
        return list(range(most))
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(-\s*(\d*)\s*)?", part)
        if match is None:
            raise Problem(f"{part!r} is neither a page nor a range like 2-5")
        first = int(match[1])
        last = first if match[2] is None else int(match[3] or most)
        if not 1 <= first <= last <= most:
            raise Problem(f"{part.strip()}: the pages are 1 to {most}")
        found += range(first - 1, last)
    return found


def info(arguments: argparse.Namespace) -> None:
    reader = opened(arguments.file, arguments.password)
    about = reader.metadata
    sizes: dict[str, int] = {}
    for page in reader.pages:
        size = f"{float(page.mediabox.width) / 72 * 2.54:.1f} x {float(page.mediabox.height) / 72 * 2.54:.1f} cm"
        sizes[size] = sizes.get(size, 0) + 1
    scanned = [n for n, page in enumerate(reader.pages[:200], start=1) if not page.extract_text().strip()]
    show_json(
        {
            "pages": len(reader.pages),
            "sizes": sizes,
            "title": about.title if about else None,
            "author": about.author if about else None,
            "created": _safe(lambda: about.creation_date if about else None),
            "encrypted": reader.is_encrypted,
            "form_fields": len(reader.get_fields() or {}),
            "outline": _outline(reader, reader.outline, 0)[:200],
            "attachments": sorted(reader.attachments),
            "pages_without_text": scanned[:100],
        }
    )


def _safe(get: object) -> object:
    try:
        return get()  # type: ignore[operator]
    except (ValueError, TypeError):
        return None


def _outline(reader: PdfReader, entries: list, level: int) -> list[str]:
    found = []
    for entry in entries:
        if isinstance(entry, list):
            found += _outline(reader, entry, level + 1)
        else:
            page = reader.get_destination_page_number(entry)
            found.append(f"{'  ' * level}{entry.title} ({page + 1 if page is not None and page >= 0 else '?'})")
    return found


def text(arguments: argparse.Namespace) -> None:
    reader = opened(arguments.file, arguments.password)
    mode = "layout" if arguments.layout else "plain"
    parts, empty = [], []
    left = arguments.max_chars
    for number in chosen(arguments.pages, len(reader.pages)):
        found = reader.pages[number].extract_text(extraction_mode=mode).rstrip()
        parts.append(f"--- page {number + 1} ---\n{found}")
        left -= len(found)
        if not found.strip():
            empty.append(number + 1)
        if left < 0:
            break
    if empty:
        print(f"note: no text on the pages {empty}: they may be scans; use render and look at them", file=sys.stderr)
    show("\n\n".join(parts), arguments.max_chars)


def tables(arguments: argparse.Namespace) -> None:
    import pdfplumber

    opened(arguments.file, arguments.password)
    settings = {"vertical_strategy": arguments.by, "horizontal_strategy": arguments.by}
    found = []
    with pdfplumber.open(arguments.file, password=arguments.password or "") as document:
        for number in chosen(arguments.pages, len(document.pages)):
            page = document.pages[number]
            found += [(number + 1, rows) for rows in page.extract_tables(settings)]
            page.close()
    if not found:
        print("note: no tables found; try --by text, or text --layout", file=sys.stderr)
    if arguments.form == "json":
        show_json([{"page": page, "rows": rows} for page, rows in found])
        return
    out = io.StringIO()
    for page, rows in found:
        out.write(f"# page {page}\n")
        csv.writer(out, lineterminator="\n").writerows([["" if cell is None else cell for cell in row] for row in rows])
    show(out.getvalue().rstrip("\n"))


def images(arguments: argparse.Namespace) -> None:
    reader = opened(arguments.file, arguments.password)
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for number in chosen(arguments.pages, len(reader.pages)):
        for image in reader.pages[number].images:
            count += 1
            target = folder / f"page{number + 1}-{count}{Path(image.name).suffix}"
            target.write_bytes(image.data)
            print(target)
            if count >= _MOST_FILES:
                raise Problem(f"more than {_MOST_FILES} pictures; ask for some --pages")


def render(arguments: argparse.Namespace) -> None:
    import pypdfium2

    opened(arguments.file, arguments.password)
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    document = pypdfium2.PdfDocument(arguments.file, password=arguments.password)
    try:
        for number in chosen(arguments.pages, len(document)):
            page = document[number]
            width, height = page.get_size()
            scale = arguments.dpi / 72
            if width * height * scale * scale > _MOST_PIXELS:
                raise Problem(f"page {number + 1} would have more than {_MOST_PIXELS} points; choose a smaller --dpi")
            target = folder / f"page{number + 1}.png"
            page.render(scale=scale).to_pil().save(target)
            print(target)
    finally:
        document.close()


def check(arguments: argparse.Namespace) -> int:
    reader = opened(arguments.file, arguments.password)
    problems, texts = [], []
    for number, page in enumerate(reader.pages, start=1):
        found = page.extract_text()
        texts.append(" ".join(found.split()))
        has_picture = "/XObject" in (page.get("/Resources") or {})
        if not found.strip():
            problems.append(
                f"page {number} has no text" + (", only pictures" if has_picture else " and no picture: it is empty")
            )
        if left := _PLACEHOLDER.search(found):
            problems.append(f"page {number}: a placeholder was left: {left[0]!r}")
        if "\ufffd" in found or "\u25a0" in found:
            problems.append(f"page {number}: letters that the font lacks (shown as boxes); use --font when making it")
    whole = " ".join(texts)
    problems += [
        f"expected text is missing: {text!r}" for text in arguments.expect if " ".join(text.split()) not in whole
    ]
    if not len(reader.pages):
        problems.append("there are no pages")
    show_json({"ok": not problems, "pages": len(reader.pages), "words": len(whole.split()), "problems": problems[:100]})
    return 1 if problems else 0
