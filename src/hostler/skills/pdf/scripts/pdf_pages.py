"""Arranges, turns, encrypts and stamps the pages of PDF files."""

from __future__ import annotations

import argparse
import io
import math
import sys
from pathlib import Path

from command import Problem, written
from pdf_read import chosen, opened
from pypdf import PageObject, PdfReader, PdfWriter, Transformation
from reportlab.pdfbase.pdfmetrics import stringWidth
from reportlab.pdfgen.canvas import Canvas

_FONT = "Helvetica-Bold"
_MOST_FILES = 2000


def save(writer: PdfWriter, out: str) -> None:
    if Path(out).suffix.lower() != ".pdf":
        raise Problem(f"{out}: the name must end in .pdf")
    with written(out) as half:
        writer.write(half)
    print(out)


def _copy(arguments: argparse.Namespace) -> tuple[PdfReader, PdfWriter]:
    """The whole file, with its outline, form and properties."""
    reader = opened(arguments.file, arguments.password)
    return reader, PdfWriter(clone_from=reader)


def merge(arguments: argparse.Namespace) -> None:
    writer = PdfWriter()
    for path in arguments.files:
        writer.append(opened(path), outline_item=Path(path).stem)
    save(writer, arguments.out)


def split(arguments: argparse.Namespace) -> None:
    reader = opened(arguments.file, arguments.password)
    if arguments.every < 1 or len(reader.pages) / arguments.every > _MOST_FILES:
        raise Problem(f"--every must be at least 1 and give at most {_MOST_FILES} files")
    stem, digits = Path(arguments.file).stem, len(str(len(reader.pages)))
    for first in range(0, len(reader.pages), arguments.every):
        writer = PdfWriter()
        writer.append(reader, pages=(first, min(first + arguments.every, len(reader.pages))), import_outline=False)
        save(writer, str(Path(arguments.folder) / f"{stem}-{first + 1:0{digits}}.pdf"))


def pages(arguments: argparse.Namespace) -> None:
    reader = opened(arguments.file, arguments.password)
    writer = PdfWriter()
    writer.append(reader, pages=chosen(arguments.pages, len(reader.pages)))
    save(writer, arguments.out)


def rotate(arguments: argparse.Namespace) -> None:
    reader, writer = _copy(arguments)
    for number in chosen(arguments.pages, len(reader.pages)):
        writer.pages[number].rotate(arguments.by)
    save(writer, arguments.out)


def encrypt(arguments: argparse.Namespace) -> None:
    _, writer = _copy(arguments)
    password = sys.stdin.readline().rstrip("\n") if arguments.new_password == "-" else arguments.new_password
    if not password:
        raise Problem("an empty password protects nothing")
    writer.encrypt(password, arguments.owner_password or password, algorithm="AES-256")
    save(writer, arguments.out)


def decrypt(arguments: argparse.Namespace) -> None:
    _, writer = _copy(arguments)
    save(writer, arguments.out)


def watermark(arguments: argparse.Namespace) -> None:
    if (arguments.text is None) == (arguments.stamp is None):
        raise Problem("give either --text or --stamp")
    reader, writer = _copy(arguments)
    stamp = opened(arguments.stamp).pages[0] if arguments.stamp else None
    for number in chosen(arguments.pages, len(reader.pages)):
        page = writer.pages[number]
        page.transfer_rotation_to_content()
        box = page.mediabox
        drawn = (
            stamp
            if stamp is not None
            else _text_page(arguments.text, float(box.width), float(box.height), arguments.opacity)
        )
        _lay(page, drawn, over=not arguments.under)
    save(writer, arguments.out)


def _lay(page: PageObject, drawn: PageObject, *, over: bool) -> None:
    """Draw a page on another, in its middle and no larger."""
    box, other = page.mediabox, drawn.mediabox
    scale = min(float(box.width) / float(other.width), float(box.height) / float(other.height))
    x = float(box.left) + (float(box.width) - float(other.width) * scale) / 2 - float(other.left) * scale
    y = float(box.bottom) + (float(box.height) - float(other.height) * scale) / 2 - float(other.bottom) * scale
    page.merge_transformed_page(drawn, Transformation().scale(scale).translate(x, y), over=over)


def _text_page(text: str, width: float, height: float, opacity: float) -> PageObject:
    """A page with a text from corner to corner."""
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(width, height))
    diagonal = math.hypot(width, height)
    size = min(90.0, 0.7 * diagonal / max(stringWidth(text, _FONT, 1), 0.1))
    canvas.setFillGray(0.3, alpha=max(0.02, min(opacity, 1.0)))
    canvas.setFont(_FONT, size)
    canvas.translate(width / 2, height / 2)
    canvas.rotate(math.degrees(math.atan2(height, width)))
    canvas.drawCentredString(0, -size / 3, text)
    canvas.save()
    return PdfReader(buffer).pages[0]


def number(arguments: argparse.Namespace) -> None:
    _, writer = _copy(arguments)
    count = len(writer.pages)
    for index, page in enumerate(writer.pages, start=1):
        page.transfer_rotation_to_content()
        width, height = float(page.mediabox.width), float(page.mediabox.height)
        try:
            text = arguments.format.format(page=index, pages=count)
        except (KeyError, ValueError, IndexError):
            raise Problem(f"--format {arguments.format!r}: use {{page}} and {{pages}} only") from None
        buffer = io.BytesIO()
        canvas = Canvas(buffer, pagesize=(width, height))
        canvas.setFont("Helvetica", 9)
        canvas.drawCentredString(width / 2, 22, text)
        canvas.save()
        _lay(page, PdfReader(buffer).pages[0], over=True)
    save(writer, arguments.out)
