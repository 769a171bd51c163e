"""Trials of calls: their ids, their end, their results, and the ways to stop one."""

from __future__ import annotations

import asyncio

from hostler.sandbox.contract import OUTPUT_LIMIT, Exec, Sandbox, Shell, UnknownCall
from hostler.sandbox.lab import Failed, Lab, Trials, expect, expect_equal, until

TRIALS = Trials()


@TRIALS
async def exec_gives_streams_apart(lab: Lab) -> None:
    """A program has its arguments and its stdin as given; stdout and stderr come apart."""
    sandbox = await lab.sandbox()
    program = (
        "import sys; d = sys.stdin.buffer.read(); print(len(d), sys.argv[1:]); print('e', file=sys.stderr); sys.exit(5)"
    )
    argv = ["python3", "-c", program, "a b", ""]
    result = await lab.run(sandbox, Exec(argv=argv, stdin=b"\0\xff" * 500_000, cwd="/tmp"))
    expect_equal(result.output, b"1000000 ['a b', '']\n", "stdout")
    expect_equal((result.errors, result.exit_code), (b"e\n", 5), "stderr and the exit code")


@TRIALS
async def exec_of_nothing_is_a_failed_command(lab: Lab) -> None:
    """A program or folder that is not there is a failed command, not a failed sandbox."""
    sandbox = await lab.sandbox()
    expect_equal((await lab.run(sandbox, Exec(argv=["no-such-program"]))).exit_code, 127, "a missing program")
    expect((await lab.run(sandbox, Exec(argv=["true"], cwd="/no"))).exit_code == 126, "a missing folder went unnoticed")


