"""Makes a Word file from Markdown. What is in the document is real: headings, lists, tables, fields."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import docx
import mdblocks
from command import Problem, text_of, written
from docx.document import Document
from docx.enum.section import WD_ORIENT
from docx.enum.text import WD_ALIGN_PARAGRAPH, WD_BREAK
from docx.image.exceptions import UnrecognizedImageError
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Cm, Emu, Pt, RGBColor
from docx.text.paragraph import Paragraph
from word_read import opened

PAGES = {"a4": (Cm(21.0), Cm(29.7)), "letter": (Cm(21.59), Cm(27.94))}
_ALIGN = {"center": WD_ALIGN_PARAGRAPH.CENTER, "right": WD_ALIGN_PARAGRAPH.RIGHT}
_MONO = "Courier New"


def create(arguments: argparse.Namespace) -> None:
    blocks = mdblocks.parse(text_of(arguments.markdown))
    document = opened(arguments.template) if arguments.template else docx.Document()
    if arguments.template:
        _empty(document)
    _page(document, arguments)
    _properties(document, arguments)
    if arguments.toc:
        _contents(document)
    Builder(document, _folder(arguments.markdown), arguments.table_style).add(blocks)
    save(document, arguments.out)


def append(arguments: argparse.Namespace) -> None:
    blocks = mdblocks.parse(text_of(arguments.markdown))
    document = opened(arguments.file)
    Builder(document, _folder(arguments.markdown), arguments.table_style).add(blocks)
    save(document, arguments.out)


def save(document: Document, out: str) -> None:
    if Path(out).suffix.lower() != ".docx":
        raise Problem(f"{out}: the name must end in .docx")
    with written(out) as half:
        document.save(half)
    print(out)


def _folder(markdown: str) -> Path:
    """What paths of pictures are relative to."""
    return Path.cwd() if markdown == "-" else Path(markdown).resolve().parent


def _empty(document: Document) -> None:
    body = document.element.body
    for element in list(body):
        if element.tag != qn("w:sectPr"):
            body.remove(element)


def _page(document: Document, arguments: argparse.Namespace) -> None:
    section = document.sections[-1]
    if arguments.page or not arguments.template:
        section.page_width, section.page_height = PAGES[arguments.page or "a4"]
    if arguments.landscape and section.page_width < section.page_height:
        section.orientation = WD_ORIENT.LANDSCAPE
        section.page_width, section.page_height = section.page_height, section.page_width
    if arguments.margin_cm is not None:
        for side in ("left", "right", "top", "bottom"):
            setattr(section, f"{side}_margin", Cm(arguments.margin_cm))
    normal = document.styles["Normal"]
    if arguments.font:
        normal.font.name = arguments.font
        normal.element.get_or_add_rPr().get_or_add_rFonts().set(qn("w:eastAsia"), arguments.font)
    if arguments.size:
        normal.font.size = Pt(arguments.size)


def _properties(document: Document, arguments: argparse.Namespace) -> None:
    properties = document.core_properties
    properties.title = arguments.title or properties.title
    properties.created = properties.modified = datetime.now(UTC).replace(tzinfo=None)
    properties.author = arguments.author or ("" if not arguments.template else properties.author)
    section = document.sections[-1]
    if arguments.header:
        section.header.paragraphs[0].text = arguments.header
    if arguments.footer or arguments.page_numbers:
        footer = section.footer.paragraphs[0]
        footer.text = arguments.footer or ""
        if arguments.page_numbers:
            footer.alignment = WD_ALIGN_PARAGRAPH.CENTER
            footer.add_run(" - Page " if arguments.footer else "Page ")
            _field(footer, "PAGE", "1")
            footer.add_run(" of ")
            _field(footer, "NUMPAGES", "1")


def _field(paragraph: Paragraph, code: str, shown: str) -> None:
    """A field that Word computes; `shown` stands there until then."""
    for kind in ("begin", None, "separate", "text", "end"):
        run = paragraph.add_run(shown if kind == "text" else "")
        if kind is None:
            instruction = OxmlElement("w:instrText")
            instruction.set(qn("xml:space"), "preserve")
            instruction.text = f" {code} "
            run._r.append(instruction)
        elif kind != "text":
            mark = OxmlElement("w:fldChar")
            mark.set(qn("w:fldCharType"), kind)
            run._r.append(mark)


def _contents(document: Document) -> None:
    _field(document.add_paragraph(), 'TOC \\o "1-3" \\h \\z \\u', "Right-click here and choose Update Field.")
    update = OxmlElement("w:updateFields")
    update.set(qn("w:val"), "true")
    document.settings.element.append(update)
    document.add_page_break()


class Builder:
    """Adds blocks to the end of a document."""

    def __init__(self, document: Document, folder: Path, table_style: str) -> None:
        self._document = document
        self._folder = folder
        self._table_style = table_style
        self._counters: dict[int, int] = {}  # level -> the numbering that its entries share

    def add(self, blocks: list[mdblocks.Block]) -> None:
        for block in blocks:
            match block:
                case mdblocks.Heading(level=level, spans=spans):
                    self._spans(self._document.add_heading(level=min(level, 9)), spans)
                case mdblocks.Paragraph(spans=spans, quote=quote):
                    self._spans(self._document.add_paragraph(style=self._style("Quote" if quote else "Normal")), spans)
                case mdblocks.Item():
                    self._item(block)
                case mdblocks.Table():
                    self._table(block)
                case mdblocks.Code(text=text):
                    self._code(text)
                case mdblocks.Image():
                    self._image(block)
                case mdblocks.Rule():
                    self._rule()
                case mdblocks.PageBreak():
                    self._document.add_paragraph().add_run().add_break(WD_BREAK.PAGE)

    def _style(self, name: str) -> str | None:
        """The style if the document has it: a template may not."""
        return name if any(style.name == name for style in self._document.styles) else None

    def _spans(self, paragraph: Paragraph, spans: mdblocks.Spans) -> None:
        for span in spans:
            if span.link:
                self._link(paragraph, span)
                continue
            run = paragraph.add_run(span.text)
            run.bold, run.italic, run.font.strike = span.bold or None, span.italic or None, span.strike or None
            if span.code:
                run.font.name = _MONO

    def _link(self, paragraph: Paragraph, span: mdblocks.Span) -> None:
        link = OxmlElement("w:hyperlink")
        target = paragraph.part.relate_to(span.link, RELATIONSHIP_TYPE.HYPERLINK, is_external=True)
        link.set(qn("r:id"), target)
        run = paragraph.add_run(span.text)
        run.bold, run.italic, run.font.underline = span.bold or None, span.italic or None, True
        run.font.color.rgb = RGBColor(0x05, 0x63, 0xC1)
        link.append(run._r)
        paragraph._p.append(link)

    def _item(self, item: mdblocks.Item) -> None:
        kind = "List Number" if item.ordered else "List Bullet"
        name = kind if item.level == 0 else f"{kind} {min(item.level + 1, 3)}"
        paragraph = self._document.add_paragraph(style=self._style(name) or self._style(kind))
        if item.ordered:
            self._number(paragraph, item)
        self._spans(paragraph, item.spans)

    def _number(self, paragraph: Paragraph, item: mdblocks.Item) -> None:
        """Give each list a numbering of its own, so that every one begins with 1."""
        properties = paragraph.style.element.pPr if paragraph.style is not None else None
        if properties is None or properties.numPr is None or properties.numPr.numId is None:
            return
        if item.first:
            numbering = self._document.part.numbering_part.element
            base = numbering.num_having_numId(properties.numPr.numId.val)
            fresh = numbering.add_num(base.abstractNumId.val)
            fresh.add_lvlOverride(ilvl=0).add_startOverride(1)
            self._counters[item.level] = fresh.numId
        own = paragraph._p.get_or_add_pPr().get_or_add_numPr()
        own.get_or_add_ilvl().val = 0
        own.get_or_add_numId().val = self._counters[item.level]

    def _table(self, block: mdblocks.Table) -> None:
        table = self._document.add_table(len(block.rows), len(block.rows[0]))
        if (style := self._style(self._table_style)) is not None:
            table.style = style
        for row, cells in zip(table.rows, block.rows, strict=True):
            for cell, spans, align in zip(row.cells, cells, block.aligns, strict=False):
                paragraph = cell.paragraphs[0]
                paragraph.alignment = _ALIGN.get(align)
                self._spans(paragraph, spans)
        for cell in table.rows[0].cells:
            for run in cell.paragraphs[0].runs:
                run.bold = True
        repeated = OxmlElement("w:tblHeader")
        table.rows[0]._tr.get_or_add_trPr().append(repeated)
        self._document.add_paragraph()  # two tables without one between them would be one

    def _code(self, text: str) -> None:
        paragraph = self._document.add_paragraph()
        paragraph.paragraph_format.left_indent = Cm(0.5)
        run = paragraph.add_run(text)
        run.font.name, run.font.size = _MONO, Pt(9)

    def _image(self, image: mdblocks.Image) -> None:
        path = (self._folder / image.path).resolve()
        section = self._document.sections[-1]
        widest = Emu(section.page_width - section.left_margin - section.right_margin)
        highest = Emu(int((section.page_height - section.top_margin - section.bottom_margin) * 0.9))
        try:
            picture = self._document.add_picture(str(path))
        except FileNotFoundError:
            raise Problem(f"the picture {image.path} does not exist; paths are relative to the Markdown file") from None
        except UnrecognizedImageError:
            raise Problem(f"{image.path} is not a PNG, JPEG, GIF, BMP or TIFF picture") from None
        scale = min(1.0, widest / picture.width, highest / picture.height)
        picture.width, picture.height = Emu(int(picture.width * scale)), Emu(int(picture.height * scale))
        picture._inline.docPr.set("descr", image.alt)
        if image.alt:
            self._document.add_paragraph(image.alt, style=self._style("Caption"))

    def _rule(self) -> None:
        borders, bottom = OxmlElement("w:pBdr"), OxmlElement("w:bottom")
        for name, value in (("val", "single"), ("sz", "6"), ("space", "1"), ("color", "auto")):
            bottom.set(qn(f"w:{name}"), value)
        borders.append(bottom)
        self._document.add_paragraph()._p.get_or_add_pPr().append(borders)
