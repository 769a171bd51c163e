"""The form in which a page goes to the process that reads it, and in which its text comes back."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["html", "text", "pdf"]


class Order(NamedTuple):
    """How to read the bytes that follow. `tokens` bounds the text, roughly counted; `seconds` and `memory_mb` the
    reading itself."""

    kind: Kind
    charset: str
    url: str
    tokens: int
    seconds: float
    memory_mb: int


class Page(NamedTuple):
    """What was read. `cut` says that the text is not all there is; `problem`, if not empty, why there is none."""

    title: str = ""
    text: str = ""
    cut: bool = False
    problem: str = ""


def within(text: str, tokens: int) -> str:
    """The beginning that has about so many tokens: four ASCII characters count as one, any other character as one."""
    if text.isascii():
        return text[: tokens * 4]
    left = tokens * 4
    for index, letter in enumerate(text):
        left -= 1 if letter < "\x80" else 4
        if left < 0:
            return text[:index]
    return text
