"""Makes slides from a description, in the placeholders of the design's own layouts wherever there are such."""

from __future__ import annotations

import argparse
from pathlib import Path

import mdblocks
from command import Problem, json_of, text_of
from pptx import Presentation
from pptx.chart.data import CategoryChartData, XyChartData
from pptx.enum.chart import XL_CHART_TYPE, XL_LEGEND_POSITION
from pptx.enum.shapes import PP_PLACEHOLDER
from pptx.presentation import Presentation as Deck
from pptx.slide import Slide, SlideLayout
from pptx.util import Cm, Emu, Pt
from slides_edit import keep_only, save
from slides_outline import slides_of
from slides_read import opened

_SIZES = {"16:9": (Cm(33.867), Cm(19.05)), "4:3": (Cm(25.4), Cm(19.05))}
_CHARTS = {
    "column": XL_CHART_TYPE.COLUMN_CLUSTERED,
    "stacked": XL_CHART_TYPE.COLUMN_STACKED,
    "bar": XL_CHART_TYPE.BAR_CLUSTERED,
    "line": XL_CHART_TYPE.LINE_MARKERS,
    "area": XL_CHART_TYPE.AREA,
    "pie": XL_CHART_TYPE.PIE,
    "scatter": XL_CHART_TYPE.XY_SCATTER,
}
_BODY = (PP_PLACEHOLDER.BODY, PP_PLACEHOLDER.OBJECT, PP_PLACEHOLDER.SUBTITLE)
_PARTS = frozenset("layout title subtitle bullets text table image caption chart notes columns".split())


def create(arguments: argparse.Namespace) -> None:
    deck = opened(arguments.template) if arguments.template else Presentation()
    keep_only(deck, [])
    if not arguments.template:
        _resize(deck, *_SIZES[arguments.size or "16:9"])
    elif arguments.size:
        raise Problem("a template has its own size: leave --size out")
    _add_all(deck, arguments)


def append(arguments: argparse.Namespace) -> None:
    _add_all(opened(arguments.file), arguments)


def _add_all(deck: Deck, arguments: argparse.Namespace) -> None:
    slides, folder = _described(arguments.source)
    for number, slide in enumerate(slides, start=1):
        try:
            _Builder(deck, folder).add(slide)
        except Problem as problem:
            raise Problem(f"slide {number}: {problem}") from None
    save(deck, arguments.out)


def _described(path: str) -> tuple[list[dict], Path]:
    """The slides of a description, and what paths of pictures in it are relative to."""
    if path.lower().endswith((".md", ".markdown", ".txt")):
        return slides_of(mdblocks.parse(text_of(path))), Path(path).resolve().parent
    given = json_of(path)
    slides = given.get("slides") if isinstance(given, dict) else given
    if not isinstance(slides, list) or not slides or not all(isinstance(slide, dict) for slide in slides):
        raise Problem(f'{path}: expected {{"slides": [{{"title": ...}}, ...]}}')
    return slides, Path.cwd() if path == "-" else Path(path).resolve().parent


def _resize(deck: Deck, width: int, height: int) -> None:
    """Change the size of the slides, and of the layouts of the built-in design, which is made for 4:3."""
    factor = width / deck.slide_width
    deck.slide_width, deck.slide_height = width, height
    if factor == 1:
        return
    for owner in (deck.slide_master, *deck.slide_layouts):
        for shape in owner.shapes:
            if shape._element.xpath(".//a:xfrm"):
                shape.left, shape.width = Emu(int(shape.left * factor)), Emu(int(shape.width * factor))


