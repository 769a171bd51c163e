"""Adds charts to a sheet, from ranges of cells."""

from __future__ import annotations

from command import Problem
from openpyxl import Workbook
from openpyxl.chart import AreaChart, BarChart, LineChart, PieChart, Reference, ScatterChart, Series
from openpyxl.utils import range_boundaries
from openpyxl.worksheet.worksheet import Worksheet

_KINDS = {
    "bar": BarChart,
    "column": BarChart,
    "line": LineChart,
    "area": AreaChart,
    "pie": PieChart,
    "scatter": ScatterChart,
}


def add_chart(book: Workbook, sheet: Worksheet, given: dict) -> None:
    """{"type", "title", "at", "values": ["B1:B9", ...] with the series' names on top, "categories": "A2:A9",
    "x_title", "y_title", "stacked", "width_cm", "height_cm"}"""
    if given.get("type") not in _KINDS or not given.get("values"):
        raise Problem(f'a chart needs "type", one of {", ".join(_KINDS)}, and "values", ranges like "B1:B9"')
    chart = _KINDS[given["type"]]()
    if given["type"] in ("bar", "column"):
        chart.type = "bar" if given["type"] == "bar" else "col"
    if given.get("stacked") and hasattr(chart, "grouping"):
        chart.grouping = "stacked"
        chart.overlap = 100 if isinstance(chart, BarChart) else None
    chart.title = given.get("title")
    chart.width, chart.height = given.get("width_cm", 16), given.get("height_cm", 8)
    ranges = given["values"] if isinstance(given["values"], list) else [given["values"]]
    categories = _reference(book, sheet, given["categories"]) if given.get("categories") else None
    for area in ranges:
        values = _reference(book, sheet, area)
        if isinstance(chart, ScatterChart):
            if categories is None:
                raise Problem('a scatter chart needs "categories": the range of its x values')
            chart.series.append(Series(values, categories, title_from_data=True))
        else:
            chart.add_data(values, titles_from_data=True)
    if categories is not None and not isinstance(chart, ScatterChart):
        chart.set_categories(categories)
    if not isinstance(chart, PieChart):
        chart.x_axis.title, chart.y_axis.title = given.get("x_title"), given.get("y_title")
        chart.x_axis.delete = chart.y_axis.delete = False  # else newer programs show no axes
    sheet.add_chart(chart, given.get("at", "H2"))


def _reference(book: Workbook, sheet: Worksheet, area: str) -> Reference:
    name, _, cells = area.rpartition("!")
    name = name.strip("'")
    if name and name not in book.sheetnames:
        raise Problem(f"the chart's range {area!r} names a sheet that does not exist")
    try:
        left, top, right, bottom = range_boundaries(cells)
    except ValueError:
        raise Problem(f"the chart's range {area!r} is not one like B1:B9") from None
    return Reference(book[name] if name else sheet, min_col=left, min_row=top, max_col=right, max_row=bottom)
