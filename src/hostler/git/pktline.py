"""The framing of git's protocol: lines that begin with their length. It must not know what the lines mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum


class Mark(Enum):
    """Frames without a payload."""

    FLUSH = 0
    DELIMITER = 1
    END = 2


class BadFrame(ValueError):
    """Not git's protocol."""


_LENGTH = re.compile(rb"[0-9a-fA-F]{4}")
FLUSH = b"0000"
DELIMITER = b"0001"


def frame(line: bytes) -> bytes:
    return b"%04x%s" % (len(line) + 4, line)


def frames(data: bytes) -> Iterator[bytes | Mark]:
    """The payloads, each without its newline, and the marks between them. Raises BadFrame."""
    at = 0
    while at < len(data):
        digits = data[at : at + 4]
        if not _LENGTH.fullmatch(digits):
            raise BadFrame("a frame has no length")
        length = int(digits, 16)
        if length < 3:
            yield Mark(length)
            at += 4
            continue
        if length == 3 or at + length > len(data):
            raise BadFrame("a frame is cut off")
        yield data[at + 4 : at + length].removesuffix(b"\n")
        at += length
