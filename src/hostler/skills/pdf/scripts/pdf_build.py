"""Makes a PDF file from Markdown, with an outline, repeated table headers, page headers and footers."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import mdblocks
from command import Problem, text_of, written
from PIL import Image as Picture
from PIL import UnidentifiedImageError
from reportlab.lib import colors
from reportlab.lib.enums import TA_CENTER, TA_RIGHT
from reportlab.lib.pagesizes import A4, LETTER, landscape
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import cm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    Flowable,
    HRFlowable,
    Image,
    PageBreak,
    Paragraph,
    Preformatted,
    SimpleDocTemplate,
    Spacer,
    Table,
    TableStyle,
)

_BLUE = colors.HexColor("#1f4e79")
_PADDING = 12  # of the frame that reportlab lays text into, both sides together
_GREY = colors.HexColor("#666666")
_FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/TTF/DejaVuSans.ttf",
    "/usr/share/fonts/truetype/liberation/LiberationSans-Regular.ttf",
)


def create(arguments: argparse.Namespace) -> None:
    if Path(arguments.out).suffix.lower() != ".pdf":
        raise Problem(f"{arguments.out}: the name must end in .pdf")
    source = text_of(arguments.markdown)
    folder = Path.cwd() if arguments.markdown == "-" else Path(arguments.markdown).resolve().parent
    size = {"a4": A4, "letter": LETTER}[arguments.page]
    size = landscape(size) if arguments.landscape else size
    margin = arguments.margin_cm * cm
    if not 0 <= margin < min(size) / 2 - cm:
        raise Problem(f"--margin-cm {arguments.margin_cm} leaves no room on the page")
    whole = "".join([source, arguments.header or "", arguments.footer or ""])
    maker = _Maker(
        folder,
        _font(arguments.font, whole),
        arguments.size,
        size[0] - 2 * margin - _PADDING,
        size[1] - 2 * margin - _PADDING,
    )
    blocks = mdblocks.parse(source)

    def build(target: object, pages: int) -> int:
        """Lay it all out; return the number of pages."""
        title, author = arguments.title or Path(arguments.out).stem, arguments.author or ""
        sides = {f"{side}Margin": margin for side in ("left", "right", "top", "bottom")}
        document = SimpleDocTemplate(target, pagesize=size, title=title, author=author, **sides)

        def mark(canvas: Canvas, _: object) -> None:
            _mark(canvas, arguments, maker.font, margin, f"{canvas.getPageNumber()} / {pages}")

        document.build(maker.story(blocks) or [Spacer(1, 1)], onFirstPage=mark, onLaterPages=mark)
        return document.page

    with written(arguments.out) as half:
        build(half, build(io.BytesIO(), 0) if arguments.page_numbers else 0)
    print(arguments.out)


def _mark(canvas: Canvas, arguments: argparse.Namespace, font: str, margin: float, number: str) -> None:
    """Draw the header, the footer and the number of a page."""
    width, height = canvas._pagesize
    edge = max(margin / 2, 14)
    canvas.saveState()
    canvas.setFont(font, 8.5)
    canvas.setFillColor(_GREY)
    if arguments.header:
        canvas.drawString(margin, height - edge, arguments.header)
    if arguments.footer:
        canvas.drawString(margin, edge - 4, arguments.footer)
    if arguments.page_numbers:
        canvas.drawRightString(width - margin, edge - 4, number)
    canvas.restoreState()


def _font(given: str | None, text: str) -> str:
    """The name of a font that has the letters of a text: a built-in one, the given file, or one of the machine's."""
    if given is None and _is_latin(text):
        return "Helvetica"
    for path in [given] if given else _FONTS:
        try:
            font = TTFont("Text", path)
        except (TTFError, OSError):
            if given:
                raise Problem(f"{given} is not a TrueType font that can be used") from None
            continue
        lacking = "".join(sorted({c for c in text if not c.isspace() and ord(c) not in font.face.charToGlyph}))[:20]
        if lacking and given:
            raise Problem(f"{given} lacks letters of the text: {lacking}")
        if lacking:
            continue
        pdfmetrics.registerFont(font)
        pdfmetrics.registerFontFamily(
            "Text", normal="Text", bold=_other(path, "Bold"), italic="Text", boldItalic="Text"
        )
        return "Text"
    letters = "".join(sorted({letter for letter in text if not _is_latin(letter)}))[:20]
    raise Problem(f"no font found that has all letters of the text ({letters}); give a TrueType file with --font")


def _other(path: str, kind: str) -> str:
    """The bold one beside a font, where there is one."""
    beside = Path(path)
    for name in (f"{beside.stem}-{kind}.ttf", f"{beside.stem.removesuffix('-Regular')}-{kind}.ttf"):
        if (beside.parent / name).is_file():
            pdfmetrics.registerFont(TTFont(f"Text{kind}", str(beside.parent / name)))
            return f"Text{kind}"
    return "Text"


def _is_latin(text: str) -> bool:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


class _Heading(Paragraph):
    """Enters itself into the outline of the file."""

    def __init__(self, text: str, style: ParagraphStyle, plain: str, level: int) -> None:
        super().__init__(text, style)
        self._plain, self._level = plain, level

    def draw(self) -> None:
        key = f"heading-{id(self)}"
        self.canv.bookmarkPage(key)
        self.canv.addOutlineEntry(self._plain, key, level=self._level, closed=False)
        super().draw()


