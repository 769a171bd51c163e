"""The pdf skill's program, judged by what pypdf finds in its files afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pypdf import PdfReader
from reportlab.pdfgen.canvas import Canvas

from skills.program import Program

TEXT = """# Annual **report**

Profit rose by *five* percent & more < less, says [the board](https://example.com/a_b).

1. first
2. second
   - below

| Item | Price |
|:-----|------:|
| A | 1.00 |
| C | **2.00** |

![The chart](chart.png)

```
x = 1   # code
```
<!-- page break -->
### Deep
End.
"""


@pytest.fixture
def pdf(tmp_path: Path) -> Program:
    Image.new("RGB", (2400, 300), (200, 30, 30)).save(tmp_path / "chart.png")
    program = Program("pdf", tmp_path)
    program.write("text.md", TEXT)
    return program


@pytest.fixture
def made(pdf: Program) -> Program:
    pdf(
        "create",
        "a.pdf",
        "text.md",
        "--title",
        "T",
        "--author",
        "Ada",
        "--header",
        "Top",
        "--footer",
        "Low",
        "--page-numbers",
    )
    return pdf


def opened(pdf: Program, name: str, password: str | None = None) -> Any:
    return PdfReader(pdf.folder / name, password=password)


def pages(pdf: Program, name: str) -> list[str]:
    return [page.extract_text() for page in opened(pdf, name).pages]


def size(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as found:
        return found.size


def test_a_file_from_markdown(made: Program) -> None:
    reader = opened(made, "a.pdf")
    first, second = pages(made, "a.pdf")
    for part in ("Annual report", "five percent & more < less, says the board.", "1. first", "x = 1   # code",
                 "The chart", "Top", "Low", "1 / 2"):  # fmt: skip
        assert part in first
    assert "End." in second
    assert "2 / 2" in second
    assert (reader.metadata.title, reader.metadata.author) == ("T", "Ada")
    assert reader.outline[0].title == "Annual report"
    assert reader.outline[1][0].title == "Deep"
    assert len(reader.pages[0].images) == 1
    assert "https://example.com/a_b" in str(reader.pages[0]["/Annots"][0].get_object())
    assert made.problems("a.pdf", "--expect", "Profit rose by five percent") == []
    assert made.problems("a.pdf", "--expect", "loss") == ["expected text is missing: 'loss'"]


def test_reading(made: Program) -> None:
    assert made("text", "a.pdf", "--pages", "2").startswith("--- page 2 ---\n")
    assert "End." in made("text", "a.pdf", "--layout", "--pages", "2-")
    assert made.json("tables", "a.pdf") == [{"page": 1, "rows": [["Item", "Price"], ["A", "1.00"], ["C", "2.00"]]}]
    assert made("tables", "a.pdf", "--as", "csv", "--pages", "1") == "# page 1\nItem,Price\nA,1.00\nC,2.00\n"
    info = made.json("info", "a.pdf")
    assert (info["pages"], info["sizes"], info["encrypted"]) == (2, {"21.0 x 29.7 cm": 2}, False)
    assert info["outline"] == ["Annual report (1)", "  Deep (2)"]
    made("images", "a.pdf", "saved")
    assert size(next((made.folder / "saved").iterdir())) == (2400, 300)
    made("render", "a.pdf", "look", "--dpi", 50, "--pages", 1)
    assert size(made.folder / "look/page1.png") == (414, 585)
    assert "smaller --dpi" in made.refusal("render", "a.pdf", "look", "--dpi", 9000)
    for wrong in ("0", "3", "2-1", "x", ""):
        assert made.refusal("text", "a.pdf", "--pages", wrong)


def test_pages_are_arranged(made: Program) -> None:
    made("merge", "m.pdf", "a.pdf", "a.pdf")
    assert len(pages(made, "m.pdf")) == 4
    made("pages", "m.pdf", "p.pdf", "--pages", "4,1-2")
    assert ["End." in text for text in pages(made, "p.pdf")] == [True, False, True]
    made("rotate", "p.pdf", "r.pdf", "--by", 90, "--pages", 1)
    assert [page.rotation for page in opened(made, "r.pdf").pages] == [90, 0, 0]
    made("number", "r.pdf", "n.pdf", "--format", "Page {page} of {pages}!")
    assert ["Page 1 of 3!" in pages(made, "n.pdf")[0], "Page 3 of 3!" in pages(made, "n.pdf")[2]] == [True, True]
    made("split", "m.pdf", "parts", "--every", 3)
    assert [len(pages(made, f"parts/m-{n}.pdf")) for n in (1, 4)] == [3, 1]
    assert "use {page}" in made.refusal("number", "m.pdf", "x.pdf", "--format", "{0}")


def test_watermarks(made: Program) -> None:
    made("watermark", "a.pdf", "w.pdf", "--text", "DRAFT", "--pages", 2)
    assert ["DRAFT" in text for text in pages(made, "w.pdf")] == [False, True]
    canvas = Canvas(str(made.folder / "letter.pdf"), pagesize=(300, 300))
    canvas.drawString(20, 20, "LETTERHEAD")
    canvas.save()
    made("watermark", "a.pdf", "s.pdf", "--stamp", "letter.pdf", "--under")
    assert all("LETTERHEAD" in text and len(text) > 20 for text in pages(made, "s.pdf"))
    assert "either" in made.refusal("watermark", "a.pdf", "x.pdf")


def test_encryption(made: Program) -> None:
    made("encrypt", "a.pdf", "e.pdf", "--new-password", "-", stdin="secret\n")
    assert opened(made, "e.pdf").is_encrypted
    assert "give its --password" in made.refusal("text", "e.pdf")
    assert "wrong password" in made.refusal("tables", "e.pdf", "--password", "no")
    assert "End." in made("text", "e.pdf", "--password", "secret")
    assert made.json("tables", "e.pdf", "--password", "secret")
    made("render", "e.pdf", "look", "--password", "secret", "--pages", 2)
    made("decrypt", "e.pdf", "d.pdf", "--password", "secret")
    assert "End." in pages(made, "d.pdf")[1]
    assert "protects nothing" in made.refusal("encrypt", "a.pdf", "x.pdf", "--new-password", "-", stdin="\n")


def form(path: Path) -> None:
    canvas = Canvas(str(path))
    canvas.drawString(50, 780, "Form")
    canvas.acroForm.textfield(name="name", tooltip="Your name", x=50, y=700, width=200)
    canvas.acroForm.checkbox(name="agree", x=50, y=650)
    canvas.acroForm.choice(name="colour", options=["red", "blue"], value="red", x=50, y=600, width=100, height=20)
    canvas.save()


def test_forms(pdf: Program) -> None:
    form(pdf.folder / "form.pdf")
    found = {field["name"]: field for field in pdf.json("fields", "form.pdf")}
    assert (found["name"]["type"], found["name"]["label"]) == ("text", "Your name")
    assert found["agree"]["type"] == "button"
    assert found["colour"]["values"] == ["red", "blue"]
    values = pdf.write("values.json", {"name": "Ada L", "agree": True, "colour": "blue"})
    pdf("fill", "form.pdf", "filled.pdf", values)
    filled = {name: field.get("/V") for name, field in opened(pdf, "filled.pdf").get_fields().items()}
    assert filled == {"name": "Ada L", "agree": "/Yes", "colour": "blue"}
    pdf("fill", "form.pdf", "flat.pdf", values, "--flatten")
    assert not opened(pdf, "flat.pdf").get_fields()
    assert "Ada L" in pages(pdf, "flat.pdf")[0]
    for wrong, said in (
        ({"nope": 1}, "no such fields: nope"),
        ({"colour": "green"}, "one of"),
        ({"agree": "maybe"}, "agree takes"),
    ):
        assert said in pdf.refusal("fill", "form.pdf", "x.pdf", pdf.write("wrong.json", wrong))


def test_a_file_without_fields_and_without_text(pdf: Program) -> None:
    canvas = Canvas(str(pdf.folder / "scan.pdf"))
    canvas.drawImage(str(pdf.folder / "chart.png"), 50, 500, 200, 50)
    canvas.showPage()
    canvas.showPage()
    canvas.save()
    assert "no form fields" in pdf.refusal("fill", "scan.pdf", "x.pdf", "-", stdin='{"a": 1}')
    assert "may be scans" in pdf.run("text", "scan.pdf").stderr
    assert pdf.problems("scan.pdf") == [
        "page 1 has no text, only pictures",
        "page 2 has no text and no picture: it is empty",
    ]


def test_letters_that_no_font_has_are_refused(pdf: Program) -> None:
    pdf.write("odd.md", "# Odd \U00013000")
    assert "no font found" in pdf.refusal("create", "a.pdf", "odd.md")
    assert "not a TrueType font" in pdf.refusal("create", "a.pdf", "text.md", "--font", "chart.png")
    assert "leaves no room" in pdf.refusal("create", "a.pdf", "text.md", "--margin-cm", 12)
    assert "must end in .pdf" in pdf.refusal("create", "a.docx", "text.md")
    assert not (pdf.folder / "a.pdf").exists()


def test_a_long_table_goes_over_pages_with_its_header(pdf: Program) -> None:
    rows = "\n".join(f"| row {n} | {'text ' * 30} |" for n in range(60))
    pdf.write("long.md", f"| Name | What |\n|---|---|\n{rows}\n")
    pdf("create", "a.pdf", "long.md")
    found = pages(pdf, "a.pdf")
    assert len(found) > 1
    assert all("What" in text for text in found)