class _Builder:
    def __init__(self, deck: Deck, folder: Path) -> None:
        self._deck = deck
        self._folder = folder

    def add(self, given: dict) -> None:
        if unknown := set(given) - _PARTS:
            raise Problem(f"unknown key {min(unknown)!r}; known are {', '.join(sorted(_PARTS))}")
        slide = self._deck.slides.add_slide(self._layout(given))
        if slide.shapes.title is not None:
            slide.shapes.title.text_frame.text = str(given.get("title", ""))
        elif given.get("title"):
            raise Problem(f"the layout {slide.slide_layout.name!r} has no place for a title")
        bodies = [p for p in slide.placeholders if p.placeholder_format.type in _BODY and p.placeholder_format.idx]
        if given.get("subtitle"):
            self._place(slide, bodies).text_frame.text = str(given["subtitle"])
        for text in given.get("columns") or [given.get("bullets") or given.get("text")]:
            if text:
                _fill(self._place(slide, bodies).text_frame, text)
        for part, act in (("table", self._table), ("chart", self._chart), ("image", self._image)):
            if given.get(part):
                act(slide, given, self._area(slide, bodies, given))
        if given.get("notes"):
            slide.notes_slide.notes_text_frame.text = str(given["notes"])
        for left in bodies:
            left._element.getparent().remove(left._element)  # else it shows "Click to add text"

    def _layout(self, given: dict) -> SlideLayout:
        layouts = list(self._deck.slide_layouts)
        if name := given.get("layout"):
            found = next((layout for layout in layouts if layout.name.lower() == str(name).lower()), None)
            if found is None:
                raise Problem(f"there is no layout {name!r}; there are: {', '.join(each.name for each in layouts)}")
            return found
        content = any(given.get(part) for part in ("bullets", "text", "columns"))
        media = any(given.get(part) for part in ("table", "chart", "image"))
        wanted = 2 if content and media else len(given.get("columns") or []) or int(content)
        if not content and not media:
            return next((each for each in layouts if _has(each, PP_PLACEHOLDER.CENTER_TITLE)), layouts[0])
        fitting = [each for each in layouts if _bodies(each) == wanted and _has(each, PP_PLACEHOLDER.TITLE)]
        return (fitting or [each for each in layouts if _has(each, PP_PLACEHOLDER.TITLE)] or layouts)[0]

    def _place(self, slide: Slide, bodies: list) -> object:
        """The next free placeholder for text, else a text box."""
        if bodies:
            return bodies.pop(0)
        box = slide.shapes.add_textbox(*self._below_title(slide))
        box.text_frame.word_wrap = True
        return box

    def _area(self, slide: Slide, bodies: list, given: dict) -> tuple[int, int, int, int]:
        """Where a table, chart or picture goes: the place of a free placeholder, else what is below the title."""
        if not bodies:
            return self._below_title(slide)
        place = bodies.pop(0)
        area = (place.left, place.top, place.width, place.height)
        place._element.getparent().remove(place._element)
        return area

    def _below_title(self, slide: Slide) -> tuple[int, int, int, int]:
        width, height = self._deck.slide_width, self._deck.slide_height
        title = slide.shapes.title
        top = title.top + title.height if title is not None else int(height * 0.08)
        top = min(int(top + height * 0.02), int(height * 0.5))
        return int(width * 0.06), top, int(width * 0.88), int(height * 0.93) - top

    def _table(self, slide: Slide, given: dict, area: tuple[int, int, int, int]) -> None:
        rows = given["table"]
        if not isinstance(rows, list) or not all(isinstance(row, list) and row for row in rows):
            raise Problem("`table` must be a list of rows, the first of which is the header")
        columns = max(len(row) for row in rows)
        left, top, width, height = area
        row_height = min(int(height / len(rows)), Cm(1.2))
        table = slide.shapes.add_table(len(rows), columns, left, top, width, row_height * len(rows)).table
        size = Pt(max(10, min(18, int(Emu(row_height).pt * 0.55))))
        for number, row in enumerate(rows):
            for column, value in enumerate([*row, *[""] * (columns - len(row))]):
                cell = table.cell(number, column)
                cell.text = "" if value is None else str(value)
                for paragraph in cell.text_frame.paragraphs:
                    paragraph.font.size = size

    def _chart(self, slide: Slide, given: dict, area: tuple[int, int, int, int]) -> None:
        chart = given["chart"]
        if not isinstance(chart, dict) or chart.get("type") not in _CHARTS or not chart.get("series"):
            raise Problem(f'`chart` needs "type", one of {", ".join(_CHARTS)}, and "series": {{"name": [1, 2]}}')
        categories, series = chart.get("categories", []), chart["series"]
        if wrong := next((name for name, values in series.items() if len(values) != len(categories)), None):
            raise Problem(f"the series {wrong!r} has {len(series[wrong])} values for {len(categories)} categories")
        data: CategoryChartData | XyChartData
        if chart["type"] == "scatter":
            data = XyChartData()
            for name, values in series.items():
                points = data.add_series(name)
                for x, y in zip(categories, values, strict=True):
                    points.add_data_point(x, y)
        else:
            data = CategoryChartData()
            data.categories = categories
            for name, values in series.items():
                data.add_series(name, values)
        made = slide.shapes.add_chart(_CHARTS[chart["type"]], *map(Emu, area), data).chart
        made.has_title = bool(chart.get("title"))
        if chart.get("title"):
            made.chart_title.text_frame.text = str(chart["title"])
        made.has_legend = len(series) > 1 or chart["type"] == "pie"
        if made.has_legend:
            made.legend.position, made.legend.include_in_layout = XL_LEGEND_POSITION.BOTTOM, False

    def _image(self, slide: Slide, given: dict, area: tuple[int, int, int, int]) -> None:
        path = (self._folder / str(given["image"])).resolve()
        left, top, width, height = area
        try:
            picture = slide.shapes.add_picture(str(path), left, top)
        except FileNotFoundError:
            raise Problem(
                f"the picture {given['image']} does not exist; paths are relative to the description"
            ) from None
        except (ValueError, OSError) as error:
            raise Problem(f"{given['image']} cannot be used as a picture: {error}") from None
        scale = min(width / picture.width, height / picture.height)
        picture.width, picture.height = int(picture.width * scale), int(picture.height * scale)
        picture.left, picture.top = left + (width - picture.width) // 2, top + (height - picture.height) // 2
        picture._element.nvPicPr.cNvPr.set("descr", str(given.get("caption") or given.get("title") or path.stem))


