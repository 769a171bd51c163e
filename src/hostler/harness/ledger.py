"""Counts what a session used: tokens, searches, running time, and their exact list price. It must not know prices.

The `usage` column holds a Ledger: the wire's `Usage`, and the tokens' cost as an exact decimal, which the wire rounds
to whole cents.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal

import msgspec

from hostler.models.catalogue import runtime_cost
from hostler.models.protocol import ModelUsage
from hostler.wire import usage as wire
from hostler.wire.base import UNSET

_COUNTS = tuple(name for name in ModelUsage.__struct_fields__ if name != "speed")


class Ledger(msgspec.Struct, kw_only=True):
    """Totals of a session. `cost` is US dollars for tokens and searches, without running time. `unpriced` says that
    there were tokens of a model without a list price, which it can't count."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_5m: int = 0
    cache_creation_1h: int = 0
    web_searches: int = 0
    web_fetches: int = 0
    requests: int = 0
    cost: Decimal = Decimal(0)
    unpriced: bool = False

    def add(self, usage: ModelUsage, cost: Decimal | None) -> Ledger:
        """With a model request, whose cost is None when its model has no list price."""
        return Ledger(
            input_tokens=self.input_tokens + usage.input_tokens,
            output_tokens=self.output_tokens + usage.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + usage.cache_read_input_tokens,
            cache_creation_5m=self.cache_creation_5m + usage.cache_creation_5m_input_tokens,
            cache_creation_1h=self.cache_creation_1h + usage.cache_creation_1h_input_tokens,
            web_searches=self.web_searches + usage.web_search_requests,
            web_fetches=self.web_fetches,
            requests=self.requests + 1,
            cost=self.cost + (cost or 0),
            unpriced=self.unpriced or cost is None,
        )

    def add_searches(self, searches: int, cost: Decimal) -> Ledger:
        """With web searches that the server ran."""
        return msgspec.structs.replace(self, web_searches=self.web_searches + searches, cost=self.cost + cost)

    def total(self, active_us: int) -> Decimal:
        """Exact US dollars at list price, running time included."""
        return self.cost + runtime_cost(active_us / 1_000_000)

    def reaches(self, budget: wire.BudgetLimit | None, active_us: int) -> bool:
        """Whether a budget stops the session: its cost is at the limit, or can't be measured."""
        return budget is not None and (self.unpriced or self.total(active_us) >= limit_of(budget))

    def wire(self, active_us: int, *, runtime: bool = True) -> wire.Usage:
        """As the API shows it, with running time; its price belongs to the session, not to a thread."""
        cents = (self.total(active_us if runtime else 0) * 100).quantize(Decimal(1), ROUND_HALF_UP)
        created = wire.CacheCreation(
            ephemeral_5m_input_tokens=self.cache_creation_5m, ephemeral_1h_input_tokens=self.cache_creation_1h
        )
        return wire.Usage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens,
            cache_creation=created if self.requests else None,
            server_tool_use=wire.ServerToolUse(
                web_fetch_requests=self.web_fetches, web_search_requests=self.web_searches
            ),
            active_seconds=active_us / 1_000_000,
            list_cost=UNSET if self.unpriced else wire.Money(amount=str(cents), currency="USD"),
        )


def limit_of(budget: wire.BudgetLimit) -> Decimal:
    """US dollars that a budget allows."""
    return Decimal(budget.max_list_cost.amount) / 100


def read_ledger(column: bytes) -> Ledger:
    return msgspec.json.decode(column, type=Ledger)


EMPTY_LEDGER = msgspec.json.encode(Ledger())


def span_usage(usage: ModelUsage) -> wire.ModelUsage:
    """As a `span.model_request_end` shows it."""
    return wire.ModelUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        cache_creation_input_tokens=usage.cache_creation_5m_input_tokens + usage.cache_creation_1h_input_tokens,
        speed="fast" if usage.speed == "fast" else None,
    )


def summed(usages: Iterable[ModelUsage]) -> ModelUsage:
    """The usage of several model requests as of one."""
    total = ModelUsage()
    for usage in usages:
        total = msgspec.structs.replace(
            total, **{name: getattr(total, name) + getattr(usage, name) for name in _COUNTS}
        )
    return total
