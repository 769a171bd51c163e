"""Looks for what is usually wrong with slides before they are handed over."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator

from command import show_json
from pptx.presentation import Presentation as Deck
from pptx.shapes.base import BaseShape
from pptx.slide import Slide
from pptx.util import Emu
from slides_read import opened, shapes, title_of

_PLACEHOLDER = re.compile(
    r"\{\{.*?\}\}|\[(?:TODO|TBD|INSERT)[^\]]*\]|<<.*?>>|\bTODO\b|\bTBD\b|lorem ipsum|\bXXX+\b", re.I
)
_SMALLEST = 9  # points
_WORDS = 120


def check(arguments: argparse.Namespace) -> int:
    deck = opened(arguments.file)
    problems = [] if len(deck.slides) else ["there are no slides"]
    texts = []
    for number, slide in enumerate(deck.slides, start=1):
        problems += [f"slide {number}: {problem}" for problem in _slide_problems(slide, deck)]
        texts += [shape.text_frame.text for shape in shapes(slide) if shape.has_text_frame]
        texts += [
            c.text for s in shapes(slide) if getattr(s, "has_table", False) for r in s.table.rows for c in r.cells
        ]
    problems += [
        f"expected text is missing: {text!r}" for text in arguments.expect if not any(text in t for t in texts)
    ]
    show_json({"ok": not problems, "slides": len(deck.slides), "problems": problems[:100]})
    return 1 if problems else 0


def _slide_problems(slide: Slide, deck: Deck) -> Iterator[str]:
    found = list(shapes(slide))
    if not title_of(slide):
        yield "it has no title"
    if not found:
        yield "it is empty"
    for shape in found:
        yield from (f"{shape.name!r} {problem}" for problem in _shape_problems(shape, deck))
    words = sum(len(shape.text_frame.text.split()) for shape in found if shape.has_text_frame)
    if words > _WORDS:
        yield f"it has {words} words; more than {_WORDS} are not read from a slide: split it or move text to the notes"
    yield from _overlaps([s for s in found if _has_content(s)])


def _shape_problems(shape: BaseShape, deck: Deck) -> Iterator[str]:
    if shape.is_placeholder and shape.has_text_frame and not shape.text_frame.text.strip():
        yield "is an empty placeholder"
    if None not in (shape.left, shape.top, shape.width, shape.height):
        right, bottom = shape.left + shape.width, shape.top + shape.height
        margin = Emu(20_000)
        if (
            shape.left < -margin
            or shape.top < -margin
            or right > deck.slide_width + margin
            or bottom > deck.slide_height + margin
        ):
            yield "reaches beyond the edge of the slide"
    if not shape.has_text_frame:
        return
    if found := _PLACEHOLDER.search(shape.text_frame.text):
        yield f"still has a placeholder: {found[0]!r}"
    sizes = [run.font.size.pt for p in shape.text_frame.paragraphs for run in p.runs if run.font.size is not None]
    if sizes and min(sizes) < _SMALLEST:
        yield f"has text of {min(sizes):g} points, which is too small"
    if (lines := _lines(shape)) is not None and lines[0] > lines[1] * 1.1:
        yield f"has about {lines[0]:.0f} lines of text and room for {lines[1]:.0f}"


def _lines(shape: BaseShape) -> tuple[float, float] | None:
    """Roughly how many lines a text takes, and how many fit; None where that can't be told."""
    if not shape.width or not shape.height or shape.text_frame.word_wrap is False:
        return None
    given = [run.font.size.pt for p in shape.text_frame.paragraphs for run in p.runs if run.font.size is not None]
    size = max(given, default=40.0 if shape.is_placeholder and shape.placeholder_format.idx == 0 else 20.0)
    in_a_line = max(1.0, (Emu(shape.width).pt - 14) / (size * 0.5))
    needed = sum(max(1, -(-len(p.text) // int(in_a_line))) for p in shape.text_frame.paragraphs)
    return needed, max(1.0, (Emu(shape.height).pt - 7) / (size * 1.2))


def _has_content(shape: BaseShape) -> bool:
    return None not in (shape.left, shape.top, shape.width, shape.height) and (
        not shape.has_text_frame or bool(shape.text_frame.text.strip())
    )


def _overlaps(found: list[BaseShape]) -> Iterator[str]:
    for number, one in enumerate(found):
        for other in found[number + 1 :]:
            across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
            down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
            smaller = min(one.width * one.height, other.width * other.height)
            if across > 0 and down > 0 and smaller and across * down > smaller * 0.25:
                yield f"{one.name!r} and {other.name!r} overlap"
