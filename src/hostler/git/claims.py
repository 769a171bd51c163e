"""What a reader claims to have, in a request to `git upload-pack`. It must not ask a repository anything.

A claim is not harmless: for a commit that a reader calls `shallow`, git sends the parents when the history is deepened,
whether or not a ref leads there.
"""

from __future__ import annotations

from collections.abc import Collection

from hostler.git.pktline import Mark, frame, frames

_CLAIMS = (b"shallow ", b"have ")


def claimed(request: bytes, digits: int) -> set[bytes]:
    """The objects that a request of a shallow reader claims; none of any other's. `digits` is how long names are.

    Raises BadFrame.
    """
    lines = [line for line in frames(request) if isinstance(line, bytes)]
    if not any(line.startswith(b"shallow ") for line in lines):
        return set()
    return {oid for line in lines if (oid := _claim(line, digits))}


def without(request: bytes, hidden: Collection[bytes], digits: int) -> bytes:
    """The request, as if these objects did not exist. Raises BadFrame."""
    kept = bytearray()
    for line in frames(request):
        if isinstance(line, Mark):
            kept += b"%04x" % line.value
        elif _claim(line, digits) not in hidden:
            kept += frame(line + b"\n")
    return bytes(kept)


def _claim(line: bytes, digits: int) -> bytes:
    """The object of a line, as git reads it: of any case, whatever follows it. Empty for a line that claims none."""
    found = next((line[len(word) :] for word in _CLAIMS if line.startswith(word)), b"")
    return found[:digits].lower()
