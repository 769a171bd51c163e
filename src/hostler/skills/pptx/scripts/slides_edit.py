"""Edits a presentation: what is not touched stays as it is."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from command import Problem, json_of, show_json, written
from pptx.oxml.ns import qn
from pptx.presentation import Presentation as Deck
from slides_read import opened, slide_of


def save(deck: Deck, out: str) -> None:
    if Path(out).suffix.lower() != ".pptx":
        raise Problem(f"{out}: the name must end in .pptx")
    with written(out) as half:
        deck.save(half)
    print(out)


def replace(arguments: argparse.Namespace) -> None:
    pairs = dict(arguments.pair)
    if arguments.json:
        given = json_of(arguments.json)
        if not isinstance(given, dict):
            raise Problem(f"{arguments.json}: expected an object of old and new texts")
        pairs |= {str(old): str(new) for old, new in given.items()}
    if not pairs or "" in pairs:
        raise Problem("give texts to replace: --pair OLD NEW, or --json FILE")
    deck = opened(arguments.file)
    counts = dict.fromkeys(pairs, 0)
    for paragraph in paragraphs(deck):
        for old, count in _replace_in(paragraph, pairs).items():
            counts[old] += count
    missing = [old for old, count in counts.items() if not count]
    if missing and not arguments.allow_missing:
        raise Problem(f"not found, so nothing was written: {', '.join(map(repr, missing))}")
    save(deck, arguments.out)
    show_json({"replaced": counts})


def paragraphs(deck: Deck) -> Iterator[object]:
    """Every paragraph element of the slides and their notes: in shapes, groups and tables."""
    for slide in deck.slides:
        yield from slide._element.iter(qn("a:p"))
        if slide.has_notes_slide:
            yield from slide.notes_slide._element.iter(qn("a:p"))


def _replace_in(paragraph: object, pairs: dict[str, str]) -> dict[str, int]:
    """Replace from left to right; a text that has been put in is not looked at again."""
    texts = list(paragraph.iter(qn("a:t")))  # type: ignore[attr-defined]
    whole = "".join(text.text or "" for text in texts)
    counts: dict[str, int] = {}
    places: list[tuple[int, str]] = []
    position = 0
    while position < len(whole):
        old = max((old for old in pairs if whole.startswith(old, position)), key=len, default=None)
        if old is None:
            position += 1
            continue
        places.append((position, old))
        counts[old] = counts.get(old, 0) + 1
        position += len(old)
    for start, old in reversed(places):
        _put(texts, start, start + len(old), pairs[old])
    return counts


def _put(texts: list, start: int, end: int, new: str) -> None:
    position, placed = 0, False
    for text in texts:
        value = text.text or ""
        first, last = max(start - position, 0), min(end - position, len(value))
        if first < last:
            text.text = value[:first] + ("" if placed else new) + value[last:]
            placed = True
        position += len(value)


def notes(arguments: argparse.Namespace) -> None:
    deck = opened(arguments.file)
    slide_of(deck, arguments.slide).notes_slide.notes_text_frame.text = arguments.text
    save(deck, arguments.out)


def arrange(arguments: argparse.Namespace) -> None:
    deck = opened(arguments.file)
    keep_only(deck, _numbers(arguments.slides, len(deck.slides)))
    save(deck, arguments.out)


def _numbers(text: str, most: int) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part)
        if match is None:
            raise Problem(f"{part!r} is neither a number nor a range like 2-5")
        first, last = int(match[1]), int(match[2] or match[1])
        if not 1 <= first <= last <= most:
            raise Problem(f"{part.strip()}: the slides are 1 to {most}")
        found += range(first, last + 1)
    if len(set(found)) != len(found):
        raise Problem("a slide can be chosen only once")
    return found


def keep_only(deck: Deck, numbers: list[int]) -> None:
    """Keep these slides in this order; the others leave the file."""
    entries = deck.slides._sldIdLst
    before = list(entries)
    for entry in before:
        entries.remove(entry)
    for number in numbers:
        entries.append(before[number - 1])
    for number, entry in enumerate(before, start=1):
        if number not in numbers:
            deck.part.drop_rel(entry.rId)
