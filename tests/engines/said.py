"""Stands in for the pipe from a program inside a container: it says these bytes, and then nothing any more."""

from __future__ import annotations

import io

from hostler.sandbox.contract import SandboxUnavailable


class Said:
    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, count: int) -> bytes:
        data = self._data.read(count)
        if len(data) < count:
            raise SandboxUnavailable("ended early")
        return data

    def write(self, data: bytes) -> None:
        raise AssertionError

    def answer(self) -> str:
        raise AssertionError
