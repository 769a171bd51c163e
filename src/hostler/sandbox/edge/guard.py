"""What the proxy does to each request of a connection that it looks into: whose it may be, and which secrets it gets.

It must not know how requests are framed: HTTP/1.1 and HTTP/2 both ask it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence

from hostler.sandbox.contract import Secret
from hostler.sandbox.edge.bodies import Budget, readable, value_of, without
from hostler.sandbox.edge.route import Refusal
from hostler.sandbox.edge.substitution import Fields, Substitution, ids_of

_AUTHORITY = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]/@?#\s]+)(?::[0-9]{1,5})?")

FRESH_SECONDS = 1.0  # secrets are asked for anew after this, also within a connection

Ask = Callable[[], Awaitable[Sequence[Secret]]]


class Turn:
    """One request and its answer."""

    def __init__(self, secrets: Sequence[Secret], host: str, budget: Budget) -> None:
        self._budget = budget
        self._held = 0
        self._secrets = secrets
        self._substitution = Substitution(secrets, host)

    def request_fields(self, fields: Fields) -> Fields:
        if not self._substitution:
            return fields
        if value_of(fields, b"range") is not None:  # a part of what is compressed can't be read
            fields = [*without(fields, b"accept-encoding"), (b"Accept-Encoding", b"identity")]
        return self._substitution.send_fields(readable(fields))

    def request_needles(self, fields: Fields) -> dict[bytes, bytes]:
        return self._substitution.send_needles(value_of(fields, b"content-type") or b"")

    def response_fields(self, fields: Fields) -> Fields:
        return self._substitution.scrub_fields(fields) if self._substitution else fields

    def response_needles(self, fields: Fields) -> dict[bytes, bytes]:
        return self._substitution.scrub_needles(value_of(fields, b"content-type") or b"")

    def may_hold(self, size: int) -> bool:
        """Whether a body of this size, with its growth, finds room until the turn ends."""
        taken = self._budget.take(size)
        self._held += size if taken else 0
        return taken

    def end(self) -> None:
        self._budget.give_back(self._held)
        self._held = 0

    def note_used(self, placeholders: Iterable[bytes]) -> None:
        self._substitution.note_used(placeholders)

    @property
    def used(self) -> list[str]:
        return ids_of(self._secrets, self._substitution.used)


class Guard:
    """Of one connection to one host. `used` is told which credentials its requests have used; `refused` of those
    requests that are answered by us."""

    def __init__(
        self, host: str, port: int, ask: Ask, used: set[str], budget: Budget, refused: Callable[[Refusal], None]
    ) -> None:
        self._host = _bare(host)
        self.authority = host if port in (80, 443) else f"{host}:{port}"
        self._ask = ask
        self._used = used
        self._budget = budget
        self.refused = refused
        self._secrets: Sequence[Secret] = ()
        self._asked = float("-inf")

    async def begin(self, authority: bytes | None) -> Turn:
        """A request for this authority (`Host`, `:authority`). Raises `Refusal` where it is another host's: behind one
        address there may be many, and what was allowed is one."""
        if authority is not None:
            named = _AUTHORITY.fullmatch(authority.decode("latin-1").strip().lower())
            if named is None or _bare(named[1]) != self._host:
                raise Refusal(421, f"this connection is for {self._host}, and a request in it names another host")
        if time.monotonic() - self._asked >= FRESH_SECONDS:
            self._secrets, self._asked = await self._ask(), time.monotonic()
        return Turn(self._secrets, self._host, self._budget)

    def ended(self, turn: Turn) -> None:
        turn.end()
        self._used.update(turn.used)


def _bare(host: str) -> str:
    return host.lower().rstrip(".")
