"""The docx skill's program, judged by what python-docx finds in its files afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import docx
import pytest
from docx.oxml import OxmlElement, parse_xml
from docx.oxml.ns import qn
from PIL import Image

from skills.program import Program

TEXT = """# Annual **report**

Profit rose by *five* percent, says [the board](https://example.com/a_b).

1. first
2. second
   - below
     and on

Then:

1. again

| Item | Price |
|:-----|------:|
| A \\| B | 1.00 |
| C | **2.00** |

![The chart](pictures/chart.png)

> A quote.

```python
x = 1
```

<!-- page break -->

## Outlook
End.
"""


@pytest.fixture
def word(tmp_path: Path) -> Program:
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (2400, 300), (200, 30, 30)).save(tmp_path / "pictures/chart.png")
    program = Program("docx", tmp_path)
    program.write("text.md", TEXT)
    return program


def opened(word: Program, name: str) -> Any:
    return docx.Document(str(word.folder / name))


def test_a_document_from_markdown_has_real_structure(word: Program) -> None:
    word("create", "out/a.docx", "text.md", "--title", "T", "--author", "Ada", "--header", "Top", "--footer", "Low",
         "--page-numbers", "--toc", "--landscape", "--font", "Arial", "--size", "10")  # fmt: skip
    document = opened(word, "out/a.docx")
    styles = {p.text: p.style.name for p in document.paragraphs}
    assert styles["Annual report"] == "Heading 1"
    assert styles["Outlook"] == "Heading 2"
    assert styles["first"] == "List Number"
    assert styles["below and on"] == "List Bullet 2"
    assert styles["The chart"] == "Caption"
    assert styles["A quote."] == "Quote"
    numbers = {p.text: p._p.pPr.numPr.numId.val for p in document.paragraphs if p.style.name == "List Number"}
    assert numbers["first"] == numbers["second"] != numbers["again"]
    (table,) = document.tables
    assert [[cell.text for cell in row.cells] for row in table.rows] == [
        ["Item", "Price"],
        ["A | B", "1.00"],
        ["C", "2.00"],
    ]
    assert table.rows[0].cells[0].paragraphs[0].runs[0].bold
    section = document.sections[0]
    (picture,) = document.inline_shapes
    assert picture.width <= section.page_width - section.left_margin - section.right_margin
    assert section.page_width > section.page_height
    assert section.header.paragraphs[0].text == "Top"
    assert section.footer.paragraphs[0].text == "Low - Page 1 of 1"
    codes = [e.text.strip() for e in section.footer._element.iter(qn("w:instrText"))]
    assert codes == ["PAGE", "NUMPAGES"]
    assert (document.core_properties.title, document.core_properties.author) == ("T", "Ada")
    assert document.styles["Normal"].font.name == "Arial"
    links = [r.target_ref for r in document.part.rels.values() if r.is_external]
    assert links == ["https://example.com/a_b"]
    assert word.problems("out/a.docx", "--expect", "Profit rose") == []


def test_what_was_made_reads_back_as_markdown(word: Program) -> None:
    word("create", "a.docx", "text.md", "--header", "Top")
    text = word("read", "a.docx", "--headers")
    for part in ("# Annual **report**", "*five* percent", "1. first", "  - below", "| A \\| B | 1.00 |", "## Outlook",
                 "[header of section 1: Top]", "![The chart](picture)"):  # fmt: skip
        assert part in text
    assert word("read", "a.docx", "--max-chars", 10) == "# Annual *\n"
    info = word.json("info", "a.docx")
    assert info["tables"] == [[3, 2]]
    assert info["pictures"] == 1
    assert ["Heading 2", "Outlook"] in info["headings"]
    word("images", "a.docx", "saved")
    assert (word.folder / "saved/image1.png").read_bytes() == (word.folder / "pictures/chart.png").read_bytes()


def test_a_template_gives_its_looks_and_not_its_text(word: Program) -> None:
    template = docx.Document()
    template.add_paragraph("old text")
    template.sections[0].header.paragraphs[0].text = "House header"
    template.sections[0].left_margin = docx.shared.Cm(5)
    template.save(str(word.folder / "template.docx"))
    word("create", "a.docx", "text.md", "--template", "template.docx")
    document = opened(word, "a.docx")
    assert "old text" not in [p.text for p in document.paragraphs]
    assert document.sections[0].header.paragraphs[0].text == "House header"
    assert round(document.sections[0].left_margin.cm) == 5


def test_replacing_keeps_the_looks_also_across_runs(word: Program) -> None:
    document = docx.Document()
    paragraph = document.add_paragraph("Dear ")
    for part, bold in (("{{na", True), ("me", None), ("}}, {{name}} and {{na", True), ("me}}!", None)):
        paragraph.add_run(part).bold = bold
    cell = document.add_table(1, 1).rows[0].cells[0]
    cell.add_table(1, 1).rows[0].cells[0].text = "in {{name}}"
    document.sections[0].footer.paragraphs[0].text = "{{name}} {{other}}"
    document.save(str(word.folder / "form.docx"))
    pairs = word.write("pairs.json", {"{{name}}": "{{other}} & co", "{{other}}": "X"})
    out = word("replace", "form.docx", "out.docx", "--json", pairs)
    assert '"{{name}}": 5' in out
    made = opened(word, "out.docx")
    assert made.paragraphs[0].text == "Dear {{other}} & co, {{other}} & co and {{other}} & co!"
    assert made.paragraphs[0].runs[1].bold
    assert made.tables[0].rows[0].cells[0].tables[0].rows[0].cells[0].text == "in {{other}} & co"
    assert made.sections[0].footer.paragraphs[0].text == "{{other}} & co X"
    assert "not found" in word.refusal("replace", "form.docx", "no.docx", "--pair", "absent", "x")
    assert not (word.folder / "no.docx").exists()
    word("replace", "form.docx", "no.docx", "--pair", "absent", "x", "--allow-missing")


def test_comments_and_tracked_changes(word: Program) -> None:
    document = docx.Document()
    document.add_paragraph("The price is 5 euros.")
    paragraph = document.add_paragraph("We ")
    for tag, inner, text in (("w:ins", "w:t", "gladly "), ("w:del", "w:delText", "never ")):
        change = OxmlElement(tag)
        change.set(qn("w:author"), "Bob")
        change.set(qn("w:id"), "7")
        space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xml:space="preserve"'
        change.append(parse_xml(f'<w:r xmlns:w="{docx.oxml.ns.nsmap["w"]}"><{inner} {space}>{text}</{inner}></w:r>'))
        paragraph._p.append(change)
    paragraph.add_run("agree.")
    document.save(str(word.folder / "a.docx"))
    word("comment", "a.docx", "b.docx", "--at", "5 euros", "--text", "sure?", "--author", "Ann Lee")
    (comment,) = word.json("comments", "b.docx")
    assert (comment["author"], comment["text"]) == ("Ann Lee", "sure?")
    assert "5 euros" in comment["at"]
    assert [(c["kind"], c["author"], c["text"]) for c in word.json("changes", "b.docx")] == [
        ("inserted", "Bob", "gladly "),
        ("deleted", "Bob", "never "),
    ]
    assert "We gladly agree." in word("read", "b.docx")
    assert "We never agree." in word("read", "b.docx", "--changes", "original")
    assert "{+gladly +}{-never -}" in word("read", "b.docx", "--changes", "marked")
    assert any("tracked changes" in problem for problem in word.problems("b.docx"))
    assert "no place" in word.refusal("comment", "a.docx", "c.docx", "--at", "absent", "--text", "x")


def test_rows_and_text_are_added(word: Program) -> None:
    word("create", "a.docx", "text.md")
    word("fill-table", "a.docx", "b.docx", "--json", "-", stdin='[["D", 3], ["E", null]]')
    word("append", "b.docx", "-", "c.docx", stdin="# Annex\n\nMore.")
    document = opened(word, "c.docx")
    assert [row.cells[0].text for row in document.tables[0].rows] == ["Item", "A | B", "C", "D", "E"]
    assert document.paragraphs[-1].text == "More."
    assert "2 columns" in word.refusal("fill-table", "a.docx", "x.docx", "--json", "-", stdin='[["D"]]')
    assert "no table 4" in word.refusal("fill-table", "a.docx", "x.docx", "--table", 4, "--json", "-", stdin="[]")


def test_what_is_wrong_is_found(word: Program) -> None:
    document = docx.Document()
    document.add_heading("One", 1)
    document.add_heading("Deep", 3)
    document.add_heading("", 2)
    document.add_paragraph("Dear {{name}}, **bold** TODO")
    document.add_table(2, 2)
    document.save(str(word.folder / "a.docx"))
    found = "\n".join(word.problems("a.docx", "--expect", "Yours"))
    for part in (
        "{{name}}",
        "Markdown shows",
        "level 3 below one of level 1",
        "empty paragraph",
        "table 1 is empty",
        "'Yours'",
    ):
        assert part in found


def test_wrong_input_is_refused_and_nothing_is_written(word: Program) -> None:
    word.write("bad.md", "![x](absent.png)")
    assert "absent.png does not exist" in word.refusal("create", "a.docx", "bad.md")
    word.write("bad.md", "![x](text.md)")
    assert "not a PNG" in word.refusal("create", "a.docx", "bad.md")
    assert "must end in .docx" in word.refusal("create", "a.doc", "text.md")
    (word.folder / "latin.md").write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in word.refusal("create", "a.docx", "latin.md")
    assert {path.name for path in word.folder.iterdir()} == {"pictures", "text.md", "bad.md", "latin.md"}
