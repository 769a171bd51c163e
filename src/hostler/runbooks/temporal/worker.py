"""A Temporal worker that runs runbook bundles: `python -m hostler.runbooks.temporal.worker FOLDER...`

It needs nothing of a Hostler server; where agents are called, one may be who runs them. It must not be imported by one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from hostler.errors import InvalidRequest
from hostler.runbooks import invoke
from hostler.runbooks.temporal import bundles
from hostler.runbooks.temporal.attempts import hostler_invoke

log = logging.getLogger("hostler.temporal")

BUNDLES = "NTRO_ARTIFACTS_DIR"
THREADS = 32  # for activities that are plain functions
STOP_SECONDS = 20.0
# What a workflow may import as the worker has it: it holds no state of a workflow, and some opens connections, which a
# workflow does not do.
SHARED = ("annotated_types", "hostler", "httpx", "ntro", "pydantic", "pydantic_core", "yaml")


def runner() -> SandboxedWorkflowRunner:
    return SandboxedWorkflowRunner(restrictions=SandboxRestrictions.default.with_passthrough_modules(*SHARED))


def prepare(places: Sequence[Path]) -> list[bundles.Bundle]:
    """Import bundles, which find an `invoke` that works in workflows too, and know each other as children. Raises
    InvalidRequest, and what their code raises."""
    from ntro.workflow.registry import register_workflow
    from ntro.workflow.runtime import get_runtime

    if get_runtime().name != "temporal":
        raise InvalidRequest("TEMPORAL_HOST is not set: without it, `ntro` takes this for a test on one's own machine.")
    _stand_in()
    found = bundles.load(bundles.folders(places))
    for bundle in found:
        register_workflow(bundle.slug, bundle.workflows[0])
    return found


def _stand_in() -> None:
    """Before a bundle is loaded, since they import it by value."""
    from ntro.workflow import agents
    from ntro.workflow.agents import _invoke

    agents.invoke = invoke
    _invoke.invoke = invoke


async def connect() -> Client:
    """To TEMPORAL_HOST; TEMPORAL_API_KEY, TEMPORAL_TLS_... and TEMPORAL_NAMESPACE are as Temporal's own programs have
    them."""
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    config["target_host"] = os.environ["TEMPORAL_HOST"]
    return await Client.connect(**config, data_converter=pydantic_data_converter)


def task_queue() -> str:
    """Raises InvalidRequest."""
    queue = os.environ.get("NTRO_TASK_QUEUE") or os.environ.get("NTRO_TENANT_SLUG")
    if not queue:
        raise InvalidRequest("NTRO_TASK_QUEUE is not set, nor is NTRO_TENANT_SLUG: which queue is this worker's?")
    return queue


async def serve(found: list[bundles.Bundle], queue: str) -> None:
    """Until SIGTERM or SIGINT. Activities then have a few seconds; what is left under way, another worker does."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    client = await connect()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="activity") as threads:
        worker = Worker(
            client,
            task_queue=queue,
            workflows=[cls for bundle in found for cls in bundle.workflows],
            activities=[*(each for bundle in found for each in bundle.activities), hostler_invoke],
            activity_executor=threads,
            workflow_runner=runner(),
            graceful_shutdown_timeout=timedelta(seconds=STOP_SECONDS),
        )
        async with worker:
            slugs = ", ".join(bundle.slug for bundle in found)
            log.info("task queue %s at %s: %s", queue, os.environ["TEMPORAL_HOST"], slugs)
            await stop.wait()


def main(arguments: Sequence[str]) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # a line for each request
    places = [Path(each) for each in arguments] or [Path(os.environ.get(BUNDLES, "./artifacts"))]
    try:
        asyncio.run(serve(prepare(places), task_queue()))
    except InvalidRequest as problem:
        print(f"hostler-temporal: {problem}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
