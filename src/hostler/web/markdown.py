"""Turns HTML into Markdown that a model reads well: text, headings, lists, tables, links as absolute URLs.

It runs in a process of its own, on the standard library's tokenizer: no tree is built, so nesting costs nothing, and no
C code meets hostile bytes. What a browser would not show is left out: hidden text is a favourite place for injections.
It must not fail on any input.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import quote, urljoin, urlsplit

MAX_LINK = 2048
MAX_INDENT = 8
_VOID = frozenset(
    (
        "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr",
    )
)  # fmt: skip
_DROPPED = frozenset(
    (
        "script", "style", "template", "svg", "math", "noscript", "iframe", "object", "canvas", "audio", "video",
        "select", "datalist", "dialog",
    )
)  # fmt: skip
_BLOCKS = frozenset(
    (
        "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div", "dl", "dt", "fieldset",
        "figcaption", "figure", "footer", "form", "header", "hgroup", "html", "main", "nav", "p", "search", "section",
        "summary", "table", "tbody", "tfoot", "thead", "ul", "ol",
    )
)  # fmt: skip
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}
_CODE = frozenset(("code", "kbd", "samp"))
_CLOSED_BY_NEXT = frozenset(
    (
        "p", "li", "dt", "dd", "tr", "td", "th", "option",
    )
)  # fmt: skip
_HIDDEN_STYLE = re.compile(r"(?:display\s*:\s*none|visibility\s*:\s*hidden|font-size\s*:\s*0(?![.\d]*[1-9]))", re.I)
_SPACE = re.compile(r"[ \t\r\n\f\u00a0]+")
_INVISIBLE = re.compile("[\u200b-\u200f\u2028-\u202e\u2060-\u2064\ufeff\U000e0000-\U000e007f]")

Attributes = dict[str, str | None]


class Enough(Exception):
    """The wanted amount of text has been made."""


class Writer:
    """Pieces of Markdown, with white space as it ought to be. Raises Enough once there are `limit` characters."""

    def __init__(self, limit: int) -> None:
        self.pieces: list[str] = []
        self._left = limit
        self._gap = 0  # line breaks that the next text begins with
        self._space = False
        self._fresh = True  # nothing stands on this line yet
        self.indent = ""

    def block(self, lines: int = 2) -> None:
        """A new paragraph, or line, begins with the next text."""
        self._gap = max(self._gap, lines)
        self._space = False

    def words(self, text: str) -> None:
        """Text whose white space counts as single spaces."""
        collapsed = _SPACE.sub(" ", text)
        if not collapsed.strip(" "):
            self._space = self._space or bool(collapsed)
            return
        if collapsed[0] == " ":
            self._space = True
        trailing = collapsed[-1] == " "
        self.put(collapsed.strip(" "))
        self._space = trailing

    def put(self, text: str) -> None:
        """Text as it is, after the line breaks and the space that are due."""
        if self._gap and self.pieces:
            self._add("\n" * self._gap + self.indent)
        elif self._space and not self._fresh:
            self._add(" ")
        self._gap, self._space, self._fresh = 0, False, False
        self._add(text)

    def lead(self, text: str) -> None:
        """What begins a line: a bullet, a heading's mark."""
        self.put(text)
        self._fresh = True

    def close(self, text: str) -> None:
        """What ends a piece of text, before any space that is due."""
        self._fresh = False
        self._add(text)

    def _add(self, text: str) -> None:
        if len(text) > self._left:
            self.pieces.append(text[: self._left])
            raise Enough
        self._left -= len(text)
        self.pieces.append(text)


