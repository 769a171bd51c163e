"""Finds the characters in bytes from the web. It runs where the page is read, and must not fail on any input."""

from __future__ import annotations

import codecs
import re

_META = re.compile(rb"<meta[^>]{0,512}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{1,40})", re.IGNORECASE)
_XML = re.compile(rb"^\s*<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([a-zA-Z0-9_:.-]{1,40})", re.IGNORECASE)
_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
# As browsers read them: pages that claim the smaller set use the larger one.
_MEANT = {
    "iso8859-1": "cp1252",
    "ascii": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
}
_TEXT = re.compile(
    r"utf-8|utf-16(-le|-be)?|cp\d+|iso8859-\d+|koi8-[ru]|gb18030|big5hkscs|euc_jp|iso2022_jp|mac-(roman|cyrillic)"
)
SNIFFED = 4096


def decode(body: bytes, declared: str, *, markup: bool) -> str:
    """The text. A byte order mark counts first, then what the server declared, then the page itself, then a guess."""
    for mark, name in _BOMS:
        if body.startswith(mark):
            return body[len(mark) :].decode(name, "replace")
    found = _known(declared) or (_known(_inside(body)) if markup else None)
    if found is not None:
        return body.decode(found, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        cut_short = error.start >= len(body) - 3  # in the middle of a character
        return body.decode("utf-8" if cut_short or not markup else "cp1252", "replace")


def _inside(body: bytes) -> str:
    found = _META.search(body[:SNIFFED]) or _XML.match(body[:SNIFFED])
    name = found[1].decode("ascii") if found else ""
    return "utf-8" if name.lower().startswith("utf-16") else name  # else it could not have been found


def _known(name: str) -> str | None:
    """Python's name of an encoding that browsers know too; Python has stranger ones."""
    try:
        found = codecs.lookup(name.strip().strip("\"'")).name if name and len(name) <= 40 else ""
    except (LookupError, ValueError):
        return None
    found = _MEANT.get(found, found)
    return found if _TEXT.fullmatch(found) else None
