"""What a browser would make of a page: its elements with their attributes, never the text between them."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import NamedTuple


class Element(NamedTuple):
    name: str
    attributes: dict[str, str]


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def elements(page: str) -> list[Element]:
    reader = _Reader()
    reader.feed(page)
    return reader.elements


def text(page: str) -> str:
    reader = _Reader()
    reader.feed(page)
    return " ".join(" ".join(reader.text).split())


def fields(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the first form that is sent there."""
    found: dict[str, str] = {}
    inside = False
    for name, attributes in elements(page):
        if name == "form":
            if inside:
                break
            inside = attributes.get("action") == action
        elif inside and name == "input" and attributes.get("type") == "hidden":
            found[attributes["name"]] = attributes["value"]
    return found


def strange(page: str) -> list[Element]:
    """Elements that no page of ours has: script or style of their own, or what leads elsewhere."""
    bad = []
    for element in elements(page):
        name, attributes = element
        place = attributes.get("src") or attributes.get("href") or attributes.get("action") or ""
        ours = place == "" or place.startswith(("/console", "#", "?"))
        if (
            name in ("style", "img", "iframe", "object", "embed", "base", "svg", "video", "audio")
            or (name == "script" and not attributes.get("src", "").startswith("/console/static/"))
            or any(each.startswith("on") or each in ("style", "srcdoc", "formaction") for each in attributes)
            or not ours
        ):
            bad.append(element)
    return bad