@TRIALS
async def exec_calls_run_in_parallel(lab: Lab) -> None:
    """Two programs that wait for each other both end: calls do not queue up, the shell's neither."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "mkfifo a b")
    first = lab.run(sandbox, Exec(argv=["sh", "-c", "echo 1 > a; cat b"]))
    second = lab.run(sandbox, Exec(argv=["sh", "-c", "cat a; echo 2 > b"]))
    third = lab.shell(sandbox, "echo shell")
    results = await asyncio.gather(first, second, third)
    expect_equal([r.output for r in results], [b"2\n", b"1\n", b"shell\n"], "the outputs")


async def _marks(lab: Lab, sandbox: Sandbox, name: str) -> int:
    return (await lab.text(sandbox, f"cat {name} 2>/dev/null")).count("x")


@TRIALS
async def a_known_call_is_not_started_again(lab: Lab) -> None:
    """A second run under an id that is still known raises ValueError and starts nothing."""
    sandbox = await lab.sandbox()
    for command in (Shell(script="echo x >> ran"), Exec(argv=["sh", "-c", "echo x >> ran"])):
        call_id = lab.call_id()
        await sandbox.run(call_id, command)
        try:
            await sandbox.run(call_id, command)
        except ValueError:
            continue
        raise Failed("a call ran twice")
    expect_equal(await _marks(lab, sandbox, "ran"), 2, "how often it ran")


@TRIALS
async def an_unknown_call_is_unknown(lab: Lab) -> None:
    """Attaching to a call that never arrived, or was acknowledged, raises UnknownCall."""
    sandbox = await lab.sandbox()
    call_id = lab.call_id()
    await sandbox.run(call_id, Shell(script="true"))
    await sandbox.acknowledge(call_id)
    await sandbox.acknowledge("call_never")
    await sandbox.cancel("call_never")
    for unknown in (call_id, "call_never"):
        try:
            await sandbox.attach(unknown)
        except UnknownCall:
            continue
        raise Failed(f"{unknown} is known")


@TRIALS
async def results_wait_until_acknowledged(lab: Lab) -> None:
    """Attach gives a result again and again until it is acknowledged; dropping the wait leaves the command running."""
    sandbox = await lab.sandbox()
    call_id = lab.call_id()
    waiting = asyncio.create_task(sandbox.run(call_id, Shell(script="sleep 0.2; echo done; echo x >> ran")))
    await asyncio.sleep(0.05)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    for _ in range(2):
        expect_equal((await sandbox.attach(call_id)).output, b"done\n", "the result")
    expect_equal(await _marks(lab, sandbox, "ran"), 1, "how often it ran")


@TRIALS
async def cancel_ends_all_that_a_call_started(lab: Lab) -> None:
    """Cancelling ends a running call with what left its session, and takes a waiting call out of the queue."""
    sandbox = await lab.sandbox()
    script = "setsid -f sleep 3331; sleep 3332"
    for command in (Exec(argv=["sh", "-c", script]), Shell(script=script)):
        call_id, queued = lab.call_id(), lab.call_id()
        running = asyncio.create_task(sandbox.run(call_id, command))
        waits = asyncio.create_task(sandbox.run(queued, Shell(script="sleep 3333")))
        await until(lambda: _sleeping(lab, sandbox, 2), "the call did not start")
        await sandbox.cancel(queued)
        await sandbox.cancel(call_id)
        result = await running
        expect(result.cancelled and result.exit_code is None, f"not cancelled: {result}")
        expect((await waits).cancelled, "a waiting call was not cancelled")
        expect(await _sleeping(lab, sandbox, 0), "something of the call lives on")


async def _sleeping(lab: Lab, sandbox: Sandbox, least: int) -> bool:
    found = await lab.run(sandbox, Exec(argv=["pgrep", "-c", "sleep"]))
    return int(found.output or b"0") >= least if least else int(found.output or b"0") == 0


@TRIALS
async def timeout_ends_all_that_a_call_started(lab: Lab) -> None:
    """At the timeout everything that the call started is ended: setsid, double fork, stopped or deaf to signals."""
    sandbox = await lab.sandbox()
    script = "setsid -f sleep 4441; (setsid sh -c 'trap \"\" TERM INT HUP; sleep 4442 & wait' &); "
    script += "(sleep 4443 & kill -STOP $!); sleep 4444"
    for command in (Exec(argv=["bash", "-c", script], timeout_ms=400), Shell(script=script, timeout_ms=400)):
        result = await lab.run(sandbox, command)
        expect(result.timed_out and result.exit_code is None, f"no timeout: {result}")
        expect(await _sleeping(lab, sandbox, 0), "something of the call lives on")


@TRIALS
async def exec_leftovers_end_with_it(lab: Lab) -> None:
    """What a program leaves behind in the background does not outlive it and does not keep its result back."""
    sandbox = await lab.sandbox()
    result = await lab.run(sandbox, Exec(argv=["sh", "-c", "echo out; setsid sleep 5551 & sleep 5552 & exit 0"]))
    expect_equal((result.exit_code, result.output), (0, b"out\n"), "the result")
    expect(await _sleeping(lab, sandbox, 0), "something of the call lives on")


@TRIALS
async def huge_output_is_capped(lab: Lab) -> None:
    """Of more output than the limit the head and the tail are kept and all of it is counted; no writer is held up."""
    sandbox = await lab.sandbox()
    script = "echo HEAD; head -c 40000000 /dev/zero; echo TAIL"
    for command in (Shell(script=script), Exec(argv=["sh", "-c", script])):
        result = await lab.run(sandbox, command)
        expect_equal(result.output_bytes, 40_000_010, "the count of all bytes")
        expect_equal(len(result.output), OUTPUT_LIMIT, "the bytes that were kept")
        expect(result.output.startswith(b"HEAD\n") and result.output.endswith(b"TAIL\n"), "head or tail is missing")


@TRIALS
async def a_signal_is_told(lab: Lab) -> None:
    """A program that a signal ended has no exit code but the signal's number."""
    sandbox = await lab.sandbox()
    result = await lab.run(sandbox, Exec(argv=["sh", "-c", "kill -TERM $$"]))
    expect_equal((result.exit_code, result.signal), (None, 15), "exit code and signal")
