"""Unpacks a response's body as it arrives, up to a bound. A bomb costs no more than the bound."""

from __future__ import annotations

import zlib

from hostler.web.problem import WebProblem

ACCEPTED = "gzip, deflate"


class Inflater:
    """Feed it what came over the wire. `full` once the bound is reached: the rest is not wanted."""

    def __init__(self, encoding: str, limit: int) -> None:
        """Raises WebProblem for an encoding that was not asked for."""
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._zlib = _decompressor(encoding.strip().lower())
        self._raw_deflate = encoding.strip().lower() == "deflate"

    @property
    def full(self) -> bool:
        return self._size > self._limit

    @property
    def body(self) -> bytes:
        return b"".join(self._pieces)[: self._limit]

    def feed(self, data: bytes) -> None:
        """Raises WebProblem when the data is not what its encoding says."""
        if self._zlib is None or not data:
            self._keep(data)
            return
        if self._zlib.eof:
            return  # zlib would keep what follows, without a bound
        try:
            self._inflate(data)
        except zlib.error:
            raise WebProblem("url_not_accessible", "The answer's compression is damaged.") from None

    def _inflate(self, data: bytes) -> None:
        assert self._zlib is not None
        try:
            self._keep(self._zlib.decompress(data, self._room))
        except zlib.error:
            if not self._raw_deflate or self._size:
                raise
            self._zlib = zlib.decompressobj(-zlib.MAX_WBITS)  # many servers leave out the zlib header
            self._keep(self._zlib.decompress(data, self._room))
        while self._zlib.unconsumed_tail and not self.full:
            self._keep(self._zlib.decompress(self._zlib.unconsumed_tail, self._room))

    @property
    def _room(self) -> int:
        return self._limit - self._size + 1

    def _keep(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)


def _decompressor(encoding: str) -> zlib._Decompress | None:
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "x-gzip"):
        return zlib.decompressobj(16 + zlib.MAX_WBITS)
    if encoding == "deflate":
        return zlib.decompressobj()
    raise WebProblem("url_not_accessible", "The answer is compressed in a way that was not asked for.")
