"""Trials of the persistent shell: what stays from call to call, and what happens when it ends."""

from __future__ import annotations

import asyncio

from hostler.sandbox.contract import WORKSPACE, RestartShell, Shell
from hostler.sandbox.lab import Lab, Trials, expect, expect_equal

TRIALS = Trials()


@TRIALS
async def shell_begins_in_the_workspace(lab: Lab) -> None:
    """The first command runs in /workspace as an ordinary user, with nothing on stdin."""
    sandbox = await lab.sandbox()
    expect_equal(await lab.text(sandbox, "pwd"), WORKSPACE, "the working directory")
    expect(await lab.text(sandbox, "id -u") != "0", "the agent is root inside")
    expect_equal(await lab.text(sandbox, "cat; echo end"), "end", "stdin")


@TRIALS
async def shell_keeps_its_state(lab: Lab) -> None:
    """Working directory, variables, functions, aliases and options stay for the next call."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "cd /tmp; x='a b'; export Y=2; f() { echo f:$1; }; alias g='echo g'; set -o pipefail")
    found = await lab.text(sandbox, 'pwd; echo "$x"; env | grep ^Y=; f 1; g; false | true; echo $?')
    expect_equal(found, "/tmp\na b\nY=2\nf:1\ng\n1", "the state")


@TRIALS
async def shell_gives_both_streams_in_order(lab: Lab) -> None:
    """stdout and stderr come together in the order of writing, byte for byte, with nothing of ours among them."""
    sandbox = await lab.sandbox()
    result = await lab.shell(sandbox, "printf 'a\\n'; printf 'b\\377\\0' >&2; printf c; (exit 7)")
    expect_equal((result.output, result.exit_code), (b"a\nb\xff\x00c", 7), "output and exit code")
    expect_equal((await lab.shell(sandbox, "true")).output, b"", "the output of true")


@TRIALS
async def shell_errors_name_the_scripts_own_lines(lab: Lab) -> None:
    """A syntax error, `break` or `return` outside of a loop is the command's failure, not the shell's end."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "kept=1")
    result = await lab.shell(sandbox, "true\nno-such-command")
    expect(b"line 2: no-such-command" in result.output, f"the message is {result.output!r}")
    for script in ("if then", "break", "continue", "return 3", "echo 'unclosed", "cat <<X\nno end"):
        result = await lab.shell(sandbox, script)
        expect(not result.shell_ended, f"{script!r} ended the shell")
    expect_equal(await lab.text(sandbox, "echo $kept"), "1", "the state")


@TRIALS
async def shell_options_that_trace_stay_clean(lab: Lab) -> None:
    """`set -x` shows the script's commands and none of the backend's."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "set -x")
    expect_equal((await lab.text(sandbox, "echo hi")).lstrip("+"), " echo hi\nhi", "the trace")
    expect_equal(await lab.text(sandbox, "{ set +x; } 2>/dev/null; echo hi"), "hi", "the end of the trace")


@TRIALS
async def shell_says_when_it_ended(lab: Lab) -> None:
    """`exit`, `exec` and a crash end the shell and say so; the next call has a fresh one."""
    sandbox = await lab.sandbox()
    for script, code, signal in (("x=1; exit 3", 3, None), ("exec false", 1, None), ("kill -9 $$", None, 9)):
        result = await lab.shell(sandbox, script)
        expect(result.shell_ended, f"{script!r} did not say that the shell ended")
        expect_equal((result.exit_code, result.signal), (code, signal), f"the end of {script!r}")
        expect_equal(await lab.text(sandbox, "echo ${x-fresh}"), "fresh", "the next shell")


@TRIALS
async def shell_restarts(lab: Lab) -> None:
    """RestartShell ends the shell with everything it started and begins a fresh one."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "x=1; sleep 1234 & setsid sleep 1235 & cd /tmp")
    await lab.run(sandbox, RestartShell())
    expect_equal(await lab.text(sandbox, "echo ${x-fresh}; pwd; pgrep -c sleep"), f"fresh\n{WORKSPACE}\n0", "the shell")


@TRIALS
async def shell_calls_queue_in_order(lab: Lab) -> None:
    """Calls of the shell that are sent together run one after the other, in the order they were sent."""
    sandbox = await lab.sandbox()
    scripts = [f"sleep 0.05; echo {n} >> order; cat order" for n in range(4)]
    results = await asyncio.gather(*(sandbox.run(lab.call_id(), Shell(script=script)) for script in scripts))
    expect_equal([r.output.count(b"\n") for r in results], [1, 2, 3, 4], "the lines that each call saw")


@TRIALS
async def shell_leaves_background_processes_alone(lab: Lab) -> None:
    """What a call put into the background runs on; a later call's timeout ends only what that call started."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "sleep 1111 & setsid sleep 1112 & disown -a")
    result = await lab.shell(sandbox, "sleep 2221 & setsid -f sleep 2222; sleep 2223", timeout_ms=300)
    expect(result.timed_out and result.exit_code is None, f"no timeout: {result}")
    expect_equal(await lab.text(sandbox, "pgrep -a sleep | cut -d' ' -f3 | sort | xargs"), "1111 1112", "what lives")


@TRIALS
async def shell_hides_the_drivers_descriptors(lab: Lab) -> None:
    """A command of the agent inherits stdin, stdout and stderr, and nothing else."""
    sandbox = await lab.sandbox()
    await lab.shell(sandbox, "true")
    found = await lab.text(
        sandbox, "python3 -c 'import os; print(sorted(map(int, os.listdir(\"/proc/self/fd\")))[:-1])'"
    )
    expect_equal(found, "[0, 1, 2]", "descriptors in a command")


@TRIALS
async def shell_state_survives_hibernation(lab: Lab) -> None:
    """After hibernation the files, the working directory, variables, functions and aliases are there again."""
    spec = lab.spec()
    sandbox = await lab.backend.provision(spec)
    script = "mkdir -p d; cd d; echo kept > file; declare -A m=([k]='v w'); z=$'a\\nb'; "
    script += "f() { echo f; }; export E=1; alias g='echo g'"
    await lab.shell(sandbox, script)
    await lab.backend.hibernate(spec.key)
    expect(await lab.backend.find(spec.key) is None, "a hibernated sandbox is found as live")
    sandbox = await lab.backend.provision(spec)
    found = await lab.text(sandbox, 'pwd; cat file; echo "${m[k]}"; echo "$z"; f; g; sh -c "echo \\$E"')
    expect_equal(found, f"{WORKSPACE}/d\nkept\nv w\na\nb\nf\ng\n1", "the state")


@TRIALS
async def shell_survives_a_nul_in_the_script(lab: Lab) -> None:
    """A script with a NUL byte or with what is no Unicode fails or runs, but breaks nothing."""
    sandbox = await lab.sandbox()
    result = await lab.shell(sandbox, "echo a\0b")
    expect(result.exit_code not in (0, None), "a script with a NUL byte ran")
    expect_equal((await lab.shell(sandbox, "printf '\ud800' | wc -c")).output.strip(), b"3", "a lone surrogate")
    expect_equal(await lab.text(sandbox, "echo ok"), "ok", "the shell afterwards")


@TRIALS
async def shell_takes_long_scripts(lab: Lab) -> None:
    """A script of two megabytes arrives whole."""
    sandbox = await lab.sandbox()
    found = await lab.text(sandbox, "cat <<'END' | wc -c\n" + "x" * 2_000_000 + "\nEND\n")
    expect_equal(found, "2000001", "the bytes that arrived")
