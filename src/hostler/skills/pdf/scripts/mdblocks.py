"""Markdown as blocks: the part of it that documents need. It knows no document format.

The same file is in the skills docx, pdf and pptx, which are used apart from each other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

_FENCE = re.compile(r"^(`{3,}|~{3,})\s*(\S*)\s*$")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_ITEM = re.compile(r"^(\s*)([-*+]|\d{1,9}[.)])\s+(.*)$")
_IMAGE = re.compile(r'^!\[([^\]]*)\]\(\s*(<[^>]+>|[^)\s]+)(?:\s+"[^"]*")?\s*\)\s*$')
_RULE = re.compile(r"^\s*([-*_])(\s*\1){2,}\s*$")
_BREAK = re.compile(r"^\s*(<!--\s*page\s*break\s*-->|\\(new|page)(page|break))\s*$", re.IGNORECASE)
_DIVIDER = re.compile(r"^\s*\|?\s*:?-+:?\s*(\|\s*:?-+:?\s*)*\|?\s*$")
_INLINE = re.compile(
    r"(?P<escape>\\[\\`*_{}\[\]()#+.!|~<>-])"
    r"|(?P<ticks>`+)(?P<code>.+?)(?P=ticks)(?!`)"
    r"|\[(?P<label>[^\]]+)\]\((?P<url>[^)\s]+)\)"
    r"|(?P<both>\*\*\*)(?=\S)(?P<strongem>.+?)(?<=\S)\*\*\*"
    r"|(?P<two>\*\*|(?<!\w)__)(?=\S)(?P<strong>.+?)(?<=\S)(?P=two)"
    r"|~~(?=\S)(?P<gone>.+?)(?<=\S)~~"
    r"|(?P<one>\*|(?<!\w)_)(?=\S)(?P<em>.+?)(?<=\S)(?P=one)(?!\w)"
    r"|(?P<newline>\s*<br\s*/?>\s*)"
)


@dataclass(frozen=True)
class Span:
    """A piece of text of one look."""

    text: str
    bold: bool = False
    italic: bool = False
    strike: bool = False
    code: bool = False
    link: str = ""


Spans = list[Span]


@dataclass
class Heading:
    level: int
    spans: Spans


@dataclass
class Paragraph:
    spans: Spans
    quote: bool = False


@dataclass
class Item:
    """An entry of a list; `level` counts from 0, `first` says that an ordered list begins here."""

    level: int
    ordered: bool
    spans: Spans
    first: bool = False


@dataclass
class Table:
    """`rows[0]` is the header; all rows are equally long. `aligns` has left, center or right for each column."""

    rows: list[list[Spans]]
    aligns: list[str] = field(default_factory=list)


@dataclass
class Code:
    text: str


@dataclass
class Image:
    alt: str
    path: str


@dataclass
class Rule:
    pass


@dataclass
class PageBreak:
    pass


Block = Heading | Paragraph | Item | Table | Code | Image | Rule | PageBreak


def plain(spans: Spans) -> str:
    return "".join(span.text for span in spans)


def inline(text: str, look: Span | None = None) -> Spans:
    """The spans of a line."""
    look = look or Span("")
    spans: Spans = []
    position = 0
    for match in _INLINE.finditer(text):
        if match.start() > position:
            spans.append(replace(look, text=text[position : match.start()]))
        spans += _span(match, look)
        position = match.end()
    if position < len(text):
        spans.append(replace(look, text=text[position:]))
    return spans


def _span(match: re.Match[str], look: Span) -> Spans:
    found = match.groupdict()
    if found["escape"]:
        return [replace(look, text=found["escape"][1:])]
    if found["newline"]:
        return [replace(look, text="\n")]
    if found["code"] is not None:
        return [replace(look, text=found["code"].strip(), code=True)]
    if found["label"]:
        return inline(found["label"], replace(look, link=found["url"]))
    if found["strongem"]:
        return inline(found["strongem"], replace(look, bold=True, italic=True))
    if found["strong"]:
        return inline(found["strong"], replace(look, bold=True))
    if found["gone"]:
        return inline(found["gone"], replace(look, strike=True))
    return inline(found["em"], replace(look, italic=True))


def parse(text: str) -> list[Block]:
    """The blocks of a text."""
    lines = text.expandtabs(4).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    blocks: list[Block] = []
    number = 0
    while number < len(lines):
        number = _block(lines, number, blocks)
    return _mark_first(blocks)


def _block(lines: list[str], number: int, blocks: list[Block]) -> int:
    """Add the block that begins at this line; return the number of the line behind it."""
    line = lines[number]
    if not line.strip():
        return number + 1
    if fence := _FENCE.match(line.strip()):
        return _code(lines, number, fence[1], blocks)
    if _is_table(lines, number):
        return _table(lines, number, blocks)
    if (single := _single(line)) is not None:
        blocks.append(single)
        return number + 1
    if _ITEM.match(line):
        return _item(lines, number, blocks)
    return _paragraph(lines, number, blocks)


def _single(line: str) -> Block | None:
    """A block that is one line."""
    if heading := _HEADING.match(line):
        return Heading(len(heading[1]), inline(heading[2]))
    if _BREAK.match(line):
        return PageBreak()
    if _RULE.match(line):
        return Rule()
    if image := _IMAGE.match(line.strip()):
        return Image(image[1], image[2].strip("<>"))
    return None


def _code(lines: list[str], number: int, fence: str, blocks: list[Block]) -> int:
    end = number + 1
    while end < len(lines) and not lines[end].strip().startswith(fence):
        end += 1
    blocks.append(Code("\n".join(lines[number + 1 : end])))
    return end + 1


def _is_table(lines: list[str], number: int) -> bool:
    more = number + 1 < len(lines)
    return more and "|" in lines[number] and "|" in lines[number + 1] and bool(_DIVIDER.match(lines[number + 1]))


def _table(lines: list[str], number: int, blocks: list[Block]) -> int:
    end = number + 2
    while end < len(lines) and "|" in lines[end] and lines[end].strip():
        end += 1
    header, divider = _cells(lines[number]), _cells(lines[number + 1])
    rows = [header, *(_cells(line) for line in lines[number + 2 : end])]
    columns = max(len(row) for row in rows)
    marks = [(cell.startswith(":"), cell.endswith(":")) for cell in divider]
    aligns = ["center" if mark == (True, True) else "right" if mark == (False, True) else "left" for mark in marks]
    aligns += ["left"] * (columns - len(aligns))
    blocks.append(Table([[inline(cell) for cell in row + [""] * (columns - len(row))] for row in rows], aligns))
    return end


def _cells(line: str) -> list[str]:
    line = line.strip().removeprefix("|")
    line = line[:-1] if line.endswith("|") and not line.endswith("\\|") else line
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)]


def _item(lines: list[str], number: int, blocks: list[Block]) -> int:
    """An entry with the lines that go on with it."""
    match = _ITEM.match(lines[number])
    assert match is not None
    text, end = [match[3]], number + 1
    while end < len(lines) and lines[end].startswith("  ") and not _begins(lines, end):
        text.append(lines[end].strip())
        end += 1
    level = min(len(match[1]) // 2, 8)
    above = blocks[-1] if blocks and isinstance(blocks[-1], Item) else None
    level = min(level, above.level + 1) if above else 0
    blocks.append(Item(level, match[2][0].isdigit(), inline(" ".join(text))))
    return end


def _paragraph(lines: list[str], number: int, blocks: list[Block]) -> int:
    quote = lines[number].lstrip().startswith(">")
    text, end = [], number
    while end < len(lines) and lines[end].strip() and (end == number or not _begins(lines, end)):
        line = lines[end]
        if line.lstrip().startswith(">") != quote:
            break
        hard = line.endswith("  ")
        text.append(line.lstrip().removeprefix(">").strip() + ("<br>" if hard else ""))
        end += 1
    joined = " ".join(text).replace("<br> ", "<br>").removesuffix("<br>")
    blocks.append(Paragraph(inline(joined), quote))
    return end


def _begins(lines: list[str], number: int) -> bool:
    """Whether a new block begins here, without an empty line before it."""
    line = lines[number]
    return not line.strip() or bool(
        _FENCE.match(line.strip()) or _single(line) or _ITEM.match(line) or _is_table(lines, number)
    )


def _mark_first(blocks: list[Block]) -> list[Block]:
    """Mark where each ordered list starts to count from one."""
    counting: set[int] = set()
    for block in blocks:
        if not isinstance(block, Item):
            counting.clear()
            continue
        counting = {level for level in counting if level <= block.level}
        block.first = block.ordered and block.level not in counting
        counting = counting | {block.level} if block.ordered else counting - {block.level}
    return blocks
