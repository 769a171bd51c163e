"""Reads the query string of one request, strictly. It must not know what a parameter means.

Parameters are taken one by one; `end` refuses those that nobody took, so a misspelt filter is never ignored.
"""

from __future__ import annotations

from urllib.parse import parse_qsl

from hostler.errors import InvalidRequest
from hostler.services.paging import Between
from hostler.wire.base import parse_timestamp

_MAX_FIELDS = 300
_FLAGS = {"true": True, "false": False, "1": True, "0": False}


class Query:
    def __init__(self, query_string: bytes) -> None:
        try:
            pairs = parse_qsl(query_string.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError as error:
            raise InvalidRequest("The query string is malformed or has too many parameters.") from error
        self._values: dict[str, list[str]] = {}
        for key, value in pairs:
            if "\0" in key or "\0" in value:
                raise InvalidRequest("The query string contains the character U+0000.")
            self._values.setdefault(key, []).append(value)
        self._values.pop("beta", None)  # older SDKs append `?beta=true` to every beta route

    def text(self, name: str) -> str | None:
        values = self._values.pop(name, None)
        return values[-1] if values and values[-1] else None

    def texts(self, name: str) -> list[str]:
        """Both spellings of an array: `types[]=a&types[]=b`, and `types=a&types=b` (of which commas are no part)."""
        return [*self._values.pop(f"{name}[]", ()), *self._values.pop(name, ())]

    def one_of(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(name) or default
        if value not in allowed:
            raise InvalidRequest(f"{name}: Input should be {_either(allowed)}")
        return value

    def all_of(self, name: str, allowed: tuple[str, ...], most: int = 100) -> list[str]:
        values = self.texts(name)
        for index, value in enumerate(values):
            if value not in allowed:
                raise InvalidRequest(f"{name}.{index}: Input should be {_either(allowed)}")
        if len(values) > most:
            raise InvalidRequest(f"{name}: List should have at most {most} items")
        return list(dict.fromkeys(values))

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.text(name)
        if value is None:
            return default
        if value.lower() not in _FLAGS:
            raise InvalidRequest(f"{name}: Input should be a valid boolean")
        return _FLAGS[value.lower()]

    def number(self, name: str, least: int = 1, most: int = 2**31 - 1) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        if not value.isascii() or not value.lstrip("-").isdigit() or len(value) > 12:
            raise InvalidRequest(f"{name}: Input should be a valid integer")
        number = int(value)
        if number < least:
            raise InvalidRequest(f"{name}: Input should be greater than or equal to {least}")
        if number > most:
            raise InvalidRequest(f"{name}: Input should be less than or equal to {most}")
        return number

    def limit(self, default: int, most: int) -> int:
        return self.number("limit", 1, most) or default

    def between(self, name: str = "created_at", bounds: tuple[str, ...] = ("gt", "gte", "lt", "lte")) -> Between:
        """The ranges `created_at[gte]=…`, as microseconds."""
        return Between(**{bound: self._time(f"{name}[{bound}]") for bound in bounds})

    def _time(self, name: str) -> int | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            return parse_timestamp(value)
        except ValueError as error:
            raise InvalidRequest(f"{name}: Input should be a valid datetime") from error

    def end(self) -> None:
        for name in self._values:
            raise InvalidRequest(f"{name[:100]}: Extra inputs are not permitted")


def _either(allowed: tuple[str, ...]) -> str:
    names = [f"'{name}'" for name in allowed]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
