"""The pptx skill's program, judged by what python-pptx finds in its files afterwards."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pptx
import pytest
from PIL import Image
from pptx.util import Cm, Pt

from skills.program import Program

TEXT = """# The deck
A subtitle

## Points
- first **bold** {{who}}
  - deeper
- second

Note: say hello

## Table
| a | b |
|---|---|
| 1 | 2 |

## Picture
Some words.

![a red bar](bar.png)
"""
SPEC: dict[str, Any] = {
    "slides": [
        {
            "title": "Chart",
            "bullets": ["x", ["y"]],
            "chart": {"type": "column", "title": "T", "categories": ["a", "b"], "series": {"s1": [1, 2], "s2": [3, 4]}},
        },
        {"title": "Columns", "columns": [["a", "b"], ["c"]]},
        {"title": "Table", "table": [["h", "i"], ["1", None]], "notes": "n", "layout": "Title Only"},
    ]
}


@pytest.fixture
def slides(tmp_path: Path) -> Program:
    Image.new("RGB", (1200, 200), (200, 30, 30)).save(tmp_path / "bar.png")
    program = Program("pptx", tmp_path)
    program.write("deck.md", TEXT)
    program.write("deck.json", SPEC)
    return program


def opened(slides: Program, name: str) -> Any:
    return pptx.Presentation(str(slides.folder / name))


def test_slides_from_markdown(slides: Program) -> None:
    slides("create", "a.pptx", "deck.md")
    deck = opened(slides, "a.pptx")
    assert round(deck.slide_width / deck.slide_height, 2) == 1.78
    title, points, table, picture = deck.slides
    assert title.slide_layout.name == "Title Slide"
    assert [p.text_frame.text for p in title.placeholders] == ["The deck", "A subtitle"]
    body = points.placeholders[1].text_frame
    assert [(p.level, p.text) for p in body.paragraphs] == [(0, "first bold {{who}}"), (1, "deeper"), (0, "second")]
    assert [run.font.bold for run in body.paragraphs[0].runs] == [None, True, None]
    assert points.notes_slide.notes_text_frame.text == "say hello"
    (frame,) = [shape for shape in table.shapes if shape.has_table]
    assert frame.table.cell(1, 1).text == "2"
    (image,) = [shape for shape in picture.shapes if hasattr(shape, "image")]
    assert round(image.width / image.height, 1) == 6.0
    assert image.left + image.width <= deck.slide_width
    for slide in deck.slides:
        assert all(shape.text_frame.text for shape in slide.placeholders)
    assert slides.problems("a.pptx") == ["slide 2: 'Content Placeholder 2' still has a placeholder: '{{who}}'"]


def test_slides_from_json_and_what_reads_back(slides: Program) -> None:
    slides("create", "a.pptx", "deck.json", "--size", "4:3")
    deck = opened(slides, "a.pptx")
    chart = next(shape.chart for shape in deck.slides[0].shapes if shape.has_chart)
    assert [(s.name, list(s.values)) for s in chart.plots[0].series] == [("s1", [1, 2]), ("s2", [3, 4])]
    assert chart.has_legend
    assert deck.slides[1].slide_layout.name == "Two Content"
    assert deck.slides[2].slide_layout.name == "Title Only"
    text = slides("read", "a.pptx")
    for part in ("## 1. Chart", "- x\n  - y", "[chart; a, b; s1: 1.0, 2.0; s2: 3.0, 4.0]", "| h | i |", "Notes: n"):
        assert part in text
    assert "Notes" not in slides("read", "a.pptx", "--no-notes")
    info = slides.json("info", "a.pptx", "--slide", 2)
    assert info["slides"][0]["title"] == "Columns"
    assert info["layouts"]["Title Only"][0] == "0 title"
    assert slides.problems("a.pptx", "--expect", "Columns") == []


def test_a_given_file_is_changed_and_stays_whole(slides: Program) -> None:
    slides("create", "a.pptx", "deck.md")
    slides("replace", "a.pptx", "b.pptx", "--pair", "{{who}}", "Ann & Bob", "--pair", "hello", "goodbye")
    slides("arrange", "b.pptx", "c.pptx", "--slides", "4,2-3")
    slides("append", "c.pptx", "deck.json", "d.pptx")
    slides("notes", "d.pptx", "e.pptx", "--slide", 1, "--text", "new")
    deck = opened(slides, "e.pptx")
    titles = [slide.shapes.title.text_frame.text for slide in deck.slides]
    assert titles == ["Picture", "Points", "Table", "Chart", "Columns", "Table"]
    assert "Ann & Bob" in deck.slides[1].placeholders[1].text_frame.text
    assert deck.slides[1].notes_slide.notes_text_frame.text == "say goodbye"
    assert deck.slides[0].notes_slide.notes_text_frame.text == "new"
    names = zipfile.ZipFile(slides.folder / "e.pptx").namelist()
    assert len(names) == len(set(names))
    assert len([name for name in names if name.startswith("ppt/slides/slide")]) == 6
    slides("images", "e.pptx", "saved")
    assert (slides.folder / "saved/slide1-1.png").read_bytes() == (slides.folder / "bar.png").read_bytes()
    assert "slides are 1 to 6" in slides.refusal("arrange", "e.pptx", "x.pptx", "--slides", "7")
    assert "only once" in slides.refusal("arrange", "e.pptx", "x.pptx", "--slides", "1,1")
    assert "not found" in slides.refusal("replace", "e.pptx", "x.pptx", "--pair", "absent", "x")
    assert "no slide 9" in slides.refusal("notes", "e.pptx", "x.pptx", "--slide", 9, "--text", "x")


def test_a_template_gives_its_design_and_not_its_slides(slides: Program) -> None:
    slides("create", "template.pptx", "deck.md", "--size", "4:3")
    slides("create", "a.pptx", "deck.json", "--template", "template.pptx")
    deck = opened(slides, "a.pptx")
    assert [slide.shapes.title.text_frame.text for slide in deck.slides] == ["Chart", "Columns", "Table"]
    assert round(deck.slide_width / deck.slide_height, 2) == 1.33
    assert "bar" not in "".join(zipfile.ZipFile(slides.folder / "a.pptx").namelist())


def test_what_is_wrong_is_found(slides: Program) -> None:
    deck = pptx.Presentation()
    deck.slides.add_slide(deck.slide_layouts[1])
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text_frame.text = "T"
    box = slide.shapes.add_textbox(Cm(20), Cm(8), Cm(20), Cm(1))
    box.text_frame.word_wrap = True
    box.text_frame.text = "word " * 150
    box.text_frame.paragraphs[0].runs[0].font.size = Pt(6)
    slide.shapes.add_textbox(Cm(21), Cm(8), Cm(3), Cm(1)).text_frame.text = "over"
    deck.save(str(slides.folder / "a.pptx"))
    found = "\n".join(slides.problems("a.pptx", "--expect", "Yours"))
    for part in ("slide 1: it has no title", "empty placeholder", "beyond the edge", "6 points", "room for 3",
                 "152 words", "overlap", "'Yours'"):  # fmt: skip
        assert part in found, part


def test_wrong_descriptions_are_refused(slides: Program) -> None:
    wrong: dict[str, Any] = {
        "slide 1: unknown key 'bulets'": {"bulets": []},
        "no layout 'Nope'; there are: Title Slide": {"layout": "Nope"},
        "has 1 values for 2 categories": {"chart": {"type": "pie", "categories": ["a", "b"], "series": {"s": [1]}}},
        '`chart` needs "type"': {"chart": {"type": "cake"}},
        "`table` must be": {"table": ["a"]},
        "no.png does not exist": {"title": "t", "image": "no.png"},
        "cannot be used as a picture": {"title": "t", "image": "deck.md"},
        "must be texts or lists": {"bullets": {"a": 1}},
    }
    for said, slide in wrong.items():
        slides.write("bad.json", [slide])
        assert said in slides.refusal("create", "a.pptx", "bad.json")
    assert "expected {" in slides.refusal("create", "a.pptx", "-", stdin='{"slides": []}')
    assert not (slides.folder / "a.pptx").exists()
