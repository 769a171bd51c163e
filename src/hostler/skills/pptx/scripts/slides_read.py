"""Reads a presentation. It changes nothing."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from command import Problem, show, show_json, source
from pptx import Presentation
from pptx.enum.shapes import MSO_SHAPE_TYPE
from pptx.exc import PackageNotFoundError
from pptx.presentation import Presentation as Deck
from pptx.shapes.base import BaseShape
from pptx.slide import Slide
from pptx.util import Length

ENDINGS = (".pptx", ".potx")


def opened(path: str) -> Deck:
    found = source(path, *ENDINGS)
    try:
        return Presentation(str(found))
    except (KeyError, ValueError, PackageNotFoundError) as error:
        raise Problem(f"{path}: cannot be read as a presentation: {error}") from None


def slide_of(deck: Deck, number: int) -> Slide:
    if not 1 <= number <= len(deck.slides):
        raise Problem(f"there is no slide {number}; the file has {len(deck.slides)}")
    return deck.slides[number - 1]


def shapes(slide: object) -> Iterator[BaseShape]:
    """Every shape, those in groups too, from top to bottom as a reader would go."""
    for shape in sorted(slide.shapes, key=lambda s: (s.top or 0, s.left or 0)):  # type: ignore[attr-defined]
        if shape.shape_type == MSO_SHAPE_TYPE.GROUP:
            yield from shapes(shape)
        else:
            yield shape


def title_of(slide: Slide) -> str:
    title = slide.shapes.title
    return title.text_frame.text.strip() if title is not None else ""


def notes_of(slide: Slide) -> str:
    frame = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    return frame.text.strip() if frame is not None else ""


def read(arguments: argparse.Namespace) -> None:
    deck = opened(arguments.file)
    parts = []
    for number, slide in enumerate(deck.slides, start=1):
        hidden = " (hidden)" if slide._element.get("show") == "0" else ""
        parts.append(f"## {number}. {title_of(slide) or '(no title)'}{hidden}")
        parts += [text for shape in shapes(slide) if (text := _shape_text(shape, slide))]
        if not arguments.no_notes and (notes := notes_of(slide)):
            parts.append(f"Notes: {notes}")
    show("\n\n".join(parts), arguments.max_chars)


def _shape_text(shape: BaseShape, slide: Slide) -> str:
    title = slide.shapes.title
    if title is not None and shape.shape_id == title.shape_id:
        return ""
    if shape.has_text_frame:
        lines = [(p.level, p.text.replace("\v", " ")) for p in shape.text_frame.paragraphs if p.text.strip()]
        return "\n".join(f"{'  ' * level}- {text}" if len(lines) > 1 or level else text for level, text in lines)
    if getattr(shape, "has_table", False) and shape.has_table:
        rows = [[cell.text.replace("|", "\\|").replace("\n", "<br>") for cell in row.cells] for row in shape.table.rows]
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([*lines[:1], "|" + " --- |" * len(rows[0]), *lines[1:]])
    if getattr(shape, "has_chart", False) and shape.has_chart:
        return _chart_text(shape.chart)
    if shape.shape_type == MSO_SHAPE_TYPE.PICTURE:
        return f"[picture: {shape._element.nvPicPr.cNvPr.get('descr') or shape.name}]"
    return ""


def _chart_text(chart: object) -> str:
    plot = chart.plots[0]  # type: ignore[attr-defined]
    names = [str(name) for name in plot.categories]
    series = [f"{s.name}: {', '.join(map(str, s.values))}" for s in plot.series]
    return f"[chart; {', '.join(names)}; " + "; ".join(series) + "]"


def info(arguments: argparse.Namespace) -> None:
    deck = opened(arguments.file)
    numbers = [arguments.slide] if arguments.slide else range(1, len(deck.slides) + 1)
    show_json(
        {
            "size_cm": [_cm(deck.slide_width), _cm(deck.slide_height)],
            "layouts": {layout.name: [_placeholder(p) for p in layout.placeholders] for layout in deck.slide_layouts},
            "slides": [_slide(slide_of(deck, number), number) for number in numbers],
        }
    )


def _placeholder(shape: object) -> str:
    form = shape.placeholder_format  # type: ignore[attr-defined]
    return f"{form.idx} {form.type.name.lower() if form.type is not None else 'object'}"


def _slide(slide: Slide, number: int) -> dict[str, object]:
    found = [
        {
            "id": shape.shape_id,
            "name": shape.name,
            "kind": shape.shape_type.name.lower() if shape.shape_type is not None else "shape",
            "at_cm": [_cm(shape.left), _cm(shape.top), _cm(shape.width), _cm(shape.height)],
            "text": shape.text_frame.text[:200] if shape.has_text_frame else "",
        }
        for shape in shapes(slide)
    ]
    return {"number": number, "layout": slide.slide_layout.name, "title": title_of(slide), "shapes": found}


def _cm(length: int | None) -> float | None:
    return round(Length(length).cm, 2) if length is not None else None


def images(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder)
    folder.mkdir(parents=True, exist_ok=True)
    for number, slide in enumerate(opened(arguments.file).slides, start=1):
        pictures = [shape for shape in shapes(slide) if hasattr(shape, "image")]
        for count, picture in enumerate(pictures, start=1):
            target = folder / f"slide{number}-{count}.{picture.image.ext}"
            target.write_bytes(picture.image.blob)
            print(target)