class _Maker:
    """Turns blocks into what reportlab lays out."""

    def __init__(self, folder: Path, font: str, size: float, width: float, height: float) -> None:
        self.font = font
        self._folder = folder
        self._width = width
        self._height = height
        self._text = ParagraphStyle("text", fontName=font, fontSize=size, leading=size * 1.4, spaceAfter=size * 0.6)
        self._depth = -1  # of the outline so far: it must not skip a level
        self._numbers: dict[int, int] = {}

    def story(self, blocks: list[mdblocks.Block]) -> list[Flowable]:
        self._depth = -1
        return [part for block in blocks for part in self._parts(block)]

    def _parts(self, block: mdblocks.Block) -> list[Flowable]:
        match block:
            case mdblocks.Heading():
                return [self._heading(block)]
            case mdblocks.Paragraph(spans=spans, quote=quote):
                return [Paragraph(_markup(spans), self._look(leftIndent=14, textColor=_GREY) if quote else self._text)]
            case mdblocks.Item():
                return [self._item(block)]
            case mdblocks.Table():
                return [Spacer(1, self._text.fontSize * 0.5), self._table(block), Spacer(1, self._text.fontSize)]
            case mdblocks.Code(text=text):
                return [self._code(text)]
            case mdblocks.Image():
                return self._image(block)
            case mdblocks.Rule():
                return [HRFlowable(width="100%", color=colors.lightgrey, spaceBefore=6, spaceAfter=6)]
        return [PageBreak()]

    def _look(self, **more: object) -> ParagraphStyle:
        return ParagraphStyle("other", parent=self._text, **more)

    def _heading(self, block: mdblocks.Heading) -> Flowable:
        size = self._text.fontSize * (1.9, 1.5, 1.25, 1.1, 1.0, 1.0)[block.level - 1]
        style = self._look(
            fontSize=size,
            leading=size * 1.25,
            spaceBefore=size * 0.7,
            spaceAfter=size * 0.4,
            textColor=_BLUE,
            keepWithNext=1,
        )
        self._depth = min(block.level - 1, self._depth + 1)
        return _Heading(f"<b>{_markup(block.spans)}</b>", style, mdblocks.plain(block.spans), self._depth)

    def _item(self, item: mdblocks.Item) -> Flowable:
        if item.ordered:
            self._numbers[item.level] = 1 if item.first else self._numbers.get(item.level, 0) + 1
        mark = f"{self._numbers[item.level]}." if item.ordered else "\u2022"
        indent = 16 * (item.level + 1)
        style = self._look(leftIndent=indent, bulletIndent=indent - 13, spaceAfter=self._text.fontSize * 0.25)
        return Paragraph(_markup(item.spans), style, bulletText=mark)

    def _table(self, block: mdblocks.Table) -> Flowable:
        looks = {"left": {}, "right": {"alignment": TA_RIGHT}, "center": {"alignment": TA_CENTER}}
        size = self._text.fontSize * 0.9
        rows = []
        for number, row in enumerate(block.rows):
            cells = []
            for spans, align in zip(row, block.aligns, strict=False):
                text = _markup(spans)
                style = self._look(fontSize=size, leading=size * 1.3, spaceAfter=0, **looks[align])
                cells.append(Paragraph(f"<b>{text}</b>" if number == 0 else text, style))
            rows.append(cells)
        table = Table(rows, colWidths=self._widths(block), repeatRows=1)
        lines = [("GRID", (0, 0), (-1, -1), 0.5, colors.lightgrey), ("VALIGN", (0, 0), (-1, -1), "TOP")]
        table.setStyle(TableStyle([*lines, ("BACKGROUND", (0, 0), (-1, 0), colors.HexColor("#e8eef5"))]))
        return table

    def _widths(self, block: mdblocks.Table) -> list[float]:
        """Shares of the width, by how much text the columns have."""
        longest = [max(len(mdblocks.plain(row[n])) for row in block.rows) for n in range(len(block.rows[0]))]
        weights = [min(max(length, 5), 50) for length in longest]
        return [self._width * weight / sum(weights) for weight in weights]

    def _code(self, text: str) -> Flowable:
        size = self._text.fontSize * 0.82
        font = "Courier" if _is_latin(text) else self.font
        style = self._look(fontName=font, fontSize=size, leading=size * 1.3, leftIndent=8, textColor=colors.black)
        return Preformatted(text, style, maxLineLength=max(20, int((self._width - 16) / (size * 0.6))), newLineChars="")

    def _image(self, block: mdblocks.Image) -> list[Flowable]:
        path = (self._folder / block.path).resolve()
        try:
            with Picture.open(path) as picture:
                width, height = picture.size
        except FileNotFoundError:
            raise Problem(f"the picture {block.path} does not exist; paths are relative to the Markdown file") from None
        except (UnidentifiedImageError, OSError) as error:
            raise Problem(f"{block.path} cannot be used as a picture: {error}") from None
        scale = min(0.75, self._width / width, self._height * 0.85 / height)
        parts: list[Flowable] = [Image(str(path), width * scale, height * scale)]
        if block.alt:
            small = self._text.fontSize * 0.85
            parts.append(Paragraph(escape(block.alt), self._look(alignment=TA_CENTER, fontSize=small, textColor=_GREY)))
        return parts


def _markup(spans: mdblocks.Spans) -> str:
    """Spans in the small markup language of reportlab's paragraphs."""
    parts = []
    for span in spans:
        text = escape(span.text).replace("\n", "<br/>")
        for wanted, tag in ((span.bold, "b"), (span.italic, "i"), (span.strike, "strike")):
            text = f"<{tag}>{text}</{tag}>" if wanted else text
        if span.code and _is_latin(span.text):
            text = f'<font face="Courier">{text}</font>'
        parts.append(f'<a href={quoteattr(span.link)} color="#0563c1">{text}</a>' if span.link else text)
    return "".join(parts)
