"""An operator's worker as a process of its own, with nothing but the official SDK in it, unmodified.

    worker.py run WORKDIR            polls ANTHROPIC_ENVIRONMENT_ID and serves what it is given, until it is ended
    worker.py item WORKDIR           serves the one item that its environment names, as a spawn script would start it
    worker.py claim                  claims one item, prints it as JSON, and ends: somebody else is to serve it

It must not import Hostler: it runs where Hostler is not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys

from anthropic import AsyncAnthropic

MAX_IDLE = float(os.environ.get("WORKER_MAX_IDLE", "0.3"))


async def run(workdir: str) -> None:
    async with AsyncAnthropic(auth_token="not used") as client:
        worker = client.beta.environments.work.worker(
            environment_id=os.environ["ANTHROPIC_ENVIRONMENT_ID"],
            environment_key=os.environ["ANTHROPIC_ENVIRONMENT_KEY"],
            workdir=workdir,
            max_idle=MAX_IDLE,
        )
        print("ready", flush=True)
        await worker.run()


async def item(workdir: str) -> None:
    async with AsyncAnthropic(auth_token="not used") as client:
        await client.beta.environments.work.worker(workdir=workdir, max_idle=MAX_IDLE).handle_item()


async def claim() -> None:
    async with AsyncAnthropic(auth_token="not used") as client:
        poller = client.beta.environments.work.poller(
            environment_id=os.environ["ANTHROPIC_ENVIRONMENT_ID"],
            environment_key=os.environ["ANTHROPIC_ENVIRONMENT_KEY"],
            auto_stop=False,
        )
        async for work in poller:
            print(work.model_dump_json(), flush=True)
            return


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)
    asyncio.run({"run": run, "item": item, "claim": claim}[verb](*rest))
