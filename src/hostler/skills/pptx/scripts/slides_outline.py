"""Turns Markdown into a description of slides: a heading begins a slide, what follows is on it."""

from __future__ import annotations

import re

import mdblocks

_NOTES = re.compile(r"^(?:speaker )?notes?:\s*", re.IGNORECASE)


def slides_of(blocks: list[mdblocks.Block]) -> list[dict]:
    """`#` and `##` begin slides, `---` and page breaks too. A first `#` without bullets is the title slide."""
    slides: list[dict] = []
    for block in blocks:
        if isinstance(block, mdblocks.Heading) and block.level <= 2:
            slides.append({"title": mdblocks.plain(block.spans)})
        elif isinstance(block, mdblocks.Rule | mdblocks.PageBreak):
            if slides and slides[-1]:
                slides.append({})
        else:
            if not slides:
                slides.append({})
            _put(slides[-1], block)
    filled = [slide for slide in slides if slide]
    if filled and set(filled[0]) <= {"title", "text", "notes"} and "text" in filled[0]:
        filled[0]["subtitle"] = filled[0].pop("text")
    return filled


def _put(slide: dict, block: mdblocks.Block) -> None:
    """Add one block to a slide."""
    match block:
        case mdblocks.Item(level=level, spans=spans):
            _nest(slide.setdefault("bullets", []), level, _source(spans))
        case mdblocks.Table(rows=rows):
            slide["table"] = [[mdblocks.plain(cell) for cell in row] for row in rows]
        case mdblocks.Image(alt=alt, path=path):
            slide["image"], slide["caption"] = path, alt
        case mdblocks.Code(text=text):
            slide.setdefault("bullets", []).extend(text.split("\n"))
        case mdblocks.Heading(spans=spans):
            slide.setdefault("bullets", []).append(f"**{mdblocks.plain(spans)}**")
        case mdblocks.Paragraph(spans=spans):
            _paragraph(slide, spans)


def _paragraph(slide: dict, spans: mdblocks.Spans) -> None:
    text = mdblocks.plain(spans)
    if note := _NOTES.match(text):
        slide["notes"] = "\n".join(filter(None, [slide.get("notes"), text[note.end() :]]))
    elif "bullets" in slide or "text" in slide:
        earlier = [slide.pop("text")] if "text" in slide else []
        slide.setdefault("bullets", []).extend([*earlier, _source(spans)])
    else:
        slide["text"] = _source(spans)


def _nest(bullets: list, level: int, text: str) -> None:
    for _ in range(level):
        if not bullets or not isinstance(bullets[-1], list):
            bullets.append([])
        bullets = bullets[-1]
    bullets.append(text)


def _source(spans: mdblocks.Spans) -> str:
    """Spans as Markdown again, as far as slides show it."""
    parts = []
    for span in spans:
        text = span.text
        text = (
            f"**{text}**"
            if span.bold and text.strip() == text
            else f"*{text}*"
            if span.italic and text.strip() == text
            else text
        )
        parts.append(f"[{text}]({span.link})" if span.link else text)
    return "".join(parts)
