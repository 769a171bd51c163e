"""Finds out which served tools an agent has right now, without holding up a turn that needs none of it.

It must not decide what to do about a source that fails: it reports the problem once in a wake and goes on without.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import msgspec

from hostler.harness.deps import Deps
from hostler.harness.run import Run
from hostler.harness.served import Offer
from hostler.harness.tooltable import ToolTable
from hostler.log.entries import Item

PROMPT_SECONDS = 0.02  # within it, the offers go into the commit that opens the turn


async def with_offers(run: Run, deps: Deps, tools: ToolTable) -> tuple[ToolTable, list[Item]]:
    """The table with what is served now, and problems to report before the request.

    When that takes long the turn is shown as running meanwhile. Raises Interrupted, and NewInput.
    """
    given = [served.offer(run) for served in deps.served]
    offers = [offer for offer in given if isinstance(offer, Offer)]
    sought = [offer for offer in given if not isinstance(offer, Offer)]
    if sought:
        offers += await _found(run, sought)
    return tools.with_served(tool for offer in offers for tool in offer.tools), _news(run, offers)


async def _found(run: Run, sought: list[Awaitable[Offer]]) -> list[Offer]:
    """The offers that somebody else has to be asked for."""
    gathering = asyncio.gather(*sought)
    try:
        await asyncio.wait({gathering}, timeout=PROMPT_SECONDS)
        if not gathering.done():
            await run.append(run.taken(), strict=True, opening=True)
        return await run.unless_interrupted(_result(gathering))
    finally:
        gathering.cancel()
        await asyncio.wait({gathering})


async def _result(gathering: asyncio.Future[list[Offer]]) -> list[Offer]:
    return await gathering


def _news(run: Run, offers: list[Offer]) -> list[Item]:
    """The problems that this wake has not told of yet."""
    fresh: list[Item] = []
    for draft in (problem for offer in offers for problem in offer.problems):
        key = msgspec.json.encode(draft.fields)
        if key not in run.reported:
            run.reported.add(key)
            fresh.append(draft)
    return fresh