def _has(layout: SlideLayout, kind: PP_PLACEHOLDER) -> bool:
    return any(shape.placeholder_format.type == kind for shape in layout.placeholders)


def _bodies(layout: SlideLayout) -> int:
    """How many texts of the same kind a layout has room for; one with captions over them counts as none."""
    kinds = [shape.placeholder_format.type for shape in layout.placeholders if shape.placeholder_format.type in _BODY]
    return len(kinds) if PP_PLACEHOLDER.BODY not in kinds or PP_PLACEHOLDER.OBJECT not in kinds else 0


def _fill(frame: object, given: object) -> None:
    """Texts with levels: a text, or a list in which lists are one level deeper; **bold** and *italic* in them."""
    lines = [(0, given)] if isinstance(given, str) else list(_levels(given, 0))
    for number, (level, text) in enumerate(lines):
        paragraph = frame.paragraphs[0] if number == 0 else frame.add_paragraph()  # type: ignore[attr-defined]
        paragraph.level = min(level, 8)
        for span in mdblocks.inline(str(text)):
            run = paragraph.add_run()
            run.text = span.text
            run.font.bold, run.font.italic = span.bold or None, span.italic or None
            if span.link:
                run.hyperlink.address = span.link


def _levels(given: object, level: int) -> list[tuple[int, object]]:
    if not isinstance(given, list):
        raise Problem(f"`bullets` must be texts or lists of texts, not {given!r}")
    lines: list[tuple[int, object]] = []
    for entry in given:
        lines += _levels(entry, level + 1) if isinstance(entry, list) else [(level, entry)]
    return lines