class Converter(HTMLParser):
    """Feed it HTML, in pieces if wanted; `text` and `title` are what it has made so far."""

    def __init__(self, url: str, limit: int) -> None:
        super().__init__(convert_charrefs=True)
        self.out = Writer(limit)
        self._base = url
        self._title: list[str] = []
        self._in_title = False
        self._dropping: list[str] = []  # open elements inside what is left out, that one first
        self._lists: list[int] = []  # open lists: 0 for bullets, else the next number
        self._pre = 0
        self._link: tuple[str, int] | None = None  # target, and where its text begins
        self._cells = 0

    @property
    def text(self) -> str:
        return "".join(self.out.pieces).strip()

    @property
    def title(self) -> str:
        return _SPACE.sub(" ", "".join(self._title)).strip()[:300]

    # -- what the tokenizer calls

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if self._dropping == [tag] and tag in _CLOSED_BY_NEXT:
            self._dropping.clear()
        if self._dropping or tag in _DROPPED or _hidden(attributes):
            if tag not in _VOID:
                self._dropping.append(tag)
        elif tag == "title":
            self._in_title = not self._title
        elif tag == "base":
            self._base = self._absolute(attributes.get("href")) or self._base
        else:
            self._open(tag, attributes)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self._dropping[-1:] == [tag]:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if not self._dropping:
            self._close(tag)
        elif tag in self._dropping:
            while self._dropping.pop() != tag:
                pass
        elif self._dropping[0] not in _DROPPED:
            self._dropping.clear()  # it closes what is around the hidden element, and so that as well
            self._close(tag)

    def handle_data(self, data: str) -> None:
        if self._dropping:
            return
        data = _INVISIBLE.sub("", data)
        if self._in_title:
            self._title.append(data[:300])
            return
        if self._pre:
            if data:
                self.out.put(data)
        else:
            self.out.words(data)

    # -- elements

    def _open(self, tag: str, attributes: Attributes) -> None:
        if tag == "a":
            self._end_link()
            target = self._absolute(attributes.get("href"))
            if target:
                self._link = (target, len(self.out.pieces))
        elif tag in _HEADINGS:
            self.out.block()
            self.out.lead(f"{_HEADINGS[tag]} ")
        elif tag in ("ul", "ol"):
            self._open_list(tag, attributes)
        elif tag == "li":
            self._open_item()
        elif tag == "pre":
            self._open_pre()
        elif tag in _BLOCKS:
            self.out.block()
        elif tag == "br":
            self.out.block(1)
        elif tag == "hr":
            self.out.block()
            self.out.put("---")
            self.out.block()
        elif tag == "tr":
            self.out.block(1)
            self._cells = 0
        elif tag in ("td", "th"):
            self._open_cell()
        elif tag == "img":
            self._image(attributes)
        elif tag in _CODE and not self._pre:
            self.out.lead("`")

    def _close(self, tag: str) -> None:
        if tag == "a":
            self._end_link()
        elif tag in ("ul", "ol"):
            self._lists = self._lists[:-1]
            self._indent()
            self.out.block(1 if self._lists else 2)
        elif tag == "pre" and self._pre:
            self._pre -= 1
            self.out.block(1)
            self.out.put("```")
            self.out.block()
        elif tag in _HEADINGS or tag in _BLOCKS:
            self.out.block()
        elif tag in ("li", "tr"):
            self.out.block(1)
        elif tag in _CODE and not self._pre:
            self.out.close("`")

    def _open_list(self, tag: str, attributes: Attributes) -> None:
        start = attributes.get("start") or "1"
        first = int(start) if start.isascii() and start.isdigit() and len(start) < 9 else 1
        self.out.block(1 if self._lists else 2)
        self._lists = [*self._lists, first if tag == "ol" else 0][-64:]

    def _open_item(self) -> None:
        if not self._lists:
            self._lists = [0]
        number = self._lists[-1]
        self._indent(-1)
        self.out.block(1)
        self.out.lead(f"{number}. " if number else "- ")
        if number:
            self._lists[-1] += 1
        self._indent()

    def _indent(self, less: int = 0) -> None:
        self.out.indent = "  " * min(MAX_INDENT, max(0, len(self._lists) + less))

    def _open_pre(self) -> None:
        if not self._pre:
            self.out.block()
            self.out.put("```")
            self.out.block(1)
        self._pre += 1

    def _open_cell(self) -> None:
        self.out.lead(" | " if self._cells else "")
        self._cells += 1

    def _image(self, attributes: Attributes) -> None:
        words = _SPACE.sub(" ", attributes.get("alt") or "").strip()[:300]
        source = self._absolute(attributes.get("src"))
        if words and source:
            self.out.put(f"![{words}]({source})")

    def _end_link(self) -> None:
        if self._link is None:
            return
        target, begin = self._link
        self._link = None
        words = "".join(self.out.pieces[begin:])
        if not words.strip():
            return
        leading = words[: len(words) - len(words.lstrip())]
        self.out.pieces[begin:] = [f"{leading}["]
        self.out.put(f"{words.strip()}]({target})")

    def _absolute(self, link: str | None) -> str | None:
        """An http or https URL, fit to stand in parentheses."""
        if not link or len(link) > MAX_LINK:
            return None
        try:
            absolute = urljoin(self._base, link.strip())
            scheme = urlsplit(absolute).scheme
        except ValueError:
            return None
        if scheme not in ("http", "https") or len(absolute) > MAX_LINK:
            return None
        return quote(absolute, safe="%/:?#[]@!$&'*+,;=~-._").replace("[", "%5B").replace("]", "%5D")


def _hidden(attributes: Attributes) -> bool:
    if "hidden" in attributes:
        return attributes["hidden"] != "until-found"
    return attributes.get("aria-hidden") == "true" or bool(_HIDDEN_STYLE.search(attributes.get("style") or ""))
