"""Where Temporal is: what the sandbox of a workflow shares with its worker. `ntro` brings an HTTP client, which such a
sandbox would not let in, and which the workflow never uses itself."""

import contextlib

with contextlib.suppress(ImportError):
    from temporalio import workflow as temporal

    with temporal.unsafe.imports_passed_through():
        import ntro.workflow.agents  # noqa: F401
        import pydantic  # noqa: F401
