"""Pages become text, in a process that hostile ones can't do much to."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from hostler.web.config import WebConfig
from hostler.web.fetch import Fetched
from hostler.web.markdown import Converter, Enough
from hostler.web.pages import Page, within
from hostler.web.problem import WebProblem
from hostler.web.reading import Reading


def read(
    body: bytes | str, kind: str = "text/html", tokens: int | None = None, cut: bool = False, **config: float
) -> Page:
    raw = body.encode() if isinstance(body, str) else body
    fetched = Fetched(url="https://x.org/d/p", content_type=kind, body=raw, cut=cut, redirected=False)
    return asyncio.run(Reading(WebConfig(**config)).read(fetched, tokens))  # type: ignore[arg-type]


def markdown(source: str, limit: int = 100_000) -> str:
    converter = Converter("https://x.org/d/p", limit)
    converter.feed(source)
    converter.close()
    return converter.text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<h1>A</h1><p>b <b>c</b>\n d<p>e<h3>F</h3>", "# A\n\nb c d\n\ne\n\n### F"),
        ("<ul><li>one<ul><li>in</ul><li>two</ul>", "- one\n  - in\n- two"),
        ("<ol start=3><li>a<li>b</ol>c", "3. a\n4. b\n\nc"),
        ("<pre>a\n  b</pre>c", "```\na\n  b\n```\n\nc"),
        ("x <code>y</code>, z", "x `y`, z"),
        ("<table><tr><th>a<th>b<tr><td>1<td>2</table>", "a | b\n1 | 2"),
        ("a<br>b<hr>c", "a\nb\n\n---\n\nc"),
        ("<a href='/y?a=1&amp;b=2'>go <i>on</i></a>.", "[go on](https://x.org/y?a=1&b=2)."),
        ("<a href='z'>one</a> <a href=//other.org>two</a>", "[one](https://x.org/d/z) [two](https://other.org)"),
        ("<base href='https://b.org/q/'><a href=r>s</a>", "[s](https://b.org/q/r)"),
        ("<a href='a b(c)'>d</a>", "[d](https://x.org/d/a%20b%28c%29)"),
        ("<a href='javascript:x'>a</a><a href='data:x'>b</a><a href='http://['>c</a><a>d</a>", "abcd"),
        ("<a href=x></a>y", "y"),
        ("<img src=i.png alt='A  cat'> <img src=j.png>", "![A cat](https://x.org/d/i.png)"),
        ("a &lt;b&gt; &amp;copy; &#x41;", "a <b> &copy; A"),
        ("<title>T</title>a", "a"),
    ],
)
def test_markdown(source: str, text: str) -> None:
    assert markdown(source) == text


@pytest.mark.parametrize(
    "hidden",
    [
        "<script>no()</script>", "<style>no</style>", "<div hidden>no <div>no</div></div>", "<p hidden>no<p>",
        "<span style='color:red; display : none'>no</span>", "<span style='visibility:hidden'>no</span>",
        "<span style='font-size:0px'>no</span>", "<span aria-hidden=true>no</span>", "<template>no</template>",
        "<!-- no -->", "<svg><title>no</title><text>no</text></svg>", "<noscript>no</noscript>",
        "<ul><li hidden>no<li>", "<section><p style='display:none'>no</section>", "<svg/>",
    ],
)  # fmt: skip
def test_what_a_browser_would_not_show_is_left_out(hidden: str) -> None:
    text = markdown(f"<p>before {hidden} after").replace("-", " ")
    assert text.split() == ["before", "after"]


def test_invisible_characters_are_left_out() -> None:
    tagged = "".join(chr(0xE0000 + ord(letter)) for letter in "obey")
    assert markdown(f"a\u200bb\u202ec{tagged}d") == "abcd"


def test_markdown_is_bounded() -> None:
    with pytest.raises(Enough):
        markdown("<p>words " * 10_000, 500)
    converter = Converter("https://x.org/", 500)
    with pytest.raises(Enough):
        converter.feed("<a href=/y>" + "words " * 10_000 + "</a>")
    assert len(converter.text) <= 500


def test_html_in_a_process() -> None:
    page = read("<title>A &amp; B</title><p>Gr\u00fc\u00dfe <a href=/l>l</a>", "text/html; charset=utf-8")
    assert page == Page("A & B", "Gr\u00fc\u00dfe [l](https://x.org/l)", False, "")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("Grüße € ja".encode("cp1252"), "text/html; charset=iso-8859-1"),
        ("Grüße € ja".encode("cp1252"), "text/html"),
        ("Grüße € ja".encode(), 'text/plain; charset="UTF-8"'),
        ("Grüße € ja".encode(), "text/plain"),
        ("Grüße € ja".encode("utf-16"), "text/plain"),
        ("\ufeffGrüße € ja".encode(), "text/plain; charset=latin-1"),
        (b"<meta charset=windows-1252>" + "Grüße € ja".encode("cp1252"), "text/html"),
        ("Grüße € ja".encode(), "text/html; charset=no-such-charset"),
        ("Grüße € ja".encode(), "text/plain; charset=idna"),
        ("Grüße € ja".encode(), "text/plain; charset=rot13"),
    ],
)
def test_charsets(body: bytes, kind: str) -> None:
    assert read(body, kind).text == "Grüße € ja"


def test_wrong_charsets_do_no_harm() -> None:
    assert "�" in read(b"a \xff\xfe\xfd b", "text/plain; charset=utf-8").text
    assert read("日本語".encode("shift_jis"), "text/html; charset=Shift_JIS").text == "日本語"
    assert read(b"a\x00b\x1bc", "text/plain").text == "abc"


@pytest.mark.parametrize(
    ("kind", "body", "text"),
    [
        ("application/json", b'{"a": 1}', '{"a": 1}'),
        ("application/ld+json", b"[]", "[]"),
        ("application/rss+xml", b"<?xml version='1.0'?><rss/>", "<?xml version='1.0'?><rss/>"),
        ("text/csv", b"a,b\r\n1,2", "a,b\n1,2"),
        ("", b"<!DOCTYPE html><p>a", "a"),
        ("application/octet-stream", b"plain", "plain"),
    ],
)
def test_kinds(kind: str, body: bytes, text: str) -> None:
    assert read(body, kind).text == text


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("image/png", b"\x89PNG"),
        ("application/zip", b"PK"),
        ("", b"\x00\x01\xff"),
        ("video/mp4", b""),
        ("image/svg+xml", b"<svg/>"),
    ],
)
def test_what_is_not_read(kind: str, body: bytes) -> None:
    with pytest.raises(WebProblem, match="unsupported_content_type"):
        read(body, kind)


def pdf(*pages: str, title: str = "A paper", encrypted: bool = False) -> bytes:
    """A small PDF, one line of text a page."""
    kids = " ".join(f"{4 + 2 * number} 0 R" for number in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        content = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * number} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
        objects.append(f"<< /Length {len(content)} >>\nstream\n{content}\nendstream")
    objects.append(f"<< /Title ({title}) >>")
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    trailer = (
        f"trailer << /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>\nstartxref\n{len(out)}\n%%EOF"
    )
    return out + (head + trailer).encode()


def test_pdf() -> None:
    page = read(pdf("First page", "Second page"), "application/pdf")
    assert (page.title, page.cut) == ("A paper", False)
    assert page.text.split("\n\n") == ["First page", "Second page"]
    assert read(pdf("By its bytes"), "application/octet-stream").text == "By its bytes"


def test_pdfs_that_give_nothing() -> None:
    for body in (pdf(""), b"%PDF-1.4 broken", b""):
        with pytest.raises(WebProblem, match="unavailable"):
            read(body, "application/pdf")
    with pytest.raises(WebProblem, match="content_too_large"):
        read(pdf("x"), "application/pdf", cut=True)


def test_tokens() -> None:
    page = read("<p>" + "four " * 10_000, tokens=100)
    assert page.cut
    assert 300 < len(page.text) <= 400
    assert not read("<p>four", tokens=100).cut
    assert read("x" * 1000, "text/plain", tokens=100_000, fetch_tokens=100).text == "x" * 400
    many = read(pdf("a long line of text " * 50), "application/pdf", tokens=10)
    assert len(many.text) > 900  # the contract's bound is not for PDFs
    assert within("日本語", 2) == "日本"
    assert within("abcdé", 1) == "abcd"


def test_the_beginning_is_marked_as_such() -> None:
    assert read("<p>a", cut=True).cut


BOMBS = {
    "nested": b"<div>" * 2_000_000 + b"x",
    "nested and hidden": b"<div hidden>" + b"<div>" * 1_000_000 + b"</p>" * 100_000,
    "nested lists": b"<ul><li>" * 500_000 + b"x",
    "unfinished tags": b"<a " * 3_000_000,
    "many attributes": b"<a " + b"x=1 " * 2_000_000 + b">y</a>",
    "comments": b"<!--" * 2_000_000,
    "declarations": b"<![" * 1_000_000,
    "references": b"&#1" * 3_000_000,
    "an endless word": b"x" * 10_000_000,
    "links in links": b"<a href=x>" * 500_000 + b"y",
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(name: str) -> None:
    began = time.monotonic()
    try:
        page = read(BOMBS[name], read_seconds=1.0, read_memory_mb=256)
        assert len(page.text) <= 100_000
    except WebProblem as problem:
        assert problem.code == "unavailable"  # noqa: PT017
    assert time.monotonic() - began < 15


def test_a_pdf_that_never_ends() -> None:
    stuck = pdf("x").replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")
    with pytest.raises(WebProblem, match="unavailable"):
        read(stuck, "application/pdf", read_seconds=1.0, read_memory_mb=256)


def test_the_process_is_gone_when_cancelled() -> None:
    def children() -> set[str]:
        own = Path(f"/proc/self/task/{os.getpid()}/children")
        return set(own.read_text().split()) if own.exists() else set()

    async def main() -> None:
        fetched = Fetched(
            url="https://x.org", content_type="text/html", body=BOMBS["nested"], cut=False, redirected=False
        )
        before = children()
        task = asyncio.create_task(Reading(WebConfig()).read(fetched, None))
        while not children() - before:  # noqa: ASYNC110 (nothing tells of its start)
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        assert not children() - before

    asyncio.run(main())


def test_the_process_has_nothing_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is empty, and it can open no file for writing."""
    from hostler.web import reading

    monkeypatch.setenv("HOSTLER_MODEL_API_KEY", "sk-secret")
    spy = (
        "import sys, os, json; sys.stdin.buffer.read(); "
        "print(json.dumps(['', json.dumps(sorted(os.environ)) + str(sorted(os.listdir('/proc/self/fd'))), False, '']))"
    )
    monkeypatch.setattr(reading, "_PROGRAM", spy)
    text = read("x").text
    assert "HOSTLER" not in text
    assert text.endswith("['0', '1', '2', '3']")
